//! Simulated repositories for the simulator: deterministic, without git, disk or I/O.
//!
//! A [`ModelRepositories`] is a handle. Clones share the volume, so the simulator can keep it while it crashes and
//! restarts a node. The death of a process loses nothing. [`ModelRepositories::power_cut`] loses any part of the
//! unsynced changes, and [`ModelRepositories::wipe`] loses everything. Objects point to objects and have no other
//! content. There are no commits and trees, so every object takes part in [`Relation`]. Some objects are odd or broken,
//! as their nonces say: odd ones are taken everywhere, and broken ones nowhere.

#[cfg(test)]
pub(crate) mod counted;
mod disk;
mod object;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName, RefName};
use parking_lot::{Mutex, MutexGuard};

use self::disk::{Disk, Repo};
use self::object::{Form, Object};
use super::{
    Flaw, GitError, IsCommitted, ObjectSlice, Packed, RefMove, Relation, RepairReport, Repositories, SliceChecked,
};
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::blob::Payload;

/// Repositories in memory. Clones are handles to the same volume.
#[derive(Clone, Debug, Default)]
pub struct ModelRepositories {
    disk: Arc<Mutex<Disk>>,
    /// The damaged objects that nobody has taken yet.
    damage: Arc<Mutex<BTreeMap<ProjectName, BTreeSet<Oid>>>>,
    /// The objects whose files are garbled, until they are taken away.
    garbled: Arc<Mutex<BTreeMap<ProjectName, BTreeSet<Oid>>>>,
    bugs: InjectedBugs,
}

impl ModelRepositories {
    /// Creates an empty volume with the given injected bugs.
    #[must_use]
    pub fn new(bugs: InjectedBugs) -> Self {
        Self { disk: Arc::default(), damage: Arc::default(), garbled: Arc::default(), bugs }
    }

    /// Adds an object, as a push does before its refs move, and returns its id. Adds nothing when the project has no
    /// repository. The objects to which it points may be absent.
    pub fn add_object(&self, project: &ProjectName, pointing_to: &[Oid], nonce: u64) -> Oid {
        let object = Object { nonce, links: pointing_to.to_vec() };
        let oid = object.oid();
        self.disk().put_object(project, object);
        oid
    }

    /// Loses an object, as a bad disk does.
    pub fn lose_object(&self, project: &ProjectName, oid: &Oid) {
        self.disk().lose_object(project, oid);
    }

    /// Garbles the file of an object, as a bad disk does.
    pub fn garble(&self, project: &ProjectName, oid: Oid) {
        self.garbled.lock().entry(project.clone()).or_default().insert(oid);
    }

    /// Has an operation meet an object that is damaged.
    pub fn meet_damage(&self, project: &ProjectName, oid: Oid) {
        self.damage.lock().entry(project.clone()).or_default().insert(oid);
    }

    /// Returns whether an object and its whole closure are present.
    #[must_use]
    pub fn closure_is_complete(&self, project: &ProjectName, oid: Oid) -> bool {
        let disk = self.disk();
        disk.repo(project)
            .is_some_and(|repo| walk::closure([oid], &|_| false, &|oid| repo.objects.get(oid)).1.is_empty())
    }

    /// Returns every ref; an empty map when there is no repository.
    #[must_use]
    pub fn refs(&self, project: &ProjectName) -> BTreeMap<RefName, Oid> {
        self.disk().repo(project).map(|repo| repo.refs.clone()).unwrap_or_default()
    }

    /// Returns every kept value by its label; an empty map when there is no repository.
    #[must_use]
    pub fn kept(&self, project: &ProjectName) -> BTreeMap<String, Oid> {
        self.disk().repo(project).map(|repo| repo.keep.clone()).unwrap_or_default()
    }

    /// Simulates a power cut: each object, ref and repository that changed since the last sync independently keeps its
    /// new state or goes back to the synced one.
    pub fn power_cut(&self, entropy: &dyn Entropy) {
        self.disk().power_cut(entropy);
    }

    /// Takes a snapshot of the volume, and returns the function that restores it.
    pub fn snapshot(&self) -> impl Fn() + Send + Sync + use<> {
        let (disk, now) = (Arc::clone(&self.disk), self.disk().clone());
        move || *disk.lock() = now.clone()
    }

