//! Drills that begin by themselves: two sites with one node each, on a refdb in memory and paused time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_proto::drill::{Check, DrillReport};
use lockstep_proto::silent::SilentReport;
use tokio::time::sleep;

use super::drill::tests::{Green, context, fencing};
use super::silent::tests::copies;
use super::{DeskTools, DrillSchedule, OperatorDesk, SilentSchedule};
use crate::seams::refdb::{DigestRecord, NodeRecord, Role, SiteRecord};
use crate::stages::ports::LocalHealth;
use crate::state::context::{NodeContext, NodeState};

/// The age of the last drill from which the next one is due.
const EVERY: Duration = Duration::from_secs(600);
/// Longer than the pause between two looks and a drill together, and much shorter than `EVERY`.
const SOON: Duration = Duration::from_secs(120);

/// The disk of both machines, which is full once this is true.
#[derive(Default)]
struct Disk(AtomicBool);

impl LocalHealth for Disk {
    fn checks(&self) -> Vec<Check> {
        let red = self.0.load(Ordering::Relaxed).then(|| "the disk is full".to_owned());
        vec![Check { check: "disk".to_owned(), red: red.into_iter().collect(), note: String::new() }]
    }
}

/// The desks of `a-0` and `b-0`, each with the state of its node.
struct Pair {
    context: NodeContext,
    disk: Arc<Disk>,
    nodes: [(Arc<OperatorDesk>, NodeState); 2],
}

impl Pair {
    /// Site `a` is active, and `b` has this role.
    async fn new(role: Role) -> Self {
        let context = context();
        let refdb = &context.refdb;
        for (site, role) in [("a", Role::Active), ("b", role)] {
            refdb.sites.enroll_site(&site.parse().unwrap(), role).await.unwrap();
            refdb.nodes.put_node(&NodeRecord::first(&format!("{site}-0"), site), None).await.unwrap();
        }
        tokio::spawn(leave_digests(context.clone()));
        let disk = Arc::new(Disk::default());
        let node = |site: &str| {
            let (site, node) = (site.parse().unwrap(), format!("{site}-0").parse().unwrap());
            let own = NodeContext { site, node, ..context.clone() };
            let state = NodeState::load(&own, Duration::from_millis(1)).unwrap();
            let (probes, local) = (Arc::new(Green(Duration::ZERO)), Arc::clone(&disk) as Arc<dyn LocalHealth>);
            let tools = DeskTools { fencing: fencing(), probes, local, copies: Some(copies()) };
            (Arc::new(OperatorDesk::new(&own, &state, tools)), state)
        };
        let nodes = [node("a"), node("b")];
        let pair = Self { context, disk, nodes };
        pair.note_roles().await;
        pair
    }

    /// Both nodes read the roles of the sites.
    async fn note_roles(&self) {
        let sites = self.context.refdb.sites.sites().await.unwrap();
        self.nodes.iter().for_each(|(_, state)| state.roles.note(sites.clone()));
    }

    /// Changes the role of a site.
    async fn becomes(&self, site: &str, role: Role) {
        let refdb = &self.context.refdb;
        let sites: Vec<SiteRecord> = refdb.sites.sites().await.unwrap();
        let from = sites.iter().find(|one| one.site.as_str() == site).unwrap();
        refdb.sites.change_role(from, role).await.unwrap();
        self.note_roles().await;
    }

    /// Both nodes have the schedule of drills. `b-0` looks first.
    fn schedule(&self) {
        for (desk, _) in self.nodes.iter().rev() {
            tokio::spawn(DrillSchedule { desk: Arc::clone(desk), every: EVERY, to: None }.run());
        }
    }

    /// The trend of drills, the newest first.
    async fn drills(&self) -> Vec<DrillReport> {
        self.nodes[0].0.drill_state().await.unwrap().1.past
    }

    /// The trend of silent drills, the newest first.
    async fn silent_drills(&self) -> Vec<SilentReport> {
        self.nodes[0].0.silent_drills_now().await.unwrap().past
    }
}

