//! Brings one project, or one of its refs, to the refdb's state: version map, objects, then refs on the disk.

use std::collections::BTreeSet;

use lockstep_proto::{Oid, ProjectKey, ProjectName, ProjectPhase, RefKey, RefName, RefValue};

use super::{ResyncError, Resyncer};
use crate::seams::peers::{PeerError, Peers};
use crate::seams::volume::{StoreError, VolumeFacts};
use crate::stages::ports::CatchUpError;
use crate::state::materialize::default_head;

/// How often a project is tried at once. Its refs may move on between two steps.
const TRIES: u32 = 3;

/// The faults of a project that are mended now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Righted {
    pub(super) refetched: bool,
    pub(super) garbled: u64,
    pub(super) refs_set: u64,
    pub(super) strays: u64,
    /// Whether the repository was missing: `init` has written nothing into the new one.
    created: bool,
}

/// A set of projects among the facts about the volume.
type Set = fn(&mut VolumeFacts) -> &mut BTreeSet<ProjectName>;

/// The projects whose repositories are being restored, with their refs.
fn restoring(facts: &mut VolumeFacts) -> &mut BTreeSet<ProjectName> {
    &mut facts.restoring
}

/// The projects to which `init` writes, and whose objects are being fetched.
fn mending(facts: &mut VolumeFacts) -> &mut BTreeSet<ProjectName> {
    &mut facts.mending
}

impl Resyncer {
    /// Brings a project to the refdb's state, or only one of its refs. A debt of the project is paid, or noted.
    pub(super) async fn right(
        &self,
        name: &ProjectName,
        only: Option<&RefKey>,
        peers: &dyn Peers,
    ) -> Result<Righted, ResyncError> {
        let begun = self.debts.begins();
        let righted = self.try_to_right(name, only, peers).await;
        match &righted {
            Ok(_) if only.is_none() && self.debts.is_owed(name) => self.debts.paid(name, begun),
            Err(ResyncError::CatchUp(why)) if why.is_of_project() => self.debts.failed(name, why.failure(), None),
            Ok(_) | Err(_) => {}
        }
        righted
    }

    async fn try_to_right(
        &self,
        name: &ProjectName,
        only: Option<&RefKey>,
        peers: &dyn Peers,
    ) -> Result<Righted, ResyncError> {
        let mut righted = Righted::default();
        let was_noted = self.store.facts()?.restoring.contains(name);
        // Damage may be in the way of a catch-up, so the objects of known values are looked at in any case.
        let mut behind = self.catch_up_with(name, only).await;
        let mut left = TRIES;
        loop {
            let Some(project) = self.open(name)? else { return behind.map(|()| righted).map_err(ResyncError::from) };
            left -= 1;
            match self.right_objects(&project, only, peers, &mut righted).await {
                Ok(()) => {}
                // The refs may have moved on, and no peer has the objects of their earlier values any more.
                Err(ResyncError::Peer(PeerError::Missing(_)) | ResyncError::Incomplete(_)) if left > 0 => {
                    behind = self.catch_up_with(name, only).await;
                    continue;
                }
                Err(why) => return Err(why),
            }
            if left == 0 || behind.as_ref().err().is_none_or(|why| !why.retry_helps()) {
                let refs = self.right_refs(&project, self.part(name, only)?, &mut righted).await;
                if !matches!(refs, Ok(()) | Err(ResyncError::LeftToGerrit(_))) {
                    return refs.map(|()| righted);
                }
                // The objects are whole, and a handshake restores refs without the restorer. A restoration that began
                // before goes on: `init` must not see a repository that lacks refs. So does mending: a seed must not
                // take a ref for deleted whose garbled file is gone.
                self.durability.wait_durable().await;
                if refs.is_ok() || !was_noted {
                    self.note(name, restoring, false).await?;
                }
                if refs.is_ok() {
                    self.note(name, mending, false).await?;
                }
                return behind.map_err(ResyncError::from).and(refs).map(|()| righted);
            }
            behind = self.catch_up_with(name, only).await;
        }
    }

