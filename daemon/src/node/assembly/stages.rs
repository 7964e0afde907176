//! The stages of a node, and the ports through which they reach each other: the node's table of contents.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::{ProjectKey, SiteId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Front, NodeDependencies};
use crate::base::budget::ByteBudget;
use crate::base::faults::injected_bug::InjectedBug;
use crate::base::tasks::Tasks;
use crate::seams::blob::long_form::LongForms;
use crate::seams::refdb::NodeRecord;
use crate::seams::refdb::staged::StagedRefs;
use crate::seams::volume::StoreError;
use crate::stages::api::readiness::Latches;
use crate::stages::apply::{Applier, Catcher, Units};
use crate::stages::arrival::ArrivalStage;
use crate::stages::capacity::Autoscaler;
use crate::stages::commit::RequestForgetter;
use crate::stages::consume::{Consumer, Replayer};
use crate::stages::events::Events;
use crate::stages::failover::{DeskTools, Driver, OperatorDesk, Tools};
use crate::stages::handshake::{HandshakeSettings, HandshakeStage};
use crate::stages::locks::{LockDesk, LockFollower};
use crate::stages::membership::{Fencer, IncarnationOpener, Member, NotedLocks, RoleReader, Running, Watcher};
use crate::stages::ports::{
    CatchUp, DueSubjects, Fencing, FencingOver, LocalHealth, Probes, SeedCommits, StandbyCopies, Transactions,
};
use crate::stages::publish::LeftoverPublisher;
use crate::stages::rebuild::RebuildDesk;
use crate::stages::reconcile::{Collector, Releaser, Repayer, RepositoryRestorer, Sweeper};
use crate::stages::refresh::Refresh;
use crate::stages::resync::Resyncer;
use crate::stages::seed::Seeder;
use crate::stages::share::Share;
use crate::stages::verify::{Background, Verifier};
use crate::state::context::{NodeContext, NodeState};
use crate::state::materialize::MaterializeError;
use crate::state::went_back::WentBack;

/// The stages of a node. The commit and publish stages start with `begin`, when an incarnation is open.
pub struct Stages {
    /// The seams and settings of the node.
    pub deps: NodeDependencies,
    /// The handles that the stages are built from.
    pub context: NodeContext,
    /// The state of the node that the stages share.
    pub state: NodeState,
    /// Fetches transactions, values and objects that are missing.
    pub catch_up: Arc<dyn CatchUp>,
    /// The stage that applies the transactions of all sites to the local repositories.
    pub applier: Applier,
    /// The stage that forwards and delivers stream events.
    pub events: Arc<Events>,
    /// The stage that shares the reads of streams with the other nodes of the site.
    pub share: Arc<Share>,
    /// The stage that reads the streams of all sites.
    pub consumer: Arc<Consumer>,
    /// Fences this node's earlier incarnations, and those of dead nodes.
    pub fencer: Fencer,
    /// Publishes the slots that dead incarnations left.
    pub leftovers: LeftoverPublisher,
    /// The locks that stood in the way of a commit.
    pub locks: Arc<NotedLocks>,
    /// The stage that has Gerrit refresh its index and caches. `None` if this node has no Gerrit.
    pub refresh: Option<Arc<Refresh>>,
    /// The journal of the open incarnation.
    pub journal: Running,
    /// Triggers an immediate sweep.
    sweep: Arc<Notify>,
    staged: Arc<StagedRefs>,
    /// Compares the refs of this node with the refdb and with peers, and serves its digests.
    pub verifier: Verifier,
    /// Brings refs and objects to the refdb's state, as an operator asks.
    pub resyncer: Resyncer,
    /// Reads streams again, as an operator asks.
    pub replayer: Replayer,
    /// Sets the number of shards of this site's stream. `None` if it is switched off.
    pub autoscaler: Option<Arc<Autoscaler>>,
}

