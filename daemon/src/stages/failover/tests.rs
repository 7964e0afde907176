//! Drills that begin by themselves, and executions of plans: two sites with one node each, on a refdb in memory and
//! paused time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::SiteId;
use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::drill::{Check, DrillReport, DrillRequest, PreflightRequest};
use lockstep_proto::failover::{ExecuteRequest, Failover, FailoverKind, PlanRequest, ProbeResult};
use lockstep_proto::silent::SilentReport;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep, timeout};

use super::drill::tests::{Green, context, fencing};
use super::silent::tests::copies;
use super::{DeskTools, DrillSchedule, OperatorDesk, SilentSchedule};
use crate::seams::refdb::{
    DigestRecord, Document, DocumentRecord, Documents, NodeRecord, RefDb, RefDbError, Role, SiteAnswer, SiteRecord,
    Sites, WentBackRecord,
};
use crate::stages::ports::{LocalHealth, Operators, Probes};
use crate::state::context::{NodeContext, NodeState};

/// The age of the last drill from which the next one is due.
const EVERY: Duration = Duration::from_secs(600);
/// Longer than the pause between two looks and a drill together, and much shorter than `EVERY`.
const SOON: Duration = Duration::from_secs(120);

/// The disk of both machines, which is full once this is true.
#[derive(Default)]
pub(super) struct Disk(AtomicBool);

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
        let nodes = ["a", "b"].map(|site| desk(&context, site, &disk));
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

/// The desk of a site's node, with the state of that node. All probes are green.
pub(super) fn desk(context: &NodeContext, site: &str, disk: &Arc<Disk>) -> (Arc<OperatorDesk>, NodeState) {
    probing(context, site, disk, Arc::new(Green(Duration::ZERO)))
}