    /// Loses everything, as after a change of disks.
    pub fn wipe(&self) {
        *self.disk() = Disk::default();
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock()
    }

    /// Applies `look` to a project's repository.
    fn read<T>(&self, project: &ProjectName, look: impl FnOnce(&Repo) -> T) -> Result<T, GitError> {
        self.disk().repo(project).map(look).ok_or_else(|| GitError::NoRepository(project.clone()))
    }
}

#[async_trait]
impl Repositories for ModelRepositories {
    async fn exists(&self, project: &ProjectName) -> Result<bool, GitError> {
        Ok(self.disk().repo(project).is_some())
    }

    async fn create(&self, project: &ProjectName, head: &RefName) -> Result<(), GitError> {
        self.disk().create(project, head);
        Ok(())
    }

    async fn delete(&self, project: &ProjectName) -> Result<(), GitError> {
        self.disk().delete(project);
        Ok(())
    }

    async fn set_head(&self, project: &ProjectName, target: &RefName) -> Result<(), GitError> {
        self.read(project, |_| ())?;
        self.disk().set_head(project, target);
        Ok(())
    }

    async fn head(&self, project: &ProjectName) -> Result<Option<RefName>, GitError> {
        self.read(project, |repo| repo.head.clone())
    }

    async fn read_ref(&self, project: &ProjectName, name: &RefName) -> Result<Option<Oid>, GitError> {
        self.read(project, |repo| repo.refs.get(name).copied())
    }

    async fn list_refs(&self, project: &ProjectName) -> Result<Vec<(RefName, Oid)>, GitError> {
        self.read(project, |repo| repo.refs.iter().map(|(name, oid)| (name.clone(), *oid)).collect())
    }

    async fn missing(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        self.read(project, |repo| oids.iter().filter(|oid| !repo.objects.contains_key(oid)).copied().collect())
    }

