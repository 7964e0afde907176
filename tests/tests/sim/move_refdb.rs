//! Stories of a running refdb that moves to other tables, and of its fence.

use lockstep::state::bound_refdb;
use lockstep_proto::bridge::{ApiError, Outcome, RefusalCode};
use lockstep_proto::locks::{Acquired, LockKind, LockTarget};
use lockstep_proto::rebuild::{Rebuild, RebuildPhase, RebuildRequest, RefdbState};
use lockstep_proto::refdb_move::{MoveRequest, MoveStep};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell};

use crate::locks::ask_for;
use crate::rebuild::{BRANCH, NEXT, NODES, converges, push, ready};

fn request(into: &str, abort: bool) -> RebuildRequest {
    RebuildRequest {
        into: into.to_owned(),
        from_sites: Vec::new(),
        dry_run: false,
        take_over: false,
        lost: false,
        moves: Some(MoveRequest { abort, ..MoveRequest::default() }),
    }
}

/// Begins a move, or its abort. Returns the look at its report.
fn begin(story: &Story, at: &str, request: RebuildRequest) -> impl Fn() -> Option<Rebuild> + use<> {
    let stage = story.life(at).node.rebuilds().unwrap();
    stage.begin("a test", request).unwrap();
    move || stage.rebuild().filter(|last| last.phase != RebuildPhase::Running)
}

async fn ends(story: &Story, ended: impl Fn() -> Option<Rebuild>) -> Rebuild {
    // Two waits: a dead node's journal is published after a lease, and calls that fail are tried for a while.
    for _ in 0..3 {
        if ended().is_none() {
            story.pass(30_000).await;
        }
    }
    story.until("the move ends", async || ended().is_some()).await;
    ended().unwrap()
}

async fn moves(story: &Story, at: &str, request: RebuildRequest) -> Rebuild {
    let ended = begin(story, at, request);
    ends(story, ended).await
}

/// Starts all nodes in the new tables, as a supervisor does whose nodes follow.
async fn follow(story: &Story, into: &str) {
    story.world.watch.rewound();
    story.world.watch.rebuilt();
    for name in story.world.nodes() {
        story.world.crash(&name);
    }
    story.world.backend.restore(&story.world.backend.tables().at(into).backup());
    for name in NODES {
        story.world.start(&node(name)).await;
    }
    ready(story, &NODES).await;
}

async fn state(story: &Story) -> RefdbState {
    bound_refdb::read(&story.world.backend.refdb()).await.unwrap().unwrap().1.state
}

/// No incarnation can be opened in the old refdb, and none is open.
async fn takes_nothing(story: &Story) {
    let refdb = story.world.backend.refdb();
    let records = refdb.incarnations().await.unwrap();
    assert!(records.iter().all(|one| !one.may_commit()), "{records:?}");
    let nodes = refdb.nodes.nodes().await.unwrap();
    assert!(!nodes.is_empty(), "the refdb has no nodes");
    for one in nodes {
        let site = refdb.sites.sites().await.unwrap().into_iter().find(|site| site.site == one.site).unwrap();
        let id = lockstep_proto::IncarnationId { number: lockstep_proto::Incarnation(900_000), node: one.node };
        let next = lockstep::seams::refdb::IncarnationRecord::open(id, one.site, site.epoch, 8, 1);
        assert!(refdb.incarnations.open_incarnation(&next).await.is_err(), "{next:?}");
    }
}

#[test]
fn a_running_refdb_moves_with_what_only_a_dead_node_has_told_its_users() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        // This commit is in the journal, and in the repository of a node that dies. Nobody else has seen it.
        story.cut("blr-1-0", Seam::EventLog, Some(Cut::Requests));
        let two = push(story, "blr-1-0", "two", Some(one)).await;
        story.pass(300).await;
        story.crash("blr-1-0");
        story.cut("blr-1-0", Seam::EventLog, None);

        let report = moves(story, "muc-1-0", request(NEXT, false)).await;
        assert_eq!((report.phase, report.step), (RebuildPhase::Done, Some(MoveStep::Follow)), "{report:?}");
        assert_eq!(state(story).await, RefdbState::Moved);
        takes_nothing(story).await;
        converges(story, &["eu-aws-0", "eu-aws-1", "muc-1-0"], two).await;

        follow(story, NEXT).await;
        converges(story, &NODES, two).await;
        let mut last = two;
        for (at, name) in NODES.iter().enumerate() {
            last = push(story, name, &format!("after {at}"), Some(last)).await;
            converges(story, &NODES, last).await;
        }
    });
}

