//! Setup: the store is prepared, and the items of a refdb that is being rebuilt are written.

use async_trait::async_trait;
use lockstep_proto::rebuild::KnownSite;
use lockstep_proto::{ProjectKey, RefName, limits};

use super::documents::{Document, DocumentRecord};
use super::error::RefDbError;
use super::refs::RefItem;

/// The most items of one write of a rebuild. One more item is the condition on the identity.
pub const REBUILT_ITEMS: usize = limits::WRITE_COMMANDS;

/// How the refdb is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// As the tables demand: with transactions in one Region, and one item by one in several Regions.
    #[default]
    Auto,
    /// With transactions. Tables that have none are refused.
    Transactions,
    /// One item by one, in tables of any kind: for emulators and tests.
    SingleItem,
}

/// An item of a refdb that is being rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// A ref or pseudo-ref, with its version, value and transaction. A directory mark of the name stays.
    Ref(ProjectKey, RefItem),
    /// A name that refs lie below. It must not be live.
    Directory(ProjectKey, RefName),
    /// A site with its role and epoch.
    Site(KnownSite),
    /// A document with its revision, which may be any. It is not the identity, which is the condition of each write.
    Document(Document, DocumentRecord),
}

/// The answer to a write of a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebuildAnswer {
    /// Every item is written, or there already with the same or a higher version, epoch or revision.
    Written,
    /// Nothing was written: the document of the identity has another revision. Another run has taken over, or the
    /// refdb is complete.
    Superseded,
    /// Nothing was written: this name is a live ref, and a live ref lies below it. git cannot hold both.
    NamesExclude(ProjectKey, RefName),
}

/// Prepares the store, and fills it when a lost refdb is rebuilt.
#[async_trait]
pub trait Setup: Send + Sync {
    /// Checks that the store can keep the contract. Creates its tables if they are missing and `may_create` is true;
    /// otherwise missing tables are an error. Called before the first other call. May be called again.
    async fn prepare(&self, may_create: bool) -> Result<(), RefDbError> {
        let _ = may_create;
        Ok(())
    }

    /// Writes items of a refdb that is being rebuilt, all or none, if the document of the identity has this revision.
    /// At most [`REBUILT_ITEMS`] items, none of them twice. An item that is there with a higher version, epoch or
    /// revision stays as it is. So a repetition, a late copy, and a second run that knows less do no harm.
    async fn rebuild(&self, items: &[Rebuilt], revision: u64) -> Result<RebuildAnswer, RefDbError>;
}