/// Tells whether a Gerrit that was let in runs at this node.
fn gerrit_runs(refresh: Option<Arc<Refresh>>) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || refresh.as_ref().is_some_and(|gerrit| gerrit.gerrit_runs()))
}

impl Stages {
    pub(super) fn build(
        deps: NodeDependencies,
        tasks: &Tasks,
        fenced: &CancellationToken,
        went_back: &WentBack,
    ) -> Result<Self, StoreError> {
        let long_forms = long_forms(&deps);
        let staged = StagedRefs::new(deps.refdb.clone(), long_forms, deps.settings.write_items, deps.bugs);
        let staged = Arc::new(staged);
        let deps = NodeDependencies { refdb: staged.refdb(), ..deps };
        let (context, settings) = (context(&deps, tasks, fenced, went_back), &deps.settings);
        let state = NodeState::load_with(&context, settings.durable_pace, settings.retry)?;
        let refresh = settings.refresh.clone().map(|refresh| Refresh::load(&context, &state, refresh)).transpose()?;
        let units = Units::new(&context, &state);
        let budget = ByteBudget::new(settings.apply.parked_bytes);
        let catch_up: Arc<dyn CatchUp> = Arc::new(Catcher::new(&context, &state, units.clone(), budget.clone()));
        let applier = Applier::new(&context, &state, units, Arc::clone(&catch_up), budget, settings.apply);
        let refreshed = refresh.clone().map(|refresh| refresh as _);
        let events = Events::load(&context, &state, refreshed, settings.events)?;
        let (sink, announcements) = (Arc::new(applier.clone()), Arc::clone(&events) as _);
        let share = Share::new(&context, settings.share);
        let shared = NodeContext { eventlog: share.eventlog(), ..context.clone() };
        let consumer = Consumer::new(&shared, &state, sink, announcements, Arc::clone(&catch_up), settings.consume);
        let (fencer, leftovers, locks) = (Fencer::new(&context), LeftoverPublisher::new(&context), Arc::default());
        let verifier = Verifier::load(&context, &state, Arc::clone(&catch_up), settings.verify_share)?;
        let resyncer = Resyncer::new(&context, &state, Arc::clone(&catch_up));
        let resyncer = resyncer.leaving(settings.of_init.clone(), gerrit_runs(refresh.clone()));
        let replayer = Replayer::new(&context, &state, Arc::new(applier.clone()), settings.consume);
        let (journal, sweep) = (Running::default(), Arc::default());
        let autoscaler = settings.autoscale.clone().map(|of| Arc::new(Autoscaler::new(&context, of)));
        Ok(Self {
            deps,
            context,
            state,
            catch_up,
            applier,
            events,
            share,
            consumer,
            fencer,
            leftovers,
            locks,
            refresh,
            journal,
            sweep,
            staged,
            verifier,
            resyncer,
            replayer,
            autoscaler,
        })
    }

    pub(super) fn opener(&self) -> IncarnationOpener {
        let signing = Arc::clone(&self.state.signing);
        IncarnationOpener::new(&self.context, self.fencer.clone(), signing, self.deps.settings.journal)
    }

    pub(super) fn member(&self, record: NodeRecord) -> Member {
        Member::new(&self.context, &self.state, record, Arc::clone(&self.state.beat), self.deps.settings.member)
    }

    pub(super) fn watcher(&self) -> Watcher {
        let (fencer, leftovers, locks) = (self.fencer.clone(), self.leftovers.clone(), Arc::clone(&self.locks));
        let (leftovers, running) = (Arc::new(leftovers), Arc::clone(&self.journal));
        Watcher::new(&self.context, &self.state, fencer, leftovers, locks, running, self.deps.settings.member)
    }

    pub(super) fn sweeper(&self) -> Sweeper {
        let (sink, hurry) = (Arc::new(self.applier.clone()), Arc::clone(&self.sweep));
        Sweeper::new(&self.context, &self.state, sink, hurry, self.deps.settings.sweep_pace)
    }

