//! Port: other stages ask the apply stage to bring this node up to the refdb's state.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::debt::DebtKind;
use lockstep_proto::{DecodeError, Oid, ProjectKey, ProjectName, RefKey, RefValue, Slot, TxnId};

use crate::seams::blob::BlobError;
use crate::seams::git::GitError;
use crate::seams::peers::PeerError;
use crate::seams::refdb::RefDbError;
use crate::seams::volume::StoreError;
use crate::state::debts::Failure;

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
    /// A committed transaction has bad content: it is in quarantine, and these refs are behind. All other refs that
    /// were asked for are up to date.
    #[error("transaction {txn} has bad content ({why}); see `lockstep quarantine`")]
    Held {
        /// The id of the bad transaction.
        txn: TxnId,
        /// A description of the defect.
        why: String,
        /// The refs that it holds back.
        refs: Vec<RefKey>,
    },
    /// A state transfer left out these refs, because a committed transaction of their chains has bad content. All other
    /// refs of the project are up to date.
    #[error("{} refs, {:?} first, cannot be brought up to date: {why}", refs.len(), refs.first())]
    LeftOut {
        /// The refs that are behind.
        refs: Vec<RefKey>,
        /// Why their objects could not be taken.
        why: Box<CatchUpError>,
    },
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

impl CatchUpError {
    /// Whether a retry may succeed without a change of this node or of the stored data.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::RefDb(error) => error.retry_helps(),
            Self::Git(error) => !matches!(error, GitError::Bad { .. }),
            Self::Blob(error) => !matches!(error, BlobError::Bad { .. }),
            Self::Peer(_) | Self::Missing(_) | Self::NoProject(_) | Self::StateMoved(_) => true,
            Self::Store(_)
            | Self::Bad(_)
            | Self::Held { .. }
            | Self::LeftOut { .. }
            | Self::Unreadable(_)
            | Self::NotAState { .. } => false,
        }
    }

    /// Whether the error is one of a single project. Otherwise the refdb or the node's own store failed, and nothing is
    /// known of any project.
    #[must_use]
    pub fn is_of_project(&self) -> bool {
        !matches!(self, Self::RefDb(_) | Self::Store(_))
    }

    /// The kind of the error, as debts show it.
    #[must_use]
    pub fn kind(&self) -> DebtKind {
        match self {
            Self::Bad(_)
            | Self::Held { .. }
            | Self::LeftOut { .. }
            | Self::Git(GitError::Bad { .. })
            | Self::Blob(BlobError::Bad { .. }) => DebtKind::BadContent,
            Self::Missing(_) | Self::Peer(PeerError::Missing(_)) | Self::Blob(BlobError::Absent(_)) => {
                DebtKind::MissingObjects
            }
            Self::Peer(PeerError::NotNow(_)) | Self::Blob(BlobError::NotNow(_)) | Self::RefDb(_) => {
                DebtKind::Unreachable
            }
            Self::Git(_) | Self::Store(_) => DebtKind::Disk,
            Self::Unreadable(_) | Self::NotAState { .. } => DebtKind::Journal,
            Self::NoProject(_) | Self::StateMoved(_) => DebtKind::Other,
        }
    }

    /// The error as the failure of a debt.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (txn, refs) = match self {
            Self::Held { txn, refs, .. } => (Some(txn.clone()), refs.clone()),
            Self::LeftOut { refs, .. } => (None, refs.clone()),
            _ => (None, Vec::new()),
        };
        Failure { kind: self.kind(), why: self.to_string(), txn, refs }
    }
}

/// The projects that could not be brought up to date, each with the reason. All others are.
pub type Behind = BTreeMap<ProjectName, CatchUpError>;

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

    /// Whether a record that names a slot may be a late copy of a transaction that was collected. Unlike
    /// [`CatchUp::is_collectable`], it is false for a slot that never was.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn may_be_late(&self, slot: &Slot) -> Result<bool, CatchUpError>;

    /// State transfer: takes a project to the refdb's state at once, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn transfer_state(&self, project: &ProjectName) -> Result<(), CatchUpError>;

    /// Reads every project's state from the refdb, and applies it. Projects may have been closed while this node had no
    /// incarnation. Returns the projects whose state could not be applied.
    ///
    /// # Errors
    /// The refdb or the node's own store failed.
    async fn projects(&self) -> Result<Behind, CatchUpError>;

    /// Brings one project, its state and all refs, up to the refdb's state.
    ///
    /// # Errors
    /// As [`CatchUp::keys`]. Only some refs may be behind: see [`CatchUpError::Held`] and [`CatchUpError::LeftOut`].
    async fn bring_up_to_date(&self, project: &ProjectName) -> Result<(), CatchUpError>;

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

    /// Fetches from peers these objects, which are missing or damaged, and takes them in the place of their copies. If
    /// others are missing too, or none is named, fetches every object that the version map's values of the project
    /// need. No ref moves.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn replace_objects(&self, project: &ProjectKey, _damaged: &[Oid]) -> Result<(), CatchUpError> {
        self.refetch_objects(project).await
    }

    /// Brings every project up to the refdb's state, after an expulsion, a lost stream or a restored volume. Returns
    /// the projects that are still behind.
    ///
    /// # Errors
    /// The refdb or the node's own store failed.
    async fn everything(&self) -> Result<Behind, CatchUpError>;

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
