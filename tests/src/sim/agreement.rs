//! Whether every Gerrit and the refdb show what the facts say, when a run has converged.

use lockstep::seams::blob::long_form::LongForms;
use lockstep::seams::refdb::RefStore;
use lockstep::seams::refdb::staged::{Fate, StagedRefs};
use lockstep_proto::{ProjectKey, ProjectName};

use super::check::convergence;
use super::check::refresh::gerrit_differs;
use super::world::World;

impl World {
    /// The first document of a Gerrit that does not match the refs. None if all match.
    #[must_use]
    pub fn gerrits_differ(&self) -> Option<String> {
        let projects: Vec<ProjectName> = self.watch.known().facts.projects.keys().cloned().collect();
        self.nodes().into_iter().find_map(|node| {
            let (volume, (index, caches)) = (self.volume(&node)?, self.gerrit(&node)?.shows());
            let what = gerrit_differs(volume.as_ref(), &projects, &index, &caches)?;
            Some(format!("Gerrit of {node}: {what}"))
        })
    }

    /// The first ref whose strong read differs from its chain. None if all agree.
    pub async fn refdb_differs(&self) -> Option<String> {
        let long_forms = LongForms::new(self.backend.blobs(), "no-spill".into(), usize::MAX);
        let refdb = StagedRefs::new(self.refdb(), long_forms, self.scenario.writes.items(self.seed), self.bugs);
        let projects: Vec<ProjectKey> = self.watch.known().facts.projects.values().cloned().collect();
        for project in projects {
            let keys = self.watch.known().facts.keys(&project);
            for item in self.refdb().refs.read(&project, &keys).await.ok()?.into_iter().flatten() {
                if let Some(txn) = item.lock
                    && refdb.fate(&txn).await == Ok(Fate::Open)
                {
                    return Some(format!("{project} {} is locked by {txn}, whose fate is open", item.key));
                }
            }
            let items = refdb.read(&project, &keys).await.ok()?;
            let what = convergence::refdb_differs(&self.watch.known().facts, &project, &keys, &items);
            if what.is_some() {
                return what;
            }
        }
        None
    }
}
