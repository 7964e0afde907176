//! The committed requests of the bridge API, for callers that repeat them: by project and request id, the transaction
//! that committed it.
//!
//! An entry is made before a low-water mark passes the slot of its transaction, and becomes durable in the same step as
//! the mark, at the latest. So every request below the durable marks is remembered after a crash. At a start the node
//! reads the slots of its own lanes above these marks again, before any mark moves. The refs are no measure: a crash
//! can leave them on the disk without the entry, and the next start takes them into the version map.
//!
//! A node that took the refdb's state without the transactions has a gap: requests that it does not find may have been
//! committed. The gap is durable in the same step as the first mark above it, so a restart keeps it. It lasts for an
//! hour of one process: a later process begins the hour again, so no wall clock can end a gap early.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectName, Transaction, TxnId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::volume::{Changes, CommittedRequest, NodeStore, RequestKey, StoreError, command_digest};
use crate::state::durability::Remember;

/// Entries that are kept at least. Beyond them the oldest go.
pub const KEPT: usize = 200_000;
/// The time after which nobody repeats a request from before a gap. The bridge gives up after `gerrit.commit_within`
/// (five minutes by default), and hooks after their deadline.
pub const GAP_LASTS: Duration = Duration::from_secs(3_600);
/// Entries per page, when all are read.
const PAGE: usize = 1_000;

/// The memory of one node.
pub struct CommittedRequests {
    store: Arc<dyn NodeStore>,
    early: Mutex<Early>,
    gap: Mutex<Gap>,
    bugs: InjectedBugs,
}

/// The last time that entries were missed, because the node took the refdb's state without the transactions.
struct Gap {
    /// That time; the start of this process if it was in an earlier one.
    missed: Option<Instant>,
    staged: bool,
    durable: bool,
}

impl Gap {
    fn is_open(&self) -> bool {
        self.missed.is_some_and(|missed| missed.elapsed() < GAP_LASTS)
    }
}

/// Entries that are not durable yet, each with the generation in which it was made.
#[derive(Default)]
struct Early {
    generation: u64,
    staged: u64,
    entries: BTreeMap<RequestKey, (CommittedRequest, u64)>,
}

impl CommittedRequests {
    /// The memory that a store has.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(store: Arc<dyn NodeStore>, bugs: InjectedBugs) -> Result<Self, StoreError> {
        let durable = store.requests_gap()?;
        let gap = Mutex::new(Gap { missed: durable.then(Instant::now), staged: durable, durable });
        Ok(Self { store, early: Mutex::default(), gap, bugs })
    }

    /// Notes a committed transaction. Call it before its refs move.
    pub fn note(&self, transaction: &Transaction) {
        if transaction.request_id.is_empty() {
            return;
        }
        let steps = transaction.commands.iter().map(|one| (command_digest(&one.key, &one.new), one.version)).collect();
        let request = CommittedRequest { txn: transaction.id.clone(), at_ms: transaction.committed_at_ms, steps };
        let key = (transaction.project.name.clone(), transaction.request_id.clone());
        let mut early = self.early.lock();
        early.generation += 1;
        let generation = early.generation;
        early.entries.insert(key, (request, generation));
    }

    /// Notes a committed transaction whose refs are here already, unless it is known. Call it before a low-water mark
    /// passes its slot.
    pub fn note_missed(&self, transaction: &Transaction) {
        if !matches!(self.find(&transaction.project.name, &transaction.request_id), Ok(Some(_))) {
            self.note(transaction);
        }
    }

    /// The transaction that committed a request. None if this node does not remember one.
    ///
    /// # Errors
    /// The store failed. Never take this for "not committed".
    pub fn find(&self, project: &ProjectName, id: &str) -> Result<Option<CommittedRequest>, StoreError> {
        if self.bugs.has(InjectedBug::RequestsForgotten) {
            return Ok(None);
        }
        let key = (project.clone(), id.to_owned());
        let early = self.early.lock().entries.get(&key).map(|(request, _)| request.clone());
        if early.is_some() { Ok(early) } else { self.store.request(&key) }
    }

    /// The project of a committed transaction, for a caller that knows its id alone. None if this node does not
    /// remember it. It reads every entry until it finds the transaction.
    ///
    /// # Errors
    /// The store failed. Never take this for "not committed".
    pub async fn project_of(&self, txn: &TxnId) -> Result<Option<ProjectName>, StoreError> {
        let is_it = |request: &CommittedRequest| request.txn == *txn;
        // An entry that becomes durable between the two reads is in both.
        let early =
            self.early.lock().entries.iter().find(|(_, (one, _))| is_it(one)).map(|((name, _), _)| name.clone());
        if early.is_some() {
            return Ok(early);
        }
        let mut after: Option<RequestKey> = None;
        loop {
            let page = self.store.requests(after.as_ref(), PAGE)?;
            if let Some(((name, _), _)) = page.iter().find(|(_, one)| is_it(one)) {
                return Ok(Some(name.clone()));
            }
            if page.len() < PAGE {
                return Ok(None);
            }
            after = page.last().map(|(key, _)| key.clone());
            tokio::task::yield_now().await;
        }
    }

    /// Notes that transactions were skipped whose requests this node never saw.
    pub fn skipped_some(&self) {
        self.gap.lock().missed = Some(Instant::now());
    }

    /// Whether requests may be missing that were committed through this node, and that callers may still repeat.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.gap.lock().is_open()
    }

    /// The durable entries beyond the newest `kept`. Commit times only order them; no entry is dropped by its age.
    ///
    /// # Errors
    /// The store failed.
    pub fn surplus(&self, kept: usize) -> Result<Vec<RequestKey>, StoreError> {
        let mut times = Vec::new();
        self.each(|_, request| times.push(request.at_ms))?;
        if times.len() <= kept {
            return Ok(Vec::new());
        }
        times.sort_unstable();
        let oldest_kept = times[times.len() - kept];
        let mut surplus = Vec::new();
        self.each(|key, request| {
            if request.at_ms < oldest_kept {
                surplus.push(key);
            }
        })?;
        Ok(surplus)
    }

    fn each(&self, mut visit: impl FnMut(RequestKey, CommittedRequest)) -> Result<(), StoreError> {
        let mut after: Option<RequestKey> = None;
        loop {
            let page = self.store.requests(after.as_ref(), PAGE)?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(key, _)| key.clone());
            page.into_iter().for_each(|(key, request)| visit(key, request));
            if is_last {
                return Ok(());
            }
        }
    }
}

