//! Strays: values that nobody had committed, and that must give way to what was.
//!
//! Only the sidecar moves refs, but Gerrit's `init` and schema upgrades write behind its back. What they wrote must not be
//! lost when a committed value takes its place: it is kept under a label of its own, until an operator adopts or discards
//! it. Three things look like it and are none:
//! - a step of the ref's own chain, of which a crash left the disk ahead of the version map;
//! - a value that the new one contains (of a sequence: a smaller number);
//! - an older value of a repository that was copied here from another node, when the project jumps and this node's map
//!   knows nothing of the ref. There, only a history that has nothing in common with the new one is a stray.

use std::cmp::Ordering;
use std::sync::Arc;

use lockstep_proto::gerrit::Stray;
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey, RefName, Transaction};

use super::{MaterializeError, Materializer};
use crate::seams::git::{GitError, RefMove, Relation, compare_counters};

/// Begins the labels of strays; `stray/<value>/<ref>`.
const LABEL: &str = "stray/";

/// The label under which a stray is kept.
pub(super) fn label(name: &RefName, value: Oid) -> String {
    format!("{LABEL}{value}/{name}")
}

/// The stray that a label keeps, if it keeps one.
fn parse(label: &str) -> Option<Stray> {
    let (value, name) = label.strip_prefix(LABEL)?.split_once('/')?;
    Some(Stray { name: name.parse().ok()?, value: value.parse().ok()? })
}

impl Materializer {
    /// The strays of a project, in the order of their labels.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub async fn strays(&self, project: &ProjectName) -> Result<Vec<Stray>, GitError> {
        Ok(self.repositories.kept(project).await?.iter().filter_map(|label| parse(label)).collect())
    }

    /// Lets go of a stray.
    ///
    /// # Errors
    /// The repository cannot be written.
    pub async fn forget_stray(&self, project: &ProjectName, stray: &Stray) -> Result<(), GitError> {
        self.repositories.release(project, &[label(&stray.name, stray.value)]).await
    }

    /// What these moves would lose that is a stray, with the labels to keep it by. `steps` are the transactions that they
    /// bring; the version map is as it was before the moves.
    pub(super) async fn stray_values(
        &self,
        project: &ProjectKey,
        moves: &[RefMove],
        steps: &[Arc<Transaction>],
    ) -> Result<Vec<(String, Oid)>, MaterializeError> {
        let mut strays = Vec::new();
        for step in moves {
            let Some(old) = step.old else { continue };
            if self.is_stray(project, step, old, steps).await? {
                let (name, new) = (&step.name, step.new);
                tracing::warn!(%project, %name, %old, ?new, "nobody committed what the disk shows: kept as a stray");
                strays.push((label(name, old), old));
            }
        }
        Ok(strays)
    }

    async fn is_stray(
        &self,
        project: &ProjectKey,
        step: &RefMove,
        old: Oid,
        steps: &[Arc<Transaction>],
    ) -> Result<bool, MaterializeError> {
        let key = RefKey::Ref(step.name.clone());
        let known = self.versions.get(project, &key)?;
        if known.is_none() && steps.is_empty() {
            return match step.new {
                Some(new) => self.is_apart(&project.name, old, new).await,
                None => Ok(false),
            };
        }
        let own = steps.iter().filter_map(|one| one.command(&key));
        let own = own.flat_map(|command| [command.old.oid(), command.new.oid()]);
        let mut chain = own.chain([known.and_then(|record| record.value.oid())]);
        if chain.any(|value| value == Some(old)) {
            return Ok(false);
        }
        match step.new {
            None => Ok(true),
            Some(new) => is_there(self.contains(&project.name, new, old).await, |contained| !contained),
        }
    }

    /// Whether a value holds all that another one said: a commit with the other behind it, or a number that is not smaller.
    ///
    /// # Errors
    /// The repository cannot be read, or one of the values is not there.
    pub async fn contains(&self, project: &ProjectName, value: Oid, other: Oid) -> Result<bool, GitError> {
        if self.repositories.relation(project, other, value).await? == Relation::FastForward {
            return Ok(true);
        }
        let compared = compare_counters(&*self.repositories, project, other, value).await?;
        Ok(compared.is_some_and(Ordering::is_le))
    }

    /// Whether two commits have nothing in common: what is no commit is not held against anybody.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub async fn is_apart(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, MaterializeError> {
        for oid in [one, other] {
            // Only a commit contains anything, itself to begin with.
            let is_commit = |relation| relation == Relation::FastForward;
            if !is_there(self.repositories.relation(project, oid, oid).await, is_commit)? {
                return Ok(false);
            }
        }
        Ok(!self.repositories.share_history(project, one, other).await?)
    }
}