/// The same, with other probes.
fn probing(
    context: &NodeContext,
    site: &str,
    disk: &Arc<Disk>,
    probes: Arc<dyn Probes>,
) -> (Arc<OperatorDesk>, NodeState) {
    let (site, node) = (site.parse().unwrap(), format!("{site}-0").parse().unwrap());
    let own = NodeContext { site, node, ..context.clone() };
    let state = NodeState::load(&own, Duration::from_millis(1)).unwrap();
    let local = Arc::clone(disk) as Arc<dyn LocalHealth>;
    let tools = DeskTools { fencing: fencing(), probes, local, copies: Some(copies()) };
    (Arc::new(OperatorDesk::new(&own, &state, tools)), state)
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
async fn a_scheduled_drill_to_a_site_that_is_not_in_the_list_is_noted_as_red() {
    let pair = Pair::new(Role::Standby).await;
    let to = Some("muc-2".parse().unwrap());
    tokio::spawn(DrillSchedule { desk: Arc::clone(&pair.nodes[0].0), every: EVERY, to }.run());
    sleep(SOON).await;
    let drills = pair.drills().await;
    let why = "not begun: drill.to names muc-2, which is not in `lockstep sites`; correct the setting, or add the site";
    assert_eq!(drills.iter().flat_map(|one| &one.red).collect::<Vec<_>>(), [why]);
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

/// Probes that never end.
struct Endless;

#[async_trait]
impl Probes for Endless {
    async fn round(&self) -> Vec<ProbeResult> {
        self.look().await
    }

    async fn look(&self) -> Vec<ProbeResult> {
        std::future::pending().await
    }

    fn interval(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test(start_paused = true)]
async fn probes_that_do_not_end_turn_the_preflight_red_before_its_caller_gives_up() {
    let pair = Pair::new(Role::Standby).await;
    sleep(SOON).await;
    let b = probing(&pair.context, "b", &pair.disk, Arc::new(Endless)).0;
    let request = PreflightRequest { to: "b".parse().unwrap() };
    // The deadline of `lockstep preflight`.
    let found = timeout(Duration::from_secs(15), b.preflight(&request)).await.expect("in time").unwrap();
    let red: Vec<&String> = found.checks.iter().flat_map(|check| &check.red).collect();
    let why = "the probes of b-0 have not ended within 10 s; mend [probes] of this node, or the service that they name";
    assert_eq!(red, [why]);
}

/// Probes of a standby whose SSH server has another key than users know.
struct OtherHost;

#[async_trait]
impl Probes for OtherHost {
    async fn round(&self) -> Vec<ProbeResult> {
        self.look().await
    }

    async fn look(&self) -> Vec<ProbeResult> {
        let red = Some("Host key verification failed".to_owned());
        vec![ProbeResult { probe: "fetch".to_owned(), red: None }, ProbeResult { probe: "ssh".to_owned(), red }]
    }

    fn interval(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test(start_paused = true)]
async fn a_red_probe_of_a_standby_turns_its_preflight_red_and_refuses_drills() {
    let pair = Pair::new(Role::Standby).await;
    sleep(SOON).await;
    let (a, b) = (&pair.nodes[0].0, probing(&pair.context, "b", &pair.disk, Arc::new(OtherHost)).0);
    let to: SiteId = "b".parse().unwrap();
    let request = PreflightRequest { to: to.clone() };
    assert!(a.preflight(&request).await.unwrap().is_green(), "it has no such probes");
    let elsewhere = probing(&pair.context, "a", &pair.disk, Arc::new(OtherHost)).0;
    let found = elsewhere.preflight(&request).await.unwrap();
    assert!(found.is_green(), "the users of b never meet the services of a: {found:?}");
    let found = b.preflight(&request).await.unwrap();
    let red: Vec<&Check> = found.checks.iter().filter(|check| !check.red.is_empty()).collect();
    let [check] = red[..] else { panic!("{found:?}") };
    let why = "ssh of b-0: Host key verification failed; mend [probes] of this node, or the service that it names";
    assert_eq!((check.check.as_str(), &check.red[..]), ("probes", &[why.to_owned()][..]));
    assert_eq!(check.note, "the probes of b-0 that write nothing: fetch, ssh");
    let (kind, from, reason) = (FailoverKind::Planned, "a".parse().unwrap(), "test".to_owned());
    let refusal = b.drill("alice", DrillRequest { kind, from, to, fail_in: None, reason }).await.unwrap_err();
    assert!(refusal.message.starts_with(&format!("the preflight is red: {why}")), "{refusal:?}");
}

/// Documents of a refdb whose readers wait after each read of the failover until so many of them have read it. If there
/// are fewer, the refdb has fallen silent.
struct Meeting(Arc<dyn Documents>, Barrier);

#[async_trait]
impl Documents for Meeting {
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError> {
        let found = self.0.document(which).await;
        if which == Document::Failover {
            self.1.wait().await;
        }
        found
    }

    async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError> {
        self.0.put_document(which, record).await
    }

    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError> {
        self.0.went_back().await
    }

    async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError> {
        self.0.declare_went_back(record).await
    }
}

/// Sites of a refdb which fails the begin of a failover with this error. If that is unknown, it has its effect.
struct Unheard(Arc<dyn Sites>, RefDbError);

#[async_trait]
impl Sites for Unheard {
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError> {
        self.0.enroll_site(site, role).await
    }

    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError> {
        self.0.sites().await
    }

    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        self.0.change_role(from, role).await
    }

    async fn change_site(
        &self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError> {
        self.0.change_site(from, to, failover).await
    }

    async fn begin_failover(
        &self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError> {
        if self.1.is_unknown() {
            self.0.begin_failover(record, sites).await?;
        }
        Err(self.1.clone())
    }

    async fn shut_out_earlier(&self, site: &SiteId) -> Result<(), RefDbError> {
        self.0.shut_out_earlier(site).await
    }
}

impl Pair {
    /// The desk of `a-0`, whose begin of a failover fails.
    fn unheard(&self, error: RefDbError) -> Arc<OperatorDesk> {
        let sites = Arc::new(Unheard(Arc::clone(&self.context.refdb.sites), error));
        let refdb = RefDb { sites, ..self.context.refdb.clone() };
        desk(&NodeContext { refdb, ..self.context.clone() }, "a", &self.disk).0
    }

    /// The desks of both nodes, at which two readers of the failover meet.
    fn meeting(&self) -> [Arc<OperatorDesk>; 2] {
        let documents = Arc::clone(&self.context.refdb.documents);
        let meeting = Arc::new(Meeting(documents, Barrier::new(2)));
        let refdb = RefDb { documents: meeting, ..self.context.refdb.clone() };
        let context = NodeContext { refdb, ..self.context.clone() };
        ["a", "b"].map(|site| desk(&context, site, &self.disk).0)
    }

    /// The request of an operator who has just seen the plan from `a` to `b`.
    async fn planned(&self) -> ExecuteRequest {
        let plan = PlanRequest::new(FailoverKind::Planned, "a".parse().unwrap(), "b".parse().unwrap());
        let seen = self.nodes[0].0.plan(&plan).await.unwrap();
        assert!(seen.blockers.is_empty(), "{seen:?}");
        ExecuteRequest { plan, plan_hash: seen.hash, reason: "test".to_owned(), pause_before: Vec::new() }
    }

    /// The failover in the refdb.
    async fn failover(&self) -> Option<Failover> {
        self.nodes[0].0.sites().await.unwrap().failover
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_executions_of_one_plan_at_the_same_moment_one_begins_and_the_other_is_told() {
    let pair = Pair::new(Role::Standby).await;
    let request = pair.planned().await;
    let [a, b] = pair.meeting();
    let both = async { tokio::join!(a.execute("alice", request.clone()), b.execute("bob", request.clone())) };
    let (of_a, of_b) = timeout(EVERY, both).await.unwrap();
    let (begun, refusals): (Vec<_>, Vec<_>) = [of_a, of_b].into_iter().partition(Result::is_ok);
    let ([Ok(begun)], [Err(refusal)]) = (&begun[..], &refusals[..]) else { panic!("{begun:?} {refusals:?}") };
    assert_eq!((refusal.code, refusal.retry), (RefusalCode::Stale, false), "{refusal:?}");
    assert!(refusal.message.starts_with("somebody else has begun a failover meanwhile"), "{refusal:?}");
    assert_eq!(pair.failover().await.as_ref(), Some(begun));
    assert_eq!(begun.number, 1);
    // A third one, a moment later, sees the failover in its plan.
    let late = pair.nodes[1].0.execute("carol", request).await.unwrap_err();
    assert!(late.message.contains("the plan has blockers: failover 1 from a to b is in progress"), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn an_execution_is_refused_if_the_refdb_falls_silent_after_the_plan() {
    let pair = Pair::new(Role::Standby).await;
    let request = pair.planned().await;
    let ([a, _], began) = (pair.meeting(), Instant::now());
    let refusal = timeout(EVERY, a.execute("alice", request.clone())).await.unwrap().unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(10), "{:?}", began.elapsed());
    // Code 3, and not code 1 as for `Unavailable`.
    assert_eq!((refusal.code, refusal.retry), (RefusalCode::NotServing, true), "{refusal:?}");
    for part in ["no answer within 8 s", "no promotion can help", "`lockstep refdb rebuild`", "nothing was changed"] {
        assert!(refusal.message.contains(part), "{part}: {refusal:?}");
    }
    assert_eq!(pair.failover().await, None);
    // The refdb is back, and so is the plan.
    assert!(pair.nodes[0].0.execute("alice", request).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_execution_whose_record_had_no_effect_is_refused_and_one_without_an_answer_is_unknown() {
    let pair = Pair::new(Role::Standby).await;
    let request = pair.planned().await;
    let throttled = pair.unheard(RefDbError::NotNow("throttled".to_owned()));
    let refusal = throttled.execute("alice", request.clone()).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotServing, "{refusal:?}");
    assert!(refusal.message.ends_with("no failover has begun, and nothing was changed"), "{refusal:?}");
    assert_eq!(pair.failover().await, None);

    let barred = pair.unheard(RefDbError::Broken("no permission to write".to_owned()));
    let refusal = barred.execute("alice", request.clone()).await.unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (RefusalCode::NotServing, false), "{refusal:?}");
    assert!(refusal.message.starts_with("the refdb refuses the call (no permission to write)"), "{refusal:?}");
    assert_eq!(pair.failover().await, None);

    let lost = pair.unheard(RefDbError::Unknown("the connection was lost".to_owned()));
    let unknown = lost.execute("alice", request).await.unwrap_err();
    assert_eq!(unknown.code, RefusalCode::Unavailable, "{unknown:?}");
    assert!(!unknown.message.contains("nothing was changed"), "{unknown:?}");
    assert!(pair.failover().await.is_some_and(|one| one.is_in_progress()), "it has begun all the same");
}