impl Remember for CommittedRequests {
    fn remember(&self, _into: &mut Changes) {}

    fn remember_of_moves(&self, into: &mut Changes) {
        let mut early = self.early.lock();
        early.staged = early.generation;
        into.requests.extend(early.entries.iter().map(|(key, (request, _))| (key.clone(), request.clone())));
        let mut gap = self.gap.lock();
        gap.staged = gap.is_open();
        into.requests_gap = (gap.staged != gap.durable).then_some(gap.staged);
    }

    fn remembered(&self) {
        let mut early = self.early.lock();
        let staged = early.staged;
        early.entries.retain(|_, (_, generation)| *generation > staged);
        let mut gap = self.gap.lock();
        gap.durable = gap.staged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::transaction_builder::TransactionBuilder;
    use crate::seams::volume::memory::MemoryStore;

    fn transaction(id: &str, at_ms: u64) -> Transaction {
        let (request_id, committed_at_ms) = (id.to_owned(), at_ms);
        Transaction { request_id, committed_at_ms, ..TransactionBuilder::in_slot(9).build() }
    }

    fn load(store: &Arc<dyn NodeStore>) -> CommittedRequests {
        CommittedRequests::load(Arc::clone(store), InjectedBugs::default()).unwrap()
    }

    async fn step(store: &Arc<dyn NodeStore>, requests: &CommittedRequests) -> Changes {
        let mut changes = Changes::default();
        requests.remember_of_moves(&mut changes);
        store.commit(changes.clone()).await.unwrap();
        requests.remembered();
        changes
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_outlives_its_process_and_then_lasts_as_long_again() {
        let store: Arc<dyn NodeStore> = Arc::new(MemoryStore::default());
        let requests = load(&store);
        requests.skipped_some();
        assert!(!load(&store).has_gaps(), "not durable yet");
        assert_eq!(step(&store, &requests).await.requests_gap, Some(true));
        assert!(step(&store, &requests).await.is_empty(), "it is written once");
        tokio::time::advance(GAP_LASTS).await;
        assert!(!requests.has_gaps());
        let restarted = load(&store);
        assert!(restarted.has_gaps());
        tokio::time::advance(GAP_LASTS).await;
        assert!(!restarted.has_gaps());
        assert_eq!(step(&store, &restarted).await.requests_gap, Some(false));
        assert!(!load(&store).has_gaps());
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_ends_when_nobody_repeats_requests_from_before_it() {
        let store: Arc<dyn NodeStore> = Arc::new(MemoryStore::default());
        let requests = load(&store);
        assert!(!requests.has_gaps());
        requests.skipped_some();
        tokio::time::advance(GAP_LASTS - Duration::from_secs(1)).await;
        assert!(requests.has_gaps());
        requests.skipped_some();
        tokio::time::advance(GAP_LASTS - Duration::from_secs(1)).await;
        assert!(requests.has_gaps(), "a later gap lasts longer");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!requests.has_gaps());
    }

    #[tokio::test]
    async fn the_project_of_a_transaction_is_found_before_and_after_it_is_durable() {
        let store: Arc<dyn NodeStore> = Arc::new(MemoryStore::default());
        let requests = load(&store);
        let (known, other) = (transaction("a", 3).id, "n.1.0.9.00000000000000ab".parse().unwrap());
        assert_eq!(requests.project_of(&known).await.unwrap(), None);
        requests.note(&transaction("a", 3));
        let project = Some("p".parse().unwrap());
        assert_eq!(requests.project_of(&known).await.unwrap(), project);
        let mut changes = Changes::default();
        requests.remember_of_moves(&mut changes);
        store.commit(changes).await.unwrap();
        requests.remembered();
        assert_eq!(requests.project_of(&known).await.unwrap(), project);
        assert_eq!(requests.project_of(&other).await.unwrap(), None, "another attempt at the same slot");
    }

    #[tokio::test]
    async fn an_entry_is_found_before_and_after_it_is_durable_and_the_oldest_go() {
        let store: Arc<dyn NodeStore> = Arc::new(MemoryStore::default());
        let memory = || load(&store);
        let requests = memory();
        for (id, at_ms) in [("a", 3), ("b", 1), ("c", 2)] {
            requests.note(&transaction(id, at_ms));
        }
        let found =
            |requests: &CommittedRequests, id: &str| requests.find(&"p".parse().unwrap(), id).unwrap().is_some();
        assert!(found(&requests, "a") && !found(&memory(), "a"), "not durable yet");
        let mut changes = Changes::default();
        requests.remember_of_moves(&mut changes);
        requests.note(&transaction("d", 4));
        store.commit(changes).await.unwrap();
        requests.remembered();
        assert!(found(&memory(), "a") && !found(&memory(), "d") && found(&requests, "d"));
        assert!(requests.surplus(3).unwrap().is_empty());
        let surplus: Vec<String> = requests.surplus(2).unwrap().into_iter().map(|(_, id)| id).collect();
        assert_eq!(surplus, ["b"]);
    }
}
