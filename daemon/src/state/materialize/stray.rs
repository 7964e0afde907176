//! Strays: values on the disk that were never committed, and that give way to committed values.
//!
//! Only the sidecar moves refs, but Gerrit's `init` and its schema upgrades write without the sidecar. Their values
//! must not be lost when a committed value takes their place, and neither must values that a site was about to commit
//! when it was fenced. Each is kept under a label of its own until an operator adopts or discards it. Three kinds of
//! values look like strays and are none:
//! - a step of the ref's own chain, when a crash left the disk ahead of the version map;
//! - a value that the new value contains (for a sequence: a smaller number);
//! - an older value in a repository that was copied from another node, when a state transfer meets a ref that this
//!   node's map does not know. Such a value is a stray only if its history has nothing in common with the new one, or
//!   if it is further on than the new one.

use std::sync::Arc;

use lockstep_proto::gerrit::Stray;
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey, RefName, Transaction};

use super::contained::is_there;
use super::{MaterializeError, Materializer};
use crate::seams::git::{GitError, RefMove};
use crate::seams::volume::StoreError;

/// The prefix of a stray's label, which has the form `stray/<value>/<ref>`.
const LABEL: &str = "stray/";
/// The same for a value that its ref never had, on the disk neither. It stands in nobody's way, and in no handshake.
const UNCOMMITTED: &str = "uncommitted/";

/// The label under which a stray is kept.
#[must_use]
pub fn stray_label(name: &RefName, value: Oid) -> String {
    label(LABEL, name, value)
}

fn label(prefix: &str, name: &RefName, value: Oid) -> String {
    format!("{prefix}{value}/{name}")
}

/// Whether a label is that of a stray.
#[must_use]
pub fn is_stray(label: &str) -> bool {
    parse(label).is_some()
}

/// The stray that a label names; none when the label is not a stray's.
fn parse(label: &str) -> Option<Stray> {
    let (value, name) = label.strip_prefix(LABEL).or_else(|| label.strip_prefix(UNCOMMITTED))?.split_once('/')?;
    Some(Stray { name: name.parse().ok()?, value: value.parse().ok()? })
}

impl Materializer {
    /// The strays of a project, in the order of their labels.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub async fn strays(&self, project: &ProjectName) -> Result<Vec<Stray>, GitError> {
        let mut strays = Vec::new();
        for stray in self.repositories.kept(project).await?.iter().filter_map(|label| parse(label)) {
            if !strays.contains(&stray) {
                strays.push(stray);
            }
        }
        Ok(strays)
    }

    /// The strays that were on the disk, in the order of their labels.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub async fn strays_of_disk(&self, project: &ProjectName) -> Result<Vec<Stray>, GitError> {
        let labels = self.repositories.kept(project).await?;
        Ok(labels.iter().filter(|label| label.starts_with(LABEL)).filter_map(|label| parse(label)).collect())
    }

    /// Keeps a value that a ref never got as a stray. A value whose object is missing is not kept.
    ///
    /// # Errors
    /// The repository cannot be written.
    pub async fn keep_stray(&self, project: &ProjectName, name: &RefName, value: Oid) -> Result<(), GitError> {
        self.repositories.move_refs(project, &[], &[(label(UNCOMMITTED, name, value), value)]).await
    }

    /// Releases a stray: its value is no longer kept from garbage collection.
    ///
    /// # Errors
    /// The repository cannot be written.
    pub async fn forget_stray(&self, project: &ProjectName, stray: &Stray) -> Result<(), GitError> {
        let labels = [LABEL, UNCOMMITTED].map(|prefix| label(prefix, &stray.name, stray.value));
        self.repositories.release(project, &labels).await
    }

    /// Releases the strays of a project that the committed values of their refs contain: nothing of them is lost.
    ///
    /// # Errors
    /// The repository cannot be read or written.
    pub async fn release_contained(&self, project: &ProjectName) -> Result<(), MaterializeError> {
        for stray in self.strays(project).await? {
            let Some(value) = self.repositories.read_ref(project, &stray.name).await? else { continue };
            let is_same = value == stray.value;
            if is_same || is_there(self.contains(project, value, stray.value).await, |contained| contained)? {
                self.forget_stray(project, &stray).await?;
            }
        }
        Ok(())
    }

    /// The strays that these moves would lose, with the labels to keep them by. `steps` are the transactions that the
    /// moves materialize. The version map is in its state before the moves.
    pub(super) async fn stray_values(
        &self,
        project: &ProjectKey,
        moves: &[RefMove],
        steps: &[Arc<Transaction>],
    ) -> Result<Vec<(String, Oid)>, MaterializeError> {
        let mut questions = Vec::with_capacity(moves.len());
        for step in moves {
            let Some(old) = step.old else { continue };
            questions.push((step, old, self.question(project, step, old, steps)?));
        }
        let asked: Vec<(Oid, Oid)> = questions.iter().filter_map(|(_, old, question)| question.pair(*old)).collect();
        let mut contained = self.contain(&project.name, &asked).await?.into_iter();
        let (mut strays, mut copies) = (Vec::new(), Vec::new());
        for (step, old, question) in questions {
            let is_stray = match question {
                Question::Answered(is_stray) => is_stray,
                Question::GivesWay(_) => contained.next().flatten() == Some(false),
                Question::Copied(new) => {
                    let is_ahead = contained.next().flatten() == Some(true);
                    if !is_ahead {
                        copies.push((step, (old, new)));
                    }
                    is_ahead
                }
            };
            if is_stray {
                strays.push((step, old));
            }
        }
        let pairs: Vec<(Oid, Oid)> = copies.iter().map(|(_, pair)| *pair).collect();
        let apart = self.apart(&project.name, &pairs).await?;
        let apart = copies.into_iter().zip(apart).filter(|(_, is_apart)| *is_apart);
        strays.extend(apart.map(|((step, (old, _)), _)| (step, old)));
        let labelled = strays.into_iter().map(|(step, old)| {
            let (name, new) = (&step.name, step.new);
            tracing::warn!(%project, %name, %old, ?new, "a value on disk was never committed: kept as a stray");
            (stray_label(name, old), old)
        });
        Ok(labelled.collect())
    }

    /// The question to the repository that decides whether a value is a stray. No repository is read for it.
    fn question(
        &self,
        project: &ProjectKey,
        step: &RefMove,
        old: Oid,
        steps: &[Arc<Transaction>],
    ) -> Result<Question, StoreError> {
        let key = RefKey::Ref(step.name.clone());
        let known = self.versions.get(project, &key)?;
        // While the node comes back, the disk is no copy: it has what users wrote.
        if known.is_none() && steps.is_empty() && !self.comes_back.is_so() {
            return Ok(step.new.map_or(Question::Answered(false), Question::Copied));
        }
        let own = steps.iter().filter_map(|one| one.command(&key));
        let own = own.flat_map(|command| [command.old.oid(), command.new.oid()]);
        let mut chain = own.chain([known.and_then(|record| record.value.oid())]);
        if chain.any(|value| value == Some(old)) {
            return Ok(Question::Answered(false));
        }
        Ok(step.new.map_or(Question::Answered(true), Question::GivesWay))
    }
}

