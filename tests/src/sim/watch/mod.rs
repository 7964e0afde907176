//! The watch: is told of every action at the moment at which it truly happens, keeps the facts, and calls the checkers.
//!
//! It is below the faults, so it knows more than the nodes. It keeps the first violation, and the run stops at its next
//! tick. `refdb` has the reports of the refdb and the clients, `volumes` those of the nodes' volumes, `events` those
//! about stream events, `retention` those about streams that forget records, and `capacity` those about the number of
//! their shards.

mod capacity;
mod events;
mod refdb;
mod retention;
mod volumes;

pub use volumes::Snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::seams::eventlog::EventLog;
use lockstep::seams::volume::{Changes, Debt};
use lockstep_proto::{LaneId, NodeId, Oid, ProjectKey, ProjectName, RefName, Seq, SiteId};
use parking_lot::{Mutex, MutexGuard};

use super::backend::Volume;
use super::check::durability::Ledger;
use super::check::forward::{Positions, Shown};
use super::check::{self, Verdict, Violation};
use super::facts::Facts;
use super::history::History;
use super::mirror::Mirror;
use super::trace::Trace;

/// The property of a refdb that went back.
const HINDSIGHT: &str = "hindsight";

/// The state of one node's volume.
struct Local {
    /// When the node's present life began, in virtual milliseconds.
    since: u64,
    volume: Arc<dyn Volume>,
    positions: BTreeMap<ProjectName, Positions>,
    /// The incarnation of each project that its repository belongs to.
    shown: Shown,
    /// Values that were written behind the node's back. They are no step of a chain until they are committed.
    behind: BTreeMap<(ProjectName, RefName), Oid>,
    ledger: Ledger,
    /// Shards whose end this life of the node has read.
    ended: BTreeSet<(SiteId, String)>,
    /// The number of records per shard that the checkpoints covered at the last judgement.
    covered: BTreeMap<(SiteId, String), usize>,
    /// The low-water marks at the last judgement.
    low_water: BTreeMap<LaneId, Seq>,
    /// The number of records per shard when this life of the node began.
    at_start: check::readiness::Counts,
    /// Since when this life of the node has been ready, in virtual milliseconds. None if it is not, or was judged.
    ready_since: Option<u64>,
    /// Whether the node serves. If so, its refs are judged.
    ready: bool,
    /// Whether a power cut or a loss of the disk is not repaired yet. Until then its refs may have any value.
    broken: bool,
    /// Whether the node was expelled and has not reconciled yet. Until then it needs no journal.
    reconciles: bool,
    /// Whether the volume was lost at some time, and its quarantine with it.
    lost: bool,
    /// Whether records were trimmed at some time that the node had not read.
    missed: bool,
}

impl Local {
    /// Whether the node needs the journal, and what its volume has is known.
    fn counts(&self) -> bool {
        !self.broken && !self.reconciles
    }
}

/// Everything that the watch knows.
pub struct Known {
    /// Everything that truly happened.
    pub facts: Facts,
    /// The clients' requests and their answers.
    pub history: History,
    /// The stream events that nodes accepted, and each node's deliveries.
    pub events: check::events::Events,
    /// The mirror of the event logs.
    pub mirror: Mirror,
    /// The number of bad records that the simulator wrote itself.
    pub bad_records: u64,
    /// Forged records that must end in quarantine, with the project that they claim.
    pub forged: Vec<(String, ProjectKey)>,
    /// Forged records that nodes left to the debt of their project. The refdb has told these nodes the project's refs.
    left: BTreeSet<(NodeId, String)>,
    /// The observations of nodes that no fault touches, and of the attempts to commit at them.
    pub availability: check::availability::Availability,
    /// The changes of the number of shards, and the document of the autoscalers.
    capacity: check::capacity::Capacity,
    /// When the refdb was replaced by an older backup.
    rewound_at: Option<u64>,
    /// Whether the refdb was rebuilt after that.
    is_rebuilt: bool,
    locals: BTreeMap<NodeId, Local>,
    violation: Option<Violation>,
}

/// The watch over one run.
pub struct Watch {
    trace: Arc<Trace>,
    known: Mutex<Known>,
}

impl Known {
    fn judge(&mut self, trace: &Trace, property: &'static str, verdict: Verdict) {
        // A refdb that went back has other chains than the facts.
        let counts = !self.is_rebuilt && (self.rewound_at.is_none() || property == HINDSIGHT);
        if let Err(what) = verdict
            && counts
            && self.violation.is_none()
        {
            let violation = Violation { property, what };
            trace.note("VIOLATION", &violation.to_string());
            self.violation = Some(violation);
        }
    }

    /// Notes the forged records that a commit of a node's store leaves to a debt: they are parked no more, are not
    /// quarantined, and their project is owed.
    pub fn leaves_to_debts(&mut self, node: &NodeId, changes: &Changes, owed: &BTreeMap<ProjectName, Debt>) {
        let is_owed = |project: &ProjectName| {
            owed.contains_key(project)
                || changes.repaid.contains(project)
                || changes.owe.iter().any(|(name, _)| name == project)
        };
        let is_left = |id: &String| {
            changes.unpark.contains(id) && !changes.quarantine.iter().any(|(quarantined, _)| quarantined == id)
        };
        let left = self.forged.iter().filter(|(id, project)| is_left(id) && is_owed(&project.name));
        self.left.extend(left.map(|(id, _)| (node.clone(), id.clone())));
    }

