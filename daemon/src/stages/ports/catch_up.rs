//! Port: other stages ask the apply stage to bring this node up to the refdb's state.

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{DecodeError, Oid, ProjectKey, ProjectName, RefKey, RefValue, Slot, TxnId};

use crate::seams::blob::BlobError;
use crate::seams::git::GitError;
use crate::seams::peers::PeerError;
use crate::seams::refdb::RefDbError;
use crate::seams::volume::StoreError;

/// Why a node could not catch up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatchUpError {
    /// A call of the refdb failed. A retry may help.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation on a repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A pack could not be fetched from the blob store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// No peer has sent the objects.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Objects are missing that no transaction and no peer brought.
    #[error("objects are missing: {0:?}")]
    Missing(Vec<Oid>),
    /// The project does not exist at this node yet, or no longer does.
    #[error("project {0} does not exist at this node")]
    NoProject(ProjectKey),
    /// The state of the project moved on during a state transfer.
    #[error("the state of {0} changed during the state transfer")]
    StateMoved(ProjectKey),
    /// A pack is bad: a description of the defect.
    #[error("bad content: {0}")]
    Bad(String),
    /// A transaction of the journal cannot be read.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// The refdb's item `@state` of a project has a value of another kind.
    #[error("the refdb's item @state of {project} is {value:?}, not a project state")]
    NotAState {
        /// The project of the item.
        project: ProjectName,
        /// The value of the item.
        value: RefValue,
    },
}

/// Brings this node up to the refdb's state.
#[async_trait]
pub trait CatchUp: Send + Sync {
    /// Brings these keys, and every transaction that they rest on, up to the refdb's state. Takes ref locks itself, so
    /// the caller holds none.
    ///
    /// # Errors
    /// The refdb cannot be reached, or something is missing.
    async fn keys(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), CatchUpError>;

    /// Reads a project's state from the refdb, and applies it.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn project(&self, project: &ProjectName) -> Result<(), CatchUpError>;

    /// The encoded transaction that was committed under this id; none when its slot is empty, poisoned, or holds
    /// another transaction.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn journal(&self, txn: &TxnId) -> Result<Option<Bytes>, CatchUpError>;

    /// Whether a slot may have been collected. Then its content proves nothing about its transaction.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn is_collectable(&self, slot: &Slot) -> Result<bool, CatchUpError>;

    /// State transfer: takes a project to the refdb's state at once, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn transfer_state(&self, project: &ProjectName) -> Result<(), CatchUpError>;

    /// Reads every project's state from the refdb, and applies it. Projects may have been closed while this node had no
    /// incarnation.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn projects(&self) -> Result<(), CatchUpError>;

    /// Creates the missing repository of a project anew, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn restore_repository(&self, project: &ProjectKey) -> Result<(), CatchUpError>;

    /// Fetches from peers every object that the version map's values of a project need. No ref moves. A missing
    /// repository is created first.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn refetch_objects(&self, project: &ProjectKey) -> Result<(), CatchUpError>;

    /// Brings every project up to the refdb's state, after an expulsion, a lost stream or a restored volume.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn everything(&self) -> Result<(), CatchUpError>;

    /// Does the same as [`CatchUp::keys`] in the background, until it succeeds.
    fn later(&self, project: &ProjectKey, keys: Vec<RefKey>);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operators and tests know these texts.
    #[test]
    fn an_impossible_state_is_reported() {
        let value = CatchUpError::NotAState { project: "p".parse().unwrap(), value: RefValue::Absent };
        assert_eq!(value.to_string(), "the refdb's item @state of p is Absent, not a project state");
    }
}
