//! The refdb: the global ref database, the only authority on the value of a ref.
//!
//! Every implementation keeps this contract (`tests/src/contract`):
//! - [`RefStore::commit`] is one atomic, conditional write of all refs and of the journal slot. Afterwards either all
//!   of it is true everywhere, or nothing of it.
//! - Every read is strong: it sees each write that was answered before it began.
//! - An error never means "absent" or "refused". [`RefDbError::Unknown`] means that the write may have happened, or may
//!   still happen. [`RefDbError::NotNow`] means that this very call did nothing.
//! - Versions never go back. A deleted ref keeps its item as a tombstone.
//! - A transaction of more commands than one write takes is committed under locks ([`staged`]). Each ref gets a lock
//!   that names the transaction ([`RefStore::lock`]). The slot is the commit point ([`RefStore::seal`]). The refs move
//!   afterwards ([`RefStore::flip`]). No other transaction moves or marks a locked ref.
//! - Once a slot is occupied (by a transaction or by poison), it never changes until it is collected. Poison is never
//!   collected, so a late copy of a poisoned transaction can never land.
//!
//! The refdb has three parts, each a trait. A decorator wraps the parts that it changes.
//!
//! | file | content |
//! |---|---|
//! | `refs` | [`RefStore`]: refs, commits, locks |
//! | `journal` | [`JournalStore`]: slots |
//! | `registry`, `site_record` | [`Registry`]: sites, nodes, incarnations, Gerrit; the record of a site |
//! | `stored` | the documents of the registry as values |
//! | `gone` | whether the content of a slot still proves anything |
//! | `dynamo`, `memory` | the implementations |
//! | `project_pages` | every project, page by page |
//! | `staged` | adds transactions of more commands than one write takes |
//! | `rebuilt` | the items that a rebuild of a lost refdb writes |
//! | `rules`, `error` | the checks that all implementations share, and the one error |

pub mod dynamo;
mod error;
pub mod gone;
mod journal;
pub mod memory;
mod project_pages;
mod rebuilt;
mod refs;
mod registry;
mod rules;
mod site_record;
pub mod staged;
mod stored;

use std::sync::Arc;

pub use error::RefDbError;
pub use journal::{JournalStore, SlotState};
pub use project_pages::ProjectPages;
pub use rebuilt::{REBUILT_ITEMS, RebuildAnswer, Rebuilt};
pub use refs::{CommitAnswer, CommitRequest, FinishLocks, Freed, Obstacle, Part, RefItem, RefStore};
pub use registry::{
    DigestRecord, Document, DocumentRecord, GerritRecord, IncarnationRecord, IncarnationState, MOST_DIGEST_BYTES,
    MOST_NEEDS, MarkAnswer, Needs, NodeAnswer, NodeRecord, OpenAnswer, Registry, WentBackRecord,
};
pub use site_record::{Role, SiteAnswer, SiteRecord};
pub use stored::{StoredDocument, to_json};

/// Opens refdbs in other tables of the same store.
pub trait Tables: Send + Sync {
    /// The prefix of the node's own tables: the setting `refdb.prefix`.
    fn current(&self) -> String;

    /// The refdb in the tables with this prefix. They need not exist.
    fn open(&self, prefix: &str) -> RefDb;
}

/// The global ref database, in its three parts. The documentation of this module is its contract. Clones share the
/// store.
#[derive(Clone)]
pub struct RefDb {
    /// Refs and their commits.
    pub refs: Arc<dyn RefStore>,
    /// The slots of the journal.
    pub journal: Arc<dyn JournalStore>,
    /// Sites, nodes and incarnations.
    pub registry: Arc<dyn Registry>,
}

impl RefDb {
    /// The refdb that one store implements.
    #[must_use]
    pub fn of<T: RefStore + JournalStore + Registry + 'static>(store: &Arc<T>) -> Self {
        Self { refs: Arc::clone(store) as _, journal: Arc::clone(store) as _, registry: Arc::clone(store) as _ }
    }

    /// The incarnations of all sites.
    ///
    /// # Errors
    /// As [`Registry::incarnations`].
    pub async fn incarnations(&self) -> Result<Vec<IncarnationRecord>, RefDbError> {
        let mut all = Vec::new();
        for site in self.registry.sites().await? {
            all.extend(self.registry.incarnations(&site.site).await?);
        }
        Ok(all)
    }
}
