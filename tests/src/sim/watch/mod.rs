//! The watch: hears of everything at the moment at which it truly happens, keeps the facts, and asks the checkers.
//!
//! It stands below the faults, so it knows what nodes cannot know. The first violation stays; the run stops at its
//! next tick. `refdb` hears the refdb and the clients, `volumes` the nodes' volumes, `events` those who
//! post and hear stream events.

mod events;
mod refdb;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::seams::eventlog::EventLog;
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

/// What is known of one node's volume.
struct Local {
    volume: Arc<dyn Volume>,
    positions: Positions,
    /// Which incarnation of each project its repository is of.
    shown: Shown,
    /// What somebody wrote behind the node's back: no step of a chain, until it is committed.
    behind: BTreeMap<(ProjectName, RefName), Oid>,
    ledger: Ledger,
    /// Shards whose end this life of the node has read.
    ended: BTreeSet<(SiteId, String)>,
    /// How many records of each shard the checkpoints covered when they were judged last.
    covered: BTreeMap<(SiteId, String), usize>,
    /// Low-water marks when they were judged last.
    low_water: BTreeMap<LaneId, Seq>,
    /// Whether the node serves: its refs are judged.
    ready: bool,
    /// Whether a power cut or a loss of the disk is not repaired yet: its refs may be anything.
    broken: bool,
    /// Whether the node was expelled and has not reconciled yet: it needs no journal.
    reconciles: bool,
    /// Whether the volume was lost once: what was quarantined before went with it.
    lost: bool,
}

/// Everything that the watch knows.
pub struct Known {
    /// What truly happened.
    pub facts: Facts,
    /// What clients asked and heard.
    pub history: History,
    /// What happened to stream events.
    pub events: check::events::Events,
    /// The event logs.
    pub mirror: Mirror,
    /// Bad records that the simulator wrote itself.
    pub bad_records: u64,
    /// Forged ones that must end in quarantine, with the project that they claim to be of.
    pub forged: Vec<(String, ProjectKey)>,
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
        if let Err(what) = verdict
            && self.violation.is_none()
        {
            let violation = Violation { property, what };
            trace.note("VIOLATION", &violation.to_string());
            self.violation = Some(violation);
        }
    }

    /// A bad record that a node has not in quarantine, and must have.
    fn bad_record_missing(&self, node: &NodeId, quarantined: &BTreeSet<String>) -> Option<String> {
        let forged: Vec<&str> = {
            let live = self.forged.iter().filter(|(_, project)| !self.facts.is_past(project));
            live.map(|(id, _)| id.as_str()).collect()
        };
        check::held::complete(node.as_str(), quarantined, self.bad_records, &forged).err()
    }

    fn logged(&mut self) -> BTreeSet<lockstep_proto::TxnId> {
        let sites: Vec<SiteId> = self.facts.sites.keys().cloned().collect();
        for site in &sites {
            self.mirror.refresh(site);
        }
        self.mirror.logged.clone()
    }
}

impl Watch {
    /// A watch that knows nothing yet.
    #[must_use]
    pub fn new(trace: Arc<Trace>, eventlog: Arc<dyn EventLog>) -> Arc<Self> {
        let known = Known {
            facts: Facts::default(),
            history: History::default(),
            events: check::events::Events::default(),
            mirror: Mirror::new(eventlog),
            bad_records: 0,
            forged: Vec::new(),
            locals: BTreeMap::new(),
            violation: None,
        };
        Arc::new(Self { trace, known: Mutex::new(known) })
    }

    /// What is known, for a look.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// Whether another volume than this node's was not damaged since its node was last ready: it has whatever was
    /// collected.
    #[must_use]
    pub fn another_is_whole(&self, node: &NodeId) -> bool {
        self.known().locals.iter().any(|(other, local)| other != node && !local.broken)
    }

    /// The first violation.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.known().violation.clone()
    }

    /// Records a violation that a checker outside found.
    pub fn violated(&self, property: &'static str, what: String) {
        self.known().judge(&self.trace, property, Err(what));
    }

    /// What keeps the nodes from being equal to the refdb; none when nothing does.
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
            let streams = known.facts.sites.keys().find_map(|site| {
                let stream = known.mirror.stream(site)?;
                check::convergence::stream_differs(volume, site, &stream, &known.mirror.records)
            });
            let bad: BTreeSet<String> = volume.store().quarantined().unwrap_or_default().into_keys().collect();
            check::convergence::volume_differs(&known.facts, volume)
                .or(streams)
                .or((!local.lost).then(|| known.bad_record_missing(node, &bad)).flatten())
                .map(|what| format!("{node}: {what}"))
        })
    }
}