    pub(super) fn role_reader(&self) -> RoleReader {
        RoleReader::new(&self.context, &self.state, self.deps.settings.role_pace)
    }

    /// Follows the list of operator locks.
    pub(super) fn lock_follower(&self) -> LockFollower {
        LockFollower::new(&self.context, &self.state, self.deps.settings.role_pace)
    }

    /// The stage that takes requests about operator locks.
    pub(super) fn lock_desk(&self) -> LockDesk {
        LockDesk::new(&self.context, &self.state, self.lock_follower())
    }

    /// The driver of failovers. It hurries the sweeper and the heartbeat, which brings the low-water marks to the
    /// refdb.
    pub(super) fn failover_driver(&self, probes: Arc<dyn Probes>) -> Driver {
        let tools = Tools {
            fencing: Arc::new(self.fencer.clone()),
            comparison: Arc::new(self.verifier.clone()),
            probes,
            hurry: vec![Arc::clone(&self.sweep), Arc::clone(&self.state.beat)],
        };
        Driver::new(&self.context, &self.state, tools, self.deps.settings.failover)
    }

    /// The stage that takes the requests of operators.
    pub(super) fn operator_desk(
        &self,
        probes: Arc<dyn Probes>,
        local: Arc<dyn LocalHealth>,
        copies: Option<Arc<dyn StandbyCopies>>,
    ) -> OperatorDesk {
        let fencer = self.fencer.clone();
        let fencing: FencingOver = Arc::new(move |refdb| Arc::new(fencer.over(refdb)) as Arc<dyn Fencing>);
        OperatorDesk::new(&self.context, &self.state, DeskTools { fencing, probes, local, copies })
    }

    pub(super) fn request_forgetter(&self) -> RequestForgetter {
        RequestForgetter::new(&self.context, &self.state)
    }

    pub(super) fn collector(&self) -> Collector {
        Collector::new(&self.context, &self.state, Arc::clone(&self.staged) as _, self.deps.settings.collect_pace)
    }

    pub(super) fn releaser(&self) -> Releaser {
        Releaser::new(&self.context, &self.state, self.deps.settings.collect_pace)
    }

    pub(super) fn repository_restorer(&self) -> RepositoryRestorer {
        let catch_up = Arc::clone(&self.catch_up);
        RepositoryRestorer::new(&self.context, &self.state, catch_up, self.deps.settings.restore_pace)
            .while_runs(gerrit_runs(self.refresh.clone()))
    }

    pub(super) fn repayer(&self) -> Repayer {
        Repayer::new(&self.context, &self.state, Arc::clone(&self.catch_up))
    }

    /// The verification in the background, if the node has one.
    pub(super) fn background(&self) -> Option<Background> {
        let settings = self.deps.settings.background?;
        let background = Background::new(&self.context, &self.state, self.verifier.clone(), settings);
        Some(background.leaving(self.deps.settings.of_init.clone()))
    }

    /// Whether the disk lacks a value that the version map has for a project.
    pub(super) async fn lacks(&self, project: &ProjectKey) -> Result<bool, MaterializeError> {
        let (differ, _) = self.state.materializer.differing(project).await?;
        Ok(differ.values().any(|one| one.known.is_some()))
    }

    /// Deletes the refs on the disk that the version map says are deleted.
    pub(super) async fn clear_deleted(&self, project: &ProjectKey) -> Result<(), MaterializeError> {
        self.state.materializer.clear_deleted(project).await
    }

    /// Makes a project's refs and its `HEAD` equal to the version map.
    pub(super) async fn make_known(&self, project: &ProjectKey) -> Result<(), MaterializeError> {
        self.state.materializer.make_known(project).await
    }

