//! The refdb: the global ref database, the only authority on the value of a ref.
//!
//! Every implementation keeps this contract (`tests/src/contract`):
//! - [`RefStore::commit`] makes all refs and the journal slot true everywhere, or nothing of it. It is one atomic,
//!   conditional write, or, in a store whose writes take one item, a commit under locks.
//! - Every read is strong: it sees each write that was answered before it began.
//! - An error never means "absent" or "refused". [`RefDbError::Unknown`] means that the write may have happened, or may
//!   still happen. [`RefDbError::NotNow`] means that this very call did nothing.
//! - Versions never go back. A deleted ref keeps its item as a tombstone.
//! - A transaction of more commands than one write takes ([`RefStore::write_items`]) is committed under locks
//!   ([`staged`]). Each ref gets a lock
//!   that names the transaction ([`RefStore::lock`]). The slot is the commit point ([`RefStore::seal`]). The refs move
//!   afterwards ([`RefStore::flip`]). No other transaction moves or marks a locked ref.
//! - A commit that carries the token of an operator lock takes effect only while the document [`Document::Locks`] has
//!   that lock as held. The check is a condition of the very write that is the commit point. So a holder whose lock was
//!   broken or has expired commits nothing, however late its write arrives.
//! - Once a slot is occupied (by a transaction or by poison), it never changes until it is collected. Poison is never
//!   collected, so a late copy of a poisoned transaction can never land.
//!
//! Each part of the refdb is a trait with its records. A decorator wraps the parts that it changes.
//!
//! | file | content |
//! |---|---|
//! | `refs` | [`RefStore`]: refs, commits, locks |
//! | `journal` | [`JournalStore`]: slots |
//! | `sites` | [`Sites`]: the list of sites, their roles and epochs |
//! | `incarnations` | [`Incarnations`]: open, frozen, poisoned or drained, and the marks of lanes |
//! | `nodes` | [`Nodes`]: heartbeats, low-water marks, digests |
//! | `documents` | [`Documents`]: documents of the whole installation; the declaration that the refdb went back |
//! | `stored` | [`StoredDocument`]: documents as values |
//! | `gerrit` | [`GerritIdentity`]: the installation's Gerrit, and its instance ids |
//! | `setup` | [`Setup`]: prepares the store, and writes the items of a rebuild |
//! | `backup` | writes the items of a refdb into a file, and verifies such a file |
//! | `check` | reads a whole refdb, and tells the faults of its items |
//! | `gone` | whether the content of a slot still proves anything |
//! | `dynamo`, `memory` | the implementations |
//! | `project_pages` | every project, page by page |
//! | `staged` | adds transactions of more commands than one write takes |
//! | `single_item` | the other writes with conditions on several items, for a store whose writes take one item |
//! | `units` | [`RequestUnits`](units::RequestUnits): the measure by which tables are billed |
//! | `rules`, `error` | the checks that all implementations share, and the one error |

pub mod backup;
pub mod check;
mod documents;
pub mod dynamo;
mod error;
mod gerrit;
pub mod gone;
mod incarnations;
mod journal;
pub mod memory;
mod nodes;
mod project_pages;
mod refs;
mod rules;
mod setup;
mod single_item;
mod sites;
pub mod staged;
mod stored;
pub mod units;

use std::sync::Arc;

use lockstep_proto::refdb_move::RefdbPlace;

pub use documents::{Document, DocumentRecord, Documents, WentBackRecord};
pub use error::RefDbError;
pub use gerrit::{GerritIdentity, GerritRecord};
pub use incarnations::{IncarnationRecord, IncarnationState, Incarnations, MarkAnswer, OpenAnswer};
pub use journal::{JournalStore, SlotState};
pub use nodes::{DigestRecord, MOST_DIGEST_BYTES, MOST_NEEDS, Needs, NodeAnswer, NodeRecord, Nodes};
pub use project_pages::ProjectPages;
pub use refs::{CommitAnswer, CommitRequest, FinishLocks, Freed, Obstacle, Part, RefItem, RefStore};
pub use setup::{REBUILT_ITEMS, RebuildAnswer, Rebuilt, Setup, WriteMode};
pub use sites::{Role, SiteAnswer, SiteRecord, Sites};
pub use stored::{StoredDocument, to_json};

