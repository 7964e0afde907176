//! The node: its stages, connected through channels and traits. This is the only room that knows all of them.
//!
//! [`Node::start`] builds the stages on the given seams and spawns them. It needs neither AWS nor a peer: the node
//! starts, serves reads, and keeps trying to join. `join` takes the node from there to ready.
//!
//! | file | idea |
//! |---|---|
//! | `settings` | all limits and intervals of a node |
//! | `join` | registers the node, reconciles it, opens its incarnation, and catches up |
//! | `bootstrap` | beats and counts while the node takes everything from the refdb and from peers |
//! | `come_back` | compares the disk with the committed state after a time in which the site was off |
//! | `follow_move` | follows a refdb that has moved to other tables |
//! | `follow_sites` | reads the streams of the sites of the list |
//! | `follow_roles` | takes writes while the site is active, and serves reads always |
//! | `unremembered_requests` | reads again which requests were committed and not durably remembered |
//! | `stream_readers` | tells event log and peers which nodes there are, and shows how the streams are read |
//! | `streams_away` | catches up from the refdb when streams are away |
//! | `recovery` | finds the refs that a crashed process had moved before their record was durable |
//! | `stages` | builds the stages |
//! | `term` | the stages of an open incarnation, and their end |
//! | `front` | passes calls to the commit stage while an incarnation is open, and refuses them otherwise |
//! | `not_active` | the refusal of a write at a site that is not active |
//! | `watch` | turns the events of the stages into metrics, the status board and log lines |
//! | `repairs` | ends debts as an operator asks |
//! | `snapshot` | whether the volume was put back to an earlier moment |
//! | `move_volume` | moves the volume to a refdb that was rebuilt from its own |
//! | `went_back` | stops the commits of this node when the refdb is older than it |
//! | `inspect` | collects the data of the status API |
//! | `explain` | explains one ref: how far it has come at every site |
//! | `digest` | leaves a digest of the node's state in the refdb |
//! | `failover_gauges` | how failovers and drills stand, for the gauges |
//! | `metered`, `gauges` | measure the calls of seams, and the state of the node |
//! | `last_contact` | when the node was last ready and reached the refdb |
//! | `uncommitted` | keeps the list of updates that nobody committed over restarts |
//! | `doctor` | the doctor of a running node, and of one whose sidecar does not answer |
//! | `local_health` | the disks and certificates of this machine, for a preflight |
//! | `probes` | probes the node's own commit path, and the services that `[probes]` names |
//! | `silent` | the child of a silent drill: a standby on a copy of the volume, in a process of its own |
//! | `production` | builds the seams of a configuration; names adapters |
//! | `secrets_in_logs` | tests: nothing secret of a call to AWS is in a log |
//! | `provision` | the resources of a site at AWS, for `lockstep aws`; names adapters |
//! | `guards` | looks whether the hooks of the repositories are in force |
//! | `left_blobs` | deletes the blobs of attempts that were under way when the last process ended |
//! | `left_locks` | looks for locks that programs left behind in the repositories |
//! | `hooks` | installs the git hooks in new repositories |
//! | `run` | `lockstep run`: a sidecar from its configuration to its end |

mod bootstrap;
mod come_back;
mod digest;
mod doctor;
mod explain;
mod failover_gauges;
pub mod follow_move;
mod follow_roles;
mod follow_sites;
mod front;
mod gauges;
mod guards;
mod hooks;
mod inspect;
mod join;
mod last_contact;
mod left_blobs;
mod left_locks;
mod local_health;
mod metered;
mod move_volume;
mod not_active;
mod probes;
mod production;
pub mod provision;
mod recovery;
mod repairs;
mod run;
#[cfg(test)]
mod secrets_in_logs;
mod settings;
mod silent;
mod snapshot;
mod stages;
mod stream_readers;
mod streams_away;
mod term;
mod uncommitted;
mod unremembered_requests;
mod watch;
mod went_back;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use lockstep_proto::ProjectName;
use tokio_util::sync::CancellationToken;

