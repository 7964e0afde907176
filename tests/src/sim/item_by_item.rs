//! A read of several items is not one moment: DynamoDB isolates each item of a batch read and of a query, not the call.
//! So a reader may see one ref of a transaction before the commit and another one after it.
//!
//! This decorator reads each item by itself, and lets time pass between two items in some of the calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::seams::refdb::{CommitAnswer, CommitRequest, Part, RefDbError, RefItem, RefStore, SlotState};
use lockstep_proto::{ProjectKey, ProjectName, RefKey, TxnId};
use tokio::time::sleep;

use super::dice::Dice;

/// The longest pause between two items, in virtual milliseconds. It is longer than most commits take.
const PAUSE_MS: u64 = 60;

/// The refs of a refdb, read item by item.
pub struct ItemByItem {
    inner: Arc<dyn RefStore>,
    dice: Dice,
    torn: u64,
}

impl ItemByItem {
    /// Reads `inner` item by item. In `torn` permille of the calls there are pauses, from the run's seed.
    #[must_use]
    pub fn new(inner: Arc<dyn RefStore>, seed: u64, torn: u64) -> Self {
        Self { inner, dice: Dice::new(seed, "items"), torn }
    }

    /// The pauses of one call.
    fn pauses(&self) -> Pauses<'_> {
        Pauses { dice: self.dice.chance(self.torn).then_some(&self.dice) }
    }
}

/// The pauses of one call. Most calls have none.
struct Pauses<'a> {
    dice: Option<&'a Dice>,
}

impl Pauses<'_> {
    async fn next(&self) {
        if let Some(dice) = self.dice {
            sleep(Duration::from_millis(dice.below(PAUSE_MS + 1))).await;
        }
    }
}

#[async_trait]
impl RefStore for ItemByItem {
    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        self.inner.commit(request).await
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        self.inner.lock(part).await
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        self.inner.seal(txn, encoded).await
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
            items.extend(self.inner.read(project, std::slice::from_ref(key)).await?);
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
        let items = ItemByItem::new(Arc::clone(&inner), 1, 1_000);
        let project = ProjectKey { name: "p".parse().unwrap(), incarnation: 1 };
        let keys: Vec<RefKey> = ["refs/heads/b", "refs/heads/a"].map(|name| RefKey::Ref(name.parse().unwrap())).into();
        assert_eq!(items.read(&project, &keys).await.unwrap(), vec![None, None]);
        assert_eq!(items.scan(&project, None, 10).await.unwrap(), inner.scan(&project, None, 10).await.unwrap());
        assert_eq!(items.projects(None, 10).await.unwrap(), inner.projects(None, 10).await.unwrap());
    }
}
