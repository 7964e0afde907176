//! Pushes of more refs than one write of the refdb takes. Each is still one transaction, even if nodes die on the way.

use std::collections::BTreeMap;

use lockstep::seams::refdb::RefStore;
use lockstep_proto::ProjectKey;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{PATIENCE, until};

use crate::lockstep;

const REFS: usize = 250;

fn refspecs(commit: &str) -> Vec<String> {
    (0..REFS).map(|n| format!("{commit}:refs/tags/v{n:03}")).collect()
}

async fn push(cluster: &Cluster, clone: &Clone, options: &[&str], refspecs: &[String]) -> std::process::Output {
    let refspecs: Vec<&str> = refspecs.iter().map(String::as_str).collect();
    clone.push(&cluster.nodes[0].repository("p"), &[&["--atomic"], options].concat(), &refspecs).await
}

/// The number of refs of the project that are locked.
async fn locked(cluster: &Cluster) -> usize {
    let project: ProjectKey = "p#1".parse().expect("a key");
    let items = cluster.raw.scan(&project, None, 10_000).await.expect("the refdb answers");
    items.iter().filter(|item| item.lock.is_some()).count()
}

/// Waits until no ref of the project is locked. A lock that was not removed in time goes when somebody meets it, and
/// with its slot at the latest.
async fn unlocked(cluster: &Cluster, what: &str) {
    let free = until(async || (locked(cluster).await == 0).then_some(())).await;
    assert!(free.is_some(), "{what}: {} refs stay locked\n{}", locked(cluster).await, cluster.nodes[0].log_tail());
}

/// The number of transactions that the first node has committed.
async fn committed(cluster: &Cluster) -> u64 {
    cluster.nodes[0].status().await.expect("it answers").counters.committed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_very_many_refs_is_one_transaction() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (first, second) = (clone.commit(None, "one"), clone.commit(None, "two"));
    let deletion: Vec<String> = (0..REFS).map(|n| format!(":refs/tags/v{n:03}")).collect();
    for (what, options, refspecs, refs) in [
        ("made", &[][..], refspecs(&first), REFS),
        ("moved", &["--force"], refspecs(&second), REFS),
        ("deleted", &[], deletion, 0),
    ] {
        let before = committed(&cluster).await;
        let _ = ok(push(&cluster, &clone, options, &refspecs).await);
        assert_eq!(committed(&cluster).await, before + 1, "{what}");
        unlocked(&cluster, what).await;
        let truth = converged(&cluster, "p").await;
        assert_eq!(truth.refs.len(), refs, "{what}");
    }
    // One of many refs is stale, so nothing of the push happens.
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &[], &[&format!("{second}:refs/tags/v200")]).await);
    let refused = fails(push(&cluster, &clone, &[], &refspecs(&first)).await);
    assert!(refused.contains("v200"), "{refused}");
    assert_eq!(converged(&cluster, "p").await.refs.len(), 1);
    unlocked(&cluster, "a refused push").await;
}

/// More refs than the slot of a transaction holds.
const VERY_MANY: usize = 10_000;