    /// A bad record that a node must have in quarantine, and has not.
    fn bad_record_missing(&self, node: &NodeId, quarantined: &BTreeSet<String>) -> Option<String> {
        let forged: Vec<&str> = {
            let live = self.forged.iter().filter(|(_, project)| !self.facts.is_past(project));
            let held = live.filter(|(id, _)| !self.left.contains(&(node.clone(), id.clone())));
            held.map(|(id, _)| id.as_str()).collect()
        };
        check::held::complete(node.as_str(), quarantined, self.bad_records, &forged).err()
    }

    /// Reads the new records of all streams.
    fn read_streams(&mut self) {
        let sites: Vec<SiteId> = self.facts.sites.keys().cloned().collect();
        for site in &sites {
            self.mirror.refresh(site);
        }
    }

    /// The transactions that are in any stream now.
    fn logged(&mut self) -> BTreeSet<lockstep_proto::TxnId> {
        self.read_streams();
        self.mirror.logged.clone()
    }
}

impl Watch {
    /// Judges whether a node goes on that no fault touches.
    pub fn available(&self, node: &NodeId, now: check::availability::Now) {
        let (mut known, now_ms) = (self.known(), self.trace.now_ms());
        let beats = known.availability.look(node, now, now_ms);
        let adopted = known.availability.adopted(known.facts.incarnations.values(), now_ms);
        known.judge(&self.trace, "availability", beats.and(adopted));
    }

    /// A node cannot commit at this moment, because of a fault or of its site's role.
    pub fn cut_off(&self, node: &NodeId) {
        self.known().availability.cut_off(node, self.trace.now_ms());
    }

    /// The partition of a project throttles at this moment.
    pub fn throttled(&self, project: &ProjectName) {
        self.known().availability.throttled(project, self.trace.now_ms());
    }

    /// A client's attempt to commit has ended.
    pub fn attempted(&self, attempt: check::availability::Attempt<'_>) {
        let mut known = self.known();
        let verdict = known.availability.attempted(attempt, self.trace.now_ms());
        known.judge(&self.trace, "availability", verdict);
    }

    /// A client got no answer in time, although no fault touched its request.
    pub fn late(&self, what: String) {
        self.known().judge(&self.trace, "availability", Err(what));
    }

    /// A watch without any facts.
    #[must_use]
    pub fn new(trace: Arc<Trace>, eventlog: Arc<dyn EventLog>) -> Arc<Self> {
        let known = Known {
            facts: Facts::default(),
            history: History::default(),
            events: check::events::Events::default(),
            mirror: Mirror::new(eventlog),
            bad_records: 0,
            forged: Vec::new(),
            left: BTreeSet::new(),
            availability: check::availability::Availability::default(),
            capacity: check::capacity::Capacity::default(),
            rewound_at: None,
            is_rebuilt: false,
            locals: BTreeMap::new(),
            violation: None,
        };
        Arc::new(Self { trace, known: Mutex::new(known) })
    }

    /// The knowledge of the watch, locked.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// Whether another node has a volume that was not damaged since that node was last ready, and is not expelled. Such
    /// a volume has all collected transactions.
    #[must_use]
    pub fn another_is_whole(&self, node: &NodeId) -> bool {
        self.known().locals.iter().any(|(other, local)| other != node && local.counts())
    }

    /// The refdb is replaced by an older backup.
    pub fn rewound(&self) {
        let now = self.trace.now_ms();
        self.known().rewound_at = Some(now);
    }

    /// The refdb was rebuilt, so nodes commit again. Its chains are not those of the facts, and a story judges for
    /// itself.
    pub fn rebuilt(&self) {
        self.known().is_rebuilt = true;
    }

    /// Judges a node at the end of a run in which the refdb went back.
    pub fn hindsight(&self, node: &NodeId, says: bool, is_ready: bool) {
        let verdict = check::hindsight::says_so(node, says, is_ready);
        self.known().judge(&self.trace, HINDSIGHT, verdict);
    }

    /// The first violation of the run. None while every property holds.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.known().violation.clone()
    }

    /// Records a violation that another checker found.
    pub fn violated(&self, property: &'static str, what: String) {
        self.known().judge(&self.trace, property, Err(what));
    }

    /// The first difference between the nodes and the refdb. None if there is none.
    #[must_use]
    pub fn differs(&self) -> Option<String> {
        let mut known = self.known();
        let logged = known.logged();
        if let Some(what) = check::convergence::unpublished(&known.facts, &logged) {
            return Some(what);
        }
        let nodes: Vec<NodeId> = known.locals.keys().cloned().collect();
        if let Some(what) = known.events.missing(&nodes) {
            return Some(what);
        }
        known.locals.iter().find_map(|(node, local)| {
            let volume = local.volume.as_ref();
            // Nobody needs the records that follow the last transaction in the stream of a removed site.
            let listed = known.facts.sites.values().filter(|record| !record.removed).map(|record| &record.site);
            let streams = listed.into_iter().find_map(|site| {
                let stream = known.mirror.stream(site)?;
                let trimmed = known.mirror.trimmed.get(site).copied().unwrap_or(0);
                check::convergence::stream_differs(volume, site, &stream, &known.mirror.records, trimmed)
            });
            let bad: BTreeSet<String> = volume.store().quarantined().unwrap_or_default().into_keys().collect();
            check::convergence::volume_differs(&known.facts, volume)
                .or(streams)
                .or((!local.lost && !local.missed).then(|| known.bad_record_missing(node, &bad)).flatten())
                .map(|what| format!("{node}: {what}"))
        })
    }
}
