//! Restores a missing repository: creates it anew, with the refs of the version map and objects from peers. Replaces
//! the missing or damaged objects of one that is there.

use std::collections::BTreeSet;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, RefValue};

use super::atomic_apply::{UnitError, Units};
use super::refdb_items::distinct;
use super::refdb_items::rank;
use crate::seams::peers::{MOST_ALONE, OnArrival, Peers, fetch, fetch_alone};
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

    /// Fetches damaged or missing objects of a project from peers, and takes them in the place of the copies here. If
    /// that does not make all values complete, or there are too many, fetches the objects of all values. The damaged
    /// files are renamed only once a peer has sent the first objects. Moves no ref, and holds no lock: objects of later
    /// values arrive with those values.
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
        let values = self.shown(project)?.values;
        if (1..=MOST_ALONE).contains(&damaged.len()) {
            match self.replace_alone(project, damaged, &values, peers).await {
                Ok(true) => return Ok(()),
                Ok(false) => tracing::warn!(%project, "more objects are missing: fetching all that the refs need"),
                Err(why) => tracing::warn!(%project, %why, "fetching all objects that the refs need, not these alone"),
            }
        }
        let on_arrival = OnArrival::SetAside(damaged);
        fetch(peers, &*self.repositories, &project.name, &values, &[], on_arrival).await
    }

    /// Fetches damaged or missing objects alone. Returns whether all values are complete then. Objects that nobody has
    /// met may be gone too: with a file that this try or an earlier one has put away, or as the met ones are.
    async fn replace_alone(
        &self,
        project: &ProjectKey,
        damaged: &[Oid],
        values: &[Oid],
        peers: &dyn Peers,
    ) -> Result<bool, UnitError> {
        fetch_alone::<UnitError>(peers, &*self.repositories, &project.name, damaged).await?;
        Ok(self.repositories.is_complete(&project.name, values).await?)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use lockstep_proto::{ProjectName, ProjectPhase, ProjectState, Version};

    use super::*;
    use crate::seams::blob::Payload;
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::peers::{PeerError, serve};
    use crate::seams::volume::RefRecord;
    use crate::state::context::{NodeContext, NodeState};
    use crate::state::version_map::Mover;

    /// A peer that counts the requests for some objects alone, and those for all that values need.
    struct There {
        model: ModelRepositories,
        alone: AtomicUsize,
        whole: AtomicUsize,
    }

    impl There {
        fn asked(&self) -> (usize, usize) {
            (self.alone.load(Ordering::SeqCst), self.whole.load(Ordering::SeqCst))
        }
    }

    #[async_trait]
    impl Peers for There {
        async fn objects(
            &self,
            project: &ProjectName,
            wants: &[Oid],
            haves: &[Oid],
        ) -> Result<Vec<Payload>, PeerError> {
            self.whole.fetch_add(1, Ordering::SeqCst);
            serve::objects(&self.model, project, wants, haves).await
        }

        async fn objects_alone(&self, project: &ProjectName, wants: &[Oid]) -> Result<Vec<Payload>, PeerError> {
            self.alone.fetch_add(1, Ordering::SeqCst);
            serve::objects_alone(&self.model, project, wants).await
        }
    }

    fn project() -> ProjectKey {
        "p#1".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn damaged_objects_are_fetched_alone_and_all_others_only_if_that_is_not_enough() {
        let main: RefName = "refs/heads/main".parse().unwrap();
        let models = [(); 2].map(|()| ModelRepositories::default());
        let mut values = Vec::new();
        for model in &models {
            model.create(&project().name, &main).await.unwrap();
            let base = model.add_object(&project().name, &[], 1);
            values = vec![base, model.add_object(&project().name, &[base], 2)];
        }
        let ([here, model], [base, value]) = (models, [values[0], values[1]]);
        let there = There { model, alone: AtomicUsize::default(), whole: AtomicUsize::default() };
        let context = NodeContext { repositories: Arc::new(here.clone()), ..NodeContext::in_memory() };
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        let active = ProjectState { phase: ProjectPhase::Active, incarnation: 1 };
        let refs = [(RefKey::State, RefValue::State(active)), (RefKey::Ref(main), RefValue::Oid(value))];
        let txn = "n.1.0.0.00000000000000aa";
        let record = |value| RefRecord { version: Version(1), value, txn: txn.parse().unwrap() };
        let known = refs.into_iter().map(|(key, value)| (key, record(value))).collect();
        state.versions.moved(&project(), known, Mover::Other).unwrap();
        let units = Units::new(&context, &state);

        here.lose_object(&project().name, &base);
        here.lose_object(&project().name, &value);
        units.replace_objects(&project(), &[base, value], &there).await.unwrap();
        assert!(here.closure_is_complete(&project().name, value));
        assert_eq!(there.asked(), (1, 0), "two objects, and one request for these");

        // Nobody has met the other one. It may have been in a file that an earlier try has put away.
        let beside = there.model.add_object(&project().name, &[], 3);
        units.replace_objects(&project(), &[beside], &there).await.unwrap();
        assert_eq!(there.asked(), (2, 0), "nothing else is gone");
        here.lose_object(&project().name, &beside);
        here.lose_object(&project().name, &value);
        units.replace_objects(&project(), &[beside], &there).await.unwrap();
        assert!(here.closure_is_complete(&project().name, value));
        assert_eq!(there.asked(), (3, 1));

        // No ref needs this object, and no peer has it.
        units.replace_objects(&project(), &[Oid::Sha1([7; 20])], &there).await.unwrap();
        assert_eq!(there.asked(), (4, 2));

        let many: Vec<Oid> = std::iter::repeat_n(Oid::Sha1([7; 20]), MOST_ALONE + 1).collect();
        units.replace_objects(&project(), &many, &there).await.unwrap();
        assert_eq!(there.asked(), (4, 3), "more than a request takes");
    }
}
