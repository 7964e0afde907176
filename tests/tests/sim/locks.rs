//! Locks of operators: holders that sleep, are broken, and come back. No two of them ever both commit.

use lockstep_proto::bridge::{
    ApiError, Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse, RefusalCode,
};
use lockstep_proto::locks::{AcquireRequest, Acquired, BreakRequest, LockKind, LockTarget};
use lockstep_proto::{Oid, RefKey, RefName};
use lockstep_tests::sim::Scenario;
use lockstep_tests::sim::scenario::Writes;
use lockstep_tests::sim::story::{Story, node, p0, tell, tell_of_locks, tell_with, tell_with_seed};
use tokio::time::{Duration, sleep};

use super::quarter;

const BRANCH: &str = "refs/heads/b0";
/// The node of the holder that is slow, and the beginning of its calls that commit.
const SLOW: (&str, &str) = ("muc-1-0", "commit muc-1-0.");
/// The node whose desk operators ask.
const DESK: &str = "eu-aws-0";

fn whole_project() -> LockTarget {
    LockTarget::project(p0())
}

/// Asks once for a lock.
async fn ask(story: &Story, at: &str, id: &str, target: LockTarget, ttl_ms: Option<u64>) -> Result<Acquired, ApiError> {
    ask_for(story, at, LockKind::Lock, (id, target, ttl_ms)).await
}

pub(super) async fn ask_for(
    story: &Story,
    at: &str,
    kind: LockKind,
    (id, target, ttl_ms): (&str, LockTarget, Option<u64>),
) -> Result<Acquired, ApiError> {
    let request = AcquireRequest {
        request_id: id.to_owned(),
        kind,
        target,
        owner: id.to_owned(),
        reason: "a long operation".to_owned(),
        ttl_ms,
        until: None,
    };
    story.life(at).node.locking().unwrap().acquire("operator", request).await
}

/// Asks for a lock until it is held. Another lock, or a refdb that does not answer, is waited for.
async fn acquire(story: &Story, at: &str, id: &str) -> Acquired {
    for _ in 0..100 {
        match ask(story, at, id, whole_project(), None).await {
            Ok(acquired) if acquired.held => return acquired,
            Ok(_) => {}
            Err(error) if error.retry => sleep(Duration::from_millis(200)).await,
            Err(error) => panic!("{id}: {error:?}"),
        }
    }
    panic!("{id} never got the lock");
}

/// Breaks the lock of the project. It may be gone already.
async fn break_it(story: &Story, at: &str) -> Result<(), ApiError> {
    let request = BreakRequest { kind: LockKind::Lock, target: whole_project(), reason: "a test".to_owned() };
    story.life(at).node.locking().unwrap().break_lock("operator", request).await.map(drop)
}

fn committed(answer: &Result<RefTransactionResponse, ApiError>) -> bool {
    answer
        .as_ref()
        .is_ok_and(|response| matches!(response.outcome, Outcome::Committed | Outcome::CommittedNotYetVisible))
}

/// The code and the text of a refused push.
fn refusal(answer: Result<RefTransactionResponse, ApiError>) -> (RefusalCode, String) {
    let response = answer.unwrap();
    assert_eq!(response.outcome, Outcome::Refused, "{response:?}");
    let refusal = response.results[0].refusal.clone().unwrap();
    (refusal.code, refusal.message)
}

/// The value of the branch in the refdb.
fn current(story: &Story) -> Option<Oid> {
    let known = story.world.watch.known();
    let key = known.facts.projects[&p0()].clone();
    known.facts.chain(&key, &branch()).last().and_then(|step| step.value.oid())
}

fn branch() -> RefKey {
    RefKey::Ref(BRANCH.parse::<RefName>().unwrap())
}

