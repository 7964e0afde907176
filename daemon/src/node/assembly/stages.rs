//! Builds the stages on the seams, and connects them with each other.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::refresh::Subject;
use lockstep_proto::{ProjectKey, ProjectName, SiteId};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::NodeDependencies;
use crate::base::tasks::Tasks;
use crate::seams::refdb::staged::StagedRefs;
use crate::seams::refdb::{IncarnationRecord, NodeRecord, SiteRecord};
use crate::seams::volume::StoreError;
use crate::stages::api::latch::Latches;
use crate::stages::apply::{Applier, Catcher, Shared, Units};
use crate::stages::commit::{Attempts, Committer, InDoubtResolver, MarkWriter};
use crate::stages::consume::{Consumer, Progress};
use crate::stages::events::{EventDependencies, Events};
use crate::stages::handshake::HandshakeStage;
use crate::stages::membership::{Drainer, IncarnationOpener, Member, RegistryBarrier};
use crate::stages::ports::{Announcements, CatchUp, Refreshed, SeedCommits, Sink, Transactions};
use crate::stages::publish::Publisher;
use crate::stages::reconcile::{Collector, Releaser, RepositoryRestorer, Sweeper};
use crate::stages::refresh::{Refresh, RefreshDependencies};
use crate::stages::seed::{self, Seeder};
use crate::state::durability::Durability;
use crate::state::journal::Journal;
use crate::state::low_water::LowWater;
use crate::state::materialize::{MaterializeError, Materializer};
use crate::state::quiesce::Quiesce;
use crate::state::version_map::{Follow, Mover, VersionMap};

/// The stages of a node. The commit and publish stages start with `begin`, when an incarnation is open.
pub struct Stages {
    /// The seams and settings of the node.
    pub deps: NodeDependencies,
    /// The durable record of each ref's version and value.
    pub versions: Arc<VersionMap>,
    /// Makes the node's state durable, step by step.
    pub durability: Durability,
    /// The low-water marks of this node.
    pub low_water: Arc<LowWater>,
    /// Fetches transactions, values and objects that are missing.
    pub catch_up: Arc<dyn CatchUp>,
    /// The stage that applies the transactions of all sites to the local repositories.
    pub applier: Applier,
    /// The stage that forwards and delivers stream events.
    pub events: Arc<Events>,
    /// The stage that reads the streams of all sites.
    pub consumer: Arc<Consumer>,
    /// Drains incarnations.
    pub drainer: Drainer,
    /// The stage that has Gerrit refresh its index and caches. `None` if this node has no Gerrit.
    pub refresh: Option<Arc<Refresh>>,
    /// The journal of the open incarnation.
    pub journal: Mutex<Option<Arc<Journal>>>,
    /// The site's record as this node read it last.
    pub site: Mutex<Option<SiteRecord>>,
    /// Triggers an immediate heartbeat.
    pub beat: Arc<Notify>,
    staged: Arc<StagedRefs>,
    quiesce: Arc<Quiesce>,
    materializer: Materializer,
    tasks: Tasks,
    fenced: CancellationToken,
}

