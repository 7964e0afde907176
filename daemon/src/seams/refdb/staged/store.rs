//! The implementation of [`RefStore`]: commits of any size, and reads in which no lock hides a committed value. All
//! other calls pass through.

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{ProjectKey, ProjectName, RefKey, Transaction, TxnId};

use super::StagedRefs;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{CommitAnswer, CommitRequest, Part, RefDbError, RefItem, RefStore, SlotState};

#[async_trait]
impl RefStore for StagedRefs {
    fn write_items(&self) -> usize {
        self.inner.refs.write_items()
    }

    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        self.commit_any(request).await
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        loop {
            let found = self.inner.refs.read(project, keys).await?;
            let items: Vec<&RefItem> = found.iter().flatten().collect();
            if self.bugs.has(InjectedBug::LockNotRead) || !self.free(project, &items).await? {
                return Ok(found);
            }
        }
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        loop {
            let found = self.inner.refs.scan(project, after, limit).await?;
            if !self.free(project, &found.iter().collect::<Vec<_>>()).await? {
                return Ok(found);
            }
        }
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        loop {
            let found = self.inner.refs.projects(after, limit).await?;
            let mut freed = false;
            for (name, item) in found.iter().filter(|(_, item)| item.lock.is_some()) {
                // The item belongs to the name, so the incarnation does not matter.
                freed |= self.free(&ProjectKey::of_name(name), &[item]).await?;
            }
            if !freed {
                return Ok(found);
            }
        }
    }

    fn commits_in_steps(&self, transaction: &Transaction) -> bool {
        self.is_staged(transaction)
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        self.inner.refs.lock(part).await
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        self.inner.refs.seal(txn, encoded).await
    }

    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError> {
        self.inner.refs.seal_held(txn, encoded, token).await
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        self.inner.refs.flip(part).await
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.inner.refs.release(project, txn, keys).await
    }
}
