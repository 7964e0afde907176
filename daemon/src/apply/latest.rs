//! Records of the refdb become what this node shows: objects from peers first, then all refs together.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, ProjectPhase, RefKey, RefValue};

use super::unit::{UnitError, Units};
use crate::peers::{MOST_OIDS, PeerError, Peers};
use crate::volume::RefRecord;

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
    pub(super) async fn jump(
        &self,
        project: &ProjectKey,
        records: BTreeMap<RefKey, RefRecord>,
        peers: &dyn Peers,
    ) -> Result<(), UnitError> {
        self.make_way(project).await?;
        let state = records.get(&RefKey::State).map(|record| &record.value);
        if !matches!(state, Some(RefValue::State(state)) if state.phase == ProjectPhase::Deleted) {
            self.placer.open(project, &records).await?;
            self.complete(project, &records, peers).await?;
        }
        let _guard = self.table.locks.lock(&project.name, records.keys().cloned().collect::<Vec<_>>()).await;
        Ok(self.placer.place_latest(project, records).await?)
    }

    /// An earlier incarnation of the project goes, with all that it has.
    async fn make_way(&self, project: &ProjectKey) -> Result<(), UnitError> {
        let _guard = self.table.locks.lock(&project.name, [RefKey::State]).await;
        let Some(earlier) = self.table.project_key(&project.name)? else { return Ok(()) };
        if earlier.incarnation < project.incarnation {
            self.repositories.delete(&project.name).await?;
            self.table.forget(&earlier);
        }
        Ok(())
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
            let here = self.table.get(project, key)?;
            haves.extend(here.as_ref().and_then(|here| here.value.oid()).map(|oid| (rank(key), oid)));
            let oid = record.value.oid().filter(|_| here.is_none_or(|here| here.version < record.version));
            if let Some(oid) = oid
                && !self.table.is_committed(project, &oid)?
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
fn rank(key: &RefKey) -> bool {
    !key.as_ref_name().is_some_and(|name| name.as_str().starts_with("refs/heads/"))
}

fn distinct(mut ranked: Vec<(bool, Oid)>) -> Vec<Oid> {
    ranked.sort_unstable();
    let mut oids: Vec<Oid> = ranked.into_iter().map(|(_, oid)| oid).collect();
    let mut seen = std::collections::BTreeSet::new();
    oids.retain(|oid| seen.insert(*oid));
    oids
}
