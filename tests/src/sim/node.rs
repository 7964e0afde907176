//! The real node in the simulator: the factory that gives it its seams, and settings that let short runs reach states
//! that take days in production (small windows, short leases, packs that go to the blob store early).

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::base::observer::Observer;
use lockstep::node::assembly::{Inspector, Node, NodeDependencies, NodeSettings, ProbeSet};
use lockstep::seams::refdb::staged::WRITE_ITEMS;
use lockstep::stages::api::{Inspection, Seeding, Transactions};
use lockstep::stages::capacity::{AutoscaleSettings, Limits};
use lockstep::stages::consume::ConsumeLimits;
use lockstep::stages::events::EventLimits;
use lockstep::stages::ports::{
    Arrivals, Locking, Operators, PeerRefs, Rebuilds, Refreshes, SharedRecords, StreamEvents,
};
use lockstep::stages::refresh::RefreshSettings;
use lockstep::stages::refresh::queue::QueueLimits;
use lockstep::stages::share::ShareSettings;
use lockstep::stages::verify::BackgroundSettings;
use lockstep::state::debts::RetryPace;
use lockstep::telemetry::status_board::StatusBoard;
use lockstep_proto::drill::DrillRequest;
use lockstep_proto::{SiteId, TxnId, limits};

use super::backend::{NodeFactory, SimDependencies, SimNode};
use super::gerrit::COMMIT_WITHIN_MS;
use super::listeners::LEASE;
use super::memory::MemoryBackend;
use super::run::{Failure, Report, run};
use super::scenario::Scenario;
use super::trace::Trace;

/// Runs one seed with the real node on the services in memory.
///
/// # Errors
/// The first property that did not hold.
pub fn simulate(seed: u64, scenario: Scenario, bugs: InjectedBugs) -> Result<Report, Box<Failure>> {
    let backend = MemoryBackend::of_models(scenario.shards, bugs);
    run(seed, scenario, bugs, Arc::new(backend), Arc::new(RealNodes))
}

/// A factory of real nodes.
pub struct RealNodes;

struct RealNode(Node);

/// An observer that writes the node's own reports into the trace.
struct Noting {
    trace: Arc<Trace>,
    who: String,
}

impl Observer for Noting {
    fn parked(&self, txn: &TxnId, reason: &dyn Display) {
        self.trace.note(&self.who, &format!("parked {txn}: {reason}"));
    }

    fn quarantined(&self, what: &str, reason: &dyn Display) {
        self.trace.note(&self.who, &format!("quarantined {what}: {reason}"));
    }

    fn unsigned(&self, end: &'static str) {
        self.trace.note(&self.who, &format!("a record without a good signature: {end}"));
    }

    fn skipped(&self, origin: &SiteId, txn: &TxnId) {
        self.trace.note(&self.who, &format!("skipped {txn} of {origin}"));
    }

    fn caught_up(&self, txn: &TxnId) {
        self.trace.note(&self.who, &format!("caught up {txn}"));
    }

    fn forwarded(&self, count: usize) {
        self.trace.note(&self.who, &format!("forwarded {count} events"));
    }

    fn event_dropped(&self, what: &str, reason: &str) {
        self.trace.note(&self.who, &format!("dropped event {what}: {reason}"));
    }

    fn failover_ended(&self, _number: u64, outcome: &dyn std::fmt::Debug) {
        self.trace.note(&self.who, &format!("the failover ended: {outcome:?}"));
    }

    fn drill_ended(&self, number: u64, red: &[String]) {
        let verdict = if red.is_empty() { "green".to_owned() } else { format!("red: {}", red.join("; ")) };
        self.trace.note(&self.who, &format!("drill {number} is {verdict}"));
    }

    fn failed(&self, stage: &'static str, why: &dyn Display) {
        self.trace.note(&self.who, &format!("{stage} failed: {why}"));
    }
}

#[async_trait]
impl NodeFactory for RealNodes {
    async fn start(&self, parts: SimDependencies) -> Result<Arc<dyn SimNode>, String> {
        let observer = Noting { trace: parts.trace.clone(), who: parts.node.to_string() };
        let parts = NodeDependencies {
            refdb: parts.refdb,
            tables: parts.tables,
            eventlog: parts.eventlog,
            blobs: parts.blobs,
            peers: parts.peers,
            repositories: parts.repositories,
            store: parts.store,
            clock: parts.clock,
            entropy: parts.entropy,
            gerrit: None,
            probes: ProbeSet::default(),
            observer: Arc::new(observer),
            signer: parts.signer,
            boot: parts.boot,
            settings: NodeSettings {
                // Beside writes of two items, every transaction of several refs has a long form.
                inline_commands: if parts.write_items < WRITE_ITEMS { 1 } else { limits::INLINE_COMMANDS },
                write_items: parts.write_items,
                background: parts.verifies.then_some(BACKGROUND),
                share: parts.shares.map(share),
                autoscale: parts.autoscales.then(autoscale),
                ..settings(NodeSettings::new(parts.site, parts.node, parts.sites))
            },
            bugs: parts.bugs,
        };
        let node = Node::start(parts).await.map_err(|error| error.to_string())?;
        Ok(Arc::new(RealNode(node)))
    }