pub use doctor::without_sidecar;
pub use front::Front;
pub use hooks::{NoProgramPath, git_settings};
pub use inspect::Inspector;
pub use probes::ProbeSet;
pub use production::{Embedded, Seams, VolumeError, dependencies, seams};
pub use run::{RunError, Sidecar, run, stop_signal, telemetry_settings};
pub use settings::NodeSettings;
pub use silent::{SilentError, run_child};
pub use watch::Watch;

use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::blob::BlobStore;
use crate::seams::eventlog::EventLog;
use crate::seams::gerrit::Gerrit;
use crate::seams::git::Repositories;
use crate::seams::peers::Peers;
use crate::seams::refdb::{RefDb, Tables};
use crate::seams::signing::SiteSigner;
use crate::seams::volume::{NodeStore, StoreError, VolumeFacts, build_all};
use crate::stages::api::readiness::Latches;
use crate::stages::failover::{DrillStage, OperatorDesk};
use crate::stages::handshake::HandshakeStage;
use crate::stages::ports::{
    Arrivals, Handshake, LocalHealth, Locking, Operators, PeerRefs, Rebuilds, Refreshes, SeedCommits, Seeding,
    SharedRecords, StandbyCopies, StreamEvents, Transactions,
};
use crate::stages::rebuild::RebuildDesk;
use crate::stages::seed::Seeder;
use crate::state::went_back::WentBack;
use local_health::Unseen;
use probes::NodeProbes;
use stages::Stages;
use term::CurrentTerm;

/// Records per step when digests are built. A commit waits for one step at most.
const DIGESTS_STEP: usize = 5_000;

/// Everything that a node is started with: its seams, its observer and its settings. The assembly alone knows it. From
/// it and from the handles of one life (tasks, fence), [`Node::start`] makes the `NodeContext` of the stages.
#[derive(Clone)]
pub struct NodeDependencies {
    /// The global ref database.
    pub refdb: RefDb,
    /// Opens other tables, for a rebuild.
    pub tables: Arc<dyn Tables>,
    /// The event logs of all sites.
    pub eventlog: Arc<dyn EventLog>,
    /// The blob store for large packs.
    pub blobs: Arc<dyn BlobStore>,
    /// Other nodes' sidecars, as sources of objects.
    pub peers: Arc<dyn Peers>,
    /// The repositories on this node's volume.
    pub repositories: Arc<dyn Repositories>,
    /// This node's own durable store.
    pub store: Arc<dyn NodeStore>,
    /// The source of wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// The source of random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// The Gerrit that the refresh stage calls. `None` if the bridge asks for refresh tasks, or if there is no Gerrit.
    pub gerrit: Option<Arc<dyn Gerrit>>,
    /// The probes of `[probes]`, which act as users of this site.
    pub probes: ProbeSet,
    /// Receives every event and failure of the stages.
    pub observer: Arc<dyn Observer>,
    /// The key with which the node signs its transactions. None if it does not sign.
    pub signer: Option<Arc<SiteSigner>>,
    /// The boot id of the machine, or an empty text if it is not known.
    pub boot: String,
    /// The limits and intervals of the node.
    pub settings: NodeSettings,
    /// The bugs that a test has switched on. Production has none.
    pub bugs: InjectedBugs,
}