impl Stages {
    pub(super) fn build(deps: NodeDependencies, tasks: &Tasks, fenced: &CancellationToken) -> Result<Self, StoreError> {
        let staged = Arc::new(StagedRefs::new(deps.refdb, deps.settings.write_items, deps.bugs));
        let deps = NodeDependencies { refdb: staged.refdb(), ..deps };
        let refresh = refresh(&deps, tasks)?;
        let follower = refresh.clone().map(|refresh| refresh as Arc<dyn Follow>);
        let versions = Arc::new(VersionMap::new(Arc::clone(&deps.store), deps.bugs).followed(follower));
        let repositories = Arc::clone(&deps.repositories);
        let materializer = Materializer {
            repositories: Arc::clone(&repositories),
            versions: Arc::clone(&versions),
            mover: Mover::Other,
        };
        let (store, pace) = (Arc::clone(&deps.store), deps.settings.durable_pace);
        let durability = Durability::new(Arc::clone(&versions), repositories, store, pace, deps.bugs, fenced.clone());
        if let Some(refresh) = refresh.clone() {
            durability.add(refresh);
        }
        let low_water = Arc::new(LowWater::new(deps.store.low_water()?));
        durability.add(Arc::clone(&low_water) as Arc<dyn crate::state::durability::Remember>);
        let quiesce = Arc::new(Quiesce::default());
        let units = Units {
            versions: Arc::clone(&versions),
            repositories: Arc::clone(&deps.repositories),
            materializer: materializer.clone(),
            blobs: Arc::clone(&deps.blobs),
            observer: Arc::clone(&deps.observer),
            bugs: deps.bugs,
        };
        let (refdb, entropy) = (deps.refdb.clone(), Arc::clone(&deps.entropy));
        let peers = Arc::clone(&deps.peers);
        let catcher = Catcher { units: units.clone(), refdb, peers, entropy, tasks: tasks.clone() };
        let catch_up: Arc<dyn CatchUp> = Arc::new(catcher);
        let applier = Applier::new(Shared {
            units,
            catch_up: Arc::clone(&catch_up),
            durability: durability.clone(),
            low_water: Arc::clone(&low_water),
            quiesce: Arc::clone(&quiesce),
            clock: Arc::clone(&deps.clock),
            entropy: Arc::clone(&deps.entropy),
            limits: deps.settings.apply,
            tasks: tasks.clone(),
        });
        let progress = Arc::new(Progress::default());
        durability.add(Arc::clone(&progress) as Arc<dyn crate::state::durability::Remember>);
        let sink: Arc<dyn Sink> = Arc::new(applier.clone());
        let events = Arc::new(Events::load(event_parts(&deps, &versions, &durability, refresh.clone(), tasks))?);
        let announcements: Arc<dyn Announcements> = Arc::clone(&events) as Arc<dyn Announcements>;
        let consumer = consumer(&deps, &durability, progress, sink, announcements, &catch_up, tasks);
        let consumer = Arc::new(consumer);
        let drainer = Drainer {
            refdb: deps.refdb.clone(),
            eventlog: Arc::clone(&deps.eventlog),
            entropy: Arc::clone(&deps.entropy),
            bugs: deps.bugs,
        };
        let (tasks, fenced) = (tasks.clone(), fenced.clone());
        let (journal, site, beat) = (Mutex::new(None), Mutex::new(None), Arc::new(Notify::new()));
        Ok(Self {
            deps,
            versions,
            durability,
            low_water,
            catch_up,
            applier,
            events,
            consumer,
            drainer,
            refresh,
            journal,
            site,
            beat,
            staged,
            quiesce,
            materializer,
            tasks,
            fenced,
        })
    }

    /// The callback for a stage that finds this node fenced.
    fn fence(&self) -> Arc<dyn Fn() + Send + Sync> {
        let fenced = self.fenced.clone();
        Arc::new(move || fenced.cancel())
    }

    pub(super) fn opener(&self) -> IncarnationOpener {
        let settings = &self.deps.settings;
        IncarnationOpener {
            site: settings.site.clone(),
            node: settings.node.clone(),
            refdb: self.deps.refdb.clone(),
            drainer: self.drainer.clone(),
            limits: settings.journal,
            bugs: self.deps.bugs,
        }
    }

    pub(super) fn member(&self, record: NodeRecord) -> Arc<Member> {
        let settings = &self.deps.settings;
        Arc::new(Member {
            site: settings.site.clone(),
            node: settings.node.clone(),
            refdb: self.deps.refdb.clone(),
            low_water: Arc::clone(&self.low_water),
            drainer: self.drainer.clone(),
            record: Mutex::new(record),
            fenced: self.fence(),
            observer: Arc::clone(&self.deps.observer),
            nudge: Arc::clone(&self.beat),
            limits: settings.member,
            bugs: self.deps.bugs,
        })
    }

    pub(super) fn sweeper(&self) -> Sweeper {
        Sweeper {
            refdb: self.deps.refdb.clone(),
            low_water: Arc::clone(&self.low_water),
            durability: self.durability.clone(),
            sink: Arc::new(self.applier.clone()),
            observer: Arc::clone(&self.deps.observer),
            pace: self.deps.settings.sweep_pace,
        }
    }

    pub(super) fn collector(&self) -> Collector {
        Collector {
            site: self.deps.settings.site.clone(),
            refdb: self.deps.refdb.clone(),
            staged: Arc::clone(&self.staged),
            blobs: Arc::clone(&self.deps.blobs),
            observer: Arc::clone(&self.deps.observer),
            pace: self.deps.settings.collect_pace,
            bugs: self.deps.bugs,
        }
    }

    pub(super) fn releaser(&self) -> Releaser {
        Releaser {
            refdb: self.deps.refdb.clone(),
            repositories: Arc::clone(&self.deps.repositories),
            observer: Arc::clone(&self.deps.observer),
            pace: self.deps.settings.collect_pace,
        }
    }

    pub(super) fn repository_restorer(&self) -> RepositoryRestorer {
        RepositoryRestorer {
            refdb: self.deps.refdb.clone(),
            versions: Arc::clone(&self.versions),
            repositories: Arc::clone(&self.deps.repositories),
            store: Arc::clone(&self.deps.store),
            durability: self.durability.clone(),
            catch_up: Arc::clone(&self.catch_up),
            observer: Arc::clone(&self.deps.observer),
            pace: self.deps.settings.restore_pace,
        }
    }

