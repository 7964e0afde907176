//! The capacity stage: the number of shards of the site's stream follows the load.
//!
//! Kinesis does this by itself for streams that are on-demand. For a provisioned stream, one node of the site looks at
//! the load once per interval, decides, and sets the number of shards. The state of the decision is a part of one
//! document of the refdb: the changes of the last 24 hours, the time of low load, the last steps.
//!
//! - **The lease is an economy.** The node that looks raises a number in the document. Others take its place when that
//!   number stands still. Nothing waits for it, and no safety rests on it: each look replaces exactly the state that it
//!   has read, so of two nodes that look one writes, and only that one makes a change. A change names the number of
//!   shards that it was decided for, and the number that there shall be.
//! - **A change is written before it is made.** A node that dies in between has used up one change of the day at most.
//! - **A look costs** one read of the digests, two reads and one write of the document, and one description of the
//!   stream.
//!
//! | file | content |
//! |---|---|
//! | `decide` | the decision: a pure function |
//! | `load` | the load of the stream, from the digests of the nodes |
//! | `peaks` | the times of the week at which the stream has a number of shards, whatever the load is |

mod decide;
mod load;
mod peaks;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::capacity::{Capacities, Scaling, StreamCapacity};
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::sleep;

pub use self::decide::Limits;
use self::decide::{Action, Seen, decide};
use self::load::Rates;
use self::peaks::floor;
pub use self::peaks::{NoPeak, Peak};
use crate::base::clock::Clock;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::eventlog::{EventLog, EventLogError};
use crate::seams::refdb::{Document, RefDb, RefDbError, StoredDocument};
use crate::state::context::NodeContext;
use crate::state::went_back::WentBack;

/// The document of all sites.
const CAPACITY: StoredDocument<Capacities> = StoredDocument::json(Document::Capacity);
/// The tries to write the part of a site while other sites write theirs.
const TRIES: usize = 4;
/// The looks of another node in which the number of the holder stands still, until that node takes its place.
const PATIENCE: u32 = 3;

/// The settings of an autoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoscaleSettings {
    /// Whether it only tells its steps, and takes none.
    pub dry_run: bool,
    /// The bounds and times of the decision.
    pub limits: Limits,
    /// The known peaks of the week.
    pub peaks: Vec<Peak>,
}

/// Why a look failed. The next one tries again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    /// The refdb did not answer.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The event log did not answer, or refused the call.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
}

/// Sets the number of shards of a site's stream, on behalf of one node.
pub struct Autoscaler {
    site: SiteId,
    node: NodeId,
    refdb: RefDb,
    eventlog: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    went_back: WentBack,
    settings: AutoscaleSettings,
    bugs: InjectedBugs,
    /// The state as this node read or wrote it last.
    shown: Mutex<Option<StreamCapacity>>,
}

/// The memory of one node between its looks.
#[derive(Debug, Default)]
struct Memory {
    rates: Rates,
    /// The holder and its number, as they were seen last.
    last: Option<(NodeId, u64)>,
    /// The looks since then.
    still: u32,
}

impl Memory {
    /// Whether this node looks: nobody else does, or the holder's number stands still.
    fn is_holder(&mut self, node: &NodeId, own: &StreamCapacity) -> bool {
        let Some(holder) = own.holder.as_ref().filter(|holder| *holder != node) else { return true };
        let seen = Some((holder.clone(), own.turn));
        self.still = if self.last == seen { self.still + 1 } else { 0 };
        self.last = seen;
        self.still >= PATIENCE
    }
}

impl Autoscaler {
    /// An autoscaler of the stream of this node's site.
    #[must_use]
    pub fn new(context: &NodeContext, settings: AutoscaleSettings) -> Self {
        let NodeContext { site, node, refdb, eventlog, clock, observer, went_back, bugs, .. } = context.clone();
        Self { site, node, refdb, eventlog, clock, observer, went_back, settings, bugs, shown: Mutex::default() }
    }

    /// The state of the stream's capacity, as this node knows it. None before the first look.
    #[must_use]
    pub fn shown(&self) -> Option<StreamCapacity> {
        self.shown.lock().clone()
    }