#[test]
fn a_move_whose_copy_fails_keeps_the_fence_until_it_is_aborted() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        story.bar("muc-1-0", Some("rebuild"));
        let half = moves(story, "muc-1-0", request(NEXT, false)).await;
        assert_eq!((half.phase, half.step), (RebuildPhase::Failed, Some(MoveStep::Copy)), "{half:?}");
        story.bar("muc-1-0", None);
        assert_eq!(state(story).await, RefdbState::Moving);
        takes_nothing(story).await;
        let object = story.object("eu-aws-0", &p0());
        let refused = story.push("eu-aws-0", "early", &p0(), (BRANCH, Some(one), Some(object))).await.unwrap_err();
        assert_eq!((refused.code, refused.retry), (RefusalCode::NotServing, true), "{refused:?}");

        let other = moves(story, "eu-aws-0", request("elsewhere", false)).await;
        assert_eq!(other.phase, RebuildPhase::Refused, "{other:?}");
        let look = moves(story, "eu-aws-0", RebuildRequest { dry_run: true, ..request(NEXT, true) }).await;
        assert_eq!((look.phase, state(story).await), (RebuildPhase::Done, RefdbState::Moving), "{look:?}");
        let aborted = moves(story, "eu-aws-0", request(NEXT, true)).await;
        assert_eq!((aborted.phase, aborted.step), (RebuildPhase::Done, Some(MoveStep::Aborted)), "{aborted:?}");
        assert_eq!(state(story).await, RefdbState::Ready);
        for name in NODES {
            story.until(&format!("{name} is ready"), async || story.life(name).node.is_ready()).await;
        }
        let two = push(story, "eu-aws-0", "two", Some(one)).await;
        converges(story, &NODES, two).await;
        let nothing = moves(story, "eu-aws-0", request(NEXT, true)).await;
        assert_eq!(nothing.phase, RebuildPhase::Refused, "{nothing:?}");
        let used = moves(story, "eu-aws-0", request(NEXT, false)).await;
        assert_eq!(used.phase, RebuildPhase::Refused, "the tables hold a part of this refdb: {used:?}");

        let report = moves(story, "blr-1-0", request("third", false)).await;
        assert_eq!(report.phase, RebuildPhase::Done, "{report:?}");
        follow(story, "third").await;
        converges(story, &NODES, two).await;
        push(story, "muc-1-0", "three", Some(two)).await;
    });
}

#[test]
fn a_mover_that_is_taken_over_writes_nothing_any_more_and_another_node_ends_the_move() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        story.bar("muc-1-0", Some("rebuild"));
        let first = begin(story, "muc-1-0", request(NEXT, false));
        story.until("the refdb is closed", async || state(story).await == RefdbState::Moving).await;
        let second = moves(story, "eu-aws-0", request(NEXT, false)).await;
        assert_eq!(second.phase, RebuildPhase::Done, "{second:?}");
        let first = ends(story, first).await;
        assert_eq!(first.phase, RebuildPhase::Failed, "{first:?}");
        let (_, next) = bound_refdb::read(&story.world.backend.tables().at(NEXT).refdb()).await.unwrap().unwrap();
        assert_eq!((next.state, Some(next.id)), (RefdbState::Ready, second.identity));
        follow(story, NEXT).await;
        let two = push(story, "blr-1-0", "two", Some(one)).await;
        converges(story, &NODES, two).await;
    });
}

/// Asks for a lock, or for maintenance, and waits until it is held.
async fn acquire(story: &Story, at: &str, kind: LockKind, id: &str, target: LockTarget) -> Result<Acquired, ApiError> {
    for _ in 0..20 {
        let asked = ask_for(story, at, kind, (id, target.clone(), None)).await?;
        if asked.held {
            return Ok(asked);
        }
    }
    panic!("{id} is never held")
}

#[test]
fn locks_and_maintenance_travel_and_later_tokens_are_higher() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        let project = |name: &str| LockTarget::project(name.parse().unwrap());
        let lock = acquire(story, "eu-aws-0", LockKind::Lock, "alice", LockTarget::project(p0())).await.unwrap();
        let kept = acquire(story, "muc-1-0", LockKind::Maintenance, "bob", project("other")).await.unwrap();
        story.bar("muc-1-0", Some("rebuild"));
        let half = moves(story, "muc-1-0", request(NEXT, false)).await;
        assert_eq!(half.phase, RebuildPhase::Failed, "{half:?}");
        let early = acquire(story, "muc-1-0", LockKind::Lock, "carol", project("third")).await.unwrap_err();
        assert!(early.retry && early.message.contains("takes the locks along"), "{early:?}");
        story.bar("muc-1-0", None);
        let report = moves(story, "muc-1-0", request(NEXT, false)).await;
        assert_eq!(report.phase, RebuildPhase::Done, "{report:?}");

        follow(story, NEXT).await;
        let listed = story.life("blr-1-0").node.locking().unwrap().list().await.unwrap();
        assert_eq!(listed.locks, [lock.lock.clone(), kept.lock.clone()]);
        let made = story.object("blr-1-0", &p0());
        let new = Some(made);
        let out = story.push("blr-1-0", "out", &p0(), (BRANCH, Some(one), new)).await.unwrap();
        let refusal = out.results[0].refusal.as_ref().map(|refusal| refusal.code);
        assert_eq!((out.outcome, refusal), (Outcome::Refused, Some(RefusalCode::Locked)), "alice has it still");
        let inside = story.push_under(&lock.token, "blr-1-0", "in", &p0(), (BRANCH, Some(one), new)).await.unwrap();
        assert_eq!(inside.outcome, Outcome::Committed, "{inside:?}");
        converges(story, &NODES, made).await;
        let next = acquire(story, "eu-aws-1", LockKind::Lock, "carol", project("third")).await.unwrap();
        assert!(next.lock.id > kept.lock.id && next.lock.id > lock.lock.id, "{next:?}");
    });
}
