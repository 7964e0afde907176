//! The handshake: a Gerrit that starts identifies itself, and refs that its `init` wrote behind the bridge's back are
//! not lost.

use http::Method;
use lockstep::clients::api_client::{Call, Client, ClientError};
use lockstep_proto::bridge::ApiError;
use lockstep_proto::gerrit::{HandshakeRequest, HandshakeResponse};
use lockstep_tests::e2e::behind;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented_in;
use lockstep_tests::e2e::git::{Clone, ok, refuses};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::{converged, truth};
use lockstep_tests::e2e::{PATIENCE, until};
use tokio::time::Instant;

use crate::lockstep;

const CONFIG: &str = "refs/meta/config";
const PROJECTS: [&str; 2] = ["All-Projects", "All-Users"];

fn gerrit(server: &str, instance: &str) -> HandshakeRequest {
    HandshakeRequest {
        session: "a process".into(),
        server_id: server.into(),
        instance_id: instance.into(),
        gerrit_version: "3.13.5".into(),
        bridge_version: "0.1.0".into(),
        all_projects: "All-Projects".parse().expect("a name"),
        all_users: "All-Users".parse().expect("a name"),
        base_path: None,
        base_paths: Vec::new(),
    }
}

async fn try_handshake(node: &Node, gerrit: &HandshakeRequest) -> Result<HandshakeResponse, ApiError> {
    let call = Call::new(Method::POST, "/v1/gerrit/hello", gerrit).expect("JSON");
    match Client::new(&node.socket()).send(&call, Instant::now() + PATIENCE).await {
        Ok(answer) => Ok(answer),
        Err(ClientError::Answered(error)) => Err(error),
        Err(error) => panic!("{error}\n{}", node.log_tail()),
    }
}

/// Repeats the handshake, as the bridge does, while its outcome is unknown.
async fn handshake(node: &Node, gerrit: &HandshakeRequest) -> HandshakeResponse {
    let ask = async || match try_handshake(node, gerrit).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert!(error.retry, "{error:?}");
            None
        }
    };
    until(ask).await.unwrap_or_else(|| panic!("no answer\n{}", node.log_tail()))
}

async fn accepts(node: &Node, gerrit: &HandshakeRequest) {
    let answer = handshake(node, gerrit).await;
    assert_eq!(answer, HandshakeResponse { accepted: true, reason: None });
}

async fn why_not(node: &Node, gerrit: &HandshakeRequest) -> String {
    let answer = handshake(node, gerrit).await;
    assert!(!answer.accepted, "{answer:?}");
    answer.reason.expect("a reason")
}

