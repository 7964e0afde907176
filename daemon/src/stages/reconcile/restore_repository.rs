//! The repository restorer: restores the missing repository of a living project, with objects from peers.
//!
//! A repository may be missing although its project lives. The delete-project plugin moves the folder away before it
//! asks for the deletion, which may then be refused or never arrive. An operator may take away a folder that was
//! initialised apart. The start of a restoration is noted durably before the repository is created, so that a crash
//! leaves no repository that lacks refs and is taken for complete.
//!
//! It also ends the work of a resync that died after it had taken garbled files away in a project to which `init`
//! writes. It fetches the objects at once. But the refs on the disk may be writes of `init` by then, so it sets them
//! only once a Gerrit runs, whose handshake has committed such writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};
use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::git::{GitError, Repositories};
use crate::seams::refdb::{RefDb, RefDbError};
use crate::seams::volume::{NodeStore, StoreError, VolumeFacts};
use crate::stages::ports::{CatchUp, CatchUpError};
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Durability;
use crate::state::materialize::{MaterializeError, Materializer};
use crate::state::version_map::VersionMap;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation on a repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A call of the refdb failed. A retry may help.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The objects or refs could not be brought.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// A repository stays missing.
    #[error("the repository of {project} is missing and cannot be restored yet: {why}")]
    Missing {
        /// The living project that has no repository.
        project: ProjectName,
        /// Why it was not restored.
        why: Box<RestoreError>,
    },
    /// The refs on the disk could not be set.
    #[error(transparent)]
    Materialize(#[from] MaterializeError),
    /// A resync was cut off, and its work cannot be ended.
    #[error("{project} lacks objects since a resync that was cut off, and cannot be mended yet: {why}")]
    NotMended {
        /// The project that lacks objects.
        project: ProjectName,
        /// Why it was not mended.
        why: Box<RestoreError>,
    },
}

/// The knowledge of one run about those before it.
#[derive(Debug, Default)]
struct Before {
    /// The projects whose repositories were missing at the last look.
    gone: BTreeSet<ProjectName>,
    /// The projects that are being mended, and whose objects are here.
    fetched: BTreeSet<ProjectName>,
}

/// The repository restorer of one node.
pub struct RepositoryRestorer {
    /// The refdb, which tells whether a project still lives.
    refdb: RefDb,
    /// The version map, which has the projects that this node knows.
    versions: Arc<VersionMap>,
    /// The repositories of this node.
    repositories: Arc<dyn Repositories>,
    /// Has the note of restorations in progress.
    store: Arc<dyn NodeStore>,
    /// Makes that note durable.
    durability: Durability,
    /// Restores a repository, with refs and objects.
    catch_up: Arc<dyn CatchUp>,
    /// Sets refs on the disk.
    materializer: Materializer,
    /// Receives every run that failed.
    observer: Arc<dyn Observer>,
    /// The pause between two runs.
    pace: Duration,
    /// Whether a Gerrit that was let in runs at this node.
    gerrit_runs: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl RepositoryRestorer {
    /// Creates a restorer that restores through `catch_up`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, catch_up: Arc<dyn CatchUp>, pace: Duration) -> Self {
        let NodeContext { refdb, repositories, store, observer, .. } = context.clone();
        let NodeState { versions, durability, materializer, .. } = state.clone();
        let gerrit_runs = Arc::new(|| true);
        Self { refdb, versions, repositories, store, durability, catch_up, materializer, observer, pace, gerrit_runs }
    }

    /// Sets refs of projects to which `init` writes only while a Gerrit runs.
    #[must_use]
    pub fn while_runs(self, gerrit_runs: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        Self { gerrit_runs, ..self }
    }

    /// Looks for missing repositories periodically, until the task is aborted.
    pub async fn run(self) {
        let mut before = Before::default();
        loop {
            sleep(self.pace).await;
            if let Err(why) = self.look(&mut before).await {
                self.observer.failed("restore-repository", &why);
            }
        }
    }