    /// Whether the disk lacks a value that the version map has for a project.
    pub(super) async fn lacks(&self, project: &ProjectKey) -> Result<bool, MaterializeError> {
        let (differ, _) = self.materializer.differing(project).await?;
        Ok(differ.values().any(|one| one.known.is_some()))
    }

    /// Deletes the refs on the disk that the version map says are deleted.
    pub(super) async fn clear_deleted(&self, project: &ProjectKey) -> Result<(), MaterializeError> {
        self.materializer.clear_deleted(project).await
    }

    /// Makes a project's refs and its `HEAD` equal to the version map.
    pub(super) async fn make_known(&self, project: &ProjectKey) -> Result<(), MaterializeError> {
        self.materializer.make_known(project).await
    }

    /// The handshake stage. It accepts Gerrits once the node is ready.
    pub(super) fn handshake(&self, transactions: Arc<dyn Transactions>, latches: &Latches) -> HandshakeStage {
        let latches = latches.clone();
        HandshakeStage {
            node: self.deps.settings.node.clone(),
            refdb: self.deps.refdb.clone(),
            materializer: self.materializer.clone(),
            transactions,
            catch_up: Arc::clone(&self.catch_up),
            entropy: Arc::clone(&self.deps.entropy),
            roots: self.deps.settings.roots.clone(),
            takes_a_bridge: self.deps.settings.events.is_some(),
            not_ready: Arc::new(move || latches.closed()),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The seed stage. It commits through `commits`.
    pub(super) fn seeder(&self, commits: Arc<dyn SeedCommits>) -> Seeder {
        Seeder {
            site: self.deps.settings.site.clone(),
            node: self.deps.settings.node.clone(),
            refdb: self.deps.refdb.clone(),
            materializer: self.materializer.clone(),
            catch_up: Arc::clone(&self.catch_up),
            commits,
            entropy: Arc::clone(&self.deps.entropy),
            tasks: self.tasks.clone(),
            limits: self.deps.settings.seed,
            turns: Arc::new(Semaphore::new(seed::PROJECTS)),
            jobs: seed::Jobs::default(),
        }
    }

    /// Starts the tasks that move stream events to the event log and drop expired events of other nodes. They need no
    /// incarnation: events that were taken earlier are sent even while the site takes no commits.
    pub(super) fn forward_events(&self) {
        let (eventlog, entropy) = (Arc::clone(&self.deps.eventlog), Arc::clone(&self.deps.entropy));
        self.tasks.spawn("forward", Arc::clone(&self.events).forward(eventlog, entropy));
        self.tasks.spawn("events", Arc::clone(&self.events).grow_old());
    }

    fn publisher(&self, journal: &Arc<Journal>) -> Publisher {
        Publisher {
            site: self.deps.settings.site.clone(),
            journal: Arc::clone(journal),
            refdb: self.deps.refdb.clone(),
            eventlog: Arc::clone(&self.deps.eventlog),
            entropy: Arc::clone(&self.deps.entropy),
            observer: Arc::clone(&self.deps.observer),
        }
    }

    /// Starts the stages of a newly opened incarnation, and returns its commit stage.
    pub(super) fn begin(&self, born: &IncarnationRecord) -> Arc<Committer> {
        let settings = &self.deps.settings;
        let journal = Arc::new(Journal::new(born.id.clone(), settings.journal));
        *self.journal.lock() = Some(Arc::clone(&journal));
        let (refdb, observer) = (self.deps.refdb.clone(), Arc::clone(&self.deps.observer));
        let in_doubt = InDoubtResolver::new(refdb.clone(), Arc::clone(&journal), Arc::clone(&observer), self.deps.bugs);
        let publish = Arc::new(Notify::new());
        let marks = MarkWriter {
            site: settings.site.clone(),
            refdb: refdb.clone(),
            journal: Arc::clone(&journal),
            observer,
            publish: Arc::clone(&publish),
            fenced: self.fence(),
            pace: settings.mark_pace,
            bugs: self.deps.bugs,
        };
        self.tasks.spawn("in-doubt", in_doubt.clone().run());
        self.tasks.spawn("marks", marks.run());
        let cancelled = self.tasks.cancelled();
        self.tasks.spawn("publish", self.publisher(&journal).run(settings.journal.lanes, cancelled, publish));
        Arc::new(self.committer(journal, in_doubt))
    }

    fn committer(&self, journal: Arc<Journal>, in_doubt: InDoubtResolver) -> Committer {
        let (deps, settings) = (&self.deps, &self.deps.settings);
        let attempts = Attempts {
            refdb: deps.refdb.clone(),
            entropy: Arc::clone(&deps.entropy),
            patience: settings.patience,
            bugs: deps.bugs,
        };
        let (refdb, nudge) = (deps.refdb.clone(), Arc::clone(&self.beat));
        let fenced = self.fenced.clone();
        let serving = move || if fenced.is_cancelled() { Err("this node was fenced".to_owned()) } else { Ok(()) };
        Committer {
            site: settings.site.clone(),
            versions: Arc::clone(&self.versions),
            repositories: Arc::clone(&deps.repositories),
            materializer: Materializer { mover: Mover::Own, ..self.materializer.clone() },
            blobs: Arc::clone(&deps.blobs),
            journal,
            attempts,
            in_doubt,
            catch_up: Arc::clone(&self.catch_up),
            durability: self.durability.clone(),
            quiesce: Arc::clone(&self.quiesce),
            barrier: Arc::new(RegistryBarrier { refdb, nudge, patience: settings.barrier_patience }),
            observer: Arc::clone(&deps.observer),
            clock: Arc::clone(&deps.clock),
            tasks: self.tasks.clone(),
            serving: Arc::new(serving),
            inline_pack_bytes: settings.inline_pack_bytes,
            deadline: settings.deadline,
            requests: Committer::no_requests(),
        }
    }

    /// Waits until every settled slot is in the event log.
    pub(super) async fn publish_rest(&self) {
        let journal = self.journal.lock().clone();
        let Some(journal) = journal else { return };
        while journal.marks().iter().any(|mark| mark.published < mark.settled) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn refresh(deps: &NodeDependencies, tasks: &Tasks) -> Result<Option<Arc<Refresh>>, StoreError> {
    let Some(settings) = deps.settings.refresh.clone() else { return Ok(None) };
    let needs = RefreshDependencies {
        store: Arc::clone(&deps.store),
        clock: Arc::clone(&deps.clock),
        entropy: Arc::clone(&deps.entropy),
        observer: Arc::clone(&deps.observer),
        ended: tasks.cancelled(),
        bugs: deps.bugs,
    };
    Ok(Some(Arc::new(Refresh::new(settings, needs)?)))
}

fn consumer(
    deps: &NodeDependencies,
    durability: &Durability,
    progress: Arc<Progress>,
    sink: Arc<dyn Sink>,
    announcements: Arc<dyn Announcements>,
    catch_up: &Arc<dyn CatchUp>,
    tasks: &Tasks,
) -> Consumer {
    Consumer {
        eventlog: Arc::clone(&deps.eventlog),
        sink,
        announcements,
        catch_up: Arc::clone(catch_up),
        store: Arc::clone(&deps.store),
        durability: durability.clone(),
        progress,
        observer: Arc::clone(&deps.observer),
        clock: Arc::clone(&deps.clock),
        entropy: Arc::clone(&deps.entropy),
        tasks: tasks.clone(),
        limits: deps.settings.consume,
        bugs: deps.bugs,
    }
}

/// Answers whether this node's Gerrit has refreshed a subject. Without a refresh stage, the answer is always yes.
struct Looked(Option<Arc<Refresh>>);

impl Refreshed for Looked {
    fn is_refreshed(&self, project: &ProjectName, change: Option<u64>) -> bool {
        let Some(refresh) = &self.0 else { return true };
        let project = project.clone();
        match change.map(u32::try_from) {
            Some(Ok(number)) => !refresh.is_due(&Subject::Change { project, number }),
            // A change number above 32 bits has no refs. An event that belongs to no change belongs to the project.
            Some(Err(_)) | None => !refresh.is_due(&Subject::ProjectConfig { project }),
        }
    }
}

fn event_parts(
    deps: &NodeDependencies,
    versions: &Arc<VersionMap>,
    durability: &Durability,
    refresh: Option<Arc<Refresh>>,
    tasks: &Tasks,
) -> EventDependencies {
    EventDependencies {
        site: deps.settings.site.clone(),
        node: deps.settings.node.clone(),
        versions: Arc::clone(versions),
        store: Arc::clone(&deps.store),
        durability: durability.clone(),
        refreshed: Arc::new(Looked(refresh)),
        clock: Arc::clone(&deps.clock),
        entropy: Arc::clone(&deps.entropy),
        observer: Arc::clone(&deps.observer),
        limits: deps.settings.events.unwrap_or_default(),
        forwards: deps.settings.events.is_some(),
        bugs: deps.bugs,
        ended: tasks.cancelled(),
    }
}

/// The sites whose streams a node reads: all sites, its own included.
pub(super) fn streams(deps: &NodeDependencies) -> Vec<SiteId> {
    let own = |site: &&SiteId| {
        !(deps.bugs.has(crate::base::faults::injected_bug::InjectedBug::OwnStreamSkipped)
            && **site == deps.settings.site)
    };
    deps.settings.sites.iter().filter(own).cloned().collect()
}
