//! Records of the refdb become what this node shows: objects from peers first, then all refs together.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, ProjectPhase, RefKey, RefValue, Version};

use super::unit::{UnitError, Units};
use crate::seams::peers::{MOST_OIDS, PeerError, Peers};
use crate::seams::volume::RefRecord;
use crate::state::version_map::RefGuard;

impl From<PeerError> for UnitError {
    fn from(error: PeerError) -> Self {
        Self::NotNow(error.to_string())
    }
}

impl Units {
    /// Takes a project to these records, its state among them. What is newer here stays.
    ///
    /// # Errors
    /// Nothing was moved, or (a failing disk) it is not known: the version map says what was.
    pub(super) async fn transfer_state(
        &self,
        project: &ProjectKey,
        records: BTreeMap<RefKey, RefRecord>,
        peers: &dyn Peers,
    ) -> Result<(), UnitError> {
        let way = self.make_way(project).await?;
        let state = records.get(&RefKey::State).map(|record| &record.value);
        if !matches!(state, Some(RefValue::State(state)) if state.phase == ProjectPhase::Deleted) {
            self.materializer.open(project, &records).await?;
            self.complete(project, &records, peers).await?;
        }
        let held = |key: &&RefKey| way.is_some() && **key == RefKey::State;
        let keys: Vec<RefKey> = records.keys().filter(|key| !held(key)).cloned().collect();
        let _guard = self.versions.locks.lock(&project.name, keys).await;
        let read = records.get(&RefKey::State).map_or(Version::NONE, |record| record.version);
        if self.versions.version(project, &RefKey::State)? > read {
            return Err(UnitError::NotNow(format!("the state of {project} has changed meanwhile")));
        }
        self.materializer.materialize_latest(project, records).await?;
        if let Some((earlier, _)) = way {
            // Only now: without the successor's state, a map without the earlier one's refs would say that it has none.
            self.versions.forget(&earlier);
        }
        Ok(())
    }

    /// The repository of an earlier incarnation of the project goes. While there is a successor's in its place and the state
    /// does not say so yet, nobody else applies anything: the lock of the state is given with the answer.
    async fn make_way(&self, project: &ProjectKey) -> Result<Option<(ProjectKey, RefGuard)>, UnitError> {
        let guard = self.versions.locks.lock(&project.name, [RefKey::State]).await;
        let earlier = self.versions.project_key(&project.name)?;
        let Some(earlier) = earlier.filter(|earlier| earlier.incarnation < project.incarnation) else {
            return Ok(None);
        };
        self.repositories.delete(&project.name).await?;
        Ok(Some((earlier, guard)))
    }

    /// Fetches what the records need beyond what the version map vouches for. That an object is on the disk says nothing:
    /// a power cut may have taken what it points to.
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
        let wants = distinct(wants);
        let mut haves = distinct(haves);
        for wants in wants.chunks(MOST_OIDS) {
            haves.truncate(MOST_OIDS);
            let packs = peers.objects(&project.name, wants, &haves).await?;
            self.repositories.ingest(&project.name, &packs, wants, &[]).await?;
            haves.splice(0..0, wants.iter().copied());
        }
        Ok(())
    }
}

/// Branches first: what else there is builds on them.
pub(super) fn rank(key: &RefKey) -> bool {
    !key.as_ref_name().is_some_and(|name| name.as_str().starts_with("refs/heads/"))
}

pub(super) fn distinct(mut ranked: Vec<(bool, Oid)>) -> Vec<Oid> {
    ranked.sort_unstable();
    let mut oids: Vec<Oid> = ranked.into_iter().map(|(_, oid)| oid).collect();
    let mut seen = std::collections::BTreeSet::new();
    oids.retain(|oid| seen.insert(*oid));
    oids
}