    fn have_gerrits(&self) -> bool {
        true
    }
}

/// A pass over the refs and one over the objects begin every two seconds.
const BACKGROUND: BackgroundSettings = BackgroundSettings {
    refs_within: Duration::from_secs(4),
    objects_within: Duration::from_secs(4),
    share_of_core: 1_000,
    fsck: false,
};

/// Shares reads at the pace of the simulated readers, with so many records in the buffers.
fn share(records: usize) -> ShareSettings {
    let interval = ConsumeLimits::default().poll_interval;
    ShareSettings { interval, beat: Duration::from_secs(2), records, bytes: 1 << 20 }
}

/// Looks once a second. A stream shrinks after three seconds of low load, and has four shards at most.
fn autoscale() -> AutoscaleSettings {
    let limits = Limits { target: 60, least: 1, most: 4, settle_ms: 3_000, interval_ms: 1_000 };
    AutoscaleSettings { dry_run: false, limits, peaks: Vec::new() }
}

/// Makes times shorter and limits smaller than in production.
fn settings(mut settings: NodeSettings) -> NodeSettings {
    settings.durable_pace = Duration::from_millis(50);
    settings.journal.lanes = 2;
    settings.journal.window = 8;
    settings.inline_pack_bytes = 256;
    settings.member.beat = Duration::from_secs(1);
    settings.member.lease = Duration::from_secs(6);
    settings.member.elsewhere = Duration::from_secs(12);
    settings.apply.parked_bytes = 3_000;
    settings.apply.parked_age = Duration::from_secs(4);
    settings.retry =
        RetryPace { first: Duration::from_millis(300), slow: Duration::from_secs(3), slowest: Duration::from_secs(8) };
    settings.member.retention = Duration::from_secs(40);
    settings.mark_pace = Duration::from_millis(300);
    settings.barrier_patience = Duration::from_secs(10);
    settings.freeing_patience = Duration::from_millis(1_500);
    settings.sweep_pace = Duration::from_secs(2);
    settings.role_pace = Duration::from_secs(1);
    settings.failover.idle = Duration::from_secs(1);
    settings.failover.settle = Duration::from_secs(4);
    settings.failover.verify = Duration::from_secs(6);
    settings.failover.probe = Duration::from_secs(5);
    settings.collect_pace = Duration::from_secs(4);
    settings.restore_pace = Duration::from_secs(2);
    settings.seed.step_commits = 3;
    settings.seed.part_refs = 40;
    settings.seed.look = Duration::from_millis(300);
    settings.refresh = Some(refresh());
    settings.events = Some(EventLimits { lease: LEASE, ..EventLimits::default() });
    settings
}

fn refresh() -> RefreshSettings {
    let queue = QueueLimits {
        of_project: 12,
        in_all: 30,
        hold_own: Duration::from_millis(500),
        keep: Duration::from_millis(COMMIT_WITHIN_MS + 1_000),
        lease: Duration::from_secs(4),
        long_lease: Duration::from_secs(6),
    };
    RefreshSettings { queue, ..RefreshSettings::default() }
}

#[async_trait]
impl SimNode for RealNode {
    fn transactions(&self) -> Arc<dyn Transactions> {
        self.0.transactions()
    }

    fn refreshes(&self) -> Option<Arc<dyn Refreshes>> {
        self.0.refreshes()
    }

    fn events(&self) -> Option<Arc<dyn StreamEvents>> {
        self.0.events()
    }

    fn kill(&self) {
        self.0.kill();
    }

    async fn stop(&self) {
        self.0.stop(Duration::from_secs(10)).await;
    }

    fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    fn is_fenced(&self) -> bool {
        self.0.is_fenced()
    }

    fn went_back(&self) -> bool {
        self.0.went_back()
    }

    fn operators(&self) -> Option<Arc<dyn Operators>> {
        Some(self.0.operators())
    }

    fn locking(&self) -> Option<Arc<dyn Locking>> {
        Some(self.0.locking())
    }

    fn rebuilds(&self) -> Option<Arc<dyn Rebuilds>> {
        Some(self.0.rebuilds())
    }

    fn peer_refs(&self) -> Option<Arc<dyn PeerRefs>> {
        Some(self.0.peer_refs())
    }

    fn shared_records(&self) -> Option<Arc<dyn SharedRecords>> {
        Some(self.0.shared_records())
    }

    fn arrivals(&self) -> Option<Arc<dyn Arrivals>> {
        Some(self.0.arrivals())
    }

    async fn drill(&self, request: DrillRequest) -> Result<u64, String> {
        let takes_writes = self.0.front().committer().is_some();
        let begun = self.0.drills().begin("operator", request, takes_writes).await;
        begun.map(|begun| begun.number).map_err(|error| error.to_string())
    }

    fn seeding(&self) -> Option<Arc<dyn Seeding>> {
        Some(self.0.seeding())
    }

    fn inspection(&self) -> Option<Arc<dyn Inspection>> {
        let board = Arc::new(StatusBoard::new(Arc::clone(&self.0.stages().deps.clock)));
        Some(Arc::new(Inspector::of(&self.0, board)))
    }
}