    /// The ref that is looked at, or none for all: also if the request is about one ref, and the repository is being
    /// restored or mended.
    fn part<'a>(&self, name: &ProjectName, only: Option<&'a RefKey>) -> Result<Option<&'a RefKey>, StoreError> {
        let VolumeFacts { restoring, mending, .. } = self.store.facts()?;
        Ok(only.filter(|_| !restoring.contains(name) && !mending.contains(name)))
    }

    async fn catch_up_with(&self, name: &ProjectName, only: Option<&RefKey>) -> Result<(), CatchUpError> {
        let Some(key) = only else { return self.catch_up.bring_up_to_date(name).await };
        self.catch_up.project(name).await?;
        match self.versions.project_key(name)? {
            Some(project) => self.catch_up.keys(&project, std::slice::from_ref(key)).await,
            None => Ok(()),
        }
    }

    /// The project, if it is open at this node. The refs of one that is being seeded are still to be committed, and one
    /// that is being deleted loses its repository.
    fn open(&self, name: &ProjectName) -> Result<Option<ProjectKey>, StoreError> {
        let is_open = self.versions.project(name)?.is_some_and(|state| state.phase == ProjectPhase::Active);
        Ok(self.versions.project_key(name)?.filter(|_| is_open))
    }

    /// The committed values of a project, or of one of its refs. Each stands once.
    fn values(&self, project: &ProjectKey, only: Option<&RefKey>) -> Result<Vec<Oid>, StoreError> {
        let mut values = BTreeSet::new();
        match only {
            Some(key) => values.extend(self.versions.get(project, key)?.and_then(|record| record.value.oid())),
            None => self.versions.visit(project, |_, record| values.extend(record.value.oid()))?,
        }
        Ok(values.into_iter().collect())
    }

    /// Makes the values complete. Before files are taken away, or a repository is created empty, that is noted durably:
    /// the repository restorer then ends the work after a crash.
    async fn right_objects(
        &self,
        project: &ProjectKey,
        only: Option<&RefKey>,
        peers: &dyn Peers,
        righted: &mut Righted,
    ) -> Result<(), ResyncError> {
        let name = &project.name;
        if !self.repositories.exists(name).await? {
            tracing::error!(%project, "the repository of a living project is missing: creating it anew");
            self.note(name, restoring, true).await?;
            let head = match self.versions.get(project, &RefKey::Head)?.map(|record| record.value) {
                Some(RefValue::Symref(head)) => head,
                _ => default_head(name)?,
            };
            self.repositories.create(name, &head).await?;
            righted.created = true;
        }
        let garbled = self.repositories.garbled(name, false).await?;
        if garbled > 0 {
            tracing::error!(%project, garbled, "files of the repository are garbled: taking them away");
            // A Gerrit that runs now may start again before this node does, after a crash of both. Then the refs on the
            // disk are its `init`'s, and the restorer must set none of them.
            let is_of_init = self.of_init.contains(name) && !righted.created;
            self.note(name, if is_of_init { mending } else { restoring }, true).await?;
            righted.garbled += self.repositories.garbled(name, true).await?;
        }
        // Files that were taken away had objects of other refs, too.
        let part = self.part(name, only)?.filter(|_| righted.garbled == 0);
        let values = self.values(project, part)?;
        righted.refetched |= self.complete(name, &values, peers).await?;
        Ok(())
    }

    /// Sets the refs on the disk to their committed values. Values that were never committed are kept as strays.
    async fn right_refs(
        &self,
        project: &ProjectKey,
        only: Option<&RefKey>,
        righted: &mut Righted,
    ) -> Result<(), ResyncError> {
        let before = self.materializer.strays(&project.name).await?.len();
        let left = self.leaves_refs(project) && !righted.created;
        if left {
            self.nothing_differs(project, only).await?;
        }
        match only {
            // `init` writes no HEAD of a project that exists.
            None if left => righted.refs_set += u64::from(self.right_ref(project, &RefKey::Head).await?),
            Some(RefKey::Ref(_)) if left => {}
            None => {
                let (differ, _) = self.materializer.differing_for_sure(project).await?;
                let head = u64::from(self.materializer.head_differs(project).await?);
                if !differ.is_empty() || head > 0 {
                    self.materializer.make_known(project).await?;
                }
                righted.refs_set += differ.len() as u64 + head;
            }
            Some(key) => righted.refs_set += u64::from(self.right_ref(project, key).await?),
        }
        let after = self.materializer.strays(&project.name).await?.len();
        righted.strays += after.saturating_sub(before) as u64;
        Ok(())
    }

    /// Whether the refs of a project may be writes of `init`, which the handshake of a Gerrit commits.
    fn leaves_refs(&self, project: &ProjectKey) -> bool {
        self.of_init.contains(&project.name) && !(self.gerrit_runs)()
    }

    /// Checks that no ref on the disk differs from its committed value.
    async fn nothing_differs(&self, project: &ProjectKey, only: Option<&RefKey>) -> Result<(), ResyncError> {
        let (differ, _) = self.materializer.differing_for_sure(project).await?;
        let counts = |name: &&RefName| only.is_none_or(|key| key.as_ref_name() == Some(*name));
        match differ.keys().filter(counts).count() {
            0 => Ok(()),
            differ => Err(ResyncError::LeftToGerrit(differ)),
        }
    }

    /// Sets one ref on the disk, or `HEAD`. Returns whether it was another one.
    async fn right_ref(&self, project: &ProjectKey, key: &RefKey) -> Result<bool, ResyncError> {
        let _guard = self.versions.locks.lock(&project.name, [key.clone()]).await;
        let RefKey::Ref(name) = key else { return Ok(self.materializer.restore_head(project).await?) };
        let shown = self.repositories.read_ref(&project.name, name).await?;
        let known = self.versions.get(project, key)?.and_then(|record| record.value.oid());
        self.materializer.restore(project, std::slice::from_ref(key)).await?;
        Ok(shown != known)
    }

    /// Notes durably whether a project is in such a set. After a crash, the repository restorer ends the work.
    async fn note(&self, name: &ProjectName, set: Set, is_under_way: bool) -> Result<(), StoreError> {
        if set(&mut self.store.facts()?).contains(name) == is_under_way {
            return Ok(());
        }
        self.durability.wait_durable().await;
        self.durability.change_facts(|facts| {
            match is_under_way {
                true => set(facts).insert(name.clone()),
                false => set(facts).remove(name),
            };
        })?;
        self.durability.wait_durable().await;
        Ok(())
    }
}