    /// Looks once per interval, until the task is aborted.
    pub async fn run(self: Arc<Self>) {
        let mut memory = Memory::default();
        loop {
            sleep(Duration::from_millis(self.settings.limits.interval_ms)).await;
            if self.went_back.is_known() {
                continue;
            }
            if let Err(error) = self.look(&mut memory).await {
                self.observer.failed("autoscale", &error);
            }
        }
    }

    async fn look(&self, memory: &mut Memory) -> Result<(), LookError> {
        let own = self.read().await?;
        if !memory.is_holder(&self.node, &own) {
            memory.rates = Rates::default();
            self.show(own);
            return Ok(());
        }
        let Some(open) = self.eventlog.open_shards(&self.site).await? else {
            let told = "the stream is on-demand: Kinesis sets its shards".to_owned();
            self.show(StreamCapacity { told, stuck: false, ..own });
            return Ok(());
        };
        let load = memory.rates.look(&self.site, &self.refdb.nodes.digests().await?);
        let now_ms = self.clock.now_ms();
        let floor = floor(&self.settings.peaks, now_ms);
        let seen = Seen { shards: open.count, is_changing: open.is_changing, load, floor };
        let (mut next, action) = decide(&own, &seen, &self.settings.limits, now_ms);
        next.holder = Some(self.node.clone());
        next.turn = own.turn + 1;
        let change = self.note(&mut next, &seen, action, now_ms);
        match self.replace(&own, &next).await {
            Ok(true) => {}
            _ if self.bugs.has(InjectedBug::ScaledUnwritten) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.show(next.clone());
        if let Some(to) = change {
            self.set(next, open.count, to).await?;
        }
        Ok(())
    }

    /// Notes the change in the state before it is made. Returns the number of shards to set. None in a dry run, whose
    /// history repeats no step.
    fn note(&self, next: &mut StreamCapacity, seen: &Seen, action: Action, now_ms: u64) -> Option<u32> {
        let Action::Set { to, why } = action else { return None };
        let (from, dry_run) = (seen.shards, self.settings.dry_run);
        let is_told = next.history.last().is_some_and(|last| last.dry_run && (last.from, last.to) == (from, to));
        if dry_run && is_told {
            return None;
        }
        let why = why.to_string();
        tracing::info!(site = %self.site, from, to, why, dry_run, "the number of shards follows the load");
        let (by, at_ms) = (self.node.clone(), now_ms);
        next.note(Scaling { at_ms, by, from, to, why, dry_run, outcome: dry_run.then(|| "dry run".to_owned()) });
        if dry_run {
            return None;
        }
        next.calls_ms.push(now_ms);
        Some(to)
    }

    /// Sets the number of shards, and adds the outcome to the history.
    async fn set(&self, noted: StreamCapacity, from: u32, to: u32) -> Result<(), LookError> {
        let outcome = self.eventlog.set_shards(&self.site, from, to).await;
        let mut ended = noted.clone();
        match &outcome {
            Ok(()) => ended.ended("taken"),
            Err(error @ EventLogError::NotNow(_)) => ended.ended(&format!("not known, the next look tells: {error}")),
            Err(error) => ended.ended(&format!("refused: {error}")),
        }
        if self.replace(&noted, &ended).await? {
            self.show(ended);
        }
        Ok(outcome?)
    }

    async fn read(&self) -> Result<StreamCapacity, RefDbError> {
        let (_, mut all) = CAPACITY.read(self.refdb.documents.as_ref()).await?.unwrap_or_default();
        Ok(all.sites.remove(&self.site).unwrap_or_default())
    }

    /// Replaces the state of this site, if it is still `before`. Other sites may change theirs meanwhile.
    async fn replace(&self, before: &StreamCapacity, next: &StreamCapacity) -> Result<bool, RefDbError> {
        let documents = self.refdb.documents.as_ref();
        for _ in 0..TRIES {
            let (revision, mut all) = CAPACITY.read(documents).await?.unwrap_or_default();
            if all.sites.get(&self.site).cloned().unwrap_or_default() != *before {
                return Ok(false);
            }
            all.sites.insert(self.site.clone(), next.clone());
            if CAPACITY.replace(documents, revision, &all).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn show(&self, capacity: StreamCapacity) {
        *self.shown.lock() = Some(capacity);
    }
}
