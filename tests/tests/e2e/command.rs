//! The command line against real sidecars.

use http::Method;
use lockstep::clients::api_client::{Call, Client, ClientError};
use lockstep_proto::bridge::{Outcome, ProjectResponse, RefusalCode, SetHeadRequest};
use lockstep_tests::e2e::PATIENCE;
use lockstep_tests::e2e::behind;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, git, ok, quiet, refuses};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use tokio::process::Command;
use tokio::time::Instant;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_itself_and_moves_refs_and_head() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    b.shows("p", MAIN, Some(&first)).await;
    let _ = ok(b.cli(&["update-ref", "--project", "p", "--old", "absent", "refs/tags/v1", &first]).await);
    a.shows("p", "refs/tags/v1", Some(&first)).await;
    let _ = ok(a.cli(&["update-ref", "--project", "p", "--old", &first, "--delete", "refs/tags/v1"]).await);
    b.shows("p", "refs/tags/v1", None).await;
    let _ = ok(b.cli(&["head", "set", "--project", "p", "refs/heads/trunk"]).await);
    assert_eq!(converged(&cluster, "p").await.head.as_deref(), Some("refs/heads/trunk"));
    let status: serde_json::Value = serde_json::from_str(&ok(a.cli(&["status", "--json"]).await)).expect("JSON");
    assert_eq!((&status["site"], &status["ready"]), (&"a".into(), &true.into()));
    assert_eq!(status["incarnation"], 1);
    assert!(ok(a.cli(&["status"]).await).contains("site a  node a-0"));
    a.reports(|status| status.parked == 0).await;
    assert_eq!(ok(a.cli(&["parked"]).await), "nothing");
    assert_eq!(ok(a.cli(&["quarantine", "--json"]).await), "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_bypasses_lockstep_is_refused_and_upkeep_is_not() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("p").await;
    let a = cluster.nodes[0].repository("p");
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&a, &[], &[&format!("{first}:{MAIN}")]).await);
    let text = fails(git(&a, &["update-ref", "refs/heads/x", &first]).await);
    assert!(text.contains("lockstep update-ref"), "{text}");
    for upkeep in [&["gc", "-q"][..], &["pack-refs", "--all"], &["maintenance", "run", "--quiet"]] {
        let _ = ok(git(&a, upkeep).await);
    }
    let _ = ok(git(&a, &["config", "receive.denyDeleteCurrent", "ignore"]).await);
    let _ = ok(clone.push(&a, &[], &[&format!(":{MAIN}"), &format!("{first}:refs/heads/x")]).await);
    assert_eq!(converged(&cluster, "p").await.refs.len(), 1);
}

/// A restored file, or a write as root: nothing watches the disk. But the next request that meets such a ref mends it,
/// so no user is told a value that the disk does not show.
#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_was_written_past_every_hook_is_mended_when_it_is_met() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("p").await;
    let a = &cluster.nodes[0];
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{second}:{MAIN}")]).await);
    let wrong = behind::commit(&a.repository("p"), Some(&first), "wrong");

    behind::set(&a.repository("p"), MAIN, Some(&wrong));
    let _ = ok(a.cli(&["update-ref", "--project", "p", MAIN, &second]).await);
    a.shows("p", MAIN, Some(&second)).await;
    assert!(ok(a.cli(&["stray", "list", "p"]).await).contains(&wrong));
    let _ = ok(a.cli(&["stray", "discard", "p", MAIN]).await);

    behind::set(&a.repository("p"), MAIN, Some(&wrong));
    let third = clone.commit(Some(&second), "three");
    let push = async || clone.push(&a.repository("p"), &["--force"], &[&format!("{third}:{MAIN}")]).await;
    refuses(push().await, "faster");
    a.shows("p", MAIN, Some(&second)).await;
    let _ = ok(push().await);
    assert!(ok(a.cli(&["stray", "list", "p"]).await).contains(&wrong));
    converged(&cluster, "p").await;
}

/// A power cut may keep a ref's last move and lose its objects. Then the ref names a missing object until it moves
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_names_an_object_that_is_not_there_is_mended_when_it_is_met() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let third = clone.commit(Some(&second), "three");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    cluster.nodes[1].shows("p", MAIN, Some(&first)).await;

    cluster.nodes[1].kill().await;
    std::fs::write(cluster.nodes[1].repository("p").join(MAIN), format!("{}\n", "1".repeat(40))).expect("a ref");
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{second}:{MAIN}")]).await);
    cluster.nodes[1].shows("p", MAIN, Some(&second)).await;
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &[], &[&format!("{third}:{MAIN}")]).await);
    converged(&cluster, "p").await;
}

