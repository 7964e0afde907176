//! Ref items and journal slots in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use lockstep_proto::{Command, ProjectKey, ProjectName, RefKey, RefName, Slot, TxnId};

use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::refdb::rules::{self, Writes};
use crate::seams::refdb::{CommitAnswer, CommitRequest, Obstacle, Part, RefDbError, RefItem, SlotState};

/// Items and slots. An `@state` item belongs to a project's name, all other items to an incarnation of the project.
#[derive(Clone, Debug, Default)]
pub(super) struct Refs {
    items: BTreeMap<ProjectKey, BTreeMap<RefKey, RefItem>>,
    states: BTreeMap<ProjectName, RefItem>,
    slots: BTreeMap<Slot, SlotState>,
    pub(super) bugs: InjectedBugs,
    /// Whether one write takes one item only.
    pub(super) is_single_item: bool,
}

impl Refs {
    /// The most items that one write takes.
    pub(super) fn write_items(&self) -> usize {
        if self.is_single_item { 1 } else { rules::ITEMS }
    }

    /// Commits a request, unless an obstacle stands against it. `lost` is that of its operator lock.
    pub(super) fn commit(
        &mut self,
        request: &CommitRequest,
        lost: Option<Obstacle>,
    ) -> Result<CommitAnswer, RefDbError> {
        rules::well_formed(request, self.write_items())?;
        let id = &request.transaction.id;
        let writes = Writes::from(request);
        let obstacles = self.obstacles(&writes).into_iter().chain(lost).collect();
        if let Some(refused) = rules::refusal(id, self.slot(&id.slot), obstacles) {
            return Ok(refused);
        }
        for command in writes.commands {
            let item = self.entry(writes.project, &command.key);
            step(item, command, id);
            if writes.loosens {
                (item.directory, item.loosened) = (true, Some(id.clone()));
            }
        }
        self.mark(&writes);
        let committed = SlotState::Committed(id.clone(), request.encoded.clone());
        self.slots.insert(id.slot.clone(), committed);
        Ok(CommitAnswer::Committed)
    }

    pub(super) fn lock(&mut self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        rules::fits(part, self.write_items())?;
        let writes = Writes::from(part);
        let obstacles = self.obstacles(&writes);
        if !obstacles.is_empty() {
            return Ok(CommitAnswer::Refused(obstacles));
        }
        for command in &part.commands {
            self.entry(&part.project, &command.key).lock = Some(part.txn.clone());
        }
        self.mark(&writes);
        Ok(CommitAnswer::Committed)
    }

    /// Whether a ref has a value.
    pub(super) fn is_live(&self, project: &ProjectKey, name: &RefName) -> bool {
        self.item(project, &RefKey::Ref(name.clone())).is_some_and(|item| !item.value.is_absent())
    }

    /// Writes the version of a rebuild, unless the item has a higher one.
    pub(super) fn rebuild(&mut self, project: &ProjectKey, item: &RefItem) {
        let stored = self.entry(project, &item.key);
        if stored.version <= item.version {
            *stored = RefItem { directory: stored.directory, ..item.clone() };
        }
    }

    /// Marks a name as a directory.
    pub(super) fn rebuild_directory(&mut self, project: &ProjectKey, name: &RefName) {
        self.entry(project, &RefKey::Ref(name.clone())).directory = true;
    }

    pub(super) fn seal(&mut self, txn: &TxnId, encoded: &Bytes) -> SlotState {
        let sealed = SlotState::Committed(txn.clone(), encoded.clone());
        self.slots.entry(txn.slot.clone()).or_insert(sealed).clone()
    }

    pub(super) fn flip(&mut self, part: &Part) {
        for command in &part.commands {
            if let Some(item) = self.locked(&part.project, &part.txn, &command.key) {
                item.lock = None;
                step(item, command, &part.txn);
                if part.loosens {
                    (item.directory, item.loosened) = (true, Some(part.txn.clone()));
                }
            }
        }
    }

    pub(super) fn release(&mut self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) {
        for key in keys {
            if let Some(item) = self.locked(project, txn, key) {
                item.lock = None;
            }
        }
    }

    /// The item of a ref, if this transaction has locked it.
    fn locked(&mut self, project: &ProjectKey, txn: &TxnId, key: &RefKey) -> Option<&mut RefItem> {
        let is_locked = self.item(project, key).is_some_and(|item| item.lock.as_ref() == Some(txn));
        is_locked.then(|| self.entry(project, key))
    }

    fn obstacles(&self, writes: &Writes<'_>) -> Vec<Obstacle> {
        let own = writes
            .commands
            .iter()
            .flat_map(|command| rules::obstacles(writes, command, self.item(writes.project, &command.key), self.bugs));
        let prefixes = writes.directories.iter().filter_map(|name| {
            let item = self.item(writes.project, &RefKey::Ref(name.clone()));
            rules::directory_obstacle(name, item, self.bugs)
        });
        own.chain(prefixes).collect()
    }

    fn mark(&mut self, writes: &Writes<'_>) {
        for name in writes.directories {
            let item = self.entry(writes.project, &RefKey::Ref(name.clone()));
            (item.directory, item.loosened) = (true, None);
        }
    }

    fn entry(&mut self, project: &ProjectKey, key: &RefKey) -> &mut RefItem {
        let none = || rules::no_item(key);
        match key {
            RefKey::State => self.states.entry(project.name.clone()).or_insert_with(none),
            RefKey::Head | RefKey::Ref(_) => {
                self.items.entry(project.clone()).or_default().entry(key.clone()).or_insert_with(none)
            }
        }
    }

    pub(super) fn item(&self, project: &ProjectKey, key: &RefKey) -> Option<&RefItem> {
        match key {
            RefKey::State => self.states.get(&project.name),
            RefKey::Head | RefKey::Ref(_) => self.items.get(project)?.get(key),
        }
    }

    pub(super) fn scan(&self, project: &ProjectKey, after: Option<&RefKey>, limit: usize) -> Vec<RefItem> {
        let Some(items) = self.items.get(project) else { return Vec::new() };
        items.range((behind(after), Bound::Unbounded)).take(limit).map(|(_, item)| item.clone()).collect()
    }

    pub(super) fn projects(&self, after: Option<&ProjectName>, limit: usize) -> Vec<(ProjectName, RefItem)> {
        let states = self.states.range((behind(after), Bound::Unbounded));
        states.take(limit).map(|(name, item)| (name.clone(), item.clone())).collect()
    }

    pub(super) fn slot(&self, slot: &Slot) -> SlotState {
        self.slots.get(slot).cloned().unwrap_or(SlotState::Empty)
    }

    pub(super) fn poison(&mut self, slot: &Slot) -> SlotState {
        self.slots.entry(slot.clone()).or_insert(SlotState::Poisoned).clone()
    }

    pub(super) fn collect(&mut self, slots: &[Slot]) {
        for slot in slots {
            if matches!(self.slots.get(slot), Some(SlotState::Committed(..))) {
                self.slots.remove(slot);
            }
        }
    }
}

fn step(item: &mut RefItem, command: &Command, txn: &TxnId) {
    item.version = command.version;
    item.value = command.new.clone();
    item.txn = Some(txn.clone());
    if rules::creates(command) {
        (item.directory, item.loosened) = (false, None);
    }
}

fn behind<T: Clone>(after: Option<&T>) -> Bound<T> {
    after.cloned().map_or(Bound::Unbounded, Bound::Excluded)
}