/// An object that a power cut took cannot be kept, and holds nothing up.
fn is_there<T>(found: Result<T, GitError>, is_so: impl FnOnce(T) -> bool) -> Result<bool, MaterializeError> {
    match found {
        Ok(found) => Ok(is_so(found)),
        Err(GitError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_proto::{Command, Pack, RefValue, Version};

    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::volume::RefRecord;
    use crate::seams::volume::memory::MemoryStore;
    use crate::state::materialize::OnMismatch;
    use crate::state::version_map::{Mover, VersionMap};

    const MAIN: &str = "refs/heads/main";

    struct World {
        materializer: Materializer,
        model: ModelRepositories,
        project: ProjectKey,
    }

    fn txn(seq: u64) -> lockstep_proto::TxnId {
        format!("n.1.0.{seq}.00000000000000aa").parse().unwrap()
    }

    impl World {
        async fn new() -> Self {
            let bugs = InjectedBugs::default();
            let model = ModelRepositories::new(bugs);
            let project: ProjectKey = "p#1".parse().unwrap();
            model.create(&project.name, &MAIN.parse().unwrap()).await.unwrap();
            let versions = Arc::new(VersionMap::new(Arc::new(MemoryStore::default()), bugs));
            let materializer = Materializer { repositories: Arc::new(model.clone()), versions, mover: Mover::Other };
            Self { materializer, model, project }
        }

        /// A commit of its own, on another one if there is one.
        fn commit(&self, on: Option<Oid>, nonce: u64) -> Oid {
            self.model.add_object(&self.project.name, &on.into_iter().collect::<Vec<_>>(), nonce)
        }

        /// The version map knows a version of the ref.
        fn known(&self, version: u64, value: Oid) {
            let records = [(MAIN.parse().unwrap(), record(version, value))].into();
            self.materializer.versions.moved(&self.project, records, Mover::Other).unwrap();
        }

        /// Somebody writes.
        async fn written(&self, value: Oid) {
            let name: RefName = MAIN.parse().unwrap();
            let old = self.model.read_ref(&self.project.name, &name).await.unwrap();
            let step = RefMove { name, old, new: Some(value) };
            self.model.move_refs(&self.project.name, &[step], &[]).await.unwrap();
        }

        /// Transactions come, each with the next version of the ref.
        async fn placed(&self, first: u64, values: &[Oid]) {
            let mut old = None;
            let all = values.iter().zip(first..).map(|(value, version)| {
                let command = Command {
                    key: MAIN.parse().unwrap(),
                    old: RefValue::from(old.replace(*value)),
                    new: RefValue::Oid(*value),
                    version: Version(version),
                    predecessor: (version > 1).then(|| txn(version - 1)),
                };
                Arc::new(Transaction {
                    id: txn(version),
                    site: "s".parse().unwrap(),
                    project: self.project.clone(),
                    committed_at_ms: 0,
                    commands: vec![command],
                    pack: Pack::Empty,
                    bases: vec![],
                    request_id: String::new(),
                    actor: String::new(),
                    traceparent: String::new(),
                })
            });
            let all: Vec<_> = all.collect();
            self.materializer.materialize(&self.project, &all, &[], OnMismatch::Replace).await.unwrap();
        }

        async fn strays(&self) -> Vec<Oid> {
            self.materializer.strays(&self.project.name).await.unwrap().into_iter().map(|stray| stray.value).collect()
        }
    }

    fn record(version: u64, value: Oid) -> RefRecord {
        RefRecord { version: Version(version), value: RefValue::Oid(value), txn: txn(version) }
    }

    #[tokio::test]
    async fn what_gives_way_to_a_committed_value_is_kept() {
        let world = World::new().await;
        let one = world.commit(None, 1);
        let (two, init) = (world.commit(Some(one), 2), world.commit(Some(one), 3));
        world.written(init).await;
        world.known(1, one);
        world.placed(2, &[two]).await;
        assert_eq!(world.strays().await, [init]);
        let stray = Stray { name: MAIN.parse().unwrap(), value: init };
        world.materializer.forget_stray(&world.project.name, &stray).await.unwrap();
        assert_eq!(world.strays().await, []);
    }

    #[tokio::test]
    async fn a_disk_that_a_crash_left_ahead_holds_no_stray() {
        let world = World::new().await;
        let one = world.commit(None, 1);
        let (two, three) = (world.commit(None, 2), world.commit(None, 3));
        world.written(two).await;
        world.known(1, one);
        world.placed(2, &[two, three]).await;
        assert_eq!(world.strays().await, []);
    }

    #[tokio::test]
    async fn a_restored_ref_keeps_what_it_does_not_contain() {
        let world = World::new().await;
        let one = world.commit(None, 1);
        let (two, init) = (world.commit(Some(one), 2), world.commit(Some(one), 3));
        let key: RefKey = MAIN.parse().unwrap();
        for (written, strays) in [(one, vec![]), (init, vec![init])] {
            world.written(written).await;
            world.known(2, two);
            world.materializer.restore(&world.project, std::slice::from_ref(&key)).await.unwrap();
            assert_eq!(world.strays().await, strays);
        }
    }

    #[tokio::test]
    async fn an_older_copy_of_another_node_is_no_stray_and_a_history_of_its_own_is() {
        for is_apart in [false, true] {
            let world = World::new().await;
            let one = world.commit(None, 1);
            let latest = world.commit(Some(one), 2);
            let copied = world.commit((!is_apart).then_some(one), 3);
            world.written(copied).await;
            let latest = BTreeMap::from([(MAIN.parse().unwrap(), record(7, latest))]);
            world.materializer.materialize_latest(&world.project, latest).await.unwrap();
            assert_eq!(world.strays().await, if is_apart { vec![copied] } else { vec![] });
        }
    }

    #[test]
    fn a_label_tells_its_stray_and_others_tell_none() {
        let stray = Stray { name: "refs/heads/a/b".parse().unwrap(), value: Oid::Sha1([7; 20]) };
        assert_eq!(parse(&label(&stray.name, stray.value)), Some(stray));
        for other in ["n.1.0.4.00000000000000aa-0", "stray/refs/heads/a", "by-hand"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
