//! The in-doubt resolver finds the outcome of open slots, so that lanes move on. The mark writer stores the marks, so
//! that windows open.
//!
//! Both are reconcilers and keep nothing durable of their own. The resolver asks the refdb about each open slot until
//! the slot is known to be committed or poisoned. A committed one is published like any other, and this node applies it
//! from its own site's stream. The mark writer stores the settled and the published marks. The answer that the
//! incarnation is frozen or drained means that it was fenced: the node stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{Seq, SiteId, Slot, TxnId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{MarkAnswer, RefDb, SlotState};
use crate::state::context::NodeContext;
use crate::state::journal::Journal;

/// Resolves open slots. Clones share one state.
#[derive(Clone)]
pub struct InDoubtResolver {
    refdb: RefDb,
    journal: Arc<Journal>,
    observer: Arc<dyn Observer>,
    bugs: InjectedBugs,
    open: Arc<Mutex<BTreeMap<Slot, Option<TxnId>>>>,
    wake: Arc<Notify>,
}

/// A slot that stays empty for this long is poisoned, so that the settled mark of an idle lane moves on.
const IDLE: Duration = Duration::from_millis(500);
/// An idle node stores its unchanged marks once per this many paces.
const IDLE_PACES: u32 = 5;
/// Time limit of one call of the refdb.
const PATIENCE: Duration = Duration::from_secs(5);

impl InDoubtResolver {
    /// Creates a resolver without open slots.
    #[must_use]
    pub fn new(context: &NodeContext, journal: Arc<Journal>) -> Self {
        let NodeContext { refdb, observer, bugs, .. } = context.clone();
        Self { refdb, journal, observer, bugs, open: Arc::default(), wake: Arc::new(Notify::new()) }
    }

    /// Adds a transaction in doubt, of which a copy may be in flight.
    pub fn resolve_later(&self, txn: TxnId, encoded: Bytes) {
        if self.bugs.has(InjectedBug::SettledOverUnresolved) {
            self.journal.committed(&txn.slot, encoded);
            return;
        }
        self.open.lock().insert(txn.slot.clone(), Some(txn));
        self.wake.notify_one();
    }

    /// Adds a slot whose content must become known: it could not be read, may have locks that wait for it, or stays
    /// empty in an idle lane.
    pub fn resolve_slot_later(&self, slot: Slot) {
        self.open.lock().insert(slot, None);
        self.wake.notify_one();
    }

    /// Number of open slots.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.lock().len()
    }

    /// Resolves slots until the task is aborted.
    pub async fn run(self) {
        loop {
            let _ = timeout(IDLE, self.wake.notified()).await;
            if let Some(since) = Instant::now().checked_sub(IDLE) {
                for slot in self.journal.take_idle(since) {
                    self.resolve_slot_later(slot);
                }
            }
            let open: Vec<Slot> = self.open.lock().keys().cloned().collect();
            for slot in open {
                if !self.resolve(&slot).await {
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn resolve(&self, slot: &Slot) -> bool {
        let state = timeout(PATIENCE, self.refdb.journal.poison(slot)).await;
        match state {
            Ok(Ok(SlotState::Poisoned)) => self.journal.poisoned(slot),
            Ok(Ok(SlotState::Committed(_, bytes))) => self.journal.committed(slot, bytes),
            Ok(Ok(SlotState::Empty)) => return false,
            Ok(Err(error)) => {
                self.observer.failed("settle", &error);
                return false;
            }
            Err(_) => return false,
        }
        self.open.lock().remove(slot);
        true
    }
}

/// Stores the marks of the running incarnation.
pub struct MarkWriter {
    /// The site of the incarnation.
    site: SiteId,
    /// The refdb, which stores the marks.
    refdb: RefDb,
    /// The journal whose marks are stored.
    journal: Arc<Journal>,
    /// Receives failures.
    observer: Arc<dyn Observer>,
    /// Wakes the publisher.
    publish: Arc<Notify>,
    /// Cancelled when the refdb says that this incarnation was frozen or drained.
    fenced: CancellationToken,
    /// The interval at which marks are stored, unless a lane has used up much of its window.
    pace: Duration,
    /// The injected bugs that a test has switched on.
    bugs: InjectedBugs,
}

impl MarkWriter {
    /// Creates the writer of a journal's marks. `publish` wakes the publisher.
    #[must_use]
    pub fn new(context: &NodeContext, journal: Arc<Journal>, publish: Arc<Notify>, pace: Duration) -> Self {
        let NodeContext { site, refdb, observer, fenced, bugs, .. } = context.clone();
        Self { site, refdb, journal, observer, publish, fenced, pace, bugs }
    }

    /// Writes marks until the task is aborted.
    pub async fn run(self) {
        let mut written: Vec<(Seq, Seq)> = Vec::new();
        let mut last = Instant::now();
        loop {
            let _ = timeout(self.pace, self.journal.changed()).await;
            self.publish.notify_one();
            let marks: Vec<(Seq, Seq)> =
                self.journal.marks().into_iter().map(|mark| (mark.settled, mark.published)).collect();
            let due = self.journal.is_pressed() || last.elapsed() >= self.pace;
            // An idle node writes too, to learn whether it was fenced meanwhile.
            let asks = last.elapsed() >= self.pace * IDLE_PACES;
            if !due || (marks == written && !asks) {
                continue;
            }
            if self.write(&marks).await {
                written = marks;
                last = Instant::now();
            } else {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn write(&self, marks: &[(Seq, Seq)]) -> bool {
        let (settled, published): (Vec<Seq>, Vec<Seq>) = marks.iter().copied().unzip();
        let answer =
            timeout(PATIENCE, self.refdb.registry.mark(&self.site, self.journal.id(), &settled, &published)).await;
        match answer {
            Ok(Ok(MarkAnswer::Written)) => {
                self.journal.stored(&settled);
                true
            }
            Ok(Ok(MarkAnswer::NotOpen(state))) => {
                if self.bugs.has(InjectedBug::PausedNodeGoesOn) {
                    self.journal.stored(&settled);
                    return true;
                }
                let why = format!("incarnation {} is {state:?}: this node was fenced and stops", self.journal.id());
                self.observer.failed("marks", &why);
                self.fenced.cancel();
                false
            }
            Ok(Err(error)) => {
                self.observer.failed("marks", &error);
                false
            }
            Err(_) => false,
        }
    }
}
