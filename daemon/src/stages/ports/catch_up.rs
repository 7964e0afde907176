//! Port: other stages ask the apply stage to bring this node up to the refdb's state.

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{ProjectKey, ProjectName, RefKey, TxnId};

/// Brings this node up to the refdb's state.
#[async_trait]
pub trait CatchUp: Send + Sync {
    /// Brings these keys, and every transaction that they rest on, up to the refdb's state. Takes ref locks itself, so
    /// the caller holds none.
    ///
    /// # Errors
    /// The refdb cannot be reached, or something is missing. The text says why.
    async fn keys(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), String>;

    /// Reads a project's state from the refdb, and applies it.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn project(&self, project: &ProjectName) -> Result<(), String>;

    /// The encoded transaction that was committed under this id; none when its slot is empty, poisoned, or holds
    /// another transaction.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn journal(&self, txn: &TxnId) -> Result<Option<Bytes>, String>;

    /// State transfer: takes a project to the refdb's state at once, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn transfer_state(&self, project: &ProjectName) -> Result<(), String>;

    /// Reads every project's state from the refdb, and applies it. Projects may have been closed while this node had no
    /// incarnation.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn projects(&self) -> Result<(), String>;

    /// Creates the missing repository of a project anew, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn restore_repository(&self, project: &ProjectKey) -> Result<(), String>;

    /// Fetches from peers every object that the version map's values of a project need. No ref moves. A missing
    /// repository is created first.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn refetch_objects(&self, project: &ProjectKey) -> Result<(), String>;

    /// Brings every project up to the refdb's state, after an expulsion, a lost stream or a restored volume.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn everything(&self) -> Result<(), String>;

    /// Does the same as [`CatchUp::keys`] in the background, until it succeeds.
    fn later(&self, project: &ProjectKey, keys: Vec<RefKey>);
}