#[test]
fn a_lock_keeps_everybody_out_at_every_site_but_its_holder() {
    tell(async |story| {
        let lock = acquire(story, DESK, "alice").await;
        for at in ["eu-aws-0", "eu-aws-1", "muc-1-0", "blr-1-0"] {
            let new = Some(story.object(at, &p0()));
            let (code, told) = refusal(story.push(at, &format!("out-{at}"), &p0(), (BRANCH, None, new)).await);
            assert_eq!(code, RefusalCode::Locked);
            let text = "project p0 is locked by alice until released (reason: a long operation)";
            assert!(told.contains(text), "{told}");
        }
        let new = Some(story.object("blr-1-0", &p0()));
        let inside = story.push_under(&lock.token, "blr-1-0", "in", &p0(), (BRANCH, None, new)).await;
        assert!(committed(&inside), "{inside:?}");
        let refused = ask(story, "blr-1-0", "bob", whole_project(), None).await.unwrap_err();
        assert!(refused.code == RefusalCode::Locked && refused.message.contains("alice"), "{refused:?}");
        // A lock survives the restart of every node.
        story.restart(&["eu-aws-0", "muc-1-0"]).await;
        let next = Some(story.object("muc-1-0", &p0()));
        let (code, _) = refusal(story.push("muc-1-0", "still-out", &p0(), ("refs/heads/b1", None, next)).await);
        assert_eq!(code, RefusalCode::Locked);
        break_it(story, DESK).await.unwrap();
        story.pass(2_000).await;
        assert!(committed(&story.push("muc-1-0", "again", &p0(), ("refs/heads/b1", None, next)).await));
    });
}

/// A refusal by the write is final, so nothing may be sent that the same token lets in later.
#[test]
fn nothing_is_sent_under_a_lock_before_it_is_held() {
    tell(async |story| {
        let slow = node(SLOW.0);
        story.world.faults.pause(&slow, true);
        let early = ask(story, DESK, "alice", whole_project(), None).await.unwrap();
        assert!(!early.held && early.waits_for.iter().any(|waits| waits.contains(SLOW.0)), "{early:?}");
        let before = story.world.trace.text().matches("commit blr-1-0.").count();
        let new = Some(story.object("blr-1-0", &p0()));
        let refused = story.push_under(&early.token, "blr-1-0", "early", &p0(), (BRANCH, None, new)).await;
        let (code, told) = refusal(refused);
        assert!(code == RefusalCode::Locked && told.contains("not held yet"), "{told}");
        assert_eq!(story.world.trace.text().matches("commit blr-1-0.").count(), before, "nothing was sent");
        story.world.faults.pause(&slow, false);
        let lock = acquire(story, DESK, "alice").await;
        assert_eq!(lock.token, early.token);
        let pushed = story.push_under(&lock.token, "blr-1-0", "held", &p0(), (BRANCH, None, new)).await;
        assert!(committed(&pushed), "{pushed:?}");
    });
}

/// The memory of a node that lost its volume has gaps, so a lock alone does not say that nothing was changed.
#[test]
fn a_repeated_push_of_a_locked_ref_is_not_refused_where_the_memory_has_gaps() {
    tell(async |story| {
        let at = SLOW.0;
        let new = story.object(at, &p0());
        assert!(committed(&story.push(at, "one", &p0(), (BRANCH, None, Some(new))).await));
        story.converge().await;
        assert!(story.world.lose_disk(&node(at)), "the node must be up");
        story.start(at).await;
        story.converge().await;
        let one_ref = LockTarget::of_ref(p0(), BRANCH.parse().unwrap());
        assert!(ask(story, at, "ci", one_ref, None).await.unwrap().held);
        // Not atomic: then a lock of one ref refuses that ref alone.
        let command = RefCommand { name: BRANCH.parse().unwrap(), old: Expected::Absent, new: Some(new), force: true };
        let again = RefTransactionRequest {
            request_id: "one".into(),
            deadline_ms: Some(5_000),
            atomic: false,
            commands: vec![command],
            actor: None,
            traceparent: None,
            message: None,
            lock: None,
        };
        let submit = async |request: &RefTransactionRequest| {
            story.world.watch.asked(&p0(), request);
            let answer = story.life(at).node.transactions().submit(&p0(), request.clone()).await.unwrap();
            story.world.watch.answered(&node(at), &request.request_id, &answer);
            answer.outcome
        };
        assert_ne!(submit(&again).await, Outcome::Refused, "it was committed before the loss");
        // A push of another value that nobody has sent before meets the lock.
        let next = story.object(at, &p0());
        let command = RefCommand { old: Expected::Oid(new), new: Some(next), ..again.commands[0].clone() };
        let other = RefTransactionRequest { request_id: "two".into(), commands: vec![command], ..again };
        assert_eq!(submit(&other).await, Outcome::Refused);
    });
}

