//! The in-doubt resolver finds the outcome of open slots, so that lanes move on.
//!
//! It is a reconciler and keeps nothing durable of its own. It asks the refdb about each open slot until the slot is
//! known to be committed or poisoned. A committed one is published like any other, and this node applies it from its
//! own site's stream. The blobs of an attempt that is proven not to be committed are deleted. The updates of a poisoned
//! one are kept, if the site was fenced meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::status::UncommittedUpdate;
use lockstep_proto::{Slot, Transaction, TxnId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::uncommitted::{Uncommitted, updates_of};
use super::unused_blob::UnusedBlob;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::blob::long_form::LongForms;
use crate::seams::refdb::gone::may_be_gone;
use crate::seams::refdb::{RefDb, SlotState};
use crate::state::committed_requests::CommittedRequests;
use crate::state::context::{NodeContext, NodeState};
use crate::state::journal::Journal;
use crate::state::quiesce::QuiesceGuard;
use crate::state::went_back::WentBack;

/// Resolves open slots. Clones share one state.
#[derive(Clone)]
pub struct InDoubtResolver {
    refdb: RefDb,
    journal: Arc<Journal>,
    observer: Arc<dyn Observer>,
    went_back: WentBack,
    long_forms: LongForms,
    /// Remembers the requests of transactions that turn out to be committed.
    requests: Arc<CommittedRequests>,
    bugs: InjectedBugs,
    /// Keeps the updates that nobody committed, because the site was fenced.
    pub(super) uncommitted: Uncommitted,
    open: Arc<Mutex<BTreeMap<Slot, Open>>>,
    /// Whether the incarnation is poisoned, so that no copy can land any more. Changes under the lock of `open`.
    is_poisoned: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

/// The things that wait until the content of a slot is known.
#[derive(Default)]
struct Open {
    /// Keeps the project from being closed, if a copy may still land in it.
    inside: Option<QuiesceGuard>,
    attempt: Option<Attempt>,
}

/// A transaction in doubt.
struct Attempt {
    txn: TxnId,
    updates: Vec<UncommittedUpdate>,
    blobs: Vec<UnusedBlob>,
}

/// A slot that stays empty for this long is poisoned, so that the settled mark of an idle lane moves on.
const IDLE: Duration = Duration::from_millis(500);
/// The time until a slot is asked about again whose content is not known yet.
const PAUSE: Duration = Duration::from_millis(200);
/// The time between two looks of a request that waits for a slot.
const LOOK: Duration = Duration::from_millis(20);
/// Time limit of one call of the refdb.
const PATIENCE: Duration = Duration::from_secs(5);

impl InDoubtResolver {
    /// Creates a resolver without open slots, for an incarnation that was opened under this epoch of the site.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, journal: Arc<Journal>, epoch: u64) -> Self {
        let NodeContext { refdb, observer, went_back, long_forms, bugs, .. } = context.clone();
        let (requests, uncommitted) = (Arc::clone(&state.requests), Uncommitted::new(context, state, epoch));
        Self {
            refdb,
            journal,
            observer,
            went_back,
            long_forms,
            requests,
            bugs,
            uncommitted,
            open: Arc::default(),
            is_poisoned: Arc::default(),
            wake: Arc::new(Notify::new()),
        }
    }

    /// Adds a transaction in doubt, of which a copy may be in flight. It keeps its blobs, and the guard of its
    /// project, until its slot is settled.
    pub(super) fn resolve_later(
        &self,
        transaction: &Transaction,
        encoded: Bytes,
        blobs: Vec<UnusedBlob>,
        inside: QuiesceGuard,
    ) {
        let slot = &transaction.id.slot;
        if self.bugs.has(InjectedBug::SettledOverUnresolved) {
            self.journal.committed(slot, encoded);
            return;
        }
        let attempt = Attempt { txn: transaction.id.clone(), updates: updates_of(transaction), blobs };
        self.add(slot.clone(), Open { inside: Some(inside), attempt: Some(attempt) });
    }

    /// Adds a slot whose content must become known: it could not be read, may have locks that wait for it, or stays
    /// empty in an idle lane.
    pub fn resolve_slot_later(&self, slot: Slot, inside: Option<QuiesceGuard>) {
        self.add(slot, Open { inside, ..Open::default() });
    }

    fn add(&self, slot: Slot, more: Open) {
        let mut open = self.open.lock();
        let kept = open.entry(slot).or_default();
        let inside = more.inside.filter(|_| !self.is_poisoned.load(Ordering::Relaxed));
        kept.inside = inside.or(kept.inside.take());
        kept.attempt = more.attempt.or(kept.attempt.take());
        drop(open);
        self.wake.notify_one();
    }

    /// Whether the slot's content proves that its transaction was not committed. It proves nothing if it was read in an
    /// older refdb, or if the slot may have been collected before. None if the refdb did not answer.
    pub(super) async fn proves(&self, slot: &Slot) -> Option<bool> {
        let gone = timeout(PATIENCE, may_be_gone(&self.refdb, slot)).await.ok()?.ok()?;
        Some(!gone && !self.went_back.is_known())
    }

    /// Whether the content of an open slot proves that its transaction in doubt was not committed. None if the refdb
    /// did not answer.
    async fn is_lost(&self, slot: &Slot, state: &SlotState) -> Option<bool> {
        let mine = self.open.lock().get(slot).and_then(|open| open.attempt.as_ref().map(|attempt| attempt.txn.clone()));
        match (mine, state) {
            (None, _) => Some(false),
            (Some(mine), SlotState::Committed(txn, _)) if *txn == mine => Some(false),
            (Some(_), _) => self.proves(slot).await,
        }
    }

    /// Waits until the content of a slot is known. Returns false if that takes longer than `deadline`.
    pub(super) async fn is_known(&self, slot: &Slot, deadline: Instant) -> bool {
        while self.open.lock().contains_key(slot) {
            if Instant::now() + LOOK >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
        true
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
                    self.resolve_slot_later(slot, None);
                }
            }
            for slot in self.open_slots() {
                if !self.resolve(&slot).await {
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn open_slots(&self) -> Vec<Slot> {
        self.open.lock().keys().cloned().collect()
    }

    /// Resolves every open slot: the incarnation is poisoned, and its term ends. The caller bounds the time. Projects
    /// may be closed from now on, even if a slot stays open: this resolver may outlive its term.
    pub async fn resolve_rest(&self) {
        if self.went_back.is_known() {
            return;
        }
        self.let_projects_close();
        loop {
            for slot in self.open_slots() {
                self.resolve(&slot).await;
            }
            if self.open() == 0 {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    fn let_projects_close(&self) {
        let mut open = self.open.lock();
        self.is_poisoned.store(true, Ordering::Relaxed);
        open.values_mut().for_each(|one| one.inside = None);
    }

    async fn resolve(&self, slot: &Slot) -> bool {
        let state = timeout(PATIENCE, self.refdb.journal.poison(slot)).await;
        // The proof comes before the journal hears of the slot: a slot that is published may be collected.
        let is_lost = match &state {
            Ok(Ok(state)) => self.is_lost(slot, state).await,
            Ok(Err(_)) | Err(_) => Some(false),
        };
        let Some(is_lost) = is_lost else { return false };
        match state {
            Ok(Ok(SlotState::Poisoned)) => {
                if !self.keep_sent(slot).await {
                    return false;
                }
                self.journal.poisoned(slot);
            }
            Ok(Ok(SlotState::Committed(_, bytes))) => {
                // The lane waits for no blob: a request that cannot be read now is a gap of the memory.
                match timeout(PATIENCE, self.long_forms.read(&bytes)).await {
                    Ok(Ok(transaction)) => self.requests.note(&transaction),
                    Ok(Err(_)) | Err(_) => self.requests.skipped_some(),
                }
                self.journal.committed(slot, bytes);
            }
            Ok(Ok(SlotState::Empty)) => return false,
            Ok(Err(error)) => {
                self.observer.failed("in-doubt", &error);
                return false;
            }
            Err(_) => return false,
        }
        let settled = self.open.lock().remove(slot);
        if let Some(attempt) = settled.and_then(|open| open.attempt).filter(|_| is_lost) {
            attempt.blobs.iter().for_each(UnusedBlob::is_not_needed);
        }
        true
    }

    /// Keeps the updates of a transaction that found its slot poisoned, if that was because the site was fenced.
    /// Returns false if it is not known whether it was.
    async fn keep_sent(&self, slot: &Slot) -> bool {
        let attempt = |open: &Open| open.attempt.as_ref().map(|attempt| attempt.updates.clone());
        let Some(sent) = self.open.lock().get(slot).and_then(attempt).filter(|sent| !sent.is_empty()) else {
            return true;
        };
        let Some(is_over) = self.uncommitted.is_over().await else { return false };
        if is_over {
            self.uncommitted.keep(sent).await;
        }
        true
    }
}