/// An error that prevents the start of a node.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The refs of the time before a rebuild could not be set aside.
    #[error("the volume cannot be moved to the rebuilt refdb: {0}")]
    Move(#[from] move_volume::MoveError),
    /// The repositories could not be repaired.
    #[error("the repositories cannot be used: {0}")]
    Repair(#[from] crate::seams::git::GitError),
}

/// A running node: its stages, their tasks and its listeners.
pub struct Node {
    tasks: Tasks,
    stages: Arc<Stages>,
    front: Arc<Front>,
    term: CurrentTerm,
    handshake: Arc<HandshakeStage>,
    seeder: Arc<Seeder>,
    rebuilds: Arc<RebuildDesk>,
    latches: Latches,
    fenced: CancellationToken,
}

impl Node {
    /// Repairs the volume, builds the stages and spawns them. The node then joins the others in the background.
    ///
    /// # Errors
    /// The volume cannot be used.
    pub async fn start(deps: NodeDependencies) -> Result<Self, StartError> {
        move_volume::to_rebuilt_refdb(&deps).await?;
        let (facts, unrecognized) = begin_life(&deps).await?;
        let tasks = Tasks::new();
        let fenced = CancellationToken::new();
        let (latches, [repaired, joined, caught_up, current, came_back]) =
            Latches::new(["repaired", "joined", "caught-up", "refdb-current", "came-back"]);
        repaired.open();
        current.open();
        came_back.open();
        let went_back = WentBack::new(deps.bugs);
        let stages = Arc::new(Stages::build(deps, &tasks, &fenced, &went_back)?);
        let (site, roles) = (stages.deps.settings.site.clone(), Arc::clone(&stages.state.roles));
        let front = Arc::new(Front::new(went_back, site, roles));
        if !facts.reconciles {
            recovery::intents(&stages).await?;
        }
        front.minding(Arc::clone(&stages.state.debts), stages.state.comes_back.clone());
        let handshake = Arc::new(stages.handshake(Arc::clone(&front) as Arc<dyn Transactions>, &latches));
        let seeder = Arc::new(stages.seeder(Arc::clone(&front) as Arc<dyn SeedCommits>));
        let rebuilds = Arc::new(stages.rebuild_desk(Arc::clone(&front)));
        let term = CurrentTerm::default();
        let join = join::Join {
            stages: Arc::clone(&stages),
            front: Arc::clone(&front),
            term: Arc::clone(&term),
            joined,
            caught_up,
            came_back,
            tasks: tasks.clone(),
            fenced: fenced.clone(),
            facts,
            unrecognized,
            impatience: AtomicU32::new(0),
            watches: AtomicBool::new(false),
        };
        tasks.spawn("durability", stages.state.durability.clone().run());
        tasks.spawn("set-digests", build_digests(Arc::clone(&stages)));
        if let (Some(refresh), Some(gerrit)) = (&stages.refresh, &stages.deps.gerrit) {
            tasks.spawn("refresh", Arc::clone(refresh).drive(Arc::clone(gerrit)));
        }
        tasks.spawn("went-back", went_back::Watcher::new(&stages.context, current).run());
        if let Some(autoscaler) = &stages.autoscaler {
            tasks.spawn("autoscale", Arc::clone(autoscaler).run());
        }
        tasks.spawn("join", join.run());
        Ok(Self { tasks, stages, front, term, handshake, seeder, rebuilds, latches, fenced })
    }

    /// The port through which the bridge commits.
    #[must_use]
    pub fn transactions(&self) -> Arc<dyn Transactions> {
        Arc::clone(&self.front) as Arc<dyn Transactions>
    }

    /// The port through which a bridge posts and takes stream events. `None` if no bridge is configured.
    #[must_use]
    pub fn events(&self) -> Option<Arc<dyn StreamEvents>> {
        let forwards = self.stages.deps.settings.events.is_some();
        forwards.then(|| Arc::clone(&self.stages.events) as Arc<dyn StreamEvents>)
    }

    /// The stages, for the status and the gauges.
    #[must_use]
    pub fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// The port through which a bridge takes refresh tasks. `None` if the sidecar calls Gerrit, or if there is no
    /// Gerrit.
    #[must_use]
    pub fn refreshes(&self) -> Option<Arc<dyn Refreshes>> {
        let asked = self.stages.refresh.clone().filter(|_| self.stages.deps.gerrit.is_none());
        asked.map(|refresh| refresh as Arc<dyn Refreshes>)
    }

    /// The port of the handshake with a starting Gerrit.
    #[must_use]
    pub fn handshake(&self) -> Arc<dyn Handshake> {
        Arc::clone(&self.handshake) as Arc<dyn Handshake>
    }

    /// The port through which projects are seeded.
    #[must_use]
    pub fn seeding(&self) -> Arc<dyn Seeding> {
        Arc::clone(&self.seeder) as Arc<dyn Seeding>
    }

    /// The port through which operators see all sites and move writes between them, at a node whose machine is not
    /// looked at.
    #[must_use]
    pub fn operators(&self) -> Arc<dyn Operators> {
        self.desk(Arc::new(Unseen), None)
    }

    /// The stage that drives drills of this node, without a preflight.
    #[must_use]
    pub fn drills(&self) -> Arc<DrillStage> {
        self.desk(Arc::new(Unseen), None).drills()
    }

    /// The desk of the operators. `local` looks at the machine of the node, and `copies` makes copies of its volume.
    fn desk(&self, local: Arc<dyn LocalHealth>, copies: Option<Arc<dyn StandbyCopies>>) -> Arc<OperatorDesk> {
        let probes = NodeProbes { stages: Arc::clone(&self.stages), front: Arc::clone(&self.front) };
        Arc::new(self.stages.operator_desk(Arc::new(probes), local, copies))
    }

    /// The port through which operators and bridges lock projects and refs.
    #[must_use]
    pub fn locking(&self) -> Arc<dyn Locking> {
        Arc::new(self.stages.lock_desk())
    }

    /// The front, which knows whether this node takes commits.
    #[must_use]
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// The port through which peers read the version map, and operators rebuild a lost refdb.
    #[must_use]
    pub fn rebuilds(&self) -> Arc<dyn Rebuilds> {
        Arc::clone(&self.rebuilds) as Arc<dyn Rebuilds>
    }

    /// The port through which peers read digests and refs of this node.
    #[must_use]
    pub fn peer_refs(&self) -> Arc<dyn PeerRefs> {
        Arc::new(self.stages.verifier.clone())
    }

    /// The port through which the other nodes of the site take records of streams.
    #[must_use]
    pub fn shared_records(&self) -> Arc<dyn SharedRecords> {
        Arc::clone(&self.stages.share) as Arc<dyn SharedRecords>
    }

    /// The port through which callers wait until a site shows a transaction.
    #[must_use]
    pub fn arrivals(&self) -> Arc<dyn Arrivals> {
        Arc::new(self.stages.arrivals(&self.latches))
    }

    /// The latches that `/readyz` shows.
    #[must_use]
    pub fn latches(&self) -> &Latches {
        &self.latches
    }

    /// Whether the node takes commits and has caught up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.latches.closed().is_empty() && !self.is_fenced()
    }

    /// Whether the refdb is known to be older than a node. Then no node commits.
    #[must_use]
    pub fn went_back(&self) -> bool {
        self.stages.context.went_back.is_known()
    }

    /// Whether the node was fenced, or its volume or a task failed. Then the process must be restarted.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fenced.is_cancelled() || self.tasks.cancelled().is_cancelled()
    }

    /// Waits until [`Node::is_fenced`] is true.
    pub async fn fenced(&self) {
        let tasks = self.tasks.cancelled();
        tokio::select! {
            biased;
            () = self.fenced.cancelled() => {}
            () = tasks.cancelled() => {}
        }
    }

    /// Aborts every task at once, as a crash would.
    pub fn kill(&self) {
        self.tasks.abort();
    }

    /// Stops the node in order: refuses new commits, waits for those in progress, ends its incarnation, publishes, and
    /// makes everything durable. Publishing may take half of `grace`; the rest is then left to other nodes. At the end,
    /// and after `grace` at the latest, it aborts all tasks.
    pub async fn stop(&self, grace: Duration) {
        self.front.close();
        let orderly = async {
            self.front.drained().await;
            self.tasks.cancel();
            let _ = tokio::time::timeout(grace / 8, self.stages.share.hand_over()).await;
            let term = self.term.lock().clone();
            if let Some(term) = &term {
                let _ = tokio::time::timeout(grace / 4, term.freeze(&self.stages)).await;
            }
            let published = async {
                if let Some(term) = &term {
                    term.publish_rest().await;
                }
            };
            let rest = async { tokio::join!(published, self.stages.events.forward_rest()) };
            let _ = tokio::time::timeout(grace / 2, rest).await;
            if let Some(term) = &term {
                term.close_journal(&self.stages).await;
            }
            self.stages.state.durability.wait_durable().await;
            if self.stages.state.durability.change_facts(|facts| facts.clean = true).is_ok() {
                self.stages.state.durability.wait_durable().await;
            }
        };
        let _ = tokio::time::timeout(grace, orderly).await;
        self.tasks.abort();
    }
}

