//! How a stage asks the apply stage to learn what this node does not know.

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{ProjectKey, ProjectName, RefKey, TxnId};

/// The commit stage needs the apply stage to know what it did not know.
#[async_trait]
pub trait CatchUp: Send + Sync {
    /// Brings these keys, and every transaction that they rest on, up to the refdb. Takes ref locks itself.
    ///
    /// # Errors
    /// The refdb is away, or something is missing: why.
    async fn keys(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), String>;

    /// Learns a project's state from the refdb, and applies it.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn project(&self, project: &ProjectName) -> Result<(), String>;

    /// The bytes that were committed under this id; none when its slot holds nothing, or something else.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn journal(&self, txn: &TxnId) -> Result<Option<Bytes>, String>;

    /// Takes a project to the refdb's state at once, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn transfer_state(&self, project: &ProjectName) -> Result<(), String>;

    /// Learns every project's state from the refdb: what was closed while this node had no incarnation.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn projects(&self) -> Result<(), String>;

    /// Makes the repository of a project anew that is gone, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn restore_repository(&self, project: &ProjectKey) -> Result<(), String>;

    /// Brings the objects of all that the version map says of a project from peers, and moves no ref. Without its repository
    /// one is made.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn refetch_objects(&self, project: &ProjectKey) -> Result<(), String>;

    /// Brings every project up to the refdb: after an expulsion, a lost stream, a restored volume.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn everything(&self) -> Result<(), String>;

    /// The same as `keys`, in the background, until it succeeds.
    fn later(&self, project: &ProjectKey, keys: Vec<RefKey>);
}
