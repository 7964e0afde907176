//! Restores a missing repository: creates it anew, with the refs of the version map and objects from peers. Replaces
//! the missing or damaged objects of one that is there.

use std::collections::BTreeSet;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, RefValue};

use super::atomic_apply::{UnitError, Units};
use super::refdb_items::distinct;
use super::refdb_items::rank;
use crate::seams::peers::{OnArrival, Peers, fetch};
use crate::state::version_map::RefGuard;

/// The refs of a project according to the version map: its `HEAD`, the refs that exist, and their objects.
struct Shown {
    head: Option<RefName>,
    keys: Vec<RefKey>,
    values: Vec<Oid>,
}

impl Units {
    /// Restores the repository of a project. Meanwhile nobody else applies anything to the project.
    ///
    /// # Errors
    /// No peer has all objects, or the disk failed: try again. Nothing is created before the first objects arrive.
    pub(super) async fn restore_repository(&self, project: &ProjectKey, peers: &dyn Peers) -> Result<(), UnitError> {
        let Some((_guard, shown)) = self.held(project).await? else { return Ok(()) };
        let head = self.bring(project, &shown, peers).await?;
        self.repositories.set_head(&project.name, &head).await?;
        Ok(self.materializer.restore(project, &shown.keys).await?)
    }

    /// Fetches the objects of all values of a project from peers, and creates the repository if it is missing. Moves no
    /// ref.
    ///
    /// # Errors
    /// As [`Units::restore_repository`].
    pub(super) async fn refetch_objects(&self, project: &ProjectKey, peers: &dyn Peers) -> Result<(), UnitError> {
        let Some((_guard, shown)) = self.held(project).await? else { return Ok(()) };
        self.bring(project, &shown, peers).await.map(drop)
    }

    /// Fetches the objects of all values of a project from peers, and takes them in the place of damaged copies. The
    /// damaged files are renamed only once a peer has sent the first objects. Moves no ref, and holds no lock: objects
    /// of later values arrive with those values.
    ///
    /// # Errors
    /// No peer has all objects, or the disk failed: try again.
    pub(super) async fn replace_objects(
        &self,
        project: &ProjectKey,
        damaged: &[Oid],
        peers: &dyn Peers,
    ) -> Result<(), UnitError> {
        if self.versions.project_key(&project.name)?.as_ref() != Some(project) {
            return Ok(());
        }
        let (values, on_arrival) = (self.shown(project)?.values, OnArrival::SetAside(damaged));
        fetch(peers, &*self.repositories, &project.name, &values, &[], on_arrival).await
    }

    /// Locks the refs of a project, and reads them from the version map. Returns `None` if the project is gone.
    async fn held(&self, project: &ProjectKey) -> Result<Option<(RefGuard, Shown)>, UnitError> {
        let shown = self.shown(project)?;
        let keys: BTreeSet<RefKey> = shown.keys.iter().cloned().chain([RefKey::State, RefKey::Head]).collect();
        let guard = self.versions.locks.lock(&project.name, keys).await;
        if self.versions.project_key(&project.name)?.as_ref() != Some(project) {
            return Ok(None);
        }
        // Read again under the locks, because refs may have moved before. A ref that was created since the first read
        // is left to the move that created it.
        Ok(Some((guard, self.shown(project)?)))
    }

    /// Fetches all objects into the repository, and creates it first if it is missing. Returns the branch to which its
    /// `HEAD` must point.
    async fn bring(&self, project: &ProjectKey, shown: &Shown, peers: &dyn Peers) -> Result<RefName, UnitError> {
        let head = match &shown.head {
            Some(head) => head.clone(),
            None => crate::state::materialize::default_head(&project.name)?,
        };
        if shown.values.is_empty() {
            self.repositories.create(&project.name, &head).await?;
        }
        let on_arrival = OnArrival::Create(&head);
        fetch::<UnitError>(peers, &*self.repositories, &project.name, &shown.values, &[], on_arrival).await?;
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
