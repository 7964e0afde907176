//! What is left open is settled, so that lanes go on; and the marks are stored, so that windows open.
//!
//! Two reconcilers without memory of their own. The in_doubt asks for each open slot until it is known: committed (then
//! it is published like any other, and this node applies it from its own site's stream) or poisoned. The mark writer
//! stores both marks; the answer "frozen" means that somebody fenced this incarnation: the node stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{Seq, SiteId, Slot, TxnId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{MarkAnswer, RefDb, SlotState};
use crate::state::journal::Journal;

/// Settles open slots. Clones share them.
#[derive(Clone)]
pub struct InDoubtResolver {
    refdb: Arc<dyn RefDb>,
    journal: Arc<Journal>,
    observer: Arc<dyn Observer>,
    bugs: InjectedBugs,
    open: Arc<Mutex<BTreeMap<Slot, Option<TxnId>>>>,
    wake: Arc<Notify>,
}

/// How long a slot may stay empty before it is poisoned, so that an idle lane settles.
const IDLE: Duration = Duration::from_millis(500);
/// An idle node stores its unchanged marks once in so many paces.
const IDLE_PACES: u32 = 5;
/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl InDoubtResolver {
    /// Nothing is open.
    #[must_use]
    pub fn new(refdb: Arc<dyn RefDb>, journal: Arc<Journal>, observer: Arc<dyn Observer>, bugs: InjectedBugs) -> Self {
        Self { refdb, journal, observer, bugs, open: Arc::default(), wake: Arc::new(Notify::new()) }
    }

    /// A copy of this transaction may be in flight: find out, and make sure.
    pub fn resolve_later(&self, txn: TxnId, encoded: Bytes) {
        if self.bugs.has(InjectedBug::SettledOverUnresolved) {
            self.journal.committed(&txn.slot, encoded);
            return;
        }
        self.open.lock().insert(txn.slot.clone(), Some(txn));
        self.wake.notify_one();
    }

    /// The slot is occupied, and what is in it could not be read.
    pub fn resolve_slot_later(&self, slot: Slot) {
        self.open.lock().insert(slot, None);
        self.wake.notify_one();
    }

    /// How many slots are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.lock().len()
    }

    /// Settles until it is aborted.
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
        let state = timeout(PATIENCE, self.refdb.poison(slot)).await;
        match state {
            Ok(Ok(SlotState::Poisoned)) => self.journal.poisoned(slot),
            Ok(Ok(SlotState::Committed(_, bytes))) => self.journal.committed(slot, bytes),
            Ok(Ok(SlotState::Empty)) => return false,
            Ok(Err(error)) => {
                self.observer.failed("settle", &error.to_string());
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
    /// The site.
    pub site: SiteId,
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// The journal.
    pub journal: Arc<Journal>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// Wakes the publisher.
    pub publish: Arc<Notify>,
    /// Called when somebody froze this incarnation.
    pub fenced: Arc<dyn Fn() + Send + Sync>,
    /// How often marks are stored when they moved a little.
    pub pace: Duration,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

impl MarkWriter {
    /// Writes until it is aborted.
    pub async fn run(self) {
        let mut written: Vec<(Seq, Seq)> = Vec::new();
        let mut last = Instant::now();
        loop {
            let _ = timeout(self.pace, self.journal.changed()).await;
            self.publish.notify_one();
            let marks: Vec<(Seq, Seq)> =
                self.journal.marks().into_iter().map(|mark| (mark.settled, mark.published)).collect();
            let due = self.journal.is_pressed() || last.elapsed() >= self.pace;
            // An idle node asks too: somebody may have fenced it while it slept.
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
        let answer = timeout(PATIENCE, self.refdb.mark(&self.site, self.journal.id(), &settled, &published)).await;
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
                (self.fenced)();
                false
            }
            Ok(Err(error)) => {
                self.observer.failed("marks", &error.to_string());
                false
            }
            Err(_) => false,
        }
    }
}
