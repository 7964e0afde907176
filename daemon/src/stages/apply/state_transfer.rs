//! State transfer: takes the refdb's state of a project at once, where the journal no longer leads there.
//!
//! All items of the project are read, values with versions. Peers send the missing objects. Then all refs move to their
//! latest versions in one step. No transaction is taken in part: the project is scanned twice, and a transaction that
//! was committed between the scans is read from the journal, which still has it, and completed.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue, TxnId, Version};

use super::catch_up::{Catcher, PAGE, Stop};
use super::held_back::is_of_content;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::RefItem;
use crate::seams::volume::RefRecord;
use crate::stages::ports::CatchUpError;

type Items = BTreeMap<RefKey, RefItem>;

impl Catcher {
    /// Takes a project to the refdb's state.
    ///
    /// # Errors
    /// The refdb or every peer failed, or no peer has all missing objects yet: nothing was moved, try again.
    pub(super) async fn transfer_state(&self, name: &ProjectName) -> Result<(), CatchUpError> {
        let any = ProjectKey::of_name(name);
        let state = self.refdb.refs.read(&any, &[RefKey::State]).await?;
        let Some(item) = state.into_iter().flatten().next() else { return Ok(()) };
        let RefValue::State(state) = item.value else {
            return Err(CatchUpError::NotAState { project: name.clone(), value: item.value });
        };
        let project = ProjectKey::new(name, state.incarnation);
        tracing::warn!(%project, "the journal no longer leads to the refdb's state: starting a state transfer");
        let mut items = match state.phase {
            ProjectPhase::Deleted => Items::new(),
            _ => self.together(&project).await?,
        };
        items.insert(RefKey::State, item);
        let records = items.into_values().filter_map(record).collect();
        self.take(&project, records).await
    }

    /// Reads the items of a project, such that the items show each transaction in full or not at all.
    async fn together(&self, project: &ProjectKey) -> Result<Items, CatchUpError> {
        let before = self.scan_all(project).await?;
        let mut items = self.scan_all(project).await?;
        if self.units.bugs.has(InjectedBug::TornScanTaken) {
            return Ok(items);
        }
        loop {
            let torn = self.torn(project, &before, &items).await?;
            if torn.is_empty() {
                return Ok(items);
            }
            let read = self.refdb.refs.read(project, &torn).await?;
            items.extend(read.into_iter().flatten().map(|item| (item.key.clone(), item)));
        }
    }

    /// Takes a project to these records. If it fails for missing or bad objects, and bad content that was committed is
    /// the cause, takes the project without the refs that it holds back.
    async fn take(&self, project: &ProjectKey, records: BTreeMap<RefKey, RefRecord>) -> Result<(), CatchUpError> {
        let peers = self.peers.as_ref();
        let why = match self.units.transfer_state(project, records.clone(), peers).await {
            Err(error) if is_of_content(&error) => error,
            end => return Ok(end?),
        };
        let Some(bad) = self.held_back(project, &records).await? else { return Err(why.into()) };
        let rest = records.into_iter().filter(|(key, _)| !bad.contains(key)).collect();
        self.units.transfer_state(project, rest, peers).await?;
        Err(CatchUpError::LeftOut { refs: bad.into_iter().collect(), why: Box::new(why.into()) })
    }

    async fn scan_all(&self, project: &ProjectKey) -> Result<Items, CatchUpError> {
        let mut items = Items::new();
        loop {
            let after = items.last_key_value().map(|(key, _)| key.clone());
            let page = self.refdb.refs.scan(project, after.as_ref(), PAGE).await?;
            self.compare(project, &page).await?;
            let is_last = page.len() < PAGE;
            items.extend(page.into_iter().map(|item| (item.key.clone(), item)));
            if is_last {
                return Ok(items);
            }
        }
    }

    /// The keys whose items are older than a transaction that another item shows. Only a transaction that came after
    /// the first scan can be torn in this way. A transaction that is already collected was applied everywhere long
    /// before the scan.
    async fn torn(&self, project: &ProjectKey, before: &Items, items: &Items) -> Result<Vec<RefKey>, CatchUpError> {
        let version = |items: &Items, key: &RefKey| items.get(key).map_or(Version::NONE, |item| item.version);
        let fresh = items.values().filter(|item| item.version > version(before, &item.key));
        let mut wanted: Vec<TxnId> = fresh.filter_map(|item| item.txn.clone()).collect();
        let (mut seen, mut torn) = (BTreeSet::new(), BTreeSet::new());
        while let Some(txn) = wanted.pop() {
            if !seen.insert(txn.clone()) {
                continue;
            }
            let transaction = match self.load(&txn).await {
                Ok(transaction) if transaction.project == *project => transaction,
                Ok(_) | Err(Stop::Gone) => continue,
                Err(Stop::Missing(oids)) => return Err(CatchUpError::Missing(oids)),
                Err(Stop::Failed(error)) => return Err(error),
            };
            for command in transaction.commands.iter().filter(|command| command.key != RefKey::State) {
                if command.version > version(items, &command.key) {
                    torn.insert(command.key.clone());
                }
                if command.version > version(before, &command.key).next() {
                    wanted.extend(command.predecessor.clone());
                }
            }
        }
        Ok(torn.into_iter().collect())
    }
}

/// The item as a record of the version map. `None` for an item that only a directory mark or a lock created.
fn record(item: RefItem) -> Option<(RefKey, RefRecord)> {
    let txn = item.txn?;
    Some((item.key, RefRecord { version: item.version, value: item.value, txn }))
}
