//! Reads a whole refdb, page by page at a bounded rate, and checks what can be checked from its items alone. It writes
//! nothing.
//!
//! Others may write meanwhile. A fault that such a write can look like is read again before it is told.
//!
//! | file | idea |
//! |---|---|
//! | `faults` | the faults of one record: pure functions |

mod faults;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{LaneId, NodeId, ProjectKey, ProjectName, ProjectPhase, RefKey, RefName, RefValue, Seq, TxnId};
use serde::Serialize;
use tokio::time::sleep;

use super::{Document, IncarnationRecord, RefDb, RefDbError, RefItem, SlotState};
use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;

/// The items of a page.
const PAGE: usize = 500;
/// How often a call is tried before the check gives up.
const TRIES: u32 = 8;
/// The pause before a fault is read again that a commit in progress can look like.
const AGAIN: Duration = Duration::from_secs(2);
/// The most findings that are listed. The count is complete.
const MOST_LISTED: usize = 200;
/// The most suspects of one project that are held at once. They are read again before the scan goes on.
const MOST_SUSPECTS: usize = 1_000;
/// The most unpublished slots of a lane that are read.
const MOST_SLOTS: u64 = 1_000;

/// A fault with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The item: a ref with its project, an incarnation, a document.
    pub place: String,
    /// The fault, for people.
    pub fault: String,
    /// The next step of the operator.
    pub remedy: &'static str,
}

/// The end of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The number of projects, deleted ones included.
    pub projects: u64,
    /// The number of refs with a value.
    pub refs: u64,
    /// The number of deleted refs, and of names that are directories alone.
    pub others: u64,
    /// The number of incarnations that are not forgotten.
    pub incarnations: u64,
    /// The number of slots of the journal that were read: those that are not published yet.
    pub slots: u64,
    /// The number of findings.
    pub found: u64,
    /// The first of the findings.
    pub findings: Vec<Finding>,
}

impl Checked {
    fn find(&mut self, place: impl ToString, (fault, remedy): Fault) {
        self.found += 1;
        if self.findings.len() < MOST_LISTED {
            self.findings.push(Finding { place: place.to_string(), fault, remedy });
        }
    }
}

