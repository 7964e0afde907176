//! Compares what the refdb answers with the version map: a refdb that has less than this node is older than it.

use lockstep_proto::{ProjectKey, RefKey, Transaction};

use super::catch_up::Catcher;
use crate::seams::refdb::RefItem;
use crate::seams::volume::{RefRecord, StoreError};
use crate::stages::ports::CatchUpError;
use crate::state::version_map::VersionMap;
use crate::state::went_back::{Evidence, fork, reference};

impl Catcher {
    /// Reads items, and compares each with the version map as it was before the read. Answers the items that exist.
    pub(super) async fn read_and_compare(
        &self,
        project: &ProjectKey,
        keys: &[RefKey],
    ) -> Result<Vec<RefItem>, CatchUpError> {
        let here: Vec<Option<RefRecord>> =
            keys.iter().map(|key| self.units.versions.get(project, key)).collect::<Result<_, _>>()?;
        let found = self.refdb.refs.read(project, keys).await?;
        for ((key, here), found) in keys.iter().zip(&here).zip(&found) {
            if reference(project, key, here.as_ref(), found.as_ref()).is_some() {
                self.confirm(project, key, here.as_ref()).await?;
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads an item that seems to be older than this node once more, on its own. Evidence stops every node, so it
    /// does not rest on a single answer, nor on a read of several items.
    async fn confirm(&self, project: &ProjectKey, key: &RefKey, here: Option<&RefRecord>) -> Result<(), CatchUpError> {
        let again = self.refdb.refs.read(project, std::slice::from_ref(key)).await?;
        if let Some(evidence) = reference(project, key, here, again.first().and_then(Option::as_ref)) {
            self.went_back.tell(evidence);
        }
        Ok(())
    }

    /// Compares items that were read before the version map is looked at. One that seems to be older is read again.
    pub(super) async fn compare(
        &self,
        project: &ProjectKey,
        items: impl IntoIterator<Item = &RefItem>,
    ) -> Result<(), CatchUpError> {
        let mut doubtful = Vec::new();
        for item in items {
            let here = self.units.versions.get(project, &item.key)?;
            if reference(project, &item.key, here.as_ref(), Some(item)).is_some() {
                doubtful.push(item.key.clone());
            }
        }
        if !doubtful.is_empty() {
            self.read_and_compare(project, &doubtful).await?;
        }
        Ok(())
    }
}

/// The first ref of a transaction whose version, or the one before it, has another transaction here than the journal
/// says. The caller knows that the journal has this transaction, so both were committed.
pub(super) fn forked(versions: &VersionMap, transaction: &Transaction) -> Result<Option<Evidence>, StoreError> {
    for command in &transaction.commands {
        let Some(here) = versions.get(&transaction.project, &command.key)? else { continue };
        let theirs = if here.version == command.version {
            Some(transaction.id.clone())
        } else if here.version.next() == command.version {
            command.predecessor.clone()
        } else {
            None
        };
        if let Some(theirs) = theirs.filter(|theirs| *theirs != here.txn) {
            return Ok(Some(fork(&transaction.project, &command.key, &here, theirs)));
        }
    }
    Ok(None)
}