    /// Looks once. A missing repository is restored only if the run before missed it too, because mostly the deletion
    /// of its project is just on its way. A restoration in progress is continued at once.
    async fn look(&self, before: &mut Before) -> Result<(), RestoreError> {
        let VolumeFacts { restoring: under_way, mending, .. } = self.facts()?;
        let mut gone = BTreeSet::new();
        for (name, record) in self.versions.projects()? {
            let lives = matches!(record.value, RefValue::State(state) if lives(state.phase));
            if !lives {
                continue;
            }
            let is_there = self.repositories.exists(&name).await?;
            if under_way.contains(&name) || !is_there {
                gone.insert(name);
            }
        }
        let mut failed = None;
        for name in &gone {
            if (under_way.contains(name) || before.gone.contains(name))
                && let Err(why) = self.restore_repository(name).await
            {
                failed = Some(RestoreError::Missing { project: name.clone(), why: Box::new(why) });
            }
        }
        for name in under_way.iter().filter(|name| !gone.contains(*name)) {
            // The project was deleted meanwhile.
            self.note(name, false).await?;
        }
        for name in mending.iter().filter(|name| !gone.contains(*name)) {
            if let Err(why) = self.mend(name, &mut before.fetched).await {
                failed = Some(RestoreError::NotMended { project: name.clone(), why: Box::new(why) });
            }
        }
        before.gone = gone;
        failed.map_or(Ok(()), Err)
    }

    /// Ends the work of a resync that was cut off. Objects are fetched once per start. Refs wait for a Gerrit: before
    /// its handshake, they may be writes of `init`.
    async fn mend(&self, name: &ProjectName, fetched: &mut BTreeSet<ProjectName>) -> Result<(), RestoreError> {
        let Some(key) = self.living(name).await? else { return Ok(()) };
        if !fetched.contains(name) {
            tracing::error!(project = %key, "a resync was cut off: fetching the objects that it has taken away");
            self.catch_up.refetch_objects(&key).await?;
            fetched.insert(name.clone());
        }
        if (self.gerrit_runs)() {
            self.materializer.make_known(&key).await?;
            self.durability.wait_durable().await;
            self.durability.change_facts(|facts| {
                facts.mending.remove(name);
            })?;
            self.durability.wait_durable().await;
            fetched.remove(name);
            tracing::warn!(project = %key, "the project is whole again");
        }
        Ok(())
    }

    /// The project of this name, if it lives. None if its deletion, or a successor of it, is on its way to this node.
    async fn living(&self, name: &ProjectName) -> Result<Option<ProjectKey>, RestoreError> {
        let any = ProjectKey::of_name(name);
        let read = self.refdb.refs.read(&any, &[RefKey::State]).await?;
        let state = read.into_iter().flatten().next().map(|item| item.value);
        let Some(RefValue::State(state)) = state else { return Ok(None) };
        let key = ProjectKey::new(name, state.incarnation);
        let known = self.versions.project_key(name)?;
        Ok(known.filter(|known| lives(state.phase) && *known == key))
    }

    async fn restore_repository(&self, name: &ProjectName) -> Result<(), RestoreError> {
        let Some(key) = self.living(name).await? else { return Ok(()) };
        tracing::error!(project = %key, "the repository of a living project is missing: restoring it from a peer");
        self.note(name, true).await?;
        self.catch_up.restore_repository(&key).await?;
        self.note(name, false).await?;
        tracing::warn!(project = %key, "the repository is restored");
        Ok(())
    }

    fn facts(&self) -> Result<VolumeFacts, StoreError> {
        self.store.facts()
    }

    /// Notes durably whether the repository of a project is being restored. Everything that was moved before becomes
    /// durable first.
    async fn note(&self, name: &ProjectName, is_under_way: bool) -> Result<(), StoreError> {
        self.durability.wait_durable().await;
        if self.facts()?.restoring.contains(name) == is_under_way {
            return Ok(());
        }
        self.durability.change_facts(|facts| {
            match is_under_way {
                true => facts.restoring.insert(name.clone()),
                false => facts.restoring.remove(name),
            };
        })?;
        self.durability.wait_durable().await;
        Ok(())
    }
}

