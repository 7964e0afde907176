//! The refdb in DynamoDB: two tables of one Region, or two tables with multi-Region strong consistency.
//!
//! Every write is conditional. In tables of one Region, a commit, a part of a commit under ref locks, the opening of an
//! incarnation, the begin of a failover, an operator's change of a site, and a write of a rebuild are one
//! `TransactWriteItems` each; every other write is a write of one item. Tables with multi-Region strong consistency
//! have no transactions, and every write is a write of one item there ([`WriteMode`](super::WriteMode)). Every read is
//! strongly consistent. The SDK repeats no call by itself. It would take the traces of its own first attempt for
//! another writer's, and the caller knows better whether to resend, to read back or to poison.
//!
//! | file | content |
//! |---|---|
//! | `keys`, `items` | the keys and the form of all items |
//! | `commit` | the one transaction and its cancellation reasons |
//! | `locks` | transactions of several parts, under ref locks |
//! | `single_item` | writes of one item each, for tables without transactions |
//! | `write_mode` | whether the tables take transactions |
//! | `refs`, `slots` | reads of items; slots, poison, collection |
//! | `conditions` | conditions of a transaction on items that it does not write |
//! | `sites`, `incarnations`, `nodes`, `digests`, `gerrit`, `went_back`, `documents` | the records |
//! | `elsewhere` | opens other tables |
//! | `rebuild` | the items of a refdb that is being rebuilt |
//! | `tables` | creation and checks of the tables |
//! | `provision`, `compared` | the properties that the tables should have, for `lockstep aws` |
//! | `backups` | on-demand backups of the tables |
//! | `side_by_side` | tests: records beside those of the release before |
//! | `client`, `error` | timeouts without retries; the meaning of errors |
//! | `again` | the repetitions of a write that met another writer |
//! | `metering` | counts the request units of each call |

mod again;
mod backups;
mod client;
mod commit;
mod compared;
mod conditions;
mod digests;
mod documents;
mod elsewhere;
mod error;
mod gerrit;
mod incarnations;
mod items;
mod keys;
mod locks;
mod metering;
mod nodes;
mod provision;
mod rebuild;
mod refs;
#[cfg(test)]
mod side_by_side;
mod single_item;
mod sites;
mod slots;
mod tables;
mod went_back;
mod write_mode;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use bytes::Bytes;
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, TxnId};

pub use backups::{TableBackup, TableBackupError, TableBackups};
pub use client::{Connection, client, client_by};
pub use compared::TableWishes;
pub use elsewhere::DynamoTables;
pub use provision::{ProvidedTable, WarmedTable};
pub use tables::{TableSettings, Warm};

use super::single_item as steps;
use super::units::RequestUnits;
use super::{
    CommitAnswer, CommitRequest, DigestRecord, Document, DocumentRecord, Documents, GerritIdentity, GerritRecord,
    IncarnationRecord, Incarnations, JournalStore, MarkAnswer, NodeAnswer, NodeRecord, Nodes, OpenAnswer, Part,
    RebuildAnswer, Rebuilt, RefDbError, RefItem, RefStore, Role, Setup, SiteAnswer, SiteRecord, Sites, SlotState,
    WentBackRecord, rules,
};
use single_item::Items;
use write_mode::Consistency;

use crate::seams::aws::vital;

/// The refdb in DynamoDB.
#[derive(Debug)]
pub struct DynamoRefDb {
    client: Client,
    tables: Tables,
    settings: TableSettings,
    /// Whether every write is a write of one item. It is known once the tables were looked at.
    is_single_item: AtomicBool,
    /// Whether the tables are in several Regions. It is known at the same time.
    is_in_several_regions: AtomicBool,
    round_trips: AtomicU64,
    units: Arc<RequestUnits>,
}

/// The names of the two tables.
#[derive(Debug)]
struct Tables {
    refs: String,
    journal: String,
}

impl Tables {
    fn of(prefix: &str) -> Self {
        let [refs, journal] = table_names(prefix);
        Self { refs, journal }
    }
}

/// The names of the tables with a prefix: refs and other records, journal.
#[must_use]
pub fn table_names(prefix: &str) -> [String; 2] {
    [format!("{prefix}-refs"), format!("{prefix}-journal")]
}

