//! Building the stages on the seams.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_proto::refresh::Subject;
use lockstep_proto::{ProjectKey, ProjectName, SiteId};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::base::tasks::Tasks;
use crate::seams::refdb::staged::StagedRefDb;
use crate::seams::refdb::{IncarnationRecord, NodeRecord, RefDb, SiteRecord};
use crate::seams::volume::StoreError;
use crate::stages::api::latch::Latches;
use crate::stages::apply::{Applier, Catcher, Shared, Units};
use crate::stages::commit::{Attempts, Committer, MarkWriter, Settler};
use crate::stages::consume::{Consumer, Progress};
use crate::stages::events::{EventParts, Events};
use crate::stages::handshake::Door;
use crate::stages::membership::{Birth, Drainer, Member, RegistryBarrier};
use crate::stages::ports::{Announcements, CatchUp, Refreshed, Seedbed, Sink, Transactions};
use crate::stages::publish::Publisher;
use crate::stages::reconcile::{Collector, Releaser, Reviver, Sweeper};
use crate::stages::refresh::{Refresh, RefreshParts};
use crate::stages::seed::{self, Seeder};
use crate::state::durability::Durability;
use crate::state::journal::Journal;
use crate::state::low_water::LowWater;
use crate::state::materialize::Placer;
use crate::state::quiesce::Gates;
use crate::state::version_map::{Follow, Mover, RefTable};

/// The stages of a node, before and after its birth.
pub struct Stages {
    /// The seams.
    pub parts: Parts,
    /// What is known of refs.
    pub table: Arc<RefTable>,
    /// Makes it durable.
    pub durability: Durability,
    /// What is done here.
    pub low_water: Arc<LowWater>,
    /// Fetches what is missing.
    pub catch_up: Arc<dyn CatchUp>,
    /// The apply stage.
    pub applier: Applier,
    /// Stream events.
    pub events: Arc<Events>,
    /// The consume stage.
    pub consumer: Arc<Consumer>,
    /// Ends incarnations.
    pub drainer: Drainer,
    /// The refresh stage, when this node has a Gerrit.
    pub refresh: Option<Arc<Refresh>>,
    /// The journal of the running incarnation.
    pub journal: Mutex<Option<Arc<Journal>>>,
    /// The site's record as this node saw it last.
    pub site: Mutex<Option<SiteRecord>>,
    /// Makes the membership beat.
    pub beat: Arc<Notify>,
    staged: Arc<StagedRefDb>,
    gates: Arc<Gates>,
    placer: Placer,
    tasks: Tasks,
    fenced: CancellationToken,
}

impl Stages {
    pub(super) fn build(parts: Parts, tasks: &Tasks, fenced: &CancellationToken) -> Result<Self, StoreError> {
        let staged = Arc::new(StagedRefDb::new(parts.refdb, parts.settings.write_items, parts.plants));
        let parts = Parts { refdb: Arc::clone(&staged) as Arc<dyn RefDb>, ..parts };
        let refresh = refresh(&parts, tasks)?;
        let follower = refresh.clone().map(|refresh| refresh as Arc<dyn Follow>);
        let table = Arc::new(RefTable::new(Arc::clone(&parts.store), parts.plants).followed(follower));
        let repositories = Arc::clone(&parts.repositories);
        let placer = Placer { repositories: Arc::clone(&repositories), table: Arc::clone(&table), mover: Mover::Other };
        let (store, pace) = (Arc::clone(&parts.store), parts.settings.durable_pace);
        let durability = Durability::new(Arc::clone(&table), repositories, store, pace, parts.plants, fenced.clone());
        if let Some(refresh) = refresh.clone() {
            durability.add(refresh);
        }
        let low_water = Arc::new(LowWater::new(parts.store.low_water()?));
        durability.add(Arc::clone(&low_water) as Arc<dyn crate::state::durability::Remember>);
        let gates = Arc::new(Gates::default());
        let units = Units {
            table: Arc::clone(&table),
            repositories: Arc::clone(&parts.repositories),
            placer: placer.clone(),
            blobs: Arc::clone(&parts.blobs),
            observer: Arc::clone(&parts.observer),
            plants: parts.plants,
        };
        let (refdb, entropy) = (Arc::clone(&parts.refdb), Arc::clone(&parts.entropy));
        let peers = Arc::clone(&parts.peers);
        let catcher = Catcher { units: units.clone(), refdb, peers, entropy, tasks: tasks.clone() };
        let catch_up: Arc<dyn CatchUp> = Arc::new(catcher);
        let applier = Applier::new(Shared {
            units,
            catch_up: Arc::clone(&catch_up),
            durability: durability.clone(),
            low_water: Arc::clone(&low_water),
            gates: Arc::clone(&gates),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            limits: parts.settings.apply,
            tasks: tasks.clone(),
        });
        let progress = Arc::new(Progress::default());
        durability.add(Arc::clone(&progress) as Arc<dyn crate::state::durability::Remember>);
        let sink: Arc<dyn Sink> = Arc::new(applier.clone());
        let events = Arc::new(Events::load(event_parts(&parts, &table, &durability, refresh.clone(), tasks))?);
        let announcements: Arc<dyn Announcements> = Arc::clone(&events) as Arc<dyn Announcements>;
        let consumer = consumer(&parts, &durability, progress, sink, announcements, &catch_up, tasks);
        let consumer = Arc::new(consumer);
        let drainer = Drainer {
            refdb: Arc::clone(&parts.refdb),
            eventlog: Arc::clone(&parts.eventlog),
            entropy: Arc::clone(&parts.entropy),
            plants: parts.plants,
        };
        let (tasks, fenced) = (tasks.clone(), fenced.clone());
        let (journal, site, beat) = (Mutex::new(None), Mutex::new(None), Arc::new(Notify::new()));
        Ok(Self {
            parts,
            table,
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
            gates,
            placer,
            tasks,
            fenced,
        })
    }

