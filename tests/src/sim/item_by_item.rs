//! A read of several items is not one moment: DynamoDB isolates each item of a batch read and of a query, not the call.
//! So a reader may see one ref of a transaction before the commit and another one after it.
//!
//! This decorator reads each item by itself, and lets time pass between two items in some of the calls. With the
//! injected bug `EventualRead`, reads are not consistent either: each item may be as it was before its last change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use lockstep::seams::refdb::{CommitAnswer, CommitRequest, Part, RefDbError, RefItem, RefStore, SlotState};
use lockstep_proto::{ProjectKey, ProjectName, RefKey, TxnId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::dice::Dice;
use super::scenario::Scenario;

/// The time for which a read that is not consistent may miss a change.
const LAG: Duration = Duration::from_secs(1);

/// Items as they were before their last change, and the times of the changes.
type Earlier = BTreeMap<(ProjectKey, RefKey), (Option<RefItem>, Instant)>;

/// The refs of a refdb, read item by item.
pub struct ItemByItem {
    inner: Arc<dyn RefStore>,
    dice: Dice,
    torn_reads: u64,
    torn_ms: u64,
    /// Present with the injected bug `EventualRead`.
    earlier: Option<Mutex<Earlier>>,
}

impl ItemByItem {
    /// Reads `inner` item by item. In some of the calls there are pauses, as the scenario and the run's seed say.
    #[must_use]
    pub fn new(inner: Arc<dyn RefStore>, seed: u64, scenario: &Scenario, bugs: InjectedBugs) -> Self {
        let earlier = bugs.has(InjectedBug::EventualRead).then(Mutex::default);
        let Scenario { torn_reads, torn_ms, .. } = *scenario;
        Self { inner, dice: Dice::new(seed, "items"), torn_reads, torn_ms, earlier }
    }

    /// A ref as it was before its last change, if that was a moment ago and this read misses it.
    fn outdated(&self, project: &ProjectKey, key: &RefKey) -> Option<Option<RefItem>> {
        let earlier = self.earlier.as_ref().filter(|_| key.as_ref_name().is_some())?.lock();
        let (item, changed) = earlier.get(&(project.clone(), key.clone()))?;
        (changed.elapsed() < LAG && self.dice.chance(500)).then(|| item.clone())
    }

    /// The pauses of one call.
    fn pauses(&self) -> Pauses<'_> {
        Pauses { dice: self.dice.chance(self.torn_reads).then_some(&self.dice), longest_ms: self.torn_ms }
    }
}

/// The pauses of one call. Most calls have none.
struct Pauses<'a> {
    dice: Option<&'a Dice>,
    longest_ms: u64,
}

impl Pauses<'_> {
    async fn next(&self) {
        if let Some(dice) = self.dice {
            sleep(Duration::from_millis(dice.below(self.longest_ms + 1))).await;
        }
    }
}

#[async_trait]
impl RefStore for ItemByItem {
    fn write_items(&self) -> usize {
        self.inner.write_items()
    }

    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        let Some(earlier) = &self.earlier else { return self.inner.commit(request).await };
        let project = &request.transaction.project;
        let keys: Vec<RefKey> = request.transaction.commands.iter().map(|command| command.key.clone()).collect();
        let before = self.inner.read(project, &keys).await?;
        let answer = self.inner.commit(request).await?;
        if answer == CommitAnswer::Committed {
            let (items, now) = (keys.into_iter().zip(before), Instant::now());
            earlier.lock().extend(items.map(|(key, item)| ((project.clone(), key), (item, now))));
        }
        Ok(answer)
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        self.inner.lock(part).await
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        self.inner.seal(txn, encoded).await
    }

    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError> {
        self.inner.seal_held(txn, encoded, token).await
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        self.inner.flip(part).await
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.inner.release(project, txn, keys).await
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        let (pauses, mut items) = (self.pauses(), Vec::new());
        for key in keys {
            match self.outdated(project, key) {
                Some(item) => items.push(item),
                None => items.extend(self.inner.read(project, std::slice::from_ref(key)).await?),
            }
            pauses.next().await;
        }
        Ok(items)
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        let (pauses, mut items) = (self.pauses(), Vec::<RefItem>::new());
        while items.len() < limit {
            let after = items.last().map(|item| &item.key).or(after);
            let Some(item) = self.inner.scan(project, after, 1).await?.pop() else { break };
            items.push(item);
            pauses.next().await;
        }
        Ok(items)
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        let (pauses, mut items) = (self.pauses(), Vec::<(ProjectName, RefItem)>::new());
        while items.len() < limit {
            let after = items.last().map(|(name, _)| name).or(after);
            let Some(item) = self.inner.projects(after, 1).await?.pop() else { break };
            items.push(item);
            pauses.next().await;
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use lockstep::seams::refdb::memory::MemoryRefDb;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_read_returns_what_its_backend_returns_in_the_same_order() {
        let inner = MemoryRefDb::new().refdb().refs;
        let scenario = Scenario { torn_reads: 1_000, ..Scenario::calm() };
        let items = ItemByItem::new(Arc::clone(&inner), 1, &scenario, InjectedBugs::default());
        let project = ProjectKey { name: "p".parse().unwrap(), incarnation: 1 };
        let keys: Vec<RefKey> = ["refs/heads/b", "refs/heads/a"].map(|name| RefKey::Ref(name.parse().unwrap())).into();
        assert_eq!(items.read(&project, &keys).await.unwrap(), vec![None, None]);
        assert_eq!(items.scan(&project, None, 10).await.unwrap(), inner.scan(&project, None, 10).await.unwrap());
        assert_eq!(items.projects(None, 10).await.unwrap(), inner.projects(None, 10).await.unwrap());
    }
}