/// Leaves a digest of either node every ten seconds: it is in order.
async fn leave_digests(context: NodeContext) {
    loop {
        let at_ms = context.clock.now_ms();
        for site in ["a", "b"] {
            let body = format!(
                r#"{{"format": 1, "site": "{site}", "node": "{site}-0", "at_ms": {at_ms}, "streams": [
                    {{"site": "a", "transactions": 0, "seconds": 0.0}},
                    {{"site": "b", "transactions": 0, "seconds": 0.0}}
                ]}}"#
            );
            let node = format!("{site}-0").parse().unwrap();
            context.refdb.nodes.put_digest(&DigestRecord { node, body }).await.unwrap();
        }
        sleep(Duration::from_secs(10)).await;
    }
}

fn drivers(drills: &[DrillReport]) -> Vec<(&str, u64)> {
    drills.iter().map(|one| (one.by.as_str(), one.number)).collect()
}

#[tokio::test(start_paused = true)]
async fn one_scheduled_drill_begins_at_the_living_node_with_the_lowest_name() {
    let pair = Pair::new(Role::Standby).await;
    pair.schedule();
    sleep(SOON).await;
    let drills = pair.drills().await;
    assert_eq!(drivers(&drills), [("a-0", 1)]);
    assert!(drills[0].is_green() && drills[0].actor == "schedule of a-0", "{drills:?}");
    for (_, state) in &pair.nodes {
        state.gone.set(BTreeSet::from(["a-0".parse().unwrap()]));
    }
    sleep(SOON).await;
    assert_eq!(drivers(&pair.drills().await), [("a-0", 1)], "the next one is not due yet");
    sleep(EVERY).await;
    assert_eq!(drivers(&pair.drills().await), [("b-0", 2), ("a-0", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_drill_that_a_red_preflight_refuses_is_one_red_entry_in_the_trend() {
    let pair = Pair::new(Role::Standby).await;
    pair.disk.0.store(true, Ordering::Relaxed);
    pair.schedule();
    sleep(2 * SOON).await;
    let drills = pair.drills().await;
    assert_eq!(drivers(&drills), [("a-0", 0)]);
    assert!(drills[0].red[0].starts_with("not begun: the preflight is red: the disk is full"), "{drills:?}");
    pair.disk.0.store(false, Ordering::Relaxed);
    sleep(EVERY).await;
    let drills = pair.drills().await;
    assert_eq!(drivers(&drills), [("a-0", 1), ("a-0", 0)]);
    assert!(drills[0].is_green(), "{drills:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_drill_without_a_standby_is_one_red_entry_in_the_trend() {
    let pair = Pair::new(Role::Active).await;
    pair.schedule();
    sleep(2 * SOON).await;
    let drills = pair.drills().await;
    assert_eq!(drivers(&drills), [("a-0", 0)]);
    assert_eq!(drills[0].red, ["not begun: there is no active site, or no standby to move to"]);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_silent_drill_begins_at_a_standby_only_and_one_that_is_refused_is_red() {
    let pair = Pair::new(Role::Standby).await;
    pair.disk.0.store(true, Ordering::Relaxed);
    for (desk, _) in &pair.nodes {
        tokio::spawn(SilentSchedule { desk: Arc::clone(desk), every: EVERY }.run());
    }
    sleep(2 * SOON).await;
    let of =
        |drills: &[SilentReport]| drills.iter().map(|one| (one.node.to_string(), one.is_green())).collect::<Vec<_>>();
    let entry = |node: &str, green: bool| (node.to_owned(), green);
    let drills = pair.silent_drills().await;
    assert_eq!(of(&drills), [entry("b-0", false)]);
    assert!(drills[0].red[0].starts_with("not begun: the preflight is red: the disk is full"), "{drills:?}");
    pair.disk.0.store(false, Ordering::Relaxed);
    sleep(EVERY).await;
    assert_eq!(of(&pair.silent_drills().await), [entry("b-0", true), entry("b-0", false)]);
    // After a failover, the drills are of the new standby.
    pair.becomes("b", Role::Active).await;
    pair.becomes("a", Role::Standby).await;
    sleep(SOON).await;
    let drills = pair.silent_drills().await;
    assert_eq!(of(&drills), [entry("a-0", true), entry("b-0", true), entry("b-0", false)], "{drills:?}");
    assert_eq!(drills[0].actor, "schedule of a-0");
}