/// Opens refdbs in other tables of the same store, or of a store elsewhere.
pub trait Tables: Send + Sync {
    /// The prefix of the node's own tables: the setting `refdb.prefix`.
    fn current(&self) -> String;

    /// The refdb in the tables with this prefix. They need not exist.
    fn open(&self, prefix: &str) -> RefDb;

    /// The refdb at another place: its Region and endpoint may differ, too. An implementation with one place for all
    /// tables goes by the prefix.
    fn at(&self, place: &RefdbPlace) -> RefDb {
        self.open(&place.prefix)
    }
}

/// The global ref database, in its parts. The documentation of this module is its contract. Clones share the store.
#[derive(Clone)]
pub struct RefDb {
    /// Refs and their commits.
    pub refs: Arc<dyn RefStore>,
    /// The slots of the journal.
    pub journal: Arc<dyn JournalStore>,
    /// The records of sites.
    pub sites: Arc<dyn Sites>,
    /// The records of incarnations.
    pub incarnations: Arc<dyn Incarnations>,
    /// The records and digests of nodes.
    pub nodes: Arc<dyn Nodes>,
    /// The documents of the installation.
    pub documents: Arc<dyn Documents>,
    /// The identity of the installation's Gerrit.
    pub gerrit: Arc<dyn GerritIdentity>,
    /// The preparation and the rebuild of the store.
    pub setup: Arc<dyn Setup>,
}

impl RefDb {
    /// The refdb that one store implements.
    #[must_use]
    pub fn of<T>(store: &Arc<T>) -> Self
    where
        T: RefStore + JournalStore + Sites + Incarnations + Nodes + Documents + GerritIdentity + Setup + 'static,
    {
        Self {
            refs: Arc::clone(store) as _,
            journal: Arc::clone(store) as _,
            sites: Arc::clone(store) as _,
            incarnations: Arc::clone(store) as _,
            nodes: Arc::clone(store) as _,
            documents: Arc::clone(store) as _,
            gerrit: Arc::clone(store) as _,
            setup: Arc::clone(store) as _,
        }
    }

    /// The parts that the steps of a failover use.
    #[must_use]
    pub fn for_failover(&self) -> FailoverDb {
        let Self { journal, sites, incarnations, nodes, documents, .. } = self.clone();
        FailoverDb { journal, sites, incarnations, nodes, documents }
    }

    /// The incarnations of all sites.
    ///
    /// # Errors
    /// As [`FailoverDb::incarnations`].
    pub async fn incarnations(&self) -> Result<Vec<IncarnationRecord>, RefDbError> {
        self.for_failover().incarnations().await
    }
}

/// The parts of a refdb that the steps of a failover use. A drill has these parts of a canary, so no step of a drill
/// can reach a ref.
#[derive(Clone)]
pub struct FailoverDb {
    /// The slots of the journal.
    pub journal: Arc<dyn JournalStore>,
    /// The records of sites.
    pub sites: Arc<dyn Sites>,
    /// The records of incarnations.
    pub incarnations: Arc<dyn Incarnations>,
    /// The records and digests of nodes.
    pub nodes: Arc<dyn Nodes>,
    /// The documents of the installation.
    pub documents: Arc<dyn Documents>,
}

impl FailoverDb {
    /// The parts that one store implements.
    #[must_use]
    pub fn of<T>(store: &Arc<T>) -> Self
    where
        T: JournalStore + Sites + Incarnations + Nodes + Documents + 'static,
    {
        Self {
            journal: Arc::clone(store) as _,
            sites: Arc::clone(store) as _,
            incarnations: Arc::clone(store) as _,
            nodes: Arc::clone(store) as _,
            documents: Arc::clone(store) as _,
        }
    }

    /// The incarnations of all sites.
    ///
    /// # Errors
    /// As [`Sites::sites`] and [`Incarnations::incarnations`].
    pub async fn incarnations(&self) -> Result<Vec<IncarnationRecord>, RefDbError> {
        let mut all = Vec::new();
        for site in self.sites.sites().await? {
            all.extend(self.incarnations.incarnations(&site.site).await?);
        }
        Ok(all)
    }
}
