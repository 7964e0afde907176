//! A lost refdb: its tables are deleted, and rebuilt from two of three sites. The third one returns. The page
//! docs/failover.md shows outputs of this shape.

use std::process::Output;

use lockstep_proto::rebuild::Rebuild;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented;
use lockstep_tests::e2e::git::{Clone, fails, ok, refuses};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::throttle::Part;
use lockstep_tests::e2e::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lockstep;

const MAIN: &str = "refs/heads/main";
const NEXT: &str = "lockstep-2";

async fn push(node: &Node, clone: &Clone, commit: &str) {
    let _ = ok(clone.push(&node.repository("p"), &[], &[&format!("{commit}:{MAIN}")]).await);
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// Runs a rebuild until it is not refused any more because a node committed a moment ago.
async fn rebuild(node: &Node, more: &[&str]) -> Output {
    let args = [&["refdb", "rebuild", "--into", NEXT], more].concat();
    let ended = until(async || {
        let output = node.cli(&args).await;
        (!String::from_utf8_lossy(&output.stderr).contains("wait a moment")).then_some(output)
    });
    ended.await.unwrap_or_else(|| panic!("the nodes take commits still\n{}", node.log_tail()))
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_tables_are_rebuilt_from_two_sites_and_the_third_one_returns() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let one = clone.commit(None, "one");
    push(&cluster.nodes[0], &clone, &one).await;
    cluster.show("p", MAIN, Some(&one)).await;

    // Each node reads the roles of all sites every half second, and notes them on its volume.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;

    // A healthy refdb is not rebuilt.
    let alive = cluster.nodes[0].cli(&["refdb", "rebuild", "--into", NEXT, "--dry-run"]).await;
    assert_eq!(code(&alive), Some(3), "{alive:?}");
    refuses(alive, "nothing is lost");

    // This commit reaches no other site before c is gone, and the tables with it.
    cluster.nodes[2].streams.cut();
    let only_c = clone.commit(Some(&one), "only at c");
    push(&cluster.nodes[2], &clone, &only_c).await;
    cluster.nodes[2].shows("p", MAIN, Some(&only_c)).await;
    cluster.nodes[2].kill().await;
    cluster.lose_tables().await;

    let dry = rebuild(&cluster.nodes[0], &["--dry-run"]).await;
    assert_eq!(code(&dry), Some(2), "{dry:?}");
    documented("lockstep refdb rebuild --into lockstep-2 --dry-run", &dry);
    assert!(!cluster.tables().await.iter().any(|table| table.starts_with(NEXT)), "a dry run writes nothing");
    let refused = rebuild(&cluster.nodes[0], &["--yes"]).await;
    assert_eq!(code(&refused), Some(3), "c may still reach the old tables: {refused:?}");
    let done = rebuild(&cluster.nodes[0], &["--yes", "--lost"]).await;
    assert_eq!(code(&done), Some(2), "c was not read: {done:?}");
    documented("lockstep refdb rebuild --into lockstep-2 --lost", &done);
    let again = cluster.nodes[0].cli(&["refdb", "status"]).await;
    assert_eq!(again.stdout, done.stdout, "the report of the last rebuild: {again:?}");

    for node in &mut cluster.nodes[..2] {
        node.stop().await;
        node.set_refdb_prefix(NEXT);
        node.start(None);
    }
    for node in &mut cluster.nodes[..2] {
        node.ready().await;
        node.shows("p", MAIN, Some(&one)).await;
    }
    let two = clone.commit(Some(&one), "two");
    push(&cluster.nodes[0], &clone, &two).await;
    cluster.nodes[1].shows("p", MAIN, Some(&two)).await;
    let three = clone.commit(Some(&two), "three");
    push(&cluster.nodes[1], &clone, &three).await;
    cluster.nodes[0].shows("p", MAIN, Some(&three)).await;

    // c still has the old configuration. It creates no empty tables, takes no commit, and says what to change.
    cluster.nodes[2].streams.mend();
    cluster.nodes[2].start(None);
    let c = &cluster.nodes[2];
    c.reports(|status| status.last_errors.iter().any(|error| error.message.contains("set refdb.prefix"))).await;
    let late = clone.commit(Some(&only_c), "late");
    let said = fails(clone.push(&c.repository("p"), &[], &[&format!("{late}:{MAIN}")]).await);
    assert!(said.contains("nothing was changed"), "{said}");
    assert!(!cluster.tables().await.iter().any(|table| table.starts_with("e2e")), "{:?}", cluster.tables().await);

    cluster.nodes[2].stop().await;
    cluster.nodes[2].set_refdb_prefix(NEXT);
    cluster.nodes[2].start(None);
    cluster.nodes[2].ready().await;
    let c = &cluster.nodes[2];
    c.shows("p", MAIN, Some(&three)).await;
    let strays = ok(c.cli(&["stray", "list", "p"]).await);
    assert!(strays.contains(&only_c), "{strays}\n{}", c.log_tail());
    let four = clone.commit(Some(&three), "four");
    push(c, &clone, &four).await;
    cluster.show("p", MAIN, Some(&four)).await;
}

/// While a volume moves to the rebuilt refdb, which throttles it, the node is alive and says how far it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_its_probes_while_its_volume_moves_to_a_rebuilt_refdb() {
    let mut cluster = Cluster::start_throttled(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let one = clone.commit(None, "one");
    push(&cluster.nodes[0], &clone, &one).await;
    cluster.show("p", MAIN, Some(&one)).await;
    cluster.lose_tables().await;
    let done = rebuild(&cluster.nodes[0], &["--yes", "--lost", "--json"]).await;
    assert!(matches!(code(&done), Some(0 | 2)), "{done:?}");
    assert!(serde_json::from_slice::<Rebuild>(&done.stdout).is_ok_and(|last| last.into == NEXT), "{done:?}");
    cluster.throttle.as_ref().expect("a throttle").refuse(Part::Project("p".to_owned()));
    let node = &mut cluster.nodes[0];
    node.stop().await;
    node.set_refdb_prefix(NEXT);
    node.start(None);
    let health = node.health;
    let moving = async || {
        let readyz = get(health, "/readyz").await?;
        let says = readyz.contains("waiting for: start") && readyz.contains("moving the volume to the rebuilt refdb");
        (readyz.starts_with("HTTP/1.1 503") && says).then_some(readyz)
    };
    assert!(until(moving).await.is_some(), "{:?}\n{}", get(health, "/readyz").await, node.log_tail());
    let livez = get(health, "/livez").await.expect("it is alive");
    assert!(livez.starts_with("HTTP/1.1 200"), "{livez}");
    assert!(get(health, "/startz").await.is_some_and(|text| text.starts_with("HTTP/1.1 503")), "no Gerrit starts yet");
    assert!(get(health, "/metrics").await.is_some_and(|text| text.starts_with("HTTP/1.1 200")));
    cluster.throttle.as_ref().expect("a throttle").lift();
    let node = &mut cluster.nodes[0];
    node.ready().await;
    assert!(get(health, "/startz").await.is_some_and(|text| text.starts_with("HTTP/1.1 200")));
    assert!(get(health, "/readyz").await.is_some_and(|text| text.starts_with("HTTP/1.1 200")));
    node.shows("p", MAIN, Some(&one)).await;
}

/// The answer of the health listener, if it answers.
async fn get(address: std::net::SocketAddr, path: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