    /// What to call when this node was fenced.
    fn fence(&self) -> Arc<dyn Fn() + Send + Sync> {
        let fenced = self.fenced.clone();
        Arc::new(move || fenced.cancel())
    }

    pub(super) fn birth(&self) -> Birth {
        let settings = &self.parts.settings;
        Birth {
            site: settings.site.clone(),
            node: settings.node.clone(),
            refdb: Arc::clone(&self.parts.refdb),
            drainer: self.drainer.clone(),
            limits: settings.journal,
            plants: self.parts.plants,
        }
    }

    pub(super) fn member(&self, record: NodeRecord) -> Arc<Member> {
        let settings = &self.parts.settings;
        Arc::new(Member {
            site: settings.site.clone(),
            node: settings.node.clone(),
            refdb: Arc::clone(&self.parts.refdb),
            low_water: Arc::clone(&self.low_water),
            drainer: self.drainer.clone(),
            record: Mutex::new(record),
            fenced: self.fence(),
            observer: Arc::clone(&self.parts.observer),
            nudge: Arc::clone(&self.beat),
            limits: settings.member,
            plants: self.parts.plants,
        })
    }

    pub(super) fn sweeper(&self) -> Sweeper {
        Sweeper {
            refdb: Arc::clone(&self.parts.refdb),
            low_water: Arc::clone(&self.low_water),
            durability: self.durability.clone(),
            sink: Arc::new(self.applier.clone()),
            observer: Arc::clone(&self.parts.observer),
            pace: self.parts.settings.sweep_pace,
        }
    }

    pub(super) fn collector(&self) -> Collector {
        Collector {
            site: self.parts.settings.site.clone(),
            refdb: Arc::clone(&self.staged),
            blobs: Arc::clone(&self.parts.blobs),
            observer: Arc::clone(&self.parts.observer),
            pace: self.parts.settings.collect_pace,
            plants: self.parts.plants,
        }
    }

    pub(super) fn releaser(&self) -> Releaser {
        Releaser {
            refdb: Arc::clone(&self.parts.refdb),
            repositories: Arc::clone(&self.parts.repositories),
            observer: Arc::clone(&self.parts.observer),
            pace: self.parts.settings.collect_pace,
        }
    }

    pub(super) fn reviver(&self) -> Reviver {
        Reviver {
            refdb: Arc::clone(&self.parts.refdb),
            table: Arc::clone(&self.table),
            repositories: Arc::clone(&self.parts.repositories),
            store: Arc::clone(&self.parts.store),
            durability: self.durability.clone(),
            catch_up: Arc::clone(&self.catch_up),
            observer: Arc::clone(&self.parts.observer),
            pace: self.parts.settings.revive_pace,
        }
    }