/// A fault and its remedy.
type Fault = (String, &'static str);

/// The remedy for an item that cannot be read, or contradicts itself.
const DAMAGED: &str = "\
    something other than Lockstep has written it: keep a copy of the item, and restore the tables to a moment before \
    (point-in-time recovery), or rebuild the refdb from the sites";

/// Checks a refdb. Its reads finish no transaction: give the refdb without `StagedRefs`.
pub struct RefDbCheck {
    refdb: RefDb,
    entropy: Arc<dyn Entropy>,
    /// Items that are read per second, about.
    rate: u32,
    found: Checked,
}

impl RefDbCheck {
    /// A check that reads about this many items per second.
    #[must_use]
    pub fn new(refdb: RefDb, entropy: Arc<dyn Entropy>, rate: u32) -> Self {
        Self { refdb, entropy, rate: rate.max(1), found: Checked::default() }
    }

    /// Reads everything. `progress` gets the counts after each project.
    ///
    /// # Errors
    /// The refdb did not answer, or denies the reads. Nothing is said about the rest then.
    pub async fn run(mut self, progress: impl Fn(&Checked)) -> Result<Checked, RefDbError> {
        self.documents().await?;
        self.registry().await?;
        let mut after: Option<ProjectName> = None;
        loop {
            let refs = Arc::clone(&self.refdb.refs);
            let Some(page) = self.read("@projects", || refs.projects(after.as_ref(), PAGE)).await? else { break };
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            self.pace(page.len()).await;
            for (name, item) in page {
                self.project(&name, &item).await?;
                progress(&self.found);
            }
        }
        Ok(self.found)
    }

    /// Repeats a read that may succeed later. A read that meets an item of another form is a finding, and none.
    async fn read<T, F>(&mut self, place: &str, call: impl Fn() -> F) -> Result<Option<T>, RefDbError>
    where
        F: Future<Output = Result<T, RefDbError>>,
    {
        let first = Duration::from_millis(100);
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), first, Duration::from_secs(5));
        match backoff.retry(TRIES, RefDbError::retry_helps, call).await {
            Ok(read) => Ok(Some(read)),
            Err(RefDbError::Broken(why)) if faults::is_of_an_item(&why) => {
                self.found.find(place, (format!("{why}; nothing after it was read here"), DAMAGED));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn pace(&self, items: usize) {
        sleep(Duration::from_secs_f64(items as f64 / f64::from(self.rate))).await;
    }

    async fn documents(&mut self) -> Result<(), RefDbError> {
        let documents = Arc::clone(&self.refdb.documents);
        for which in Document::ALL {
            let Some(record) = self.read(which.name(), || documents.document(which)).await?.flatten() else {
                continue;
            };
            if let Some(fault) = faults::of_document(which, &record) {
                self.found.find(which.name(), fault);
            }
        }
        if let Some(declared) = self.read("@went-back", || documents.went_back()).await?.flatten() {
            let why = format!("node {} has declared that the refdb went back: {}", declared.by, declared.why);
            self.found.find("@went-back", (why, "see \"A refdb that went back\" in docs/operations.md"));
        }
        Ok(())
    }

    /// Sites, nodes, and incarnations with their unpublished slots.
    async fn registry(&mut self) -> Result<(), RefDbError> {
        let refdb = self.refdb.clone();
        let nodes = self.read("@nodes", || refdb.nodes.nodes()).await?.unwrap_or_default();
        let sites = self.read("@sites", || refdb.sites.sites()).await?.unwrap_or_default();
        for node in &nodes {
            if !sites.iter().any(|site| site.site == node.site) {
                let fault = format!("node {} is of site {}, which has no record", node.node, node.site);
                self.found.find(&node.node, (fault, DAMAGED));
            }
        }
        for site in sites {
            let place = format!("@incarnations#{}", site.site);
            let list = || refdb.incarnations.incarnations(&site.site);
            let records = self.read(&place, list).await?.unwrap_or_default();
            self.found.incarnations += records.len() as u64;
            self.pace(records.len()).await;
            let mut highest: BTreeMap<NodeId, u64> = BTreeMap::new();
            for record in &records {
                let node = &record.id.node;
                if !highest.contains_key(node) {
                    let last = || refdb.incarnations.last_incarnation(&site.site, node);
                    highest.insert(node.clone(), self.read(&place, last).await?.unwrap_or(u64::MAX));
                }
                for fault in faults::of_incarnation(record, highest[node]) {
                    self.found.find(&record.id, fault);
                }
                self.slots(record).await?;
            }
            for fault in faults::of_incarnations(&records) {
                self.found.find(&place, fault);
            }
        }
        Ok(())
    }

    /// Every slot between the published mark and the settled one, or the end of a poisoned window, is occupied.
    async fn slots(&mut self, record: &IncarnationRecord) -> Result<(), RefDbError> {
        let mut empty: Vec<(LaneId, Seq)> = Vec::new();
        for (lane, (from, to)) in record.id.lanes(faults::unpublished(record)) {
            let to = to.0.min(from.0.saturating_add(MOST_SLOTS));
            self.pace(usize::try_from(to.saturating_sub(from.0)).unwrap_or(0)).await;
            for seq in from.0..to {
                let (slot, journal) = (lane.slot(Seq(seq)), Arc::clone(&self.refdb.journal));
                self.found.slots += 1;
                match self.read(&slot.to_string(), || journal.slot(&slot)).await? {
                    Some(SlotState::Committed(txn, _)) if txn.slot != slot => {
                        self.found.find(&slot, (format!("the slot holds {txn}, which is of another slot"), DAMAGED));
                    }
                    Some(SlotState::Empty) => empty.push((lane.clone(), Seq(seq))),
                    Some(SlotState::Committed(..) | SlotState::Poisoned) | None => {}
                }
            }
        }
        if empty.is_empty() {
            return Ok(());
        }
        // A slot that was published meanwhile may be collected, too.
        let (incarnations, site) = (Arc::clone(&self.refdb.incarnations), record.site.clone());
        let now = self.read(&site.to_string(), || incarnations.incarnations(&site)).await?.unwrap_or_default();
        let Some(now) = now.into_iter().find(|one| one.id == record.id) else { return Ok(()) };
        let published: BTreeMap<LaneId, Seq> = now.id.lanes(now.published.iter().copied()).collect();
        for (lane, seq) in empty {
            if published.get(&lane).is_none_or(|published| seq >= *published) {
                let fault = "the slot is empty, although it is below a settled mark and not published".to_owned();
                self.found.find(lane.slot(seq), (fault, DAMAGED));
            }
        }
        Ok(())
    }

    async fn project(&mut self, name: &ProjectName, item: &RefItem) -> Result<(), RefDbError> {
        self.found.projects += 1;
        let mut suspects = Suspects::default();
        if let Some(lock) = &item.lock {
            suspects.locks.insert(item.key.clone(), lock.clone());
        }
        if item.txn.is_none() {
            // Its creation is under way under a lock, or has failed and left the item.
            return self.look_again(&ProjectKey::of_name(name), suspects).await;
        }
        let RefValue::State(state) = &item.value else {
            self.found.find(name, (format!("the state of the project is {}", item.value), DAMAGED));
            return Ok(());
        };
        let key = ProjectKey::new(name, state.incarnation);
        if state.phase != ProjectPhase::Deleted {
            self.refs(&key, &mut suspects).await?;
        }
        self.look_again(&key, suspects).await
    }

    async fn refs(&mut self, project: &ProjectKey, suspects: &mut Suspects) -> Result<(), RefDbError> {
        let (mut after, mut directories): (Option<RefKey>, BTreeSet<RefName>) = (None, BTreeSet::new());
        loop {
            let refs = Arc::clone(&self.refdb.refs);
            let scan = || refs.scan(project, after.as_ref(), PAGE);
            let Some(page) = self.read(&project.to_string(), scan).await? else { return Ok(()) };
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            self.pace(page.len()).await;
            for item in &page {
                if item.value.is_absent() {
                    self.found.others += 1
                } else {
                    self.found.refs += 1
                }
                for fault in faults::of_ref(item) {
                    self.found.find(faults::place(project, &item.key), fault);
                }
                if let Some(lock) = &item.lock {
                    suspects.locks.insert(item.key.clone(), lock.clone());
                }
                // A name sorts before every name below it.
                if let (true, Some(name)) = (item.directory, item.key.as_ref_name()) {
                    directories.insert(name.clone());
                }
                if !faults::unmarked(item, &directories).is_empty() {
                    suspects.unmarked.insert(item.key.clone());
                }
                if suspects.unmarked.len() + suspects.locks.len() >= MOST_SUSPECTS {
                    self.look_again(project, std::mem::take(suspects)).await?;
                }
            }
        }
    }

    /// Reads suspects again, after a pause in which a commit in progress ends.
    async fn look_again(&mut self, project: &ProjectKey, suspects: Suspects) -> Result<(), RefDbError> {
        if suspects.locks.is_empty() && suspects.unmarked.is_empty() {
            return Ok(());
        }
        sleep(AGAIN).await;
        for (key, lock) in suspects.locks {
            let still = self.item(project, &key).await?.is_some_and(|item| item.lock.as_ref() == Some(&lock));
            if still && let Some(fault) = self.lock(&lock).await? {
                self.found.find(faults::place(project, &key), fault);
            }
        }
        for key in suspects.unmarked {
            let Some(item) = self.item(project, &key).await? else { continue };
            let mut marked = BTreeSet::new();
            for name in faults::unmarked(&item, &BTreeSet::new()) {
                let above = self.item(project, &RefKey::Ref(name.clone())).await?;
                if above.is_some_and(|above| above.directory) {
                    marked.insert(name);
                }
            }
            for name in faults::unmarked(&item, &marked) {
                let fault = format!("it is live, and {name} above it is not marked as a directory");
                self.found.find(faults::place(project, &key), (fault, DAMAGED));
            }
        }
        Ok(())
    }

    async fn item(&mut self, project: &ProjectKey, key: &RefKey) -> Result<Option<RefItem>, RefDbError> {
        let (refs, keys) = (Arc::clone(&self.refdb.refs), [key.clone()]);
        let items = self.read(&faults::place(project, key), || refs.read(project, &keys)).await?;
        Ok(items.unwrap_or_default().pop().flatten())
    }

    /// The fault of a lock that did not go away by itself.
    async fn lock(&mut self, lock: &TxnId) -> Result<Option<Fault>, RefDbError> {
        let (journal, refdb) = (Arc::clone(&self.refdb.journal), self.refdb.clone());
        let Some(slot) = self.read(&lock.slot.to_string(), || journal.slot(&lock.slot)).await? else {
            return Ok(None);
        };
        let records = self.read("@incarnations", || refdb.incarnations()).await?.unwrap_or_default();
        let owner = records.into_iter().find(|one| one.id == lock.slot.lane.incarnation);
        Ok(faults::of_lock(lock, &slot, owner.as_ref()))
    }
}

/// Items that a commit in progress can look like.
#[derive(Default)]
struct Suspects {
    locks: BTreeMap<RefKey, TxnId>,
    unmarked: BTreeSet<RefKey>,
}