impl DynamoRefDb {
    /// A refdb in the tables `<prefix>-refs` and `<prefix>-journal`. The retries of `client` are switched off.
    #[must_use]
    pub fn new(client: &Client, prefix: &str, settings: TableSettings) -> Self {
        let (tables, units) = (Tables::of(prefix), Arc::default());
        let client = client::counting(client, &units);
        Self {
            client,
            tables,
            settings,
            is_single_item: AtomicBool::new(false),
            is_in_several_regions: AtomicBool::new(false),
            round_trips: AtomicU64::new(0),
            units,
        }
    }

    /// Whether every write is a write of one item, because the tables take no transactions.
    #[must_use]
    pub fn is_single_item(&self) -> bool {
        self.is_single_item.load(Ordering::Relaxed)
    }

    fn items(&self) -> Items<'_> {
        Items { client: &self.client, tables: &self.tables }
    }

    /// The request units of all calls so far. They are counted while the calls go on.
    #[must_use]
    pub fn units(&self) -> &Arc<RequestUnits> {
        &self.units
    }

    /// The number of calls that all commits took so far: one per commit, or one per part of each step and one for the
    /// slot.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    async fn where_locked(&self, updates: Vec<UpdateBuilder>) -> Result<(), RefDbError> {
        match self.is_single_item() {
            true => single_item::where_locked(&self.client, updates).await,
            false => locks::where_locked(&self.client, updates).await,
        }
    }

    fn count(&self) {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl RefStore for DynamoRefDb {
    fn write_items(&self) -> usize {
        if self.is_single_item() { 1 } else { rules::ITEMS }
    }

    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        rules::well_formed(request, self.write_items())?;
        self.count();
        commit::send(&self.client, &self.tables, request).await
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        rules::fits(part, self.write_items())?;
        self.count();
        match self.is_single_item() {
            true => single_item::lock(&self.client, &self.tables, part).await,
            false => locks::lock(&self.client, &self.tables, part).await,
        }
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        self.count();
        locks::seal(&self.client, &self.tables, txn, encoded).await
    }

    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError> {
        self.count();
        match self.is_single_item() {
            // Nothing is committed under an operator lock: no write can check one.
            true => slots::read(&self.client, &self.tables, &txn.slot).await,
            false => locks::seal_held(&self.client, &self.tables, txn, encoded, token).await,
        }
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        self.count();
        self.where_locked(locks::flips(&self.tables, part)).await
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.where_locked(locks::releases(&self.tables, project, txn, keys)).await
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        refs::read(&self.client, &self.tables, project, keys).await
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        refs::scan(&self.client, &self.tables, project, after, limit).await
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        refs::projects(&self.client, &self.tables, after, limit).await
    }
}

#[async_trait]
impl JournalStore for DynamoRefDb {
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        slots::read(&self.client, &self.tables, slot).await
    }

    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        vital(slots::poison(&self.client, &self.tables, slot)).await
    }

    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError> {
        slots::collect(&self.client, &self.tables, slots).await
    }
}

#[async_trait]
impl Setup for DynamoRefDb {
    async fn prepare(&self, may_create: bool) -> Result<(), RefDbError> {
        let consistency = tables::prepare(&self.client, &self.tables, self.settings, may_create).await?;
        let mode = self.settings.writes;
        let is_single_item = write_mode::agreed(&self.client, &self.tables, mode, consistency).await?;
        self.is_single_item.store(is_single_item, Ordering::Relaxed);
        self.is_in_several_regions.store(consistency == Consistency::SeveralRegions, Ordering::Relaxed);
        Ok(())
    }

    async fn rebuild(&self, items: &[Rebuilt], revision: u64) -> Result<RebuildAnswer, RefDbError> {
        match self.is_single_item() {
            true => rebuild::write_singly(&self.client, &self.tables, items, revision).await,
            false => rebuild::write(&self.client, &self.tables, items, revision).await,
        }
    }
}