/// The question that decides whether a value is a stray.
enum Question {
    /// None: it is known.
    Answered(bool),
    /// Whether this new value contains it. Then nothing of it is lost.
    GivesWay(Oid),
    /// Whether it is further on than this new value, or has no history in common with it. The repository may be a copy
    /// of another node's.
    Copied(Oid),
}

impl Question {
    /// The pair of values to ask about: whether the first one contains the second.
    fn pair(&self, old: Oid) -> Option<(Oid, Oid)> {
        match self {
            Self::Answered(_) => None,
            Self::GivesWay(new) => Some((*new, old)),
            Self::Copied(new) => Some((old, *new)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_proto::{Command, RefValue, Version};

    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::volume::RefRecord;
    use crate::state::materialize::OnMismatch;
    use crate::state::version_map::Mover;

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
            let model = ModelRepositories::new(InjectedBugs::default());
            let project: ProjectKey = "p#1".parse().unwrap();
            model.create(&project.name, &MAIN.parse().unwrap()).await.unwrap();
            Self { materializer: Materializer::of_model(&model), model, project }
        }

        /// Adds a new commit, on top of `on` if there is one.
        fn commit(&self, on: Option<Oid>, nonce: u64) -> Oid {
            self.model.add_object(&self.project.name, &on.into_iter().collect::<Vec<_>>(), nonce)
        }

        /// Records a version of the ref in the version map.
        fn known(&self, version: u64, value: Oid) {
            let records = [(MAIN.parse().unwrap(), record(version, value))].into();
            self.materializer.versions.moved(&self.project, records, Mover::Other).unwrap();
        }

        /// Moves the ref on the disk, as a program other than the sidecar does.
        async fn written(&self, value: Oid) {
            let name: RefName = MAIN.parse().unwrap();
            let old = self.model.read_ref(&self.project.name, &name).await.unwrap();
            let step = RefMove { name, old, new: Some(value), message: String::new() };
            self.model.move_refs(&self.project.name, &[step], &[]).await.unwrap();
        }

        /// Materializes transactions, each with the next version of the ref.
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
                    commands: vec![command],
                    ..Transaction::empty(txn(version), "s".parse().unwrap(), self.project.clone())
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
    async fn a_value_that_gives_way_to_a_committed_one_is_kept() {
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
    async fn a_value_that_its_ref_never_had_is_listed_and_stands_in_no_handshake() {
        let world = World::new().await;
        let late = world.commit(None, 1);
        let stray = Stray { name: MAIN.parse().unwrap(), value: late };
        let (materializer, project) = (&world.materializer, &world.project.name);
        materializer.keep_stray(project, &stray.name, late).await.unwrap();
        assert_eq!(world.strays().await, [late]);
        assert_eq!(materializer.strays_of_disk(project).await.unwrap(), []);
        materializer.forget_stray(project, &stray).await.unwrap();
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

    /// Takes a state transfer that gives the ref this value, with version 7, or deletes it.
    async fn transferred(world: &World, value: Option<Oid>) -> Option<Oid> {
        let latest = RefRecord { version: Version(7), value: RefValue::from(value), txn: txn(7) };
        let latest = BTreeMap::from([(MAIN.parse().unwrap(), latest)]);
        world.materializer.materialize_latest(&world.project, latest).await.unwrap();
        world.model.read_ref(&world.project.name, &MAIN.parse().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_state_transfer_keeps_a_value_that_the_version_map_does_not_know() {
        for is_deleted in [false, true] {
            for is_ahead in [false, true] {
                let world = World::new().await;
                let one = world.commit(None, 1);
                let two = world.commit(Some(one), 2);
                let other = world.commit(Some(if is_ahead { two } else { one }), 3);
                world.known(1, one);
                world.written(other).await;
                let latest = (!is_deleted).then_some(two);
                assert_eq!(transferred(&world, latest).await, latest);
                assert_eq!(world.strays().await, [other], "deleted: {is_deleted}, ahead: {is_ahead}");
            }
        }
    }

    #[tokio::test]
    async fn a_state_transfer_into_an_empty_version_map_keeps_a_value_that_is_further_on() {
        let world = World::new().await;
        let one = world.commit(None, 1);
        let ahead = world.commit(Some(one), 2);
        world.written(ahead).await;
        assert_eq!(transferred(&world, Some(one)).await, Some(one));
        assert_eq!(world.strays().await, [ahead]);
    }

    #[tokio::test]
    async fn a_state_transfer_does_not_take_a_ref_back_behind_the_version_map() {
        let world = World::new().await;
        let one = world.commit(None, 1);
        let two = world.commit(Some(one), 2);
        world.known(8, two);
        world.written(two).await;
        assert_eq!(transferred(&world, Some(one)).await, Some(two));
        assert_eq!(world.strays().await, []);
    }

    /// A value that was written while the site was off stays through a state transfer, unless somebody else has moved
    /// the ref.
    #[tokio::test]
    async fn while_a_node_comes_back_a_value_gives_way_to_a_newer_version_alone() {
        for is_moved in [false, true] {
            let world = World::new().await;
            world.materializer.comes_back.begin(3);
            let one = world.commit(None, 1);
            let (two, ours) = (world.commit(Some(one), 2), world.commit(Some(one), 3));
            world.known(if is_moved { 1 } else { 7 }, one);
            world.written(ours).await;
            let latest = if is_moved { two } else { one };
            assert_eq!(transferred(&world, Some(latest)).await, Some(if is_moved { two } else { ours }));
            assert_eq!(world.strays().await, if is_moved { vec![ours] } else { vec![] });
        }
    }

    /// Both sites created the ref. The disk is no copy of another node's, so the value is kept although the histories
    /// have something in common.
    #[tokio::test]
    async fn while_a_node_comes_back_a_ref_that_was_created_twice_keeps_both_values() {
        let world = World::new().await;
        world.materializer.comes_back.begin(3);
        let one = world.commit(None, 1);
        let (theirs, ours) = (world.commit(Some(one), 2), world.commit(Some(one), 3));
        world.written(ours).await;
        assert_eq!(transferred(&world, Some(theirs)).await, Some(theirs));
        assert_eq!(world.strays().await, [ours]);
    }

    #[tokio::test]
    async fn while_the_site_is_off_no_ref_moves() {
        let world = World::new().await;
        world.materializer.comes_back.site_is_off(true);
        let one = world.commit(None, 1);
        let two = world.commit(Some(one), 2);
        world.written(one).await;
        world.known(1, one);
        let latest = BTreeMap::from([(MAIN.parse().unwrap(), record(7, two))]);
        let why = world.materializer.materialize_latest(&world.project, latest).await.unwrap_err().to_string();
        assert!(why.contains("Lockstep is off at this site"), "{why}");
        let known = world.materializer.versions.get(&world.project, &MAIN.parse().unwrap()).unwrap();
        assert_eq!(known, Some(record(1, one)));
        world.materializer.comes_back.site_is_off(false);
        assert_eq!(transferred(&world, Some(two)).await, Some(two));
    }

    #[test]
    fn a_label_tells_its_stray_and_others_tell_none() {
        let stray = Stray { name: "refs/heads/a/b".parse().unwrap(), value: Oid::Sha1([7; 20]) };
        assert_eq!(parse(&stray_label(&stray.name, stray.value)), Some(stray));
        for other in ["n.1.0.4.00000000000000aa-0", "stray/refs/heads/a", "by-hand"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