/// A push of the first holder is on its way when its lock is broken.
async fn a_late_commit(story: &Story, steps: &[(&str, Option<Oid>, Option<Oid>)], id: &str) {
    let first = acquire(story, DESK, "first").await;
    let before = story.world.trace.text().matches(SLOW.1).count();
    story.bar(SLOW.0, Some(SLOW.1));
    let project = p0();
    let late = story.push_all_under(&first.token, SLOW.0, id, &project, steps);
    let breaks = async {
        let tried = async || story.world.trace.text().matches(SLOW.1).count() > before;
        story.until("the push is on its way", tried).await;
        break_it(story, DESK).await.unwrap();
        story.bar(SLOW.0, None);
    };
    let (late, ()) = tokio::join!(late, breaks);
    let (code, told) = refusal(late);
    assert!(code == RefusalCode::Locked && told.contains("not held any more"), "{told}");
    let second = acquire(story, DESK, "second").await;
    assert!(second.lock.id > first.lock.id, "tokens grow");
    let new = Some(story.object("blr-1-0", &p0()));
    let again = story.push_under(&first.token, "blr-1-0", "old-token", &p0(), (BRANCH, None, new)).await;
    assert_eq!(refusal(again).0, RefusalCode::Locked);
    assert!(committed(&story.push_under(&second.token, "blr-1-0", "new-token", &p0(), (BRANCH, None, new)).await));
    story.converge().await;
}

#[test]
fn a_push_on_its_way_when_its_lock_is_broken_is_refused_by_the_write_itself() {
    tell(async |story| {
        let new = Some(story.object(SLOW.0, &p0()));
        a_late_commit(story, &[(BRANCH, None, new)], "late").await;
    });
}

/// A lock of the refs of a large transaction comes first, and the slot is the commit point.
#[test]
fn a_holder_that_sleeps_through_the_break_commits_nothing_when_it_wakes() {
    for staged in [false, true] {
        let told = async |story: &Story| {
            let first = acquire(story, DESK, "first").await;
            let slow = node(SLOW.0);
            let (one, two) = (story.object(SLOW.0, &p0()), story.object(SLOW.0, &p0()));
            let steps = [(BRANCH, None, Some(one)), ("refs/heads/b1", None, Some(two))];
            story.world.faults.pause(&slow, true);
            let project = p0();
            let late = story.push_all_under(&first.token, SLOW.0, "late", &project, &steps);
            let meanwhile = async {
                break_it(story, DESK).await.unwrap();
                // The second lock is held only when the node that sleeps was adopted: it can commit nothing any more.
                let second = acquire(story, DESK, "second").await;
                let new = Some(story.object("blr-1-0", &p0()));
                let pushed = story.push_under(&second.token, "blr-1-0", "new", &p0(), (BRANCH, None, new)).await;
                assert!(committed(&pushed), "{pushed:?}");
                story.world.faults.pause(&slow, false);
            };
            let (late, ()) = tokio::join!(late, meanwhile);
            assert!(!committed(&late), "{late:?}");
        };
        match staged {
            true => tell_of_locks(told),
            false => tell(told),
        }
    }
}

/// Nobody compares clocks: each node watches the lock for its whole time to live.
#[test]
fn a_lock_that_is_not_renewed_expires_and_its_holder_commits_nothing() {
    tell(async |story| {
        let ttl = Some(10_000);
        let lock = ask(story, DESK, "mortal", whole_project(), ttl).await.unwrap();
        assert!(lock.held, "{lock:?}");
        let renewal = || lockstep_proto::locks::RenewRequest { token: lock.token.clone(), ttl_ms: None };
        story.pass(8_000).await;
        let desk = story.life(DESK).node.locking().unwrap();
        desk.renew("operator", renewal()).await.unwrap();
        story.pass(8_000).await;
        assert_eq!(desk.list().await.unwrap().locks.len(), 1, "it was renewed in time");
        story.until("it expires", async || desk.list().await.unwrap().locks.is_empty()).await;
        assert!(desk.renew("operator", renewal()).await.is_err());
        let new = Some(story.object("blr-1-0", &p0()));
        let late = story.push_under(&lock.token, "blr-1-0", "late", &p0(), (BRANCH, None, new)).await;
        assert_eq!(refusal(late).0, RefusalCode::Locked);
        story.pass(2_000).await;
        assert!(committed(&story.push("blr-1-0", "free", &p0(), (BRANCH, None, new)).await));
    });
}

