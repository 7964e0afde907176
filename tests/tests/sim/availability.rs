//! Stories about streams, partitions and sites that are away, and about everybody else, who goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep::seams::refdb::{CommitAnswer, Freed, IncarnationState, Part, RefDb, SlotState};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::{Command, IncarnationId, Lane, NodeId, ProjectKey, ProjectName, RefValue, Seq};
use lockstep_tests::sim::faults::{Cut, Seam, Throttle};
use lockstep_tests::sim::scenario::Writes;
use lockstep_tests::sim::story::{Story, tell, tell_with};
use tokio::time::Instant;

fn p0() -> ProjectName {
    "p0".parse().unwrap()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

async fn beat(story: &Story, name: &str) -> u64 {
    let nodes = story.world.refdb().nodes.nodes().await.unwrap();
    nodes.iter().find(|one| one.node == node(name)).unwrap().beat
}

async fn push(story: &Story, at: &str, id: &str, project: &ProjectName) -> Outcome {
    let object = story.object(at, project);
    let name = format!("refs/heads/{id}");
    story.push(at, id, project, (&name, None, Some(object))).await.map_or(Outcome::Unknown, |answer| answer.outcome)
}

/// The states of the incarnations that a node has.
async fn states(refdb: &RefDb, name: &str) -> Vec<IncarnationState> {
    let all = refdb.incarnations().await.unwrap();
    all.into_iter().filter(|one| one.id.node == node(name)).map(|one| one.state).collect()
}

async fn open(refdb: &RefDb, name: &str) -> Option<IncarnationId> {
    let all = refdb.incarnations().await.unwrap();
    all.into_iter().find(|one| one.id.node == node(name) && one.state == IncarnationState::Open).map(|one| one.id)
}

/// A node restarts while no node of its site reaches the streams. It takes commits again, its sibling goes on, and what
/// it had left is published as soon as the streams are back.
#[test]
fn a_node_that_restarts_while_the_streams_are_away_takes_commits_and_its_sibling_goes_on() {
    tell(async |story| {
        let (dies, sibling) = ("eu-aws-0", "eu-aws-1");
        let refdb = story.world.refdb();
        for one in [dies, sibling] {
            story.world.faults.cut(&node(one), Seam::EventLog, Some(Cut::Requests));
        }
        assert_eq!(push(story, dies, "before", &p0()).await, Outcome::Committed);
        let before = open(&refdb, dies).await.expect("it serves");
        assert!(story.world.crash(&node(dies)));
        // Longer than the lease: the sibling adopts the journal, and cannot publish it.
        story.pass(12_000).await;
        assert!(states(&refdb, dies).await.contains(&IncarnationState::Poisoned));
        story.world.start(&node(dies)).await;
        story.pass(12_000).await;
        let after = open(&refdb, dies).await.expect("its next incarnation is open");
        assert_ne!(before, after);
        assert_eq!(push(story, dies, "after", &p0()).await, Outcome::Committed);
        for one in [dies, sibling] {
            let earlier = beat(story, one).await;
            story.pass(9_000).await;
            assert!(beat(story, one).await >= earlier + 6, "{one} beats once per second");
            assert!(open(&refdb, one).await.is_some());
            assert!(story.life(one).node.is_ready(), "{one} is ready: the refdb has everything that the streams have");
        }
        for one in [dies, sibling] {
            story.world.faults.cut(&node(one), Seam::EventLog, None);
        }
        story.converge().await;
        story.until("it is drained", async || !states(&refdb, dies).await.contains(&IncarnationState::Poisoned)).await;
    });
}

#[test]
fn an_orderly_stop_leaves_nothing_to_wait_for() {
    tell(async |story| {
        let stops = "muc-1-0";
        let refdb = story.world.refdb();
        assert_eq!(push(story, stops, "last", &p0()).await, Outcome::Committed);
        assert!(story.world.stop(&node(stops)).await);
        let left: BTreeSet<_> = states(&refdb, stops).await.into_iter().map(|state| format!("{state:?}")).collect();
        assert_eq!(left, BTreeSet::from(["Drained".to_owned()]));
        let started = Instant::now();
        assert_eq!(story.delete("blr-1-0", "delete", &p0()).await.outcome, Outcome::Committed);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        story.world.start(&node(stops)).await;
        story.converge().await;
    });
}

#[test]
fn an_orderly_stop_without_the_streams_leaves_only_the_publishing() {
    tell(async |story| {
        let stops = "muc-1-0";
        let refdb = story.world.refdb();
        story.world.faults.cut(&node(stops), Seam::EventLog, Some(Cut::Requests));
        assert_eq!(push(story, stops, "last", &p0()).await, Outcome::Committed);
        assert!(story.world.stop(&node(stops)).await);
        assert!(states(&refdb, stops).await.contains(&IncarnationState::Poisoned));
        let started = Instant::now();
        assert_eq!(story.delete("blr-1-0", "delete", &p0()).await.outcome, Outcome::Committed);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        story
            .until("another site publishes the rest", async || {
                states(&refdb, stops).await.iter().all(|state| *state == IncarnationState::Drained)
            })
            .await;
        story.world.faults.cut(&node(stops), Seam::EventLog, None);
        story.world.start(&node(stops)).await;
        story.converge().await;
    });
}

#[test]
fn any_site_adopts_a_killed_one_after_the_longer_lease() {
    tell(async |story| {
        let dies = "muc-1-0";
        assert_eq!(push(story, dies, "last", &p0()).await, Outcome::Committed);
        assert!(story.world.crash(&node(dies)));
        story.pass(20_000).await;
        let started = Instant::now();
        assert_eq!(story.delete("blr-1-0", "delete", &p0()).await.outcome, Outcome::Committed);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        story.world.start(&node(dies)).await;
        story.converge().await;
    });
}

/// A node of another site meets the lock of a large push whose node is dead. It does not wait for the adoption.
#[test]
fn the_lock_of_a_dead_owner_is_void_after_the_lease() {
    tell(async |story| {
        let (dies, at, refdb) = ("muc-1-0", "blr-1-0", story.world.refdb());
        let slot = open(&refdb, dies).await.expect("it serves").lane(Lane(0)).slot(Seq(0));
        let command = Command::creation("refs/heads/locked".parse().unwrap(), RefValue::Oid(story.object(dies, &p0())));
        let project = ProjectKey { name: p0(), incarnation: 1 };
        let (directories, freed) = (Vec::new(), Freed::new());
        let part = Part { txn: slot.txn(7), project, commands: vec![command], directories, freed, loosens: false };
        assert_eq!(refdb.refs.lock(&part).await, Ok(CommitAnswer::Committed));
        assert!(story.world.crash(&node(dies)));
        let crashed = Instant::now();
        story.pass(4_500).await;
        assert_eq!(push(story, at, "locked", &p0()).await, Outcome::Committed);
        assert!(crashed.elapsed() < Duration::from_secs(11), "another site adopts after 12 s: {:?}", crashed.elapsed());
        assert_eq!(refdb.journal.slot(&slot).await, Ok(SlotState::Poisoned));
        story.world.start(&node(dies)).await;
        story.converge().await;
    });
}

/// While a partition throttles, the projects of other partitions commit in time, also those of the same lane.
#[test]
fn a_partition_that_throttles_slows_its_own_project_alone() {
    tell(async |story| {
        let (at, other) = ("muc-1-0", "p2".parse().unwrap());
        assert_eq!(story.create(at, "create", &other, "refs/heads/b0").await.outcome, Outcome::Committed);
        story.converge().await;
        let throttle = Throttle::Partition(p0());
        story.world.faults.throttle(&throttle, true);
        let throttled = async {
            let all = (0..6).map(|number| async move { push(story, at, &format!("slow{number}"), &p0()).await });
            futures::future::join_all(all).await
        };
        let others = async {
            for number in 0..60 {
                let started = Instant::now();
                assert_eq!(push(story, at, &format!("quick{number}"), &other).await, Outcome::Committed);
                assert!(started.elapsed() < Duration::from_secs(2), "push {number}: {:?}", started.elapsed());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (slow, ()) = tokio::join!(throttled, others);
        assert!(slow.iter().all(|outcome| *outcome == Outcome::Refused), "{slow:?}");
        story.world.faults.throttle(&throttle, false);
        assert_eq!(push(story, at, "at-last", &p0()).await, Outcome::Committed);
        story.converge().await;
    });
}

/// One slot of a lane that the refdb does not take holds up neither the lane nor the transaction that met it.
#[test]
fn a_slot_that_is_not_taken_holds_up_nobody_for_long() {
    tell(async |story| one_slot_is_not_taken(story, "commit", Duration::from_secs(3)).await);
}

/// The same in tables without transactions, where the lock of the only ref is the first call.
#[test]
fn a_lock_that_is_not_taken_holds_up_nobody_for_long() {
    tell_with(Writes::SingleItem, async |story| one_slot_is_not_taken(story, "lock", Duration::from_secs(5)).await);
}

/// Bars one kind of call for the next slot of a lane, and pushes more than the lane's window takes.
async fn one_slot_is_not_taken(story: &Story, call: &str, longest: Duration) {
    let at = "muc-1-0";
    let object = story.object(at, &p0());
    let answer = story.push(at, "x", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
    let txn = answer.txn.unwrap();
    story.converge().await;
    let slot = txn.slot.lane.slot(Seq(txn.slot.seq.0 + 1));
    let call: &'static str = Box::leak(format!("{call} {slot}.").into_boxed_str());
    story.world.faults.bar(&node(at), Some(call));
    let all = (0..14).map(|number| async move {
        tokio::time::sleep(Duration::from_millis(100 * number)).await;
        let started = Instant::now();
        assert_eq!(push(story, at, &format!("y{number}"), &p0()).await, Outcome::Committed);
        started.elapsed()
    });
    let took = futures::future::join_all(all).await;
    assert!(took.iter().all(|took| *took < longest), "{took:?}");
    assert_eq!(story.world.refdb().journal.slot(&slot).await, Ok(SlotState::Poisoned));
    story.world.faults.bar(&node(at), None);
}

/// A stream whose shard throttles for a while gets every record once it takes them again.
#[test]
fn a_shard_that_throttles_delays_its_own_records_alone() {
    tell(async |story| {
        let (at, other) = ("muc-1-0", "p1".parse().unwrap());
        assert_eq!(story.create(at, "create", &other, "refs/heads/b0").await.outcome, Outcome::Committed);
        story.converge().await;
        let throttle = Throttle::Shard("muc-1".parse().unwrap(), p0());
        story.world.faults.throttle(&throttle, true);
        for number in 0..20 {
            assert_eq!(push(story, at, &format!("slow{number}"), &p0()).await, Outcome::Committed);
            assert_eq!(push(story, at, &format!("quick{number}"), &other).await, Outcome::Committed);
        }
        let shown = |project: &ProjectName| {
            let refs = story.world.volume(&node("blr-1-0")).unwrap().refs(project);
            refs.keys().filter(|name| name.as_str().contains("slow") || name.as_str().contains("quick")).count()
        };
        story.until("the other project's refs arrive", async || shown(&other) == 20).await;
        assert_eq!(shown(&p0()), 0);
        story.world.faults.throttle(&throttle, false);
        story.until("the refs arrive", async || shown(&p0()) == 20).await;
        story.converge().await;
    });
}