/// Two sites with All-Projects and All-Users, each with a first commit on `refs/meta/config`.
async fn two_sites() -> (Cluster, String) {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    for project in PROJECTS {
        cluster.create(project).await;
        let to = cluster.nodes[0].repository(project);
        let _ = ok(clone.push(&to, &[], &[&format!("{first}:{CONFIG}")]).await);
        cluster.show(project, CONFIG, Some(&first)).await;
    }
    (cluster, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_gerrit_says_who_the_others_must_be() {
    let (mut cluster, _) = two_sites().await;
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    assert!(why_not(a, &gerrit("one", "")).await.contains("gerrit.instanceId is not set"));
    accepts(a, &gerrit("one", "eu")).await;
    accepts(a, &gerrit("one", "eu")).await;
    let why = why_not(b, &gerrit("two", "muc")).await;
    assert!(why.contains("gerrit.serverId is two, the others have one") && why.contains("initialised apart"), "{why}");
    let users = HandshakeRequest { all_users: "Users".parse().expect("a name"), ..gerrit("one", "muc") };
    assert!(why_not(b, &users).await.contains("gerrit.allUsers is Users"));
    let why = why_not(b, &gerrit("one", "eu")).await;
    assert!(why.contains("eu, which the Gerrit of node a-0 has already"), "{why}");
    accepts(b, &gerrit("one", "muc")).await;
    // A node may change its own id, which frees the previous one.
    accepts(a, &gerrit("one", "eu-new")).await;
    accepts(b, &gerrit("one", "eu")).await;
    assert!(why_not(a, &gerrit("one", "eu")).await.contains("node b-0"));

    cluster.nodes[1].wire.cut();
    let away = try_handshake(&cluster.nodes[1], &gerrit("one", "eu")).await;
    assert!(away.is_err_and(|error| error.retry), "an error is never an acceptance");
    let away = try_handshake(&cluster.nodes[1], &gerrit("two", "eu")).await;
    assert!(away.is_err_and(|error| error.retry), "nor a refusal");
    cluster.nodes[1].wire.mend();
    let _ = cluster.nodes[1].stop().await;
    cluster.nodes[1].start(None);
    cluster.ready().await;
    accepts(&cluster.nodes[1], &gerrit("one", "eu")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gerrit_that_would_follow_nothing_is_refused() {
    let (mut cluster, _) = two_sites().await;
    let _ = cluster.nodes[0].stop().await;
    cluster.nodes[0].set_gerrit("refresh = \"none\"");
    cluster.nodes[0].start(None);
    cluster.ready().await;
    let why = why_not(&cluster.nodes[0], &gerrit("one", "eu")).await;
    assert!(why.contains("gerrit.refresh is not \"bridge\"") && why.contains("reindex"), "{why}");
    accepts(&cluster.nodes[1], &gerrit("one", "muc")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gerrit_whose_projects_are_not_in_the_refdb_is_refused() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let why = why_not(&cluster.nodes[0], &gerrit("one", "eu")).await;
    assert!(why.contains("All-Projects is not in the refdb") && why.contains("lockstep seed"), "{why}");
    for project in PROJECTS {
        cluster.create(project).await;
    }
    accepts(&cluster.nodes[0], &gerrit("two", "eu")).await;
    // The request that was refused first has left nothing behind.
    assert!(why_not(&cluster.nodes[0], &gerrit("one", "eu")).await.contains("gerrit.serverId"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_commits_changes_of_init_and_restores_lost_values() {
    let (cluster, first) = two_sites().await;
    let clone = Clone::new(&cluster.scratch("more"));
    let [projects, users] = PROJECTS.map(|project| cluster.nodes[0].repository(project));
    let kept = clone.commit(None, "kept");
    let _ = ok(clone.push(&users, &[], &[&format!("{kept}:refs/groups/ab/abcd")]).await);
    let old = behind::blob(&projects, "184");
    let _ = ok(cluster.nodes[0].cli(&["update-ref", "--project", "All-Projects", "refs/meta/version", &old]).await);
    cluster.show("All-Projects", "refs/meta/version", Some(&old)).await;
    cluster.show("All-Users", "refs/groups/ab/abcd", Some(&kept)).await;

    let upgraded = behind::commit(&projects, Some(&first), "upgraded");
    behind::set(&projects, CONFIG, Some(&upgraded));
    let version = behind::blob(&projects, "185");
    behind::set(&projects, "refs/meta/version", Some(&version));
    let account = behind::commit(&users, None, "an account");
    behind::set(&users, "refs/users/01/1000001", Some(&account));
    behind::set(&users, "refs/groups/ab/abcd", None);
    let computed = behind::commit(&users, None, "computed");
    behind::set(&users, "refs/cache-automerge/ab/cd", Some(&computed));
    accepts(&cluster.nodes[0], &gerrit("one", "eu")).await;

    cluster.show("All-Projects", CONFIG, Some(&upgraded)).await;
    cluster.show("All-Projects", "refs/meta/version", Some(&version)).await;
    cluster.show("All-Users", "refs/users/01/1000001", Some(&account)).await;
    cluster.show("All-Users", "refs/groups/ab/abcd", Some(&kept)).await;
    behind::set(&users, "refs/cache-automerge/ab/cd", None);
    for project in PROJECTS {
        converged(&cluster, project).await;
    }
}

/// A restored backup: its values are older, or were deleted since, or have no order at all.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_old_backup_are_never_committed() {
    let (cluster, _) = two_sites().await;
    let a = &cluster.nodes[0];
    let users = a.repository("All-Users");
    let [older, newer] = ["1000007", "1000041"].map(|number| behind::blob(&users, number));
    let [star, other_star] = ["star", "reviewed/1"].map(|label| behind::blob(&users, label));
    let draft = behind::commit(&users, None, "a draft");
    let (numbers, starred, drafted) =
        ("refs/sequences/accounts", "refs/starred-changes/01/1/1000001", "refs/draft-comments/01/1/1000001");
    for (name, value) in [(numbers, &newer), (starred, &star), (drafted, &draft)] {
        let _ = ok(a.cli(&["update-ref", "--project", "All-Users", name, value]).await);
    }
    let _ = ok(a.cli(&["update-ref", "--project", "All-Users", "--delete", drafted]).await);
    cluster.show("All-Users", drafted, None).await;

    behind::set(&users, numbers, Some(&older));
    accepts(a, &gerrit("one", "eu")).await;
    for (name, value) in [(starred, &other_star), (drafted, &draft)] {
        behind::set(&users, name, Some(value));
        let why = why_not(a, &gerrit("one", "eu")).await;
        assert!(why.contains(&format!("{name} of All-Users at {value}")), "{why}");
        let _ = ok(a.cli(&["stray", "discard", "All-Users", name]).await);
        accepts(a, &gerrit("one", "eu")).await;
    }
    cluster.show("All-Users", numbers, Some(&newer)).await;
    cluster.show("All-Users", starred, Some(&star)).await;
    cluster.show("All-Users", drafted, None).await;
    assert_eq!(converged(&cluster, "All-Users").await.refs.get(numbers), Some(&newer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradicting_value_is_kept_and_reported_until_it_is_adopted_or_discarded() {
    let (mut cluster, first) = two_sites().await;
    let [projects, users] = PROJECTS.map(|project| cluster.nodes[1].repository(project));
    // While `init` writes, the sidecar is down, and another site commits first.
    let _ = cluster.nodes[1].stop().await;
    let (ours, theirs) = (behind::commit(&projects, Some(&first), "ours"), "theirs");
    behind::set(&projects, CONFIG, Some(&ours));
    let beside = behind::commit(&users, None, "a group");
    behind::set(&users, "refs/groups/01/0123", Some(&beside));
    let clone = Clone::new(&cluster.scratch("other"));
    let _ = ok(clone.fetch(&cluster.nodes[0].repository("All-Projects")).await);
    let theirs = clone.commit(Some(&first), theirs);
    let to = cluster.nodes[0].repository("All-Projects");
    let _ = ok(clone.push(&to, &[], &[&format!("{theirs}:{CONFIG}")]).await);
    cluster.nodes[1].start(None);
    cluster.ready().await;
    cluster.show("All-Projects", CONFIG, Some(&theirs)).await;

    let b = &cluster.nodes[1];
    for _ in 0..2 {
        let why = why_not(b, &gerrit("one", "muc")).await;
        assert!(why.contains(&format!("{CONFIG} of All-Projects at {ours}")) && why.contains("stray adopt"), "{why}");
    }
    let other = truth(&cluster, "All-Users").await;
    assert!(!other.refs.contains_key("refs/groups/01/0123"), "nothing is committed while one ref contradicts");
    let listed = b.cli(&["stray", "list", "All-Projects"]).await;
    documented_in("seeding.md", "lockstep stray list All-Projects", &listed);
    assert!(ok(listed).contains(&ours));
    refuses(b.cli(&["stray", "adopt", "All-Projects", "refs/meta/none"]).await, "no stray");
    let _ = ok(b.cli(&["stray", "adopt", "All-Projects", CONFIG]).await);
    cluster.show("All-Projects", CONFIG, Some(&ours)).await;
    accepts(b, &gerrit("one", "muc")).await;
    cluster.show("All-Users", "refs/groups/01/0123", Some(&beside)).await;

    // No other site commits first, but the value contradicts all the same. The sidecar runs.
    let rewritten = behind::commit(&projects, Some(&first), "rewritten");
    behind::set(&projects, CONFIG, Some(&rewritten));
    let why = why_not(b, &gerrit("one", "muc")).await;
    assert!(why.contains(&rewritten), "{why}");
    cluster.show("All-Projects", CONFIG, Some(&ours)).await;
    let _ = ok(b.cli(&["stray", "discard", "All-Projects", CONFIG, &rewritten]).await);
    assert_eq!(ok(b.cli(&["stray", "list", "All-Projects"]).await), "");
    accepts(b, &gerrit("one", "muc")).await;
    for project in PROJECTS {
        converged(&cluster, project).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_initialised_apart_is_refused_and_never_merged() {
    let (mut cluster, first) = two_sites().await;
    let _ = cluster.nodes[1].stop().await;
    let users = cluster.nodes[1].repository("All-Users");
    let apart = behind::commit(&users, None, "another installation");
    behind::set(&users, CONFIG, Some(&apart));
    let account = behind::commit(&users, None, "its account");
    behind::set(&users, "refs/users/01/1000001", Some(&account));
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let b = &cluster.nodes[1];
    let why = why_not(b, &gerrit("one", "muc")).await;
    assert!(why.contains("All-Users on this node's disk has a history of its own"), "{why}");
    assert!(why.contains(&apart) && why.contains("copy the folder"), "{why}");
    // Another commit of the first site replaces the written one, and the handshake is still denied.
    let clone = Clone::new(&cluster.scratch("other"));
    let _ = ok(clone.fetch(&cluster.nodes[0].repository("All-Users")).await);
    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&cluster.nodes[0].repository("All-Users"), &[], &[&format!("{second}:{CONFIG}")]).await);
    b.shows("All-Users", CONFIG, Some(&second)).await;
    assert!(why_not(b, &gerrit("one", "muc")).await.contains(&apart));
    refuses(b.cli(&["stray", "adopt", "All-Users", CONFIG]).await, "nothing in common");
    let committed = truth(&cluster, "All-Users").await;
    assert!(!committed.refs.contains_key("refs/users/01/1000001"), "{committed:?}");
}