fn written(commit: &str, count: usize) -> String {
    (0..count).map(|n| format!("create refs/tags/w{n:05} {commit}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_refs_are_one_push() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    // A busy machine may need more than the tests' usual deadline for so many refs.
    let _ = cluster.nodes[0].stop().await;
    cluster.nodes[0].set_commit_deadline(PATIENCE);
    cluster.nodes[0].start(None);
    cluster.ready().await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let commit = clone.commit(None, "one");
    clone.update_refs(&written(&commit, VERY_MANY));
    for (options, refspec, refs) in
        [(&["--atomic"][..], "refs/tags/*:refs/tags/*", VERY_MANY), (&[], "refs/tags/*:refs/heads/x/*", 2 * VERY_MANY)]
    {
        let (before, started) = (committed(&cluster).await, tokio::time::Instant::now());
        let _ = ok(clone.push(&cluster.nodes[0].repository("p"), options, &[refspec]).await);
        println!("{VERY_MANY} refs {options:?}: {:?}", started.elapsed());
        assert_eq!(committed(&cluster).await, before + 1, "{options:?}");
        unlocked(&cluster, &format!("{options:?}")).await;
        let truth = converged(&cluster, "p").await;
        println!("converged: {:?}", started.elapsed());
        assert!(truth.refs.len() == refs && truth.refs.values().all(|value| *value == commit), "{options:?}");
    }
    assert!(cluster.scratch("blobs/transactions").is_dir(), "they had long forms; those of done ones may be gone");
}

/// More refs than a slot holds, and few enough to be pushed many times.
const LONG: usize = 2_010;

/// A commit to which all of the clone's long list of tags point now.
fn moved(clone: &Clone, what: &str) -> String {
    let commit = clone.commit(None, what);
    clone.update_refs(&written(&commit, LONG).replace("create", "update"));
    commit
}

async fn push_tags(cluster: &Cluster, clone: &Clone, options: &[&str]) -> std::process::Output {
    clone.push(&cluster.nodes[0].repository("p"), options, &["refs/tags/*:refs/tags/*"]).await
}

/// The number of long forms in the blob store.
fn long_forms(cluster: &Cluster) -> usize {
    std::fs::read_dir(cluster.scratch("blobs/transactions")).map_or(0, Iterator::count)
}

/// Pushes the long list of tags to a node that dies at this failpoint, and starts it again. At every site, all of the
/// tags have moved if the push `happens`, and none otherwise.
async fn dies_in_a_long_push(cluster: &mut Cluster, clone: &Clone, failpoint: &str, happens: bool) {
    let commit = moved(clone, failpoint);
    dies_at(cluster, 0, failpoint).await;
    let _ = push_tags(cluster, clone, &["--atomic", "--force"]).await;
    let _ = cluster.nodes[0].end().await;
    let is_stored = failpoint == "commit.stored";
    assert!(!is_stored || long_forms(cluster) == 1, "the long form was stored, and nothing names it");
    cluster.nodes[0].start(None);
    cluster.ready().await;
    if is_stored {
        let cleaned = async || (long_forms(cluster) == 0).then_some(());
        until(cleaned).await.expect("the long form is deleted");
    }
    cluster.show("p", "refs/tags/w00000", happens.then_some(commit.as_str())).await;
    let truth = converged(cluster, "p").await;
    let of_it = truth.refs.values().filter(|value| **value == commit).count();
    assert_eq!(of_it, if happens { LONG } else { 0 }, "{failpoint}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn a_push_with_a_long_form_is_all_or_nothing_wherever_its_node_dies() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    for (failpoint, happens) in [
        // The first one, so that the blob store has no other long form.
        ("commit.stored", false),
        ("commit.before_send", false),
        ("commit.part_locked:1", false),
        ("commit.part_locked:7", false),
        ("commit.locked", false),
        ("commit.sealed", true),
        ("commit.part_moved:1", true),
        ("commit.part_moved:7", true),
        ("commit.answered", true),
        ("commit.after_commit", true),
        ("publish.appended", true),
    ] {
        dies_in_a_long_push(&mut cluster, &clone, failpoint, happens).await;
    }
    // A push that meets the locks of a dead node takes its own locks back, and dies on the way.
    for failpoint in ["commit.part_released:1", "commit.part_released:7"] {
        let commit = moved(&clone, failpoint);
        dies_at(&mut cluster, 0, failpoint).await;
        dies_at(&mut cluster, 1, "commit.locked").await;
        let some = ["refs/tags/w000*:refs/tags/w000*", "refs/tags/w001*:refs/tags/w001*"];
        let _ = fails(clone.push(&cluster.nodes[1].repository("p"), &["--atomic", "--force"], &some).await);
        let _ = cluster.nodes[1].end().await;
        let _ = push_tags(&cluster, &clone, &["--atomic", "--force"]).await;
        let _ = cluster.nodes[0].end().await;
        (0..2).for_each(|node| cluster.nodes[node].start(None));
        cluster.ready().await;
        unlocked(&cluster, failpoint).await;
        let truth = converged(&cluster, "p").await;
        assert!(truth.refs.values().all(|value| *value != commit), "{failpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_push_is_whole_when_its_node_dies_between_two_parts() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let commit = clone.commit(None, "one");
    dies_at(&mut cluster, 0, "commit.part_moved").await;
    let _ = fails(push(&cluster, &clone, &[], &refspecs(&commit)).await);
    let _ = cluster.nodes[0].end().await;
    let left = locked(&cluster).await;
    assert!(left < REFS, "a part has moved: {left} of {REFS} refs are locked");
    cluster.nodes[0].start(None);
    cluster.ready().await;
    let truth = converged(&cluster, "p").await;
    assert!(truth.refs.len() == REFS && truth.refs.values().all(|value| *value == commit), "{:?}", truth.refs);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn a_long_form_is_applied_whole_wherever_its_receiver_dies() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    for failpoint in [
        "apply.before_objects",
        "apply.after_objects",
        "materialize.before_refs",
        "materialize.after_refs",
        "apply.after_refs",
    ] {
        let commit = moved(&clone, failpoint);
        dies_at(&mut cluster, 1, failpoint).await;
        let _ = ok(push_tags(&cluster, &clone, &["--force"]).await);
        let _ = cluster.nodes[1].end().await;
        cluster.nodes[1].start(None);
        cluster.ready().await;
        let truth = converged(&cluster, "p").await;
        assert_eq!(truth.refs.values().filter(|value| **value == commit).count(), LONG, "{failpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pack_of_a_push_whose_node_dies_goes_at_the_next_start() {
    let mut cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    // Nothing compresses these bytes, so their pack does not travel inline.
    let mut noise = 88_172_645_463_325_252_u64;
    let mut next = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise.to_be_bytes()[0]
    };
    let content: Vec<u8> = (0..300_000).map(|_| next()).collect();
    let commit = clone.commit_files(None, &BTreeMap::from([("noise".to_owned(), content)]));
    dies_at(&mut cluster, 0, "commit.stored").await;
    let main = format!("{commit}:refs/heads/main");
    let _ = fails(clone.push(&cluster.nodes[0].repository("p"), &[], &[&main]).await);
    let _ = cluster.nodes[0].end().await;
    let packs = |cluster: &Cluster| std::fs::read_dir(cluster.scratch("blobs/packs")).map_or(0, Iterator::count);
    assert_eq!(packs(&cluster), 1, "the pack was stored, and nothing names it");
    cluster.nodes[0].start(None);
    cluster.ready().await;
    until(async || (packs(&cluster) == 0).then_some(())).await.expect("the pack is deleted");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&main]).await);
    assert_eq!(converged(&cluster, "p").await.refs.get("refs/heads/main"), Some(&commit));
}

/// Starts a node again, so that it dies when it reaches this failpoint.
async fn dies_at(cluster: &mut Cluster, node: usize, failpoint: &str) {
    cluster.nodes[node].kill().await;
    cluster.nodes[node].start(Some(failpoint));
    cluster.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn a_large_push_is_all_or_nothing_when_its_node_dies_on_the_way() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    for (failpoint, happens) in [("commit.locked", false), ("commit.sealed", true)] {
        let (commit, other) = (clone.commit(None, failpoint), clone.commit(None, &format!("{failpoint}, other")));
        cluster.nodes[0].kill().await;
        cluster.nodes[0].start(Some(failpoint));
        cluster.ready().await;
        let _ = fails(push(&cluster, &clone, &["--force"], &refspecs(&commit)).await);
        let _ = cluster.nodes[0].end().await;
        assert_eq!(locked(&cluster).await, REFS, "{failpoint}: it died between its steps");
        cluster.nodes[0].start(None);
        cluster.ready().await;
        let shown = happens.then_some(commit.as_str());
        cluster.show("p", "refs/tags/v000", shown).await;
        // Another node that needs one of the refs finishes the open transaction for that ref.
        let refspec = format!("+{other}:refs/tags/v000");
        let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &[], &[&refspec]).await);
        assert_eq!(locked(&cluster).await, REFS - 1, "{failpoint}: without reading the others");
        let truth = converged(&cluster, "p").await;
        assert_eq!(truth.refs.get("refs/tags/v000"), Some(&other), "{failpoint}");
        let of_it = truth.refs.values().filter(|value| **value == commit).count();
        assert_eq!(of_it, if happens { REFS - 1 } else { 0 }, "{failpoint}");
    }
    let last = clone.commit(None, "last");
    let _ = ok(push(&cluster, &clone, &["--force"], &refspecs(&last)).await);
    let truth = converged(&cluster, "p").await;
    assert!(truth.refs.len() == REFS && truth.refs.values().all(|value| *value == last));
    unlocked(&cluster, "the last push").await;
}