/// Otherwise git would refuse the move at every site, after the commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_takes_commits_only_and_other_refs_take_anything() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let blob = ok(git(&a.repository("p"), &["hash-object", "-w", "HEAD"]).await);
    let refused = a.cli(&["update-ref", "--project", "p", "refs/heads/x", &blob]).await;
    assert_eq!(refused.status.code(), Some(3));
    refuses(refused, "is no commit");
    let _ = ok(a.cli(&["update-ref", "--project", "p", "refs/sequences/changes", &blob]).await);
    b.shows("p", "refs/sequences/changes", Some(&blob)).await;
    assert_eq!(converged(&cluster, "p").await.refs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_deleted_project_comes_back_with_its_successor() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let old = clone.commit(None, "old");
    let a = cluster.nodes[0].repository("p");
    let refs = [format!("{old}:{MAIN}"), format!("{old}:refs/heads/dir/sub"), format!("{old}:refs/tags/v1")];
    let _ = ok(clone.push(&a, &[], &refs.each_ref().map(String::as_str)).await);
    cluster.show("p", MAIN, Some(&old)).await;
    let deleted = cluster.nodes[1].cli(&["project", "delete", "p", "--yes"]).await;
    let _ = ok(deleted);
    for node in &cluster.nodes {
        assert!(until(async || (!node.repository("p").exists()).then_some(())).await.is_some(), "{}", node.name);
    }
    refuses(clone.push(&a, &[], &[&refs[0]]).await, "does not");
    cluster.create("p").await;
    let fresh = clone.commit(None, "fresh");
    // The new project can use a name that was a directory in the old one.
    let again = [format!("{fresh}:{MAIN}"), format!("{fresh}:refs/heads/dir")];
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &[], &again.each_ref().map(String::as_str)).await);
    assert_eq!(converged(&cluster, "p").await.refs.len(), 2);
    for node in &mut cluster.nodes {
        let _ = node.stop().await;
        node.start(None);
    }
    cluster.ready().await;
    assert_eq!(converged(&cluster, "p").await.refs.len(), 2);
    for node in &cluster.nodes {
        let gone = git(&node.repository("p"), &["cat-file", "-e", &old]).await;
        assert!(!gone.status.success(), "{} has an object of the deleted project", node.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_repository_is_imported() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let a = cluster.nodes[0].repository("old");
    let _ = ok(quiet(Command::new("git"), &cluster.nodes[0].home)
        .args(["init", "-q", "--bare", "-b", "trunk"])
        .arg(&a)
        .output()
        .await
        .expect("git runs"));
    // Each name has a folder of its own, which costs the commit one more item.
    let names: Vec<String> = (0..120).map(|n| format!("{first}:refs/heads/d{n:03}/x")).collect();
    let trunk = format!("{second}:refs/heads/trunk");
    let names: Vec<&str> = names.iter().map(String::as_str).chain([trunk.as_str()]).collect();
    let _ = ok(clone.push(&a, &[], &names).await);
    let path = a.display().to_string();
    let wrong = cluster.nodes[0].cli(&["hook", "install", &path, "--project", "new"]).await;
    refuses(wrong, "the repository of project old");
    let away = cluster.nodes[1].cli(&["hook", "install", &path]).await;
    refuses(away, "is not on the git volume");
    let done = ok(cluster.nodes[0].cli(&["hook", "install", &path]).await);
    assert!(done.contains("as project old") && done.contains("lockstep import"), "{done}");
    let done = ok(cluster.nodes[0].cli(&["import", &path]).await);
    assert!(done.contains("121 refs committed"), "{done}");
    cluster.exists("old").await;
    cluster.show("old", "refs/heads/trunk", Some(&second)).await;
    let truth = converged(&cluster, "old").await;
    assert_eq!((truth.refs.len(), truth.head.as_deref()), (121, Some("refs/heads/trunk")));
    let third = clone.commit(Some(&second), "three");
    let _ = ok(clone.push(&cluster.nodes[1].repository("old"), &[], &[&format!("{third}:refs/heads/trunk")]).await);
    cluster.show("old", "refs/heads/trunk", Some(&third)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_over_an_existing_repository_gives_it_the_hooks() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let a = cluster.nodes[0].repository("there");
    let mut init = quiet(Command::new("git"), &cluster.nodes[0].home);
    let _ = ok(init.args(["init", "-q", "--bare", "-b", "main"]).arg(&a).output().await.expect("git runs"));
    cluster.create("there").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let text = fails(git(&a, &["fetch", &clone.folder().display().to_string(), &format!("{first}:{MAIN}")]).await);
    assert!(text.contains("lockstep: refused"), "{text}");
    let _ = ok(clone.push(&a, &[], &[&format!("{first}:{MAIN}")]).await);
    assert_eq!(converged(&cluster, "there").await.refs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_id_never_stands_for_two_operations() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("p").await;
    let client = Client::new(&cluster.nodes[0].socket());
    let set = async |branch: &str| {
        let body = SetHeadRequest { request_id: "same".into(), head: branch.parse().expect("a ref"), lock: None };
        let call = Call::new(Method::PUT, "/v1/projects/p/head", &body).expect("JSON");
        client.send::<ProjectResponse>(&call, Instant::now() + PATIENCE).await
    };
    assert_eq!(set("refs/heads/one").await.expect("an answer").outcome, Outcome::Committed);
    let Err(ClientError::Answered(error)) = set("refs/heads/two").await else { panic!("answered as the first") };
    assert_eq!(error.code, RefusalCode::Invalid);
    assert_eq!(set("refs/heads/one").await.expect("an answer").outcome, Outcome::Committed);
    assert_eq!(converged(&cluster, "p").await.head.as_deref(), Some("refs/heads/one"));
}