/// Writes of one item check no token, so nobody gets one that commits. Maintenance works.
#[test]
fn where_no_write_checks_a_token_nobody_commits_under_one() {
    tell_with(Writes::SingleItem, async |story| {
        let refused = ask(story, DESK, "alice", whole_project(), None).await.unwrap_err();
        assert_eq!((refused.code, refused.retry), (RefusalCode::Locked, false));
        assert!(refused.message.contains("one item at a time"), "{refused:?}");
        assert!(refused.message.contains("lockstep maintenance on"), "{refused:?}");
        let wanted = ("bob", whole_project(), Some(10_000));
        let maintained = ask_for(story, DESK, LockKind::Maintenance, wanted).await.unwrap();
        assert!(maintained.held, "{maintained:?}");
        let new = Some(story.object("blr-1-0", &p0()));
        let (code, told) = refusal(story.push("blr-1-0", "out", &p0(), (BRANCH, None, new)).await);
        assert!(code == RefusalCode::Locked && told.contains("in maintenance"), "{told}");
        let under = story.push_under(&maintained.token, "blr-1-0", "under", &p0(), (BRANCH, None, new)).await;
        let (code, told) = refusal(under);
        assert!(code == RefusalCode::Locked && told.contains("nothing is committed under a lock"), "{told}");
        let desk = story.life(DESK).node.locking().unwrap();
        story.until("it expires", async || desk.list().await.unwrap().locks.is_empty()).await;
        story.pass(2_000).await;
        assert!(committed(&story.push("blr-1-0", "free", &p0(), (BRANCH, None, new)).await));
        story.converge().await;
    });
}

/// One of two operators: acquires the lock, pushes under it, and takes it from the other one after some refusals.
async fn contends(story: &Story, at: &str, who: &str, patience: usize) {
    for round in 0..4 {
        let (id, mut refusals) = (format!("{who}-{round}"), 0);
        if let Err(error) = break_it(story, at).await {
            story.world.trace.note("story", &format!("{who}: {error:?}"));
        }
        let lock = loop {
            match ask(story, at, &id, whole_project(), None).await {
                Ok(acquired) if acquired.held => break acquired,
                Err(error) if error.code == RefusalCode::Locked && refusals < patience => refusals += 1,
                Err(error) if error.code == RefusalCode::Locked => {
                    refusals = 0;
                    let _ = break_it(story, at).await;
                }
                Ok(_) | Err(_) => {}
            }
            sleep(Duration::from_millis(100)).await;
            if story.world.trace.now_ms() > 300_000 {
                return;
            }
        };
        for push in 0..3 {
            let (old, new) = (current(story), Some(story.object(at, &p0())));
            let id = format!("{}/{who}-{round}-{push}", lock.lock.id);
            let answer = story.push_under(&lock.token, at, &id, &p0(), (BRANCH, old, new)).await;
            story.world.trace.note("story", &format!("{id}: {}", committed(&answer)));
        }
    }
}

/// The steps of the branch stand in the order of the tokens under which they were committed, although messages are
/// lost, late or sent twice: after the first commit of a later lock, no commit of an earlier one lands.
#[test]
fn commits_stand_in_the_order_of_their_locks_under_message_faults() {
    for seed in quarter(4) {
        let scenario = Scenario { rates: Scenario::general().rates, ..Scenario::calm() };
        tell_with_seed(seed, scenario, async |story| {
            tokio::join!(contends(story, "eu-aws-0", "one", 40), contends(story, "muc-1-0", "two", 70));
            let known = story.world.watch.known();
            let key = known.facts.projects[&p0()].clone();
            let of = |id: &str| id.split('/').next().and_then(|lock| lock.parse::<u64>().ok());
            let chain = known.facts.chain(&key, &branch());
            let locks: Vec<u64> = chain.iter().filter_map(|step| of(&step.request)).collect();
            assert!(locks.is_sorted(), "seed {seed}: {locks:?}");
            assert!(locks.len() > 2, "seed {seed}: hardly anything was committed: {locks:?}");
        });
    }
}
