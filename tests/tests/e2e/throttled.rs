//! Streams behind limits, and sites that are down: publishing makes progress, and nobody waits for another one's
//! journal.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use lockstep::seams::embedded::write_limits::WriteLimits;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::{IncarnationState, RefDb};
use lockstep::state::journal::lane_of;
use lockstep_proto::{ProjectKey, RefKey};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok, text};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::throttle::Part;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::lockstep;

/// The size of each one's file, which does not compress.
const BYTES: usize = 20_000;
/// The number of lanes of an incarnation in these tests.
const LANES: usize = 2;

/// Commits files of random bytes, each on a branch of its own, at the first node.
async fn push_all(cluster: &Cluster, clone: &Clone, commits: u64) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for number in 0..commits {
        let project = format!("p{}", number % 3);
        let bytes: Vec<u8> = (0..BYTES).map(|_| random.random()).collect();
        let commit = clone.commit_files(None, &[("f".to_owned(), bytes)].into());
        let repository = cluster.nodes[0].repository(&project);
        let _ = ok(clone.push(&repository, &[], &[&format!("{commit}:refs/heads/b{number}")]).await);
    }
}

/// Waits until the journals of all earlier incarnations of the first node's site are published.
async fn drained(cluster: &Cluster) {
    let site = cluster.nodes[0].site.parse().expect("a site");
    let drained = async || {
        let left = cluster.refdb.incarnations.incarnations(&site).await.ok()?;
        let states: Vec<_> = left.iter().map(|one| one.state).collect();
        states.iter().all(|state| matches!(state, IncarnationState::Open | IncarnationState::Drained)).then_some(())
    };
    assert!(until(drained).await.is_some(), "what was left is not published\n{}", cluster.nodes[0].log_tail());
}

/// Starts a node that was killed, and returns the time until it is ready.
async fn started(node: &mut Node) -> Duration {
    let began = Instant::now();
    node.start(None);
    node.ready().await;
    began.elapsed()
}

/// The sum of the published marks of the first node's incarnation, as they are stored.
async fn marked(cluster: &Cluster) -> u64 {
    let site = cluster.nodes[0].site.parse().expect("a site");
    let all = cluster.refdb.incarnations.incarnations(&site).await.unwrap_or_default();
    let open = all.iter().filter(|one| one.state == IncarnationState::Open);
    open.flat_map(|one| &one.published).map(|mark| mark.0).sum()
}

