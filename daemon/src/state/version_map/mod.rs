//! The version map: this node's durable record of each ref, and above it a volatile overlay of moves that are not
//! durable yet.
//!
//! A local commit moves its refs before anything is synced, because the journal is the write-ahead log. Such a move
//! stays in the overlay until the next sync has made the refs durable; then the durable map takes it over. A power cut
//! therefore takes the overlay together with the refs, and the durable map never runs ahead of the disk.
//!
//! | file | content |
//! |---|---|
//! | `digest` | the digest of a project's records, those of the overlay included |
//! | `locks` | in-process locks on refs |

mod digest;
mod locks;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use lockstep_proto::{
    Oid, ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefValue, Transaction, Version,
};
use parking_lot::{Mutex, MutexGuard};

pub use locks::{RefGuard, RefLocks};
use tokio::sync::broadcast;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::volume::{Changes, MoveIntent, NodeStore, RefRecord, StoreError};

/// Entries per page of the version map.
const PAGE: usize = 1_000;
/// Moves that are buffered for the receivers of [`VersionMap::moves`].
const MOVES: usize = 1_024;

/// The cause of a ref move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// A commit of this node for its own bridge.
    Own,
    /// Anything else: another node's commit, a commit that was in doubt, a repair.
    Other,
}

/// Follows ref moves. It is called for every move, once the disk shows it and before it can become durable.
pub trait Follow: Send + Sync {
    /// Called when a ref has moved to the value `now`. `before` reads the ref's previous record.
    ///
    /// # Errors
    /// The previous record cannot be read. The move is not recorded, and will be made again.
    fn moved(
        &self,
        project: &ProjectKey,
        key: &RefKey,
        before: &dyn Fn() -> Result<Option<RefRecord>, StoreError>,
        now: &RefValue,
        mover: Mover,
    ) -> Result<(), StoreError>;
}

/// The version map with its overlay, and the locks of the refs. There is one per node.
pub struct VersionMap {
    store: Arc<dyn NodeStore>,
    overlay: Mutex<Overlay>,
    bugs: InjectedBugs,
    follower: OnceLock<Arc<dyn Follow>>,
    moves: broadcast::Sender<(ProjectName, RefKey)>,
    /// The in-process ref locks.
    pub locks: RefLocks,
}

/// Moves that are not durable yet.
#[derive(Default)]
struct Overlay {
    generation: u64,
    refs: BTreeMap<(ProjectKey, RefKey), (RefRecord, u64)>,
    forgotten: BTreeMap<ProjectKey, u64>,
    /// Versions that this node committed and could not materialize yet.
    ahead: BTreeMap<(ProjectKey, RefKey), Version>,
    /// Numbers of the move intents whose moves are not in the overlay yet, and the number of the last intent.
    under_way: BTreeSet<u64>,
    last_intent: u64,
}

/// Moves in progress, whose intents are recorded. Dropping it says that the moves are in the overlay, or were not made.
pub struct UnderWay<'a> {
    versions: &'a VersionMap,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.versions.overlay().under_way.remove(&self.number);
    }
}

/// The extent of the overlay at one moment.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    /// The moves of the intents up to this number were in the overlay, or were not made.
    last_intent: u64,
}

impl VersionMap {
    /// Creates the version map of a store, with an empty overlay.
    #[must_use]
    pub fn new(store: Arc<dyn NodeStore>, bugs: InjectedBugs) -> Self {
        let moves = broadcast::Sender::new(MOVES);
        Self { store, overlay: Mutex::default(), bugs, follower: OnceLock::new(), moves, locks: RefLocks::default() }
    }

    /// Sets the follower, which is told of every later move. Only the first call counts.
    pub fn set_follower(&self, follower: Arc<dyn Follow>) {
        // An error means that there is a follower already.
        let _ = self.follower.set(follower);
    }

