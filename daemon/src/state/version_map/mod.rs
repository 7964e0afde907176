//! What this node knows of refs: the durable version map, and above it the volatile overlay of early moves.
//!
//! A local commit moves its refs before anything is synced: the journal is the write-ahead log. Such a move lives in
//! the overlay until the next sync has made the refs durable; then the map follows. A power cut therefore takes
//! the overlay together with the refs, and the map never runs ahead of the disk.

mod locks;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use lockstep_proto::{Oid, ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefName, RefValue, Version};
use parking_lot::{Mutex, MutexGuard};

pub use locks::{RefGuard, RefLocks};
use tokio::sync::broadcast;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::volume::{Changes, MoveIntent, NodeStore, RefRecord, StoreError};

/// Entries of one page of the version map.
const PAGE: usize = 1_000;
/// Moves that are kept for whoever listens to them.
const MOVES: usize = 1_024;

/// Who moved a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// A commit of this node, for its own bridge.
    Own,
    /// Anything else: another node's commit, one that was settled later, a repair.
    Other,
}

/// Told of every move of a ref, when the disk shows it and before it can become durable.
pub trait Follow: Send + Sync {
    /// A ref has moved. `before` asks for what the version map said until now.
    ///
    /// # Errors
    /// What was before cannot be read: the move is not noted, and will be made again.
    fn moved(
        &self,
        project: &ProjectKey,
        key: &RefKey,
        before: &dyn Fn() -> Result<Option<RefRecord>, StoreError>,
        now: &RefValue,
        mover: Mover,
    ) -> Result<(), StoreError>;
}

/// The version map with its overlay, and the locks of the refs. One a node.
pub struct VersionMap {
    store: Arc<dyn NodeStore>,
    overlay: Mutex<Overlay>,
    bugs: InjectedBugs,
    follower: Option<Arc<dyn Follow>>,
    moves: broadcast::Sender<(ProjectName, RefKey)>,
    /// The in-process ref locks.
    pub locks: RefLocks,
}

/// Moves that are not durable yet.
#[derive(Default)]
struct Overlay {
    generation: u64,
    refs: BTreeMap<(ProjectKey, RefKey), (RefRecord, u64)>,
    directories: BTreeMap<(ProjectKey, RefName), u64>,
    forgotten: BTreeMap<ProjectKey, u64>,
    /// What this node committed and could not move yet.
    ahead: BTreeMap<(ProjectKey, RefKey), Version>,
    /// Intents whose moves are not in the overlay yet, and the last intent.
    under_way: BTreeSet<u64>,
    last_intent: u64,
}

/// Moves that are recorded as intents and are being made; dropping it says that they are in the overlay, or were not made.
pub struct UnderWay<'a> {
    versions: &'a VersionMap,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.versions.overlay().under_way.remove(&self.number);
    }
}

/// What was in the overlay at some moment.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    /// Intents up to this one are in the overlay as it was.
    last_intent: u64,
}

impl VersionMap {
    /// Nothing but what the store says.
    #[must_use]
    pub fn new(store: Arc<dyn NodeStore>, bugs: InjectedBugs) -> Self {
        let moves = broadcast::Sender::new(MOVES);
        Self { store, overlay: Mutex::default(), bugs, follower: None, moves, locks: RefLocks::default() }
    }

    /// Tells `follower` of every move.
    #[must_use]
    pub fn followed(self, follower: Option<Arc<dyn Follow>>) -> Self {
        Self { follower, ..self }
    }

    /// Every move from now on, when [`VersionMap::get`] answers it. Who falls behind is told so, and does not know which.
    #[must_use]
    pub fn moves(&self) -> broadcast::Receiver<(ProjectName, RefKey)> {
        self.moves.subscribe()
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock()
    }

    /// What is applied here of a ref; none when it was never committed, as far as this node knows.
    ///
    /// # Errors
    /// The store failed: that is not "never committed".
    pub fn get(&self, project: &ProjectKey, key: &RefKey) -> Result<Option<RefRecord>, StoreError> {
        let scoped = scope(project, key);
        let early = self.overlay().refs.get(&(scoped.clone(), key.clone())).map(|(record, _)| record.clone());
        let known = match early {
            Some(record) => Some(record),
            None => self.store.reference(&scoped, key)?,
        };
        let forgets = self.bugs.has(InjectedBug::TombstoneForgotten);
        Ok(known.filter(|record| !(forgets && record.value.is_absent())))
    }