/// Publishes a backlog through a stream with little room, of whose answers some may be lost, and kills the node in it.
async fn a_backlog_is_published(commits: u64, lose_every: Option<u64>) {
    let limits = WriteLimits { shards: 1, bytes: 24_000, records: 1_000, lose_every };
    let mut cluster = Cluster::start_behind(lockstep(), &["a-0", "b-0"], limits).await;
    for project in ["p0", "p1", "p2"] {
        cluster.create(project).await;
    }
    drained(&cluster).await;
    let mut usual = Duration::ZERO;
    for _ in 0..2 {
        cluster.nodes[0].kill().await;
        usual = usual.max(started(&mut cluster.nodes[0]).await);
        drained(&cluster).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    let before = cluster.kinesis.answered();
    // Until all is pushed, nothing is published: the backlog is the same however long the pushes take. Then the node
    // is killed while it publishes.
    cluster.nodes[0].streams.cut();
    push_all(&cluster, &clone, commits).await;
    let mark = marked(&cluster).await;
    cluster.nodes[0].streams.mend();
    let publishes = async || {
        let is_marked = marked(&cluster).await > mark;
        (is_marked && cluster.kinesis.answered().taken >= before.taken + 2).then_some(())
    };
    assert!(until(publishes).await.is_some(), "nothing is published\n{}", cluster.nodes[0].log_tail());
    cluster.nodes[0].kill().await;
    let at_kill = (cluster.kinesis.answered().taken - before.taken).saturating_sub(marked(&cluster).await - mark);
    let behind = started(&mut cluster.nodes[0]).await;
    println!("ready after {usual:?} with an empty journal, after {behind:?} with a backlog");
    let site = cluster.nodes[0].site.parse().expect("a site");
    let left = cluster.refdb.incarnations.incarnations(&site).await.expect("a list");
    assert!(
        left.iter().any(|one| one.state == IncarnationState::Poisoned),
        "the node serves before its predecessor is published: {left:?}"
    );
    for project in ["p0", "p1", "p2"] {
        let _ = converged(&cluster, project).await;
    }
    drained(&cluster).await;
    let answered = cluster.kinesis.answered();
    assert!(answered.refused > before.refused, "the limit was met");
    // Records beyond the mark at the kill are appended again. So are the record in flight then, and each record whose
    // answer was lost.
    let lost = answered.lost - before.lost;
    assert_eq!(lost > 0, lose_every.is_some(), "{answered:?}");
    let most = commits + at_kill + 1 + lost;
    let taken = answered.taken - before.taken;
    println!("{taken} records were taken for {commits} transactions, {lost} answers were lost");
    assert!(taken <= most, "{before:?} before {commits} transactions, then {answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_behind_a_limit_is_published_nearly_once_and_a_killed_node_is_ready_before() {
    a_backlog_is_published(16, None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make soak"]
async fn a_backlog_is_published_nearly_once_although_answers_are_lost() {
    a_backlog_is_published(20, Some(3)).await;
}

/// A project, and two others of which one shares its lane.
fn three_projects() -> [String; 3] {
    let lane = |name: &str| lane_of(&name.parse().expect("a project"), LANES);
    let names = || (0..).map(|number| format!("cold{number}"));
    let beside = names().find(|name| lane(name) == lane("hot")).expect("there is one");
    let apart = names().find(|name| lane(name) != lane("hot")).expect("there is one");
    ["hot".to_owned(), beside, apart]
}

/// Pushes a commit to a branch of its own, and returns how long that took.
async fn timed_push(clone: &Clone, node: &Node, project: &str, name: &str) -> Duration {
    let spec = format!("{}:refs/heads/{name}", clone.commit(None, "cold"));
    let asked = Instant::now();
    let _ = ok(clone.push(&node.repository(project), &[], &[&spec]).await);
    asked.elapsed()
}

/// The longest of some pushes to each of these projects, at all nodes at once. `goes_on` is asked after each round,
/// with its number.
async fn slowest_pushes(
    cluster: &Cluster,
    clone: &Clone,
    projects: &[&str],
    what: &str,
    goes_on: impl Fn(u64) -> bool,
) -> Duration {
    let of_node = async |node: &Node| {
        let (mut slowest, mut round) = (Duration::ZERO, 0);
        while round == 0 || goes_on(round) {
            for project in projects {
                let took = timed_push(clone, node, project, &format!("{what}-{}-{round}", node.name)).await;
                slowest = slowest.max(took);
            }
            round += 1;
        }
        slowest
    };
    join_all(cluster.nodes.iter().map(of_node)).await.into_iter().max().expect("nodes")
}

/// Throttles the partition of one project for a while. Meanwhile each site pushes to it many times at once, and to the
/// other projects one push after the other, as often as on a machine that is not busy.
async fn one_partition_throttles(lasts: Duration) {
    let [hot, beside, apart] = three_projects();
    let cluster = Cluster::start_throttled(lockstep(), &["a-0", "b-0"]).await;
    for project in [&hot, &beside, &apart] {
        cluster.create(project).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    // As many pushes at once as later take what they take on this machine, now.
    let pushes_to_hot = |what: &'static str| {
        let push = |number: usize| {
            let spec = format!("{}:refs/heads/{what}{number}", clone.commit(None, "hot"));
            let (clone, repository) = (&clone, cluster.nodes[number % 2].repository(&hot));
            async move { (clone.push(&repository, &[], &[&spec]).await, Instant::now()) }
        };
        join_all((0..12).map(push).collect::<Vec<_>>())
    };
    let others: [&str; 2] = [&beside, &apart];
    let usual = slowest_pushes(&cluster, &clone, &others, "before", |round| round < 4);
    let (before, usual) = tokio::join!(pushes_to_hot("usual"), usual);
    before.into_iter().for_each(|(push, _)| drop(ok(push)));
    let throttle = cluster.throttle.as_ref().expect("a throttle");
    throttle.refuse(Part::Project(hot.clone()));
    let (begun, lifted) = (Instant::now(), OnceLock::new());
    let beside_it = async {
        let is_short = |rounds: u64| rounds <= lasts.as_secs() || (throttle.refused() <= 20 && rounds < 100);
        let goes_on = |rounds| begun.elapsed() < lasts || is_short(rounds);
        let slowest = slowest_pushes(&cluster, &clone, &others, "beside", goes_on).await;
        let _ = lifted.set(Instant::now());
        throttle.lift();
        slowest
    };
    let (hot_pushes, slowest) = tokio::join!(pushes_to_hot("h"), beside_it);
    assert!(throttle.refused() > 20, "{} calls were refused", throttle.refused());
    // The commits of a lane that waits for the throttled project take seconds, or are refused at their deadline.
    let most = (usual * 4).max(Duration::from_secs(3));
    assert!(slowest < most, "a push beside the throttled project took {slowest:?}, and at most {usual:?} before");
    let lifted = lifted.get().expect("it was lifted");
    for (push, ended) in hot_pushes {
        match push.status.success() {
            true => assert!(ended >= *lifted, "a push succeeded while its partition was throttled"),
            false => assert!(text(&push).contains("try again"), "{}", text(&push)),
        }
    }
    for node in &cluster.nodes {
        let spec = format!("{}:refs/heads/after-{}", clone.commit(None, "after"), node.name);
        let _ = ok(clone.push(&node.repository(&hot), &[], &[&spec]).await);
    }
    for project in [&hot, &beside, &apart] {
        let _ = converged(&cluster, project).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_throttles_slows_its_own_project_and_no_other_one() {
    one_partition_throttles(Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn a_partition_that_throttles_for_minutes_slows_its_own_project_and_no_other_one() {
    one_partition_throttles(Duration::from_secs(180)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_throttles_slows_the_projects_of_its_own_and_no_other_one() {
    let [hot, _, apart] = three_projects();
    let cluster = Cluster::start_throttled(lockstep(), &["a-0", "b-0"]).await;
    for project in [&hot, &apart] {
        cluster.create(project).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let usual = slowest_pushes(&cluster, &clone, &[&apart], "before", |round| round < 4).await;
    let site = a.site.parse().expect("a site");
    let incarnations = cluster.refdb.incarnations.incarnations(&site).await.expect("a list");
    let open = incarnations.iter().find(|one| one.state == IncarnationState::Open).expect("an open incarnation");
    let lane = open.id.lane(lane_of(&hot.parse().expect("a project"), LANES));
    let throttle = cluster.throttle.as_ref().expect("a throttle");
    throttle.refuse(Part::Lane(lane));
    let slowed = async {
        let spec = format!("{}:refs/heads/slowed", clone.commit(None, "slowed"));
        let pushed = clone.push(&a.repository(&hot), &[], &[&spec]).await;
        (pushed, Instant::now())
    };
    let beside_it = async {
        let goes_on = |rounds| throttle.refused() < 3 && rounds < 100;
        let slowest = slowest_pushes(&cluster, &clone, &[&apart], "beside", goes_on).await;
        // The other site writes to other slots.
        let elsewhere = timed_push(&clone, b, &hot, "elsewhere").await;
        throttle.lift();
        (slowest.max(elsewhere), Instant::now())
    };
    let ((pushed, ended), (slowest, lifted)) = tokio::join!(slowed, beside_it);
    assert!(throttle.refused() >= 3, "{} calls were refused", throttle.refused());
    let most = (usual * 4).max(Duration::from_secs(3));
    assert!(slowest < most, "a push beside the throttled lane took {slowest:?}, and at most {usual:?} before");
    match pushed.status.success() {
        true => assert!(ended >= lifted, "a push succeeded while its lane was throttled"),
        false => assert!(text(&pushed).contains("try again"), "{}", text(&pushed)),
    }
    for node in &cluster.nodes {
        let _ = timed_push(&clone, node, &hot, &format!("after-{}", node.name)).await;
    }
    for project in [&hot, &apart] {
        let _ = converged(&cluster, project).await;
    }
}

/// The number of branches of one push.
const MANY: usize = 8;

/// Pushes new branches at once, all of one commit.
async fn push_many(cluster: &Cluster, clone: &Clone, what: &str) {
    let commit = clone.commit(None, what);
    let specs: Vec<String> = (0..MANY).map(|number| format!("{commit}:refs/heads/{what}{number}")).collect();
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let _ = ok(clone.push(&cluster.nodes[0].repository("hot"), &[], &specs).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_at_its_limit_takes_and_brings_everything_in_the_end() {
    let cluster = Cluster::start_throttled(lockstep(), &["a-0"]).await;
    cluster.create("hot").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (hot, throttle) = (Part::Project("hot".to_owned()), cluster.throttle.as_ref().expect("a throttle"));
    throttle.limit(hot.clone(), 2.0, 16.0);
    for what in ["a", "b", "c"] {
        push_many(&cluster, &clone, what).await;
    }
    assert!(throttle.refused() > 0, "the limit was met");

    // A batch read brings the items for which there is room, and names the others. They are asked for again.
    throttle.limit(hot, 4_000.0, 5.0);
    let client = client(&Connection::emulator(throttle.url())).await;
    let behind = RefDb::of(&Arc::new(DynamoRefDb::new(&client, "e2e", TableSettings::default())));
    let project = ProjectKey::new(&"hot".parse().expect("a project"), 1);
    let key = |number: usize| RefKey::Ref(format!("refs/heads/a{number}").parse().expect("a name"));
    let keys: Vec<RefKey> = (0..MANY).map(key).collect();
    let read = until(async || behind.refs.read(&project, &keys).await.ok()).await.expect("the refdb answers");
    assert!(read.len() == MANY && read.iter().all(Option::is_some), "{read:?}");
    assert!(throttle.left_out() > 0, "a batch read was answered in part");
    throttle.lift();
    let _ = converged(&cluster, "hot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_deleted_at_once_after_another_site_stopped_in_order() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    cluster.nodes[2].stop().await;
    // It has frozen and poisoned its incarnation itself, so that nobody has to adopt it first.
    let site = cluster.nodes[2].site.parse().expect("a site");
    let left = cluster.refdb.incarnations.incarnations(&site).await.expect("a list");
    assert!(left.iter().all(|one| !matches!(one.state, IncarnationState::Open | IncarnationState::Frozen)), "{left:?}");
    let _ = ok(cluster.nodes[0].cli(&["project", "delete", "p", "--yes"]).await);
    let _ = ok(cluster.nodes[1].cli(&["project", "create", "p"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_deleted_after_another_site_was_killed_and_adopted() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    cluster.nodes[2].kill().await;
    let deleted = async || {
        let output = cluster.nodes[0].cli(&["project", "delete", "p", "--yes"]).await;
        output.status.success().then_some(())
    };
    assert!(until(deleted).await.is_some(), "{}", cluster.nodes[0].log_tail());
}