/// Whether a project in this phase has a repository. A closing project is about to lose it.
fn lives(phase: ProjectPhase) -> bool {
    matches!(phase, ProjectPhase::Active | ProjectPhase::ReadOnly)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use lockstep_proto::{Command, Oid, ProjectState, RefName, Slot, Transaction, TxnId, Version};

    use super::*;
    use crate::seams::git::RefMove;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::refdb::{CommitAnswer, CommitRequest};
    use crate::seams::volume::RefRecord;
    use crate::stages::ports::Behind;
    use crate::state::version_map::Mover;

    const TXN: &str = "n.1.0.0.00000000000000aa";
    const NOT_ASKED: &str = "the restorer does not ask for this here";

    /// A catch-up that counts how often objects were fetched.
    #[derive(Default)]
    struct Counts(AtomicUsize);

    #[async_trait]
    impl CatchUp for Counts {
        async fn keys(&self, _: &ProjectKey, _: &[RefKey]) -> Result<(), CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn project(&self, _: &ProjectName) -> Result<(), CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn journal(&self, _: &TxnId) -> Result<Option<Bytes>, CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn is_collectable(&self, _: &Slot) -> Result<bool, CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn may_be_late(&self, _: &Slot) -> Result<bool, CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn transfer_state(&self, _: &ProjectName) -> Result<(), CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn projects(&self) -> Result<Behind, CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn bring_up_to_date(&self, _: &ProjectName) -> Result<(), CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn restore_repository(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        async fn refetch_objects(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn everything(&self) -> Result<Behind, CatchUpError> {
            unreachable!("{NOT_ASKED}")
        }

        fn later(&self, _: &ProjectKey, _: Vec<RefKey>) {
            unreachable!("{NOT_ASKED}")
        }
    }

    fn project() -> ProjectKey {
        "All-Projects#1".parse().unwrap()
    }

    fn config() -> RefName {
        "refs/meta/config".parse().unwrap()
    }

    /// A node that has one project with one ref, in the refdb, in the version map and on the disk. Returns the value of
    /// the ref, and the repositories.
    async fn node() -> (NodeContext, NodeState, Oid, ModelRepositories) {
        let (name, here) = (project().name, ModelRepositories::default());
        let context = NodeContext { repositories: Arc::new(here.clone()), ..NodeContext::in_memory() };
        context.open_incarnation().await;
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        context.tasks.spawn("durability", state.durability.clone().run());
        here.create(&name, &config()).await.unwrap();
        let value = here.add_object(&name, &[], 1);
        let active = ProjectState { phase: ProjectPhase::Active, incarnation: 1 };
        let refs = [
            (RefKey::State, RefValue::State(active)),
            (RefKey::Head, RefValue::Symref(config())),
            (RefKey::Ref(config()), RefValue::Oid(value)),
        ];
        let commands = refs.iter().map(|(key, new)| Command::creation(key.clone(), new.clone())).collect();
        let empty = Transaction::empty(TXN.parse().unwrap(), context.site.clone(), project());
        let transaction = Transaction { commands, ..empty };
        let (encoded, directories) = (transaction.encode(), Vec::new());
        let request = CommitRequest { transaction, encoded, directories, freed: Default::default(), lock_token: None };
        assert_eq!(context.refdb.refs.commit(&request).await, Ok(CommitAnswer::Committed));
        let record = |value| RefRecord { version: Version(1), value, txn: TXN.parse().unwrap() };
        let known = refs.into_iter().map(|(key, value)| (key, record(value))).collect();
        state.versions.moved(&project(), known, Mover::Other).unwrap();
        set(&here, None, value).await;
        (context, state, value, here)
    }

    /// Moves the ref on the disk, around the sidecar.
    async fn set(here: &ModelRepositories, old: Option<Oid>, new: Oid) {
        let moved = RefMove { name: config(), old, new: Some(new), message: String::new() };
        here.move_refs(&project().name, &[moved], &[]).await.unwrap();
    }

    /// A resync of a Gerrit's project had taken files away when node and Gerrit died. Then `init` wrote.
    #[tokio::test(start_paused = true)]
    async fn after_a_resync_that_died_objects_come_at_once_and_refs_are_set_only_while_a_gerrit_runs() {
        let (context, state, value, here) = node().await;
        let facts = || context.store.facts().unwrap();
        let noted = VolumeFacts { mending: [project().name].into(), ..facts() };
        state.durability.stage(|changes| changes.facts = Some(noted));
        state.durability.wait_durable().await;
        let by_init = here.add_object(&project().name, &[value], 2);
        set(&here, Some(value), by_init).await;
        let (runs, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let (seen, pace) = (Arc::clone(&runs), Duration::from_secs(1));
        let restorer = RepositoryRestorer::new(&context, &state, counts.clone(), pace)
            .while_runs(Arc::new(move || seen.load(Ordering::SeqCst)));
        let mut before = Before::default();
        for _ in 0..2 {
            restorer.look(&mut before).await.unwrap();
            assert_eq!(here.refs(&project().name).get(&config()), Some(&by_init), "the handshake decides about it");
            assert_eq!((counts.0.load(Ordering::SeqCst), facts().mending.len()), (1, 1));
        }
        runs.store(true, Ordering::SeqCst);
        restorer.look(&mut before).await.unwrap();
        assert_eq!(here.refs(&project().name).get(&config()), Some(&value));
        assert_eq!((counts.0.load(Ordering::SeqCst), facts().mending.len()), (1, 0));
    }
}
