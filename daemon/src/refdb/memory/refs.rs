//! Ref items and journal slots in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use lockstep_proto::{ProjectKey, ProjectName, RefKey, Slot};

use crate::plant::Plants;
use crate::refdb::rules;
use crate::refdb::{CommitAnswer, CommitRequest, Obstacle, RefDbError, RefItem, SlotState};

/// Items and slots. A `@state` item belongs to the name, all others to a project's incarnation.
#[derive(Debug, Default)]
pub(super) struct Refs {
    items: BTreeMap<ProjectKey, BTreeMap<RefKey, RefItem>>,
    states: BTreeMap<ProjectName, RefItem>,
    slots: BTreeMap<Slot, SlotState>,
    pub(super) plants: Plants,
}

impl Refs {
    pub(super) fn commit(&mut self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        rules::well_formed(request)?;
        let id = &request.transaction.id;
        if let Some(refused) = rules::refusal(id, self.slot(&id.slot), self.obstacles(request)) {
            return Ok(refused);
        }
        self.write(request);
        Ok(CommitAnswer::Committed)
    }

    fn obstacles(&self, request: &CommitRequest) -> Vec<Obstacle> {
        let project = &request.transaction.project;
        let own = request.transaction.commands.iter();
        let own = own.flat_map(|command| rules::obstacles(command, self.item(project, &command.key), self.plants));
        let prefixes = request.directories.iter();
        let prefixes =
            prefixes.filter_map(|name| rules::directory_obstacle(name, self.item(project, &RefKey::Ref(name.clone()))));
        own.chain(prefixes).collect()
    }

    fn write(&mut self, request: &CommitRequest) {
        let transaction = &request.transaction;
        for command in &transaction.commands {
            let item = self.entry(&transaction.project, &command.key);
            item.version = command.version;
            item.value = command.new.clone();
            item.txn = Some(transaction.id.clone());
        }
        for name in &request.directories {
            self.entry(&transaction.project, &RefKey::Ref(name.clone())).directory = true;
        }
        let committed = SlotState::Committed(transaction.id.clone(), request.encoded.clone());
        self.slots.insert(transaction.id.slot.clone(), committed);
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

fn behind<T: Clone>(after: Option<&T>) -> Bound<T> {
    after.cloned().map_or(Bound::Unbounded, Bound::Excluded)
}
