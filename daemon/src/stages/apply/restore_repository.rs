//! A repository that is gone comes back: made anew, with what the version map says and objects from peers.

use std::collections::BTreeSet;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, RefValue};

use super::latest::distinct;
use super::latest::rank;
use super::unit::{UnitError, Units};
use crate::seams::peers::{MOST_OIDS, Peers};
use crate::state::version_map::RefGuard;

/// What a project shows, as the version map has it.
struct Shown {
    head: Option<RefName>,
    keys: Vec<RefKey>,
    values: Vec<Oid>,
}

impl Units {
    /// Brings the repository of a project back. While it is made, nobody else applies anything to the project.
    ///
    /// # Errors
    /// No peer has everything, or the disk fails: try again. Before the first objects came, nothing was made.
    pub(super) async fn restore_repository(&self, project: &ProjectKey, peers: &dyn Peers) -> Result<(), UnitError> {
        let Some((_guard, shown)) = self.held(project).await? else { return Ok(()) };
        let head = self.bring(project, &shown, peers).await?;
        self.repositories.set_head(&project.name, &head).await?;
        Ok(self.materializer.restore(project, &shown.keys).await?)
    }

    /// Brings the objects of a project's values back, and the repository when there is none; no ref is moved.
    ///
    /// # Errors
    /// As [`Units::revive`].
    pub(super) async fn refetch_objects(&self, project: &ProjectKey, peers: &dyn Peers) -> Result<(), UnitError> {
        let Some((_guard, shown)) = self.held(project).await? else { return Ok(()) };
        self.bring(project, &shown, peers).await.map(drop)
    }

    /// What a project shows, and the locks under which that stays so; none when it is gone.
    async fn held(&self, project: &ProjectKey) -> Result<Option<(RefGuard, Shown)>, UnitError> {
        let shown = self.shown(project)?;
        let keys: BTreeSet<RefKey> = shown.keys.iter().cloned().chain([RefKey::State, RefKey::Head]).collect();
        let guard = self.versions.locks.lock(&project.name, keys).await;
        if self.versions.project_key(&project.name)?.as_ref() != Some(project) {
            return Ok(None);
        }
        // Again, under the locks: what was moved before they were taken. A ref that is new since is left to its own move.
        Ok(Some((guard, self.shown(project)?)))
    }

    /// The repository with all objects; answers what its `HEAD` is to be.
    async fn bring(&self, project: &ProjectKey, shown: &Shown, peers: &dyn Peers) -> Result<RefName, UnitError> {
        let head = match &shown.head {
            Some(head) => head.clone(),
            None => crate::state::materialize::default_head(&project.name)?,
        };
        let mut haves: Vec<Oid> = Vec::new();
        if shown.values.is_empty() {
            self.repositories.create(&project.name, &head).await?;
        }
        for wants in shown.values.chunks(MOST_OIDS) {
            haves.truncate(MOST_OIDS);
            let packs = peers.objects(&project.name, wants, &haves).await?;
            self.repositories.create(&project.name, &head).await?;
            self.repositories.ingest(&project.name, &packs, wants, &[]).await?;
            haves.splice(0..0, wants.iter().copied());
        }
        Ok(head)
    }

    fn shown(&self, project: &ProjectKey) -> Result<Shown, UnitError> {
        let (mut head, mut keys, mut ranked) = (None, Vec::new(), Vec::new());
        self.versions.visit(project, |key, record| match record.value {
            RefValue::Symref(target) if key == RefKey::Head => head = Some(target),
            RefValue::Oid(oid) => {
                ranked.push((rank(&key), oid));
                keys.push(key);
            }
            _ => {}
        })?;
        Ok(Shown { head, keys, values: distinct(ranked) })
    }
}