    /// The version that is applied here.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn version(&self, project: &ProjectKey, key: &RefKey) -> Result<Version, StoreError> {
        Ok(self.get(project, key)?.map_or(Version::NONE, |record| record.version))
    }

    /// Notes that this node committed a version which cannot be read here yet; until it can, [`VersionMap::committed_version`]
    /// answers it.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn committed_ahead(&self, project: &ProjectKey, key: &RefKey, version: Version) -> Result<(), StoreError> {
        let at = (scope(project, key), key.clone());
        self.overlay().ahead.insert(at.clone(), version);
        // Somebody else may have moved it between.
        if self.version(project, key)? >= version {
            self.overlay().ahead.remove(&at);
        }
        Ok(())
    }

    /// The version that is applied here, or the later one that this node committed and that will be.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn committed_version(&self, project: &ProjectKey, key: &RefKey) -> Result<Version, StoreError> {
        let ahead = self.overlay().ahead.get(&(scope(project, key), key.clone())).copied();
        Ok(self.version(project, key)?.max(ahead.unwrap_or(Version::NONE)))
    }

    /// The project's state; none when this node never heard of it.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn project(&self, name: &ProjectName) -> Result<Option<ProjectState>, StoreError> {
        let any = ProjectKey { name: name.clone(), incarnation: 0 };
        Ok(self.get(&any, &RefKey::State)?.and_then(|record| match record.value {
            RefValue::State(state) => Some(state),
            RefValue::Absent | RefValue::Oid(_) | RefValue::Symref(_) => None,
        }))
    }

    /// Every project that this node has heard of, deleted ones included, with its state.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn projects(&self) -> Result<BTreeMap<ProjectName, RefRecord>, StoreError> {
        let mut projects: BTreeMap<ProjectName, RefRecord> = self.store.projects()?.into_iter().collect();
        let overlay = self.overlay();
        let early = overlay.refs.iter().filter(|((_, key), _)| *key == RefKey::State);
        projects.extend(early.map(|((project, _), (record, _))| (project.name.clone(), record.clone())));
        Ok(projects)
    }

    /// Visits what is applied here of a project's refs and its `@HEAD`, tombstones included, in key order.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn visit(&self, project: &ProjectKey, mut visitor: impl FnMut(RefKey, RefRecord)) -> Result<(), StoreError> {
        let mut after: Option<RefKey> = None;
        loop {
            let page = self.page(project, after.as_ref(), PAGE)?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(key, _)| key.clone());
            page.into_iter().for_each(|(key, record)| visitor(key, record));
            if is_last {
                return Ok(());
            }
        }
    }

    /// Behind `after`, about `limit` entries. Fewer than `limit` means that there are no more.
    fn page(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<(RefKey, RefRecord)>, StoreError> {
        // The overlay first: what becomes durable between the two looks is in both.
        let (early, forgotten) = {
            let overlay = self.overlay();
            let from = (project.clone(), after.cloned().unwrap_or(RefKey::State));
            let mine = overlay.refs.range((Bound::Excluded(from), Bound::Unbounded));
            let mine = mine.take_while(|((key, _), _)| key == project);
            let early: Vec<_> = mine.map(|((_, key), (record, _))| (key.clone(), record.clone())).collect();
            (early, overlay.forgotten.contains_key(project))
        };
        let durable = if forgotten { Vec::new() } else { self.store.references(project, after, limit)? };
        let last = (durable.len() >= limit).then(|| durable.last().map(|(key, _)| key.clone())).flatten();
        let mut page: BTreeMap<RefKey, RefRecord> = durable.into_iter().collect();
        for (key, record) in early.into_iter().filter(|(key, _)| last.as_ref().is_none_or(|last| key <= last)) {
            let known = page.entry(key).or_insert_with(|| record.clone());
            if record.version > known.version {
                *known = record;
            }
        }
        Ok(page.into_iter().collect())
    }

    /// The key of a project that exists here (in any phase but deleted).
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn project_key(&self, name: &ProjectName) -> Result<Option<ProjectKey>, StoreError> {
        let state = self.project(name)?.filter(|state| state.phase != ProjectPhase::Deleted);
        Ok(state.map(|state| ProjectKey { name: name.clone(), incarnation: state.incarnation }))
    }

    /// Whether this incarnation of a project is known to be deleted: nothing of it comes back.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn is_past(&self, project: &ProjectKey) -> Result<bool, StoreError> {
        Ok(self.project(&project.name)?.is_some_and(|state| {
            state.incarnation > project.incarnation
                || (state.incarnation == project.incarnation && state.phase == ProjectPhase::Deleted)
        }))
    }

    /// Whether an object is, or lately was, the value of a ref: a base that every site has or will have.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn is_committed(&self, project: &ProjectKey, oid: &Oid) -> Result<bool, StoreError> {
        let in_overlay = {
            let overlay = self.overlay();
            let from = (project.clone(), RefKey::State);
            let mine = overlay.refs.range(from..).take_while(|((key, _), _)| key == project);
            mine.into_iter().any(|(_, (record, _))| record.value.oid() == Some(*oid))
        };
        if in_overlay { Ok(true) } else { self.store.is_value(project, oid) }
    }

    /// Whether a name is known to be marked as a directory in the refdb.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn is_directory(&self, project: &ProjectKey, name: &RefName) -> Result<bool, StoreError> {
        if self.overlay().directories.contains_key(&(project.clone(), name.clone())) {
            return Ok(true);
        }
        self.store.is_directory(project, name)
    }

    /// Notes that refs are about to be moved: a crash of this process between the move and the next durable step is
    /// told by this. The caller holds their locks, calls [`VersionMap::moved`] after the move, and then drops the answer.
    ///
    /// # Errors
    /// The store failed: move nothing.
    pub fn record_intents(
        &self,
        project: &ProjectKey,
        records: &BTreeMap<RefKey, RefRecord>,
    ) -> Result<UnderWay<'_>, StoreError> {
        let moves: Vec<MoveIntent> = records
            .iter()
            .map(|(key, record)| MoveIntent { project: project.clone(), key: key.clone(), record: record.clone() })
            .collect();
        let mut overlay = self.overlay();
        let number = self.store.record_intents(&moves)?;
        overlay.last_intent = number;
        overlay.under_way.insert(number);
        Ok(UnderWay { versions: self, number })
    }

    /// Notes that refs were moved, and that the disk shows it. The caller holds their locks.
    ///
    /// # Errors
    /// The store failed: nothing is noted.
    pub fn moved(
        &self,
        project: &ProjectKey,
        records: BTreeMap<RefKey, RefRecord>,
        mover: Mover,
    ) -> Result<(), StoreError> {
        // First: a durable step that takes the moves takes what the follower made of them, too.
        for (key, record) in &records {
            self.follow(project, key, &|| self.get(project, key), &record.value, mover)?;
        }
        let keys: Vec<RefKey> = records.keys().cloned().collect();
        let mut overlay = self.overlay();
        overlay.generation += 1;
        let generation = overlay.generation;
        for (key, record) in records {
            let at = (scope(project, &key), key);
            if overlay.ahead.get(&at).is_some_and(|ahead| *ahead <= record.version) {
                overlay.ahead.remove(&at);
            }
            overlay.refs.insert(at, (record, generation));
        }
        drop(overlay);
        if self.moves.receiver_count() > 0 {
            // That nobody listens is no failure.
            keys.into_iter().for_each(|key| drop(self.moves.send((project.name.clone(), key))));
        }
        Ok(())
    }

    /// Notes that a ref on the disk was not what the version map says (`shown`), and is again.
    ///
    /// # Errors
    /// As [`VersionMap::moved`].
    pub fn restored(&self, project: &ProjectKey, key: &RefKey, shown: Option<Oid>) -> Result<(), StoreError> {
        let Some(record) = self.get(project, key)? else { return Ok(()) };
        let before = RefRecord { value: shown.into(), ..record.clone() };
        self.follow(project, key, &|| Ok(Some(before.clone())), &record.value, Mover::Other)
    }

    fn follow(
        &self,
        project: &ProjectKey,
        key: &RefKey,
        before: &dyn Fn() -> Result<Option<RefRecord>, StoreError>,
        now: &RefValue,
        mover: Mover,
    ) -> Result<(), StoreError> {
        self.follower.as_ref().map_or(Ok(()), |follower| follower.moved(project, key, before, now, mover))
    }

    /// Notes that names are marked as directories in the refdb.
    pub fn marked(&self, project: &ProjectKey, names: impl IntoIterator<Item = RefName>) {
        let mut overlay = self.overlay();
        overlay.generation += 1;
        let generation = overlay.generation;
        overlay.directories.extend(names.into_iter().map(|name| ((project.clone(), name), generation)));
    }

    /// Notes that a project's incarnation is gone, with all its refs. The caller holds the lock of `@state`.
    pub fn forget(&self, project: &ProjectKey) {
        let mut overlay = self.overlay();
        overlay.generation += 1;
        let generation = overlay.generation;
        overlay.refs.retain(|(key, _), _| key != project);
        overlay.directories.retain(|(key, _), _| key != project);
        overlay.ahead.retain(|(key, _), _| key != project);
        overlay.forgotten.insert(project.clone(), generation);
    }

    /// Whether there are moves that are not durable.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let overlay = self.overlay();
        !(overlay.refs.is_empty() && overlay.directories.is_empty() && overlay.forgotten.is_empty())
    }

    /// Adds the overlay to a durable step. Take it before the sync; give the snapshot back after the step.
    pub fn collect(&self, into: &mut Changes) -> Snapshot {
        let overlay = self.overlay();
        let refs = overlay.refs.iter();
        into.refs.extend(refs.map(|((project, key), (record, _))| (project.clone(), key.clone(), record.clone())));
        into.directories.extend(overlay.directories.keys().cloned());
        into.forget_projects.extend(overlay.forgotten.keys().cloned());
        let last_intent = overlay.under_way.first().map_or(overlay.last_intent, |first| first - 1);
        Snapshot { generation: overlay.generation, last_intent }
    }

    /// Drops from the overlay what is durable now.
    ///
    /// # Errors
    /// The store failed.
    pub fn durable(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let mut overlay = self.overlay();
        overlay.refs.retain(|_, (_, generation)| *generation > snapshot.generation);
        overlay.directories.retain(|_, generation| *generation > snapshot.generation);
        overlay.forgotten.retain(|_, generation| *generation > snapshot.generation);
        self.store.end_intents(snapshot.last_intent)
    }
}

/// `@state` belongs to the name: its entry is kept under incarnation 0.
fn scope(project: &ProjectKey, key: &RefKey) -> ProjectKey {
    match key {
        RefKey::State => ProjectKey { name: project.name.clone(), incarnation: 0 },
        RefKey::Head | RefKey::Ref(_) => project.clone(),
    }
}