    /// The handshake stage. It accepts Gerrits once the node is ready.
    pub(super) fn handshake(&self, transactions: Arc<dyn Transactions>, latches: &Latches) -> HandshakeStage {
        let (catch_up, latches, settings) = (Arc::clone(&self.catch_up), latches.clone(), &self.deps.settings);
        let takes =
            HandshakeSettings { base_paths: settings.base_paths.clone(), takes_a_bridge: settings.events.is_some() };
        let not_ready = Arc::new(move || latches.closed());
        HandshakeStage::new(&self.context, &self.state, transactions, catch_up, not_ready, takes)
    }

    /// The stage that tells when a site shows a transaction. This node shows one only while it is ready.
    pub(super) fn arrivals(&self, latches: &Latches) -> ArrivalStage {
        let (gerrit, latches) = (self.refresh.clone().map(|refresh| refresh as Arc<dyn DueSubjects>), latches.clone());
        ArrivalStage::new(&self.context, &self.state, gerrit, Arc::new(move || latches.closed()))
    }

    /// The stage that serves this node's version map, rebuilds a lost refdb, and moves a running one.
    pub(super) fn rebuild_desk(&self, front: Arc<Front>) -> RebuildDesk {
        let (went_back, bound) = (self.context.went_back.clone(), Arc::clone(&self.state.bound));
        let lease = self.deps.settings.member.lease;
        let commits =
            Arc::new(move || front.committer().is_some() && !went_back.is_known() && bound.took_a_beat_within(lease));
        let sites = self.deps.settings.sites.clone().into_iter().collect();
        let (tables, fencing) = (Arc::clone(&self.deps.tables), Arc::new(self.fencer.clone()));
        RebuildDesk::new(&self.context, &self.state, tables, sites, fencing, commits)
    }

    /// The seed stage. It commits through `commits`.
    pub(super) fn seeder(&self, commits: Arc<dyn SeedCommits>) -> Seeder {
        Seeder::new(&self.context, &self.state, Arc::clone(&self.catch_up), commits, self.deps.settings.seed)
    }

    /// Starts the tasks that move stream events to the event log, drop expired events of other nodes, and share reads
    /// of streams. They need no incarnation: events that were taken earlier are sent even while the site takes no
    /// commits.
    pub(super) fn forward_events(&self) {
        let eventlog = Arc::clone(&self.context.eventlog);
        self.context.tasks.spawn("forward", Arc::clone(&self.events).forward(eventlog));
        self.context.tasks.spawn("events", Arc::clone(&self.events).grow_old());
        if self.share.is_on() {
            self.context.tasks.spawn("share", Arc::clone(&self.share).run());
        }
    }
}

fn long_forms(deps: &NodeDependencies) -> LongForms {
    let blobs = Arc::clone(&deps.blobs);
    let long_forms = LongForms::new(blobs, deps.repositories.spill(), deps.settings.inline_commands);
    if deps.signer.is_some() { long_forms.for_signed_slots() } else { long_forms }
}

fn context(deps: &NodeDependencies, tasks: &Tasks, fenced: &CancellationToken, went_back: &WentBack) -> NodeContext {
    let (long_forms, deps) = (long_forms(deps), deps.clone());
    NodeContext {
        site: deps.settings.site,
        node: deps.settings.node,
        refdb: deps.refdb,
        eventlog: deps.eventlog,
        blobs: deps.blobs,
        long_forms,
        peers: deps.peers,
        repositories: deps.repositories,
        store: deps.store,
        clock: deps.clock,
        entropy: deps.entropy,
        observer: deps.observer,
        tasks: tasks.clone(),
        fenced: fenced.clone(),
        went_back: went_back.clone(),
        signer: deps.signer,
        bugs: deps.bugs,
    }
}

/// The sites whose streams a node reads: all sites of the list, its own included.
pub(super) fn streams(stages: &Stages) -> BTreeSet<SiteId> {
    let (deps, mut sites) = (&stages.deps, stages.state.roles.listed());
    if deps.bugs.has(InjectedBug::OwnStreamSkipped) {
        sites.remove(&deps.settings.site);
    }
    sites
}
