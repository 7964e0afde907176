//! The releaser: releases kept values. A value that a transaction made unreachable is kept until the journal entry of
//! that transaction is collected. By then every node has applied the entry, and no transaction still to come builds on
//! the value. But one that was committed before may: its lane may lag without bound. So the value stays until this node
//! has applied every slot of the project's lanes that was committed at that moment. The marks also pass transactions
//! that are held, or wait, or are left to an owed project. So a project in which this node has a debt keeps all its
//! values.
//!
//! A value is kept under a label: the id of the transaction and a suffix, as the materializer writes it. Labels are
//! read before the incarnations. So the incarnation of a label is among them, unless it was forgotten, which happens
//! only when all of its slots are collected. The incarnations are read once for the labels of many projects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_proto::{IncarnationId, LaneId, ProjectName, Seq, TxnId};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::git::{GitError, Repositories};
use crate::seams::refdb::{IncarnationRecord, IncarnationState, ProjectPages, RefDb, RefDbError, SlotState};
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::journal::lane_of;
use crate::state::low_water::LowWater;
use crate::state::materialize::is_stray;
use crate::state::went_back::WentBack;

/// The labels in memory at once, but for one project. The incarnations are read once for them.
const MOST_LABELS: usize = 10_000;

/// Per lane, the slot below which everything must be applied.
type Bounds = BTreeMap<LaneId, Seq>;

/// Why kept values were not released.
#[derive(Debug, thiserror::Error)]
enum ReleaseError {
    /// A call of the refdb failed. A retry may help.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// An operation on a repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// The releaser of one node.
pub struct Releaser {
    /// The refdb, which has the projects, the incarnations and the journal.
    refdb: RefDb,
    /// The repositories that keep the values.
    repositories: Arc<dyn Repositories>,
    /// The low-water marks of this node.
    low_water: Arc<LowWater>,
    /// The debts of this node: transactions that its marks have passed, and that are not applied.
    debts: Arc<Debts>,
    /// Labels whose entries are collected, with the slots that must be applied here before the value goes.
    waiting: Mutex<BTreeMap<(ProjectName, String), Arc<Bounds>>>,
    /// Receives every run that failed.
    observer: Arc<dyn Observer>,
    /// Whether the refdb is older than this node. Then nothing is removed.
    went_back: WentBack,
    /// The pause between two runs.
    pace: Duration,
    /// The strays that the present run has met.
    strays: AtomicU64,
}

impl Releaser {
    /// Creates the job that releases kept values at one node.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, pace: Duration) -> Self {
        let NodeContext { refdb, repositories, observer, went_back, .. } = context.clone();
        let (low_water, debts) = (Arc::clone(&state.low_water), Arc::clone(&state.debts));
        let strays = AtomicU64::new(0);
        Self { refdb, repositories, low_water, debts, waiting: Mutex::default(), observer, went_back, pace, strays }
    }

