//! Failovers of one of several active sites: the others keep role and epoch, and take writes all the time.

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::refdb::{Role, SiteRecord};
use lockstep_proto::SiteId;
use lockstep_proto::bridge::Outcome;
use lockstep_proto::failover::{ExecuteRequest, FailoverKind, FailoverOutcome, PlanRequest, RoleRequest};
use lockstep_tests::sim::story::{Story, node, p0, tell};
use lockstep_tests::sim::{Scenario, simulate};

use super::{GOOD_SEEDS, set};

/// The node of the source. Its site is `muc-1`, and the target is `eu-aws`.
const SOURCE: &str = "muc-1-0";
/// The nodes of the other sites.
const OTHERS: [&str; 3] = ["blr-1-0", "eu-aws-0", "eu-aws-1"];

/// Every failover ends, sites become active again, and all sites converge.
#[test]
fn failovers_among_active_sites_under_all_faults_end_and_the_sites_converge() {
    let (from, count) = (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(GOOD_SEEDS));
    let (mut done, mut again) = (0, 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::all_active(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        done += report.trace.matches("the failover ended: Done").count();
        again += report.trace.matches(" active again").count();
    }
    println!("{done} failovers were completed, {again} sites became active again");
    assert!(count == 1 || (done > 0 && again > 0), "{done} failovers were completed, {again} sites active again");
}

async fn push(story: &Story, at: &str, id: &str) -> bool {
    let (object, name) = (story.object(at, &p0()), format!("refs/heads/{id}"));
    let answer = story.push(at, id, &p0(), (&name, None, Some(object))).await;
    answer.is_ok_and(|answer| matches!(answer.outcome, Outcome::Committed | Outcome::CommittedNotYetVisible))
}

async fn sites(story: &Story) -> Vec<SiteRecord> {
    story.world.refdb().sites.sites().await.unwrap()
}

/// The sites apart from the source, and the source.
fn parted(sites: Vec<SiteRecord>) -> (Vec<SiteRecord>, SiteRecord) {
    let (mut source, others): (Vec<_>, Vec<_>) = sites.into_iter().partition(|one| one.site.as_str() == "muc-1");
    (others, source.remove(0))
}

/// Moves the writes of the source. Meanwhile every node of the other sites takes pushes.
async fn fail_over(story: &Story, kind: FailoverKind) {
    let desk = story.life(OTHERS[0]).node.operators().unwrap();
    let plan = PlanRequest::new(kind, "muc-1".parse().unwrap(), "eu-aws".parse().unwrap());
    let plan_hash = desk.plan(&plan).await.unwrap().hash;
    let request = ExecuteRequest { plan, plan_hash, reason: "test".to_owned(), pause_before: Vec::new() };
    assert!(desk.execute("test", request).await.unwrap().to_was_active);
    for round in 0..600 {
        let failover = desk.sites().await.unwrap().failover.unwrap();
        if let Some(end) = &failover.end {
            assert_eq!(end.outcome, FailoverOutcome::Done, "{failover:?}");
            assert!(round > 3, "it was too fast for a push: {failover:?}");
            return;
        }
        for at in OTHERS {
            let is_committed = push(story, at, &format!("{at}-{round}")).await;
            assert!(is_committed, "{at} took no push, at {:?}", failover.current());
        }
        story.pass(100).await;
    }
    panic!("the failover does not end");
}

/// Gives the source a role, as an operator does.
async fn becomes(story: &Story, role: Role) {
    let (site, epoch): (SiteId, u64) = ("muc-1".parse().unwrap(), parted(sites(story).await).1.epoch);
    let request = RoleRequest { role, expect_epoch: epoch, reason: "it is back".to_owned() };
    story.life(OTHERS[0]).node.operators().unwrap().change_role("test", &site, request).await.unwrap();
}

async fn moves(story: &Story, kind: FailoverKind) {
    assert!(push(story, SOURCE, "before").await);
    story.converge().await;
    let (others, _) = parted(sites(story).await);
    if kind == FailoverKind::Forced {
        story.world.faults.pause(&node(SOURCE), true);
    }
    fail_over(story, kind).await;
    let (after, source) = parted(sites(story).await);
    assert_eq!(after, others, "no other site has changed");
    let stopped = if kind == FailoverKind::Forced { Role::Fenced } else { Role::Standby };
    assert_eq!(source.role, stopped);

    story.world.faults.pause(&node(SOURCE), false);
    story.pass(5_000).await;
    let is_ready = async || story.world.life(&node(SOURCE)).is_some_and(|life| life.node.is_ready());
    story.until("the source serves reads", is_ready).await;
    assert!(!push(story, SOURCE, "too-late").await, "the source takes no writes any more");
    if kind == FailoverKind::Forced {
        becomes(story, Role::Standby).await;
    }
    becomes(story, Role::Active).await;
    story.pass(10_000).await;
    assert!(push(story, SOURCE, "again").await, "the source takes writes again");
    story.converge().await;
}

#[test]
fn a_failover_of_one_active_site_changes_no_other_and_pauses_no_writes_there() {
    for kind in [FailoverKind::Planned, FailoverKind::Forced] {
        tell(async |story| moves(story, kind).await);
    }
}
