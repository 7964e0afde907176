//! The verification in the background of real sidecars: something other than Lockstep changes a ref and deletes objects
//! at one node, and nobody asks for a verification.

use std::path::PathBuf;

use lockstep_proto::verify::BackgroundVerification;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, git, ok};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::{behind, until};

use crate::life::get;
use crate::lockstep;

const MAIN: &str = "refs/heads/main";

fn loose(node: &Node, oid: &str) -> PathBuf {
    node.repository("p").join("objects").join(&oid[..2]).join(&oid[2..])
}

async fn background(node: &Node) -> BackgroundVerification {
    let output = node.cli(&["verify", "--background", "--json"]).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ref_and_lost_objects_are_repaired_and_the_value_that_gives_way_is_kept() {
    let often = "[verify]\nrefs_within = \"2s\"\nobjects_within = \"2s\"\nshare_of_core = 1\nfsck = true\n";
    let tune = |node: &Node| node.add_settings(often);
    let cluster = Cluster::start_tuned(lockstep(), &["a-0", "b-0", "c-0"], &tune).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{second}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&second)).await;

    let other = behind::commit(&b.repository("p"), Some(&first), "other");
    behind::set(&b.repository("p"), MAIN, Some(&other));
    b.shows("p", MAIN, Some(&second)).await;
    let kept = async || ok(b.cli(&["stray", "list", "p"]).await).contains(&other).then_some(());
    assert!(until(kept).await.is_some(), "{:?}", b.cli(&["stray", "list", "p"]).await);
    // On a busy machine, a second pass may begin before the repair has ended, and count the difference again.
    let counts = |page: &str| {
        let values = page.lines().filter_map(|line| line.strip_prefix("lockstep_verify_repaired{part=\"refs\"} "));
        values.map(str::trim_end).any(|value| value != "0").then_some(())
    };
    let is_counted = until(async || counts(&get(b.health, "/metrics").await)).await;
    assert!(is_counted.is_some(), "{:?}", background(b).await);

    // A lost object, and one with the content of another one.
    let (lost, damaged) = (loose(b, &first), loose(b, &second));
    std::fs::remove_file(&lost).expect("a loose object");
    let content = std::fs::read(&damaged).expect("a loose object");
    std::fs::remove_file(&damaged).expect("it is removed");
    std::fs::write(&damaged, &content[..content.len() / 2]).expect("a write");
    let repository = b.repository("p");
    let reads = async |oid: &str| git(&repository, &["cat-file", "commit", oid]).await.status.success();
    let are_back = async || (reads(&first).await && reads(&second).await).then_some(());
    assert!(until(are_back).await.is_some(), "{:?}\n{}", background(b).await, b.log_tail());
    assert!(damaged.with_added_extension("garbled").exists(), "the damaged copy is kept");
    let found = background(b).await.objects;
    assert!(found.repaired >= 2 && found.unrepaired_projects == 0, "{found:?}");
    let again = Clone::new(&cluster.scratch("again"));
    let _ = ok(again.fetch(&repository).await);

    // The other nodes have nothing to repair.
    for node in [a, &cluster.nodes[2]] {
        let is_complete = async || {
            let now = background(node).await;
            (now.refs.ended_ms.is_some() && now.objects.ended_ms.is_some()).then_some(now)
        };
        let now = until(is_complete).await.expect("complete passes");
        assert_eq!((now.refs.found, now.objects.found), (0, 0), "{now:?}");
        let text = ok(node.cli(&["verify", "--background"]).await);
        assert!(text.contains("verified in the background: all ") && text.contains(" 0 found, 0 repaired\n"), "{text}");
    }
}