    /// Whether the disk has not every value that the version map says of a project.
    pub(super) async fn lacks(&self, project: &ProjectKey) -> Result<bool, String> {
        let (differ, _) = self.placer.differing(project).await.map_err(|error| error.to_string())?;
        Ok(differ.values().any(|one| one.known.is_some()))
    }

    /// Deletes the refs on the disk that the version map says are deleted.
    pub(super) async fn clear_deleted(&self, project: &ProjectKey) -> Result<(), String> {
        self.placer.clear_deleted(project).await.map_err(|error| error.to_string())
    }

    /// Makes a project's refs, and its `HEAD`, what the version map says.
    pub(super) async fn make_known(&self, project: &ProjectKey) -> Result<(), String> {
        self.placer.make_known(project).await.map_err(|error| error.to_string())
    }

    /// Lets Gerrits in once the node is ready.
    pub(super) fn door(&self, transactions: Arc<dyn Transactions>, latches: &Latches) -> Door {
        let latches = latches.clone();
        Door {
            node: self.parts.settings.node.clone(),
            refdb: Arc::clone(&self.parts.refdb),
            placer: self.placer.clone(),
            transactions,
            catch_up: Arc::clone(&self.catch_up),
            entropy: Arc::clone(&self.parts.entropy),
            roots: self.parts.settings.roots.clone(),
            takes_a_bridge: self.parts.settings.events.is_some(),
            not_ready: Arc::new(move || latches.closed()),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Seeds projects through this door of the commit stage.
    pub(super) fn seeder(&self, seedbed: Arc<dyn Seedbed>) -> Seeder {
        Seeder {
            site: self.parts.settings.site.clone(),
            node: self.parts.settings.node.clone(),
            refdb: Arc::clone(&self.parts.refdb),
            placer: self.placer.clone(),
            catch_up: Arc::clone(&self.catch_up),
            seedbed,
            entropy: Arc::clone(&self.parts.entropy),
            tasks: self.tasks.clone(),
            limits: self.parts.settings.seed,
            turns: Arc::new(Semaphore::new(seed::PROJECTS)),
            jobs: seed::Jobs::default(),
        }
    }

    /// Moves stream events to the event log, and lets those of others grow old. That needs no incarnation: what was taken
    /// before is sent though the site takes no commits now.
    pub(super) fn forward_events(&self) {
        let (eventlog, entropy) = (Arc::clone(&self.parts.eventlog), Arc::clone(&self.parts.entropy));
        self.tasks.spawn("forward", Arc::clone(&self.events).forward(eventlog, entropy));
        self.tasks.spawn("events", Arc::clone(&self.events).grow_old());
    }

    fn publisher(&self, journal: &Arc<Journal>) -> Publisher {
        Publisher {
            site: self.parts.settings.site.clone(),
            journal: Arc::clone(journal),
            refdb: Arc::clone(&self.parts.refdb),
            eventlog: Arc::clone(&self.parts.eventlog),
            entropy: Arc::clone(&self.parts.entropy),
            observer: Arc::clone(&self.parts.observer),
        }
    }

    /// Starts the stages of a newborn incarnation, and answers its commit stage.
    pub(super) fn begin(&self, born: &IncarnationRecord) -> Arc<Committer> {
        let settings = &self.parts.settings;
        let journal = Arc::new(Journal::new(born.id.clone(), settings.journal));
        *self.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::clone(&journal));
        let (refdb, observer) = (Arc::clone(&self.parts.refdb), Arc::clone(&self.parts.observer));
        let settler = Settler::new(Arc::clone(&refdb), Arc::clone(&journal), Arc::clone(&observer), self.parts.plants);
        let publish = Arc::new(Notify::new());
        let marks = MarkWriter {
            site: settings.site.clone(),
            refdb: Arc::clone(&refdb),
            journal: Arc::clone(&journal),
            observer,
            publish: Arc::clone(&publish),
            fenced: self.fence(),
            pace: settings.mark_pace,
            plants: self.parts.plants,
        };
        self.tasks.spawn("settle", settler.clone().run());
        self.tasks.spawn("marks", marks.run());
        let cancelled = self.tasks.cancelled();
        self.tasks.spawn("publish", self.publisher(&journal).run(settings.journal.lanes, cancelled, publish));
        Arc::new(self.committer(journal, settler))
    }

    fn committer(&self, journal: Arc<Journal>, settler: Settler) -> Committer {
        let (parts, settings) = (&self.parts, &self.parts.settings);
        let attempts = Attempts {
            refdb: Arc::clone(&parts.refdb),
            entropy: Arc::clone(&parts.entropy),
            patience: settings.patience,
            plants: parts.plants,
        };
        let (refdb, nudge) = (Arc::clone(&parts.refdb), Arc::clone(&self.beat));
        let fenced = self.fenced.clone();
        let serving = move || if fenced.is_cancelled() { Err("this node was fenced".to_owned()) } else { Ok(()) };
        Committer {
            site: settings.site.clone(),
            table: Arc::clone(&self.table),
            repositories: Arc::clone(&parts.repositories),
            placer: Placer { mover: Mover::Own, ..self.placer.clone() },
            blobs: Arc::clone(&parts.blobs),
            journal,
            attempts,
            settler,
            catch_up: Arc::clone(&self.catch_up),
            durability: self.durability.clone(),
            gates: Arc::clone(&self.gates),
            barrier: Arc::new(RegistryBarrier { refdb, nudge, patience: settings.barrier_patience }),
            observer: Arc::clone(&parts.observer),
            clock: Arc::clone(&parts.clock),
            tasks: self.tasks.clone(),
            serving: Arc::new(serving),
            inline_pack_bytes: settings.inline_pack_bytes,
            deadline: settings.deadline,
            requests: Committer::no_requests(),
        }
    }

    /// Waits until everything that is settled is in the event log.
    pub(super) async fn publish_rest(&self) {
        let journal = self.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(journal) = journal else { return };
        while journal.marks().iter().any(|mark| mark.published < mark.settled) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn refresh(parts: &Parts, tasks: &Tasks) -> Result<Option<Arc<Refresh>>, StoreError> {
    let Some(settings) = parts.settings.refresh.clone() else { return Ok(None) };
    let needs = RefreshParts {
        store: Arc::clone(&parts.store),
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        observer: Arc::clone(&parts.observer),
        ended: tasks.cancelled(),
        plants: parts.plants,
    };
    Ok(Some(Arc::new(Refresh::new(settings, needs)?)))
}

fn consumer(
    parts: &Parts,
    durability: &Durability,
    progress: Arc<Progress>,
    sink: Arc<dyn Sink>,
    announcements: Arc<dyn Announcements>,
    catch_up: &Arc<dyn CatchUp>,
    tasks: &Tasks,
) -> Consumer {
    Consumer {
        eventlog: Arc::clone(&parts.eventlog),
        sink,
        announcements,
        catch_up: Arc::clone(catch_up),
        store: Arc::clone(&parts.store),
        durability: durability.clone(),
        progress,
        observer: Arc::clone(&parts.observer),
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        tasks: tasks.clone(),
        limits: parts.settings.consume,
        plants: parts.plants,
    }
}

/// What this node's Gerrit has looked at; without a refresh stage nothing is ever due.
struct Looked(Option<Arc<Refresh>>);

impl Refreshed for Looked {
    fn is_refreshed(&self, project: &ProjectName, change: Option<u64>) -> bool {
        let Some(refresh) = &self.0 else { return true };
        let project = project.clone();
        match change.map(u32::try_from) {
            Some(Ok(number)) => !refresh.is_due(&Subject::Change { project, number }),
            // No ref is of such a change, and what is about no change is about the project.
            Some(Err(_)) | None => !refresh.is_due(&Subject::ProjectConfig { project }),
        }
    }
}

fn event_parts(
    parts: &Parts,
    table: &Arc<RefTable>,
    durability: &Durability,
    refresh: Option<Arc<Refresh>>,
    tasks: &Tasks,
) -> EventParts {
    EventParts {
        site: parts.settings.site.clone(),
        node: parts.settings.node.clone(),
        table: Arc::clone(table),
        store: Arc::clone(&parts.store),
        durability: durability.clone(),
        refreshed: Arc::new(Looked(refresh)),
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        observer: Arc::clone(&parts.observer),
        limits: parts.settings.events.unwrap_or_default(),
        forwards: parts.settings.events.is_some(),
        plants: parts.plants,
        ended: tasks.cancelled(),
    }
}

/// The sites whose streams a node reads: all of them, its own included.
pub(super) fn streams(parts: &Parts) -> Vec<SiteId> {
    let own = |site: &&SiteId| {
        !(parts.plants.has(crate::base::faults::injected_bug::Plant::OwnStreamSkipped) && **site == parts.settings.site)
    };
    parts.settings.sites.iter().filter(own).cloned().collect()
}