/// Builds the digests of a store that a release without digests has written. The node serves meanwhile.
async fn build_digests(stages: Arc<Stages>) {
    if let Err(error) = build_all(stages.deps.store.as_ref(), DIGESTS_STEP).await {
        stages.deps.observer.failed("set-digests", &error);
    }
}

/// Repairs the leftovers of a crash, and records the new start in the node's store.
///
/// The record also says whether a reconciliation is due. It is due if the machine was booted since an unclean end,
/// because nobody knows then which of the unsynced moves are on the disk. It is also due if a base path is new or has
/// changed since this node last stopped. The projects of such base paths are returned.
async fn begin_life(deps: &NodeDependencies) -> Result<(VolumeFacts, Vec<ProjectName>), StartError> {
    deps.observer.starting(&"repairing the repositories after the last end");
    let before = deps.store.facts()?;
    // A machine that does not tell its boot id may have been booted at any time.
    let may_be_booted = deps.boot.is_empty() || before.boot != deps.boot;
    let unclean_boot = !before.clean && !before.id.is_empty() && may_be_booted;
    if may_be_booted {
        // A crash of the machine may have lost the last of these notes.
        deps.store.forget_blobs()?;
    }
    let projects = deps.store.projects()?;
    let living = projects.iter().filter(|(_, record)| !record.value.is_deleted_project()).map(|(name, _)| name.clone());
    deps.repositories.check_folders(&living.collect::<Vec<_>>()).await?;
    let report = deps.repositories.repair(unclean_boot).await?;
    tracing::info!(?report, "the start-up repair is complete");
    let id = if before.id.is_empty() { format!("{:016x}", deps.entropy.next()) } else { before.id };
    let known: Vec<ProjectName> = projects.into_iter().map(|(name, _)| name).collect();
    let mut unrecognized = deps.repositories.unrecognized(&life(&id, before.starts), &known).await?;
    if !unrecognized.is_empty() {
        let projects = unrecognized.len();
        tracing::warn!(
            projects,
            "a base path is new, or has changed since this node stopped: comparing it with the committed state"
        );
    }
    let of_other_refdb = before.of_other_refdb;
    unrecognized.extend(of_other_refdb.iter().filter(|name| !unrecognized.contains(name)).cloned().collect::<Vec<_>>());
    let reconciles = before.reconciles || unclean_boot || !unrecognized.is_empty();
    let (boot, starts) = (deps.boot.clone(), before.starts + 1);
    let (restoring, mending, came_back, clean) = (before.restoring, before.mending, before.came_back, false);
    let facts = VolumeFacts { id, starts, boot, clean, reconciles, restoring, mending, of_other_refdb, came_back };
    let changes = crate::seams::volume::Changes { facts: Some(facts.clone()), ..Default::default() };
    deps.store.commit(changes).await?;
    if unrecognized.is_empty() {
        deps.repositories.stamp(&life(&facts.id, facts.starts)).await?;
    }
    Ok((facts, unrecognized))
}

/// The word that a node leaves in its base paths. It names the node's volume and its start, so that a later start
/// recognises the base path.
fn life(id: &str, starts: u64) -> String {
    format!("{id} {starts}")
}