    /// Subscribes to ref moves. A move is sent once [`VersionMap::get`] returns it. A receiver that falls behind gets
    /// an error, and does not learn which moves it missed.
    #[must_use]
    pub fn moves(&self) -> broadcast::Receiver<(ProjectName, RefKey)> {
        self.moves.subscribe()
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock()
    }

    /// The record of a ref that is applied here; none when, as far as this node knows, the ref was never committed.
    ///
    /// # Errors
    /// The store failed. Never take this for "never committed".
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

    /// The version of a ref that is applied here; [`Version::NONE`] when there is no record.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn version(&self, project: &ProjectKey, key: &RefKey) -> Result<Version, StoreError> {
        Ok(self.get(project, key)?.map_or(Version::NONE, |record| record.version))
    }

    /// Records that this node committed a version that cannot be read here yet. Until it can,
    /// [`VersionMap::committed_version`] returns it.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn committed_ahead(&self, project: &ProjectKey, key: &RefKey, version: Version) -> Result<(), StoreError> {
        let at = (scope(project, key), key.clone());
        self.overlay().ahead.insert(at.clone(), version);
        // Another task may have applied the version meanwhile.
        if self.version(project, key)? >= version {
            self.overlay().ahead.remove(&at);
        }
        Ok(())
    }

    /// The version that is applied here, or a later one that this node committed and has yet to apply.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn committed_version(&self, project: &ProjectKey, key: &RefKey) -> Result<Version, StoreError> {
        let ahead = self.overlay().ahead.get(&(scope(project, key), key.clone())).copied();
        Ok(self.version(project, key)?.max(ahead.unwrap_or(Version::NONE)))
    }

    /// The project's state; none when this node does not know the project.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn project(&self, name: &ProjectName) -> Result<Option<ProjectState>, StoreError> {
        Ok(self.get(&ProjectKey::of_name(name), &RefKey::State)?.and_then(|record| match record.value {
            RefValue::State(state) => Some(state),
            RefValue::Absent | RefValue::Oid(_) | RefValue::Symref(_) => None,
        }))
    }

    /// Every project that this node knows, deleted ones included, with its state.
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

    /// The `@state` records of all projects, as [`VersionMap::projects`] has them, or of one.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn states(&self, only: Option<&ProjectName>) -> Result<BTreeMap<ProjectName, RefRecord>, StoreError> {
        let Some(name) = only else { return self.projects() };
        let state = self.get(&ProjectKey::of_name(name), &RefKey::State)?;
        Ok(state.into_iter().map(|state| (name.clone(), state)).collect())
    }

    /// Whether the map may lack refs of the refdb altogether. A node that reconciles lacks them. So does a new volume:
    /// it has no ref because it has not asked for any, and not because there is none.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn is_incomplete(&self) -> Result<bool, StoreError> {
        let is_new = self.store.registered()?.beat == 0 && self.projects()?.is_empty();
        Ok(is_new || self.store.facts()?.reconciles)
    }

    /// Visits the records of a project's refs and its `@HEAD` that are applied here, in key order, tombstones included.
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

    /// The number of changes of the map since its creation.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.overlay().generation
    }

    /// Returns about `limit` entries of a project after the key `after`, without `@state`. Fewer than `limit` means
    /// that there are no more.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn page(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<(RefKey, RefRecord)>, StoreError> {
        // Read the overlay first. An entry that becomes durable between the two reads is then in both.
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

    /// The key of a project that exists here, in any phase but deleted.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn project_key(&self, name: &ProjectName) -> Result<Option<ProjectKey>, StoreError> {
        let state = self.project(name)?.filter(|state| state.phase != ProjectPhase::Deleted);
        Ok(state.map(|state| ProjectKey::new(name, state.incarnation)))
    }

    /// Whether this incarnation of a project is known to be deleted. Nothing of a deleted incarnation comes back.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn is_past(&self, project: &ProjectKey) -> Result<bool, StoreError> {
        Ok(self.project(&project.name)?.is_some_and(|state| {
            state.incarnation > project.incarnation
                || (state.incarnation == project.incarnation && state.phase == ProjectPhase::Deleted)
        }))
    }

    /// Whether every ref of a transaction has its version, or a newer one, here. Nothing is left to do for a deleted
    /// project.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn has_applied(&self, transaction: &Transaction) -> Result<bool, StoreError> {
        let project = &transaction.project;
        // An outline does not tell its refs.
        let mut is_here = transaction.is_whole();
        for command in &transaction.commands {
            is_here &= self.version(project, &command.key)? >= command.version;
        }
        Ok(is_here || self.is_past(project)?)
    }

    /// Whether an object is, or recently was, the value of a ref. Every site has such an object or will have it, so
    /// packs may build on it.
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

    /// Records move intents: these refs are about to move. After a crash of this process between the move and the next
    /// durable step, the intents tell how far the disk is ahead of the version map. The caller holds the locks of the
    /// refs, calls [`VersionMap::moved`] after the move, and then drops the returned value.
    ///
    /// # Errors
    /// The store failed. The caller must not move the refs.
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

    /// Records that refs were moved, and that the disk shows it. The caller holds their locks.
    ///
    /// # Errors
    /// The store failed, and nothing is recorded.
    pub fn moved(
        &self,
        project: &ProjectKey,
        records: BTreeMap<RefKey, RefRecord>,
        mover: Mover,
    ) -> Result<(), StoreError> {
        // Call the follower first: a durable step that takes the moves then also takes the follower's changes for them.
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
            // A send without receivers is no failure.
            keys.into_iter().for_each(|key| drop(self.moves.send((project.name.clone(), key))));
        }
        Ok(())
    }

    /// Tells the follower that a ref on the disk had the value `shown`, and has the version map's value again.
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
        self.follower.get().map_or(Ok(()), |follower| follower.moved(project, key, before, now, mover))
    }

    /// Records that a project's incarnation is gone with all its refs. The caller holds the lock of `@state`.
    pub fn forget(&self, project: &ProjectKey) {
        let mut overlay = self.overlay();
        overlay.generation += 1;
        let generation = overlay.generation;
        overlay.refs.retain(|(key, _), _| key != project);
        overlay.ahead.retain(|(key, _), _| key != project);
        overlay.forgotten.insert(project.clone(), generation);
    }

    /// Whether the overlay holds moves that are not durable.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let overlay = self.overlay();
        !(overlay.refs.is_empty() && overlay.forgotten.is_empty())
    }

    /// Adds the overlay to a durable step. Call it before the sync, and pass the snapshot to [`VersionMap::durable`]
    /// after the step.
    pub fn collect(&self, into: &mut Changes) -> Snapshot {
        let overlay = self.overlay();
        let refs = overlay.refs.iter();
        into.refs.extend(refs.map(|((project, key), (record, _))| (project.clone(), key.clone(), record.clone())));
        into.forget_projects.extend(overlay.forgotten.keys().cloned());
        let last_intent = overlay.under_way.first().map_or(overlay.last_intent, |first| first - 1);
        Snapshot { generation: overlay.generation, last_intent }
    }

    /// Drops the entries from the overlay that the snapshot covers, because they are durable now.
    ///
    /// # Errors
    /// The store cannot end the move intents.
    pub fn durable(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let mut overlay = self.overlay();
        overlay.refs.retain(|_, (_, generation)| *generation > snapshot.generation);
        overlay.forgotten.retain(|_, generation| *generation > snapshot.generation);
        self.store.end_intents(snapshot.last_intent)
    }
}

/// `@state` belongs to the project's name, so its entry is kept under incarnation 0.
fn scope(project: &ProjectKey, key: &RefKey) -> ProjectKey {
    match key {
        RefKey::State => ProjectKey::of_name(&project.name),
        RefKey::Head | RefKey::Ref(_) => project.clone(),
    }
}
