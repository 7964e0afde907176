//! A repository that is gone comes back: made anew, with what the version map says and objects from peers.

use std::collections::BTreeSet;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, RefValue};

use super::latest::distinct;
use super::latest::rank;
use super::unit::{UnitError, Units};
use crate::peers::{MOST_OIDS, Peers};

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
    pub(super) async fn revive(&self, project: &ProjectKey, peers: &dyn Peers) -> Result<(), UnitError> {
        let shown = self.shown(project)?;
        let keys: BTreeSet<RefKey> = shown.keys.iter().cloned().chain([RefKey::State, RefKey::Head]).collect();
        let _guard = self.table.locks.lock(&project.name, keys).await;
        if self.table.project_key(&project.name)?.as_ref() != Some(project) {
            return Ok(());
        }
        // Again, under the locks: what was moved before they were taken. A ref that is new since is left to its own move.
        let shown = self.shown(project)?;
        let head = match &shown.head {
            Some(head) => head.clone(),
            None => crate::place::default_head(&project.name)?,
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
        self.repositories.set_head(&project.name, &head).await?;
        Ok(self.placer.restore(project, &shown.keys).await?)
    }

    fn shown(&self, project: &ProjectKey) -> Result<Shown, UnitError> {
        let (mut head, mut keys, mut ranked) = (None, Vec::new(), Vec::new());
        self.table.visit(project, |key, record| match record.value {
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