    /// Releases values periodically, until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.pace).await;
            if self.went_back.is_known() {
                continue;
            }
            if let Err(why) = self.release().await {
                self.observer.failed("release", &why);
            }
        }
    }

    async fn release(&self) -> Result<(), ReleaseError> {
        self.strays.store(0, Ordering::SeqCst);
        let mut pages = ProjectPages::of(self.refdb.refs.as_ref());
        while let Some(page) = pages.next().await? {
            let projects: Vec<ProjectName> = page.into_iter().map(|(project, _)| project).collect();
            self.release_among(&projects).await?;
        }
        self.observer.strays(self.strays.swap(0, Ordering::SeqCst));
        Ok(())
    }

    /// Releases values of these projects.
    async fn release_among(&self, projects: &[ProjectName]) -> Result<(), ReleaseError> {
        let (mut kept, mut count) = (Vec::new(), 0);
        for project in projects {
            let labels = match self.labels(project).await {
                Ok(labels) => labels,
                Err(why) => {
                    self.of_one_project(&why);
                    continue;
                }
            };
            if labels.is_empty() {
                continue;
            }
            count += labels.len();
            kept.push((project, labels));
            if count >= MOST_LABELS {
                count = 0;
                self.release_kept(std::mem::take(&mut kept)).await?;
            }
        }
        self.release_kept(kept).await
    }

    /// Tells why nothing of one project was released. The values of the others can be.
    fn of_one_project(&self, why: &GitError) {
        self.observer.failed("release", why);
    }

    /// The labels of a project whose values may be released.
    async fn labels(&self, project: &ProjectName) -> Result<Vec<String>, GitError> {
        let labels = match self.repositories.kept(project).await {
            Err(GitError::NoRepository(_)) => return Ok(Vec::new()),
            kept => kept?,
        };
        self.waiting.lock().retain(|(of, label), _| of != project || labels.contains(label));
        let strays = labels.iter().filter(|label| is_stray(label)).count();
        self.strays.fetch_add(strays as u64, Ordering::SeqCst);
        Ok(if self.debts.has_debt(project) { Vec::new() } else { labels })
    }

    async fn release_kept(&self, kept: Vec<(&ProjectName, Vec<String>)>) -> Result<(), ReleaseError> {
        if kept.is_empty() {
            return Ok(());
        }
        let incarnations = self.refdb.incarnations().await?;
        let known = incarnations.into_iter().map(|record| (record.id.clone(), record)).collect();
        for (project, labels) in kept {
            match self.release_of(project, labels, &known).await {
                Err(ReleaseError::Git(why)) => self.of_one_project(&why),
                ended => ended?,
            }
        }
        Ok(())
    }

    async fn release_of(
        &self,
        project: &ProjectName,
        labels: Vec<String>,
        known: &BTreeMap<IncarnationId, IncarnationRecord>,
    ) -> Result<(), ReleaseError> {
        let of_label = |label: &String| (project.clone(), label.clone());
        let (mut over, mut now) = (Vec::new(), None::<Arc<Bounds>>);
        for label in labels {
            let Some(txn) = ended_by(&label) else { continue };
            let waits_for = self.waiting.lock().get(&of_label(&label)).cloned();
            match waits_for {
                Some(bounds) if self.is_past(&bounds, known) => over.push(label),
                Some(_) => {}
                None if self.is_collected(&txn, known).await? => {
                    let bounds = match now.clone() {
                        Some(bounds) => bounds,
                        None => Arc::new(self.bounds(project).await?),
                    };
                    now = Some(Arc::clone(&bounds));
                    self.waiting.lock().insert(of_label(&label), bounds);
                }
                None => {}
            }
        }
        // The marks were read before: a debt is noted before a mark passes its transaction.
        if over.is_empty() || self.debts.has_debt(project) {
            return Ok(());
        }
        Ok(self.repositories.release(project, &over).await?)
    }

    /// The end of the slots that are committed now in the project's lane of each incarnation.
    async fn bounds(&self, project: &ProjectName) -> Result<Bounds, RefDbError> {
        let mut bounds = Bounds::new();
        for record in self.refdb.incarnations().await? {
            let lane = lane_of(project, record.settled.len());
            let settled = record.settled.get(lane.index()).copied().unwrap_or_default();
            let mut bound = record.published.get(lane.index()).copied().unwrap_or_default().max(settled);
            let lane = record.id.lane(lane);
            if record.state != IncarnationState::Drained {
                for seq in settled.0..settled.0 + record.window {
                    if let SlotState::Committed(..) = self.refdb.journal.slot(&lane.slot(Seq(seq))).await? {
                        bound = bound.max(Seq(seq + 1));
                    }
                }
            }
            bounds.insert(lane, bound);
        }
        Ok(bounds)
    }

    /// Whether everything below these bounds is durably applied here, or collected.
    fn is_past(&self, bounds: &Bounds, known: &BTreeMap<IncarnationId, IncarnationRecord>) -> bool {
        let applied = self.low_water.durable();
        bounds.iter().all(|(lane, bound)| {
            !known.contains_key(&lane.incarnation) || applied.get(lane).copied().unwrap_or_default() >= *bound
        })
    }

    /// Whether a transaction is collected: its incarnation is forgotten, or its slot below the published mark holds
    /// anything else. Poison may have come into the empty slot.
    async fn is_collected(
        &self,
        txn: &TxnId,
        known: &BTreeMap<IncarnationId, IncarnationRecord>,
    ) -> Result<bool, RefDbError> {
        let slot = &txn.slot;
        let Some(incarnation) = known.get(&slot.lane.incarnation) else { return Ok(true) };
        let published = incarnation.published.get(slot.lane.lane.index()).copied().unwrap_or_default();
        if slot.seq >= published {
            return Ok(false);
        }
        Ok(!matches!(self.refdb.journal.slot(slot).await?, SlotState::Committed(id, _) if id == *txn))
    }
}