    async fn check_objects(&self, project: &ProjectName, slice: ObjectSlice) -> Result<SliceChecked, GitError> {
        self.read(project, |repo| {
            let behind = repo.objects.range((slice.after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            let mut behind = behind.take(slice.most + 1);
            let (mut checked, mut absent) = (SliceChecked::default(), BTreeSet::new());
            for (oid, object) in behind.by_ref().take(slice.most) {
                absent.extend(object.links.iter().copied().filter(|link| !repo.objects.contains_key(link)));
                checked.objects += 1;
                checked.next = Some(*oid);
            }
            checked.next = checked.next.filter(|_| behind.next().is_some());
            checked.unsound = absent.into_iter().collect();
            checked
        })
    }

    async fn relation(&self, project: &ProjectName, old: Oid, new: Oid) -> Result<Relation, GitError> {
        let absent = self.missing(project, &[old, new]).await?;
        refuse_missing(project, absent)?;
        let (seen, _) = self.read(project, |repo| walk::closure([new], &|_| false, &|oid| repo.objects.get(oid)))?;
        Ok(if seen.contains(&old) { Relation::FastForward } else { Relation::Diverged })
    }

    async fn share_history(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, GitError> {
        let absent = self.missing(project, &[one, other]).await?;
        refuse_missing(project, absent)?;
        let behind = |repo: &Repo, oid| walk::closure([oid], &|_| false, &|oid| repo.objects.get(oid)).0;
        self.read(project, |repo| !behind(repo, one).is_disjoint(&behind(repo, other)))
    }

    async fn share_histories(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError> {
        let mut shared = Vec::with_capacity(pairs.len());
        for (one, other) in pairs {
            shared.push(self.share_history(project, *one, *other).await?);
        }
        Ok(shared)
    }

    /// Returns `None` for every present object: the model has no blobs.
    async fn counter(&self, project: &ProjectName, oid: Oid) -> Result<Option<u64>, GitError> {
        let absent = self.missing(project, &[oid]).await?;
        refuse_missing(project, absent)?;
        Ok(None)
    }

    async fn counters(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Option<u64>>, GitError> {
        let absent = self.missing(project, oids).await?;
        refuse_missing(project, absent)?;
        Ok(vec![None; oids.len()])
    }

    async fn commits_behind(&self, project: &ProjectName, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError> {
        let tips = tips.iter().copied();
        let found = self.read(project, |repo| walk::closure(tips, &|_| false, &|oid| repo.objects.get(oid)).0)?;
        Ok(found.into_iter().take(most).collect())
    }

    async fn steps_to(&self, project: &ProjectName, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError> {
        let mut way = self.read(project, |repo| {
            let next = |oid: &Oid| repo.objects.get(oid).and_then(|object| object.links.first().copied());
            std::iter::successors(Some(tip), next).collect::<Vec<_>>()
        })?;
        way.reverse();
        Ok(way.into_iter().skip(every.saturating_sub(1)).step_by(every.max(1)).filter(|step| *step != tip).collect())
    }

    async fn pack(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        hints: &[Oid],
        is_committed: &IsCommitted,
    ) -> Result<Packed, GitError> {
        let injected = self.bugs.has(InjectedBug::PackAgainstUncommitted);
        let is_base = |oid: &Oid| is_committed(oid) || (injected && !wants.contains(oid));
        self.read(project, |repo| {
            let needed = walk::needed(repo, wants, hints, &is_base).map_err(|oids| missing(project, oids))?;
            let objects = needed.new.iter().filter_map(|oid| repo.objects.get(oid));
            if !self.bugs.has(InjectedBug::OriginJudgesNothing) {
                objects.clone().try_for_each(|object| walkable(project, object))?;
            }
            let pack = (!needed.new.is_empty()).then(|| Payload::Memory(object::write_pack(objects)));
            Ok(Packed { payload: pack, bases: needed.bases.into_iter().collect() })
        })?
    }

    async fn ingest(
        &self,
        project: &ProjectName,
        packs: &[Payload],
        wants: &[Oid],
        bases: &[Oid],
    ) -> Result<(), GitError> {
        let mut new = BTreeMap::new();
        for pack in packs {
            new.extend(read_pack(project, pack)?);
        }
        new.values().try_for_each(|object| walkable(project, object))?;
        let odd = new.values().find(|object| object.form() == Form::Odd);
        if let Some(object) = odd.filter(|_| self.bugs.has(InjectedBug::ReceiversJudgeTaste)) {
            return Err(flawed(project, object));
        }
        let absent = self.read(project, |repo| walk::missing_to_join(repo, &new, wants, bases))?;
        refuse_missing(project, absent)?;
        let mut disk = self.disk();
        for object in new.into_values() {
            disk.put_object(project, object);
        }
        Ok(())
    }

    async fn move_refs(
        &self,
        project: &ProjectName,
        moves: &[RefMove],
        keep: &[(String, Oid)],
    ) -> Result<(), GitError> {
        let check_objects = !self.bugs.has(InjectedBug::RefsBeforeObjects);
        self.read(project, |repo| {
            if check_objects {
                let values = moves.iter().filter_map(|one| one.new).chain(keep.iter().map(|(_, oid)| *oid));
                refuse_missing(project, values.filter(|oid| !repo.objects.contains_key(oid)))?;
            }
            check_moves(project, repo, moves)
        })??;
        let mut disk = self.disk();
        for one in moves {
            disk.set_ref(project, &one.name, one.new);
        }
        for (label, oid) in keep {
            disk.set_keep(project, label, Some(*oid));
        }
        Ok(())
    }

    async fn kept(&self, project: &ProjectName) -> Result<Vec<String>, GitError> {
        self.read(project, |repo| repo.keep.keys().cloned().collect())
    }

    async fn release(&self, project: &ProjectName, labels: &[String]) -> Result<(), GitError> {
        self.read(project, |_| ())?;
        let mut disk = self.disk();
        labels.iter().for_each(|label| disk.set_keep(project, label, None));
        Ok(())
    }

    async fn sync(&self) -> Result<(), GitError> {
        self.disk().sync();
        Ok(())
    }

    /// After an unclean boot, removes refs and kept values whose object was lost in a power cut.
    async fn repair(&self, unclean_boot: bool) -> Result<RepairReport, GitError> {
        let mut report = RepairReport::default();
        let mut disk = self.disk();
        for project in disk.projects().into_iter().filter(|_| unclean_boot) {
            let Some(Repo { objects, refs, keep, .. }) = disk.repo(&project) else { continue };
            let dangling = |oid: &Oid| !objects.contains_key(oid);
            let refs: Vec<RefName> = refs.iter().filter(|it| dangling(it.1)).map(|it| it.0.clone()).collect();
            let keep: Vec<String> = keep.iter().filter(|it| dangling(it.1)).map(|it| it.0.clone()).collect();
            refs.iter().for_each(|name| disk.set_ref(&project, name, None));
            keep.iter().for_each(|label| disk.set_keep(&project, label, None));
            report.refs += (refs.len() + keep.len()) as u64;
        }
        Ok(report)
    }

    /// Returns 0: a damaged object of the model is lost.
    async fn garbled(&self, project: &ProjectName, away: bool) -> Result<u64, GitError> {
        self.read(project, |_| ())?;
        let found = self.garbled.lock().get(project).cloned().unwrap_or_default();
        if away {
            found.iter().for_each(|oid| self.lose_object(project, oid));
            self.garbled.lock().remove(project);
        }
        Ok(found.len() as u64)
    }

    async fn is_complete(&self, project: &ProjectName, values: &[Oid]) -> Result<bool, GitError> {
        let values = values.iter().copied();
        self.read(project, |repo| walk::closure(values, &|_| false, &|oid| repo.objects.get(oid)).1.is_empty())
    }

    fn take_damage(&self) -> BTreeMap<ProjectName, BTreeSet<Oid>> {
        std::mem::take(&mut *self.damage.lock())
    }

    /// Returns a path that is never used: the model takes packs in memory only.
    fn spill(&self) -> PathBuf {
        PathBuf::from("the-model-has-no-spill-folder")
    }
}

fn missing(project: &ProjectName, oids: impl IntoIterator<Item = Oid>) -> GitError {
    GitError::Missing { project: project.clone(), oids: oids.into_iter().collect() }
}

fn refuse_missing(project: &ProjectName, oids: impl IntoIterator<Item = Oid>) -> Result<(), GitError> {
    let oids: BTreeSet<Oid> = oids.into_iter().collect();
    if oids.is_empty() { Ok(()) } else { Err(missing(project, oids)) }
}

fn flawed(project: &ProjectName, object: &Object) -> GitError {
    let flaw = Flaw { object: object.oid(), why: format!("{:?}: simulated", object.form()) };
    GitError::Flawed { project: project.clone(), flaw }
}

/// Refuses a broken object.
fn walkable(project: &ProjectName, object: &Object) -> Result<(), GitError> {
    if object.form() == Form::Broken { Err(flawed(project, object)) } else { Ok(()) }
}

fn failed(project: &ProjectName, op: &'static str, why: String) -> GitError {
    GitError::Failed { project: project.to_string(), op, why }
}

fn read_pack(project: &ProjectName, pack: &Payload) -> Result<BTreeMap<Oid, Object>, GitError> {
    match pack {
        Payload::Memory(bytes) => {
            object::read_pack(bytes).map_err(|why| GitError::Bad { project: project.clone(), why })
        }
        Payload::File(..) => Err(failed(project, "ingest", "the model takes packs in memory only".into())),
    }
}

/// Checks the old values, and that no two ref names exclude each other afterwards.
fn check_moves(project: &ProjectName, repo: &Repo, moves: &[RefMove]) -> Result<(), GitError> {
    let mut after: BTreeSet<&str> = repo.refs.keys().map(RefName::as_str).collect();
    let mut moved = BTreeSet::new();
    for one in moves {
        let (actual, expected) = (repo.refs.get(&one.name).copied(), one.old);
        if actual != expected {
            return Err(GitError::RefMoved { project: project.clone(), name: one.name.clone(), expected, actual });
        }
        if !moved.insert(&one.name) {
            return Err(failed(project, "move refs", format!("{} is moved twice", one.name)));
        }
        match one.new {
            Some(_) => after.insert(one.name.as_str()),
            None => after.remove(one.name.as_str()),
        };
    }
    let created = moves.iter().filter(|one| one.new.is_some()).map(|one| one.name.as_str());
    for name in created {
        let below = format!("{name}/");
        let mut behind = after.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        let other = behind.next().copied().filter(|other| other.starts_with(&below));
        let prefix = name.match_indices('/').map(|(at, _)| &name[..at]).find(|prefix| after.contains(prefix));
        if let Some(other) = other.or(prefix) {
            return Err(failed(project, "move refs", format!("{name} and {other} exclude each other")));
        }
    }
    Ok(())
}