#[async_trait]
impl Sites for DynamoRefDb {
    fn is_in_several_regions(&self) -> bool {
        self.is_in_several_regions.load(Ordering::Relaxed)
    }

    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError> {
        sites::enroll(&self.client, &self.tables, site, role).await
    }

    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError> {
        sites::list(&self.client, &self.tables).await
    }

    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        sites::change_role(&self.client, &self.tables, from, role).await
    }

    async fn change_site(
        &self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError> {
        match self.is_single_item() {
            true => steps::change_site(&self.items(), from, to, failover).await,
            false => sites::change(&self.client, &self.tables, from, to, failover).await,
        }
    }

    async fn begin_failover(
        &self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError> {
        match self.is_single_item() {
            true => steps::begin_failover(&self.items(), record, sites).await,
            false => documents::begin_failover(&self.client, &self.tables, record, sites).await,
        }
    }

    async fn shut_out_earlier(&self, site: &SiteId) -> Result<(), RefDbError> {
        sites::shut_out_earlier(&self.client, &self.tables, site).await
    }
}

#[async_trait]
impl Incarnations for DynamoRefDb {
    async fn open_incarnation(&self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
        match self.is_single_item() {
            true => steps::open(&self.items(), record).await,
            false => incarnations::open(&self.client, &self.tables, record).await,
        }
    }

    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError> {
        incarnations::list(&self.client, &self.tables, site).await
    }

    async fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError> {
        incarnations::highest(&self.client, &self.tables, site, node).await
    }

    async fn mark(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError> {
        let decide = |record: &mut IncarnationRecord| rules::raise_marks(record, settled, published);
        incarnations::change(&self.client, &self.tables, (site, id), decide).await.map(|(_, answer)| answer)
    }

    async fn touch(&self, site: &SiteId, id: &IncarnationId) -> Result<MarkAnswer, RefDbError> {
        vital(incarnations::touch(&self.client, &self.tables, (site, id))).await
    }

    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
        let decide = |record: &mut IncarnationRecord| {
            rules::freeze(record);
            Ok(())
        };
        let frozen = incarnations::change(&self.client, &self.tables, (site, id), decide);
        vital(frozen).await.map(|(record, ())| record)
    }

    async fn poisoned(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        let poisoned = incarnations::change(&self.client, &self.tables, (site, id), rules::poison);
        vital(poisoned).await.map(|(_, answer)| answer)
    }

    async fn raise_published(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        let decide = |record: &mut IncarnationRecord| rules::raise_published(record, published);
        incarnations::change(&self.client, &self.tables, (site, id), decide).await.map(|(_, answer)| answer)
    }

    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        let decide = |record: &mut IncarnationRecord| rules::drain(record, published);
        incarnations::change(&self.client, &self.tables, (site, id), decide).await.map(|(_, answer)| answer)
    }

    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError> {
        incarnations::forget(&self.client, &self.tables, site, ids).await
    }
}

#[async_trait]
impl Nodes for DynamoRefDb {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError> {
        nodes::list(&self.client, &self.tables).await
    }

    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError> {
        // A heartbeat is a write of this record.
        vital(nodes::put(&self.client, &self.tables, record, previous)).await
    }

    async fn digests(&self) -> Result<Vec<DigestRecord>, RefDbError> {
        digests::list(&self.client, &self.tables).await
    }

    async fn put_digest(&self, record: &DigestRecord) -> Result<(), RefDbError> {
        rules::digest_fits(record)?;
        digests::put(&self.client, &self.tables, record).await
    }
}

#[async_trait]
impl Documents for DynamoRefDb {
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError> {
        documents::read(&self.client, &self.tables, which).await
    }

    async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError> {
        match which {
            Document::Failover if self.is_single_item() => steps::put_failover(&self.items(), record).await,
            _ => documents::put(&self.client, &self.tables, which, record).await,
        }
    }

    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError> {
        went_back::read(&self.client, &self.tables).await
    }

    async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError> {
        went_back::declare(&self.client, &self.tables, record).await
    }
}

#[async_trait]
impl GerritIdentity for DynamoRefDb {
    async fn gerrit(&self) -> Result<Option<GerritRecord>, RefDbError> {
        gerrit::read(&self.client, &self.tables).await
    }

    async fn enroll_gerrit(&self, record: &GerritRecord) -> Result<GerritRecord, RefDbError> {
        rules::named("server_id", &record.server_id)?;
        gerrit::enroll(&self.client, &self.tables, record).await
    }

    async fn instances(&self) -> Result<BTreeMap<String, NodeId>, RefDbError> {
        gerrit::instances(&self.client, &self.tables).await
    }

    async fn claim_instance(&self, instance: &str, node: &NodeId, from: Option<&NodeId>) -> Result<NodeId, RefDbError> {
        rules::named("instance_id", instance)?;
        gerrit::claim(&self.client, &self.tables, instance, node, from).await
    }

    async fn release_instance(&self, instance: &str, node: &NodeId) -> Result<(), RefDbError> {
        gerrit::release(&self.client, &self.tables, instance, node).await
    }
}