/// The transaction that a label names. `None` for a label of another form.
fn ended_by(label: &str) -> Option<TxnId> {
    label.rsplit_once('-').and_then(|(txn, _)| txn.parse().ok())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use lockstep_proto::debt::DebtKind;
    use lockstep_proto::{Command, NodeId, Oid, RefValue, SiteId, Transaction};

    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::base::transaction_builder::TransactionBuilder;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::git::model::counted::CountedRepositories;
    use crate::seams::refdb::{CommitRequest, Incarnations, MarkAnswer, OpenAnswer};
    use crate::seams::volume::Changes;
    use crate::state::debts::Failure;
    use crate::state::durability::Remember;

    const LABELS: [&str; 2] = ["n.1.0.3.00000000000000aa-0", "n.1.0.7.00000000000000bb-j2"];

    async fn world() -> (NodeContext, ModelRepositories, ProjectName, Oid) {
        let repositories = ModelRepositories::new(InjectedBugs::default());
        let project: ProjectName = "p".parse().unwrap();
        repositories.create(&project, &"refs/heads/main".parse().unwrap()).await.unwrap();
        let oid = repositories.add_object(&project, &[], 1);
        let keep = LABELS.map(|label| (label.to_owned(), oid));
        repositories.move_refs(&project, &[], &keep).await.unwrap();
        let context = NodeContext { repositories: Arc::new(repositories.clone()), ..NodeContext::in_memory() };
        (context, repositories, project, oid)
    }

    fn releaser(context: &NodeContext) -> Releaser {
        let state = NodeState::load(context, Duration::from_millis(1)).unwrap();
        Releaser::new(context, &state, Duration::from_secs(1))
    }

    /// Notes that everything below a slot of the lane is durably applied here.
    fn applied(releaser: &Releaser, until: u64) {
        let lane: LaneId = "n.1.0".parse().unwrap();
        (0..until).for_each(|seq| releaser.low_water.done(&lane.slot(Seq(seq))));
        releaser.low_water.remember(&mut Changes::default());
        releaser.low_water.remembered();
    }

    fn transaction(id: &str) -> CommitRequest {
        let value = RefValue::Oid(Oid::from_bytes(&[1; 20]).unwrap());
        let command = Command::creation("refs/heads/a".parse().unwrap(), value);
        let built = TransactionBuilder::of(id.parse().unwrap()).build();
        let transaction = Transaction { commands: vec![command], ..built };
        CommitRequest {
            encoded: transaction.encode(),
            transaction,
            directories: Vec::new(),
            freed: Default::default(),
            lock_token: None,
        }
    }

    #[tokio::test]
    async fn a_value_is_kept_until_its_slot_is_collected() {
        let (context, repositories, project, _) = world().await;
        let (releaser, refdb) = (releaser(&context), &context.refdb);
        let IncarnationRecord { site, id, .. } = context.open_incarnation().await;
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        assert_eq!(repositories.kept(&project).len(), 2, "an empty slot above the published mark may still be taken");
        refdb.refs.commit(&transaction(LABELS[0].strip_suffix("-0").unwrap())).await.unwrap();
        // Late poison for a collected slot.
        refdb.journal.poison(&"n.1.0.7".parse().unwrap()).await.unwrap();
        refdb.incarnations.mark(&site, &id, &[Seq(5)], &[Seq(5)]).await.unwrap();
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        assert_eq!(repositories.kept(&project).len(), 2, "an occupied slot is not collected");
        refdb.incarnations.mark(&site, &id, &[Seq(8)], &[Seq(8)]).await.unwrap();
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        applied(&releaser, 7);
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        assert_eq!(repositories.kept(&project).len(), 2, "a slot that may build on the value is not applied here yet");
        applied(&releaser, 8);
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        let left: Vec<String> = repositories.kept(&project).into_keys().collect();
        assert_eq!(left, [LABELS[0]], "the slot of the other label was collected");
    }

    #[tokio::test]
    async fn a_value_waits_for_what_a_lane_has_committed_and_not_settled() {
        let (context, repositories, project, _) = world().await;
        let (releaser, refdb) = (releaser(&context), &context.refdb);
        let IncarnationRecord { site, id, .. } = context.open_incarnation().await;
        refdb.incarnations.mark(&site, &id, &[Seq(8)], &[Seq(8)]).await.unwrap();
        refdb.refs.commit(&transaction("n.1.0.12.00000000000000cc")).await.unwrap();
        for (until, kept) in [(8, 2), (8, 2), (12, 2), (13, 0)] {
            applied(&releaser, until);
            releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
            assert_eq!(repositories.kept(&project).len(), kept, "applied until {until}");
        }
    }

    #[tokio::test]
    async fn a_value_is_kept_while_the_node_has_a_debt_in_the_project() {
        let (context, repositories, project, _) = world().await;
        let (releaser, refdb) = (releaser(&context), &context.refdb);
        let IncarnationRecord { site, id, .. } = context.open_incarnation().await;
        refdb.incarnations.mark(&site, &id, &[Seq(8)], &[Seq(8)]).await.unwrap();
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        // The mark passes a transaction that waits behind bad content, and may build on the value.
        let waits = transaction("n.1.0.5.00000000000000dd").transaction;
        let failure = Failure { kind: DebtKind::BadContent, why: "bad".into(), txn: None, refs: Vec::new() };
        releaser.debts.waits(&waits, failure, 7, 3);
        applied(&releaser, 8);
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        assert_eq!(repositories.kept(&project).len(), 2);
        releaser.debts.arrived(&waits.id);
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        assert!(repositories.kept(&project).is_empty());
    }

    #[tokio::test]
    async fn values_of_a_forgotten_incarnation_are_released_and_other_labels_stay() {
        let (context, repositories, project, oid) = world().await;
        repositories.move_refs(&project, &[], &[("by-hand".to_owned(), oid)]).await.unwrap();
        let releaser = releaser(&context);
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        releaser.release_among(std::slice::from_ref(&project)).await.unwrap();
        let left: Vec<String> = repositories.kept(&project).into_keys().collect();
        assert_eq!(left, ["by-hand"]);
    }

    #[tokio::test]
    async fn a_project_whose_repository_is_broken_keeps_no_value_of_another_one() {
        for broken in ["a", "q"] {
            let (mut context, repositories, project, _) = world().await;
            let broken: ProjectName = broken.parse().unwrap();
            let counted = CountedRepositories::new(repositories.clone()).with_broken_project(broken.clone());
            context.repositories = Arc::new(counted);
            let (releaser, projects) = (releaser(&context), [broken.clone().min(project.clone()), broken.max(project)]);
            releaser.release_among(&projects).await.unwrap();
            releaser.release_among(&projects).await.unwrap();
            assert!(repositories.kept(&"p".parse().unwrap()).is_empty(), "before or behind it");
        }
    }

    /// The records of incarnations, whose reads are counted.
    struct Counted {
        inner: Arc<dyn Incarnations>,
        reads: AtomicU64,
    }

    #[async_trait]
    impl Incarnations for Counted {
        async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.inner.incarnations(site).await
        }

        async fn open_incarnation(&self, _: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn last_incarnation(&self, _: &SiteId, _: &NodeId) -> Result<u64, RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn mark(&self, _: &SiteId, _: &IncarnationId, _: &[Seq], _: &[Seq]) -> Result<MarkAnswer, RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn touch(&self, _: &SiteId, _: &IncarnationId) -> Result<MarkAnswer, RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn freeze(&self, _: &SiteId, _: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn poisoned(&self, _: &SiteId, _: &IncarnationId) -> Result<(), RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn raise_published(&self, _: &SiteId, _: &IncarnationId, _: &[Seq]) -> Result<(), RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn drained(&self, _: &SiteId, _: &IncarnationId, _: &[Seq]) -> Result<(), RefDbError> {
            unreachable!("the releaser reads only")
        }

        async fn forget_incarnations(&self, _: &SiteId, _: &[IncarnationId]) -> Result<(), RefDbError> {
            unreachable!("the releaser reads only")
        }
    }

    #[tokio::test]
    async fn the_incarnations_are_read_once_for_all_projects_and_not_without_a_label() {
        let (mut context, repositories, first, _) = world().await;
        let IncarnationRecord { site, id, .. } = context.open_incarnation().await;
        context.refdb.incarnations.mark(&site, &id, &[Seq(2)], &[Seq(2)]).await.unwrap();
        let mut projects = vec![first];
        for name in ["q", "r", "s"] {
            let project: ProjectName = name.parse().unwrap();
            repositories.create(&project, &"refs/heads/main".parse().unwrap()).await.unwrap();
            if name != "s" {
                let oid = repositories.add_object(&project, &[], 1);
                // Its slot is above the published mark, so it may still be taken.
                repositories.move_refs(&project, &[], &[(LABELS[0].to_owned(), oid)]).await.unwrap();
            }
            projects.push(project);
        }
        let counted = Arc::new(Counted { inner: Arc::clone(&context.refdb.incarnations), reads: AtomicU64::new(0) });
        context.refdb.incarnations = Arc::clone(&counted) as _;
        let releaser = releaser(&context);
        releaser.release_among(&projects).await.unwrap();
        assert_eq!(counted.reads.load(Ordering::SeqCst), 1, "for three projects with labels");
        releaser.release_among(&projects[3..]).await.unwrap();
        assert_eq!(counted.reads.load(Ordering::SeqCst), 1);
    }
}
