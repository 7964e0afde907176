//! Applies items of the refdb at this node: objects from peers first, then all refs together.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, RefKey, Version};

use super::atomic_apply::{UnitError, Units};
use crate::seams::peers::{OnArrival, Peers, fetch};
use crate::seams::volume::RefRecord;
use crate::state::version_map::RefGuard;

impl Units {
    /// Takes a project to these records, which include its state. Values that are newer here stay. Stops when objects
    /// are missing or bad, and moves nothing then, so that the caller may try again with fewer records.
    ///
    /// # Errors
    /// Nothing was moved. Only after a disk failure some refs may have moved: the version map says which.
    pub(super) async fn transfer_state(
        &self,
        project: &ProjectKey,
        records: BTreeMap<RefKey, RefRecord>,
        peers: &dyn Peers,
    ) -> Result<(), UnitError> {
        let way = self.make_way(project).await?;
        let state = records.get(&RefKey::State);
        if !state.is_some_and(|record| record.value.is_deleted_project()) {
            self.materializer.open(project, &records).await?;
            self.complete(project, &records, peers).await?;
        }
        let held = |key: &&RefKey| way.is_some() && **key == RefKey::State;
        let keys: Vec<RefKey> = records.keys().filter(|key| !held(key)).cloned().collect();
        let _guard = self.versions.locks.lock(&project.name, keys).await;
        let read = records.get(&RefKey::State).map_or(Version::NONE, |record| record.version);
        if self.versions.version(project, &RefKey::State)? > read {
            return Err(UnitError::StateMoved(project.clone()));
        }
        self.materializer.materialize_latest(project, records).await?;
        if let Some((earlier, _)) = way {
            // The earlier incarnation is forgotten only now. Before the successor's state is in the version map, a map
            // without the earlier refs would say that the project has none.
            self.versions.forget(&earlier);
        }
        Ok(())
    }

    /// Deletes the repository of an earlier incarnation of the project, and returns that incarnation with the lock of
    /// the project's state. The lock keeps everybody else from applying anything while the successor's repository is
    /// already there and the state does not say so yet. Returns `None` if there is no earlier incarnation.
    async fn make_way(&self, project: &ProjectKey) -> Result<Option<(ProjectKey, RefGuard)>, UnitError> {
        let guard = self.versions.locks.lock(&project.name, [RefKey::State]).await;
        let earlier = self.versions.project_key(&project.name)?;
        let Some(earlier) = earlier.filter(|earlier| earlier.incarnation < project.incarnation) else {
            return Ok(None);
        };
        self.repositories.delete(&project.name).await?;
        Ok(Some((earlier, guard)))
    }

    /// Fetches the objects that the records need, except for those that the version map vouches for. The presence of an
    /// object on disk proves nothing, because a power cut may have taken the objects that it points to.
    async fn complete(
        &self,
        project: &ProjectKey,
        records: &BTreeMap<RefKey, RefRecord>,
        peers: &dyn Peers,
    ) -> Result<(), UnitError> {
        let (mut wants, mut haves) = (Vec::new(), Vec::new());
        for (key, record) in records {
            let here = self.versions.get(project, key)?;
            haves.extend(here.as_ref().and_then(|here| here.value.oid()).map(|oid| (rank(key), oid)));
            let oid = record.value.oid().filter(|_| here.is_none_or(|here| here.version < record.version));
            if let Some(oid) = oid
                && !self.versions.is_committed(project, &oid)?
            {
                wants.push((rank(key), oid));
            }
        }
        let (wants, haves) = (distinct(wants), distinct(haves));
        fetch(peers, &*self.repositories, &project.name, &wants, &haves, OnArrival::Ingest).await
    }

    /// Fetches the objects that `wants` need beyond `haves` from peers. Each list has at most
    /// [`crate::seams::peers::MOST_OIDS`] entries.
    pub(super) async fn fetch_from_peers(
        &self,
        project: &ProjectKey,
        wants: &[Oid],
        haves: &[Oid],
        peers: &dyn Peers,
    ) -> Result<(), UnitError> {
        let packs = peers.objects(&project.name, wants, haves).await?;
        Ok(self.repositories.ingest(&project.name, &packs, wants, &[]).await?)
    }
}

/// The sort key of a ref's object: branches come first, because other refs build on them.
pub(super) fn rank(key: &RefKey) -> bool {
    !key.as_ref_name().is_some_and(|name| name.as_str().starts_with("refs/heads/"))
}

/// Sorts objects by their rank, and keeps each once.
pub(super) fn distinct(mut ranked: Vec<(bool, Oid)>) -> Vec<Oid> {
    ranked.sort_unstable();
    let mut oids: Vec<Oid> = ranked.into_iter().map(|(_, oid)| oid).collect();
    let mut seen = std::collections::BTreeSet::new();
    oids.retain(|oid| seen.insert(*oid));
    oids
}
