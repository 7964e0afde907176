//! The in-doubt resolver finds the outcome of open slots, so that lanes move on.
//!
//! It is a reconciler and keeps nothing durable of its own. It asks the refdb about each open slot until the slot is
//! known to be committed or poisoned. A committed one is published like any other, and this node applies it from its
//! own site's stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{Slot, TxnId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{RefDb, SlotState};
use crate::state::context::NodeContext;
use crate::state::journal::Journal;
use crate::state::went_back::WentBack;

/// Resolves open slots. Clones share one state.
#[derive(Clone)]
pub struct InDoubtResolver {
    refdb: RefDb,
    journal: Arc<Journal>,
    observer: Arc<dyn Observer>,
    went_back: WentBack,
    bugs: InjectedBugs,
    open: Arc<Mutex<BTreeMap<Slot, Option<TxnId>>>>,
    wake: Arc<Notify>,
}

/// A slot that stays empty for this long is poisoned, so that the settled mark of an idle lane moves on.
const IDLE: Duration = Duration::from_millis(500);
/// Time limit of one call of the refdb.
const PATIENCE: Duration = Duration::from_secs(5);

impl InDoubtResolver {
    /// Creates a resolver without open slots.
    #[must_use]
    pub fn new(context: &NodeContext, journal: Arc<Journal>) -> Self {
        let NodeContext { refdb, observer, went_back, bugs, .. } = context.clone();
        Self { refdb, journal, observer, went_back, bugs, open: Arc::default(), wake: Arc::new(Notify::new()) }
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
            if self.went_back.is_known() {
                continue;
            }
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
                self.observer.failed("in-doubt", &error);
                return false;
            }
            Err(_) => return false,
        }
        self.open.lock().remove(slot);
        true
    }
}
