//! The node: its stages, joined with channels and traits. This is the only place that knows all of them.
//!
//! [`Node::start`] builds the stages on given seams and spawns them; nothing of AWS, and no peer, is needed for that: a
//! node starts, serves reads and keeps trying to join. `join` is the way from there to ready.
//!
//! | file | idea |
//! |---|---|
//! | `settings` | every bound of a node |
//! | `join` | registered, reconciled, born, caught up, ready |
//! | `recovery` | what a crashed process had moved before it could remember |
//! | `stages` | building the stages |
//! | `front` | the bridge's calls, before and after the birth |
//! | `watch`, `inspect` | what the stages tell, and how the status shows it |
//! | `metered`, `gauges` | what is measured |
//! | `production` | the seams of a configuration: the only place that names adapters |
//! | `hooks` | the git hooks of new repositories |
//! | `run` | `lockstep run` |

mod front;
mod gauges;
mod hooks;
mod inspect;
mod join;
mod metered;
mod production;
mod recovery;
mod run;
mod settings;
mod stages;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectName, ProjectPhase, RefValue};
use tokio_util::sync::CancellationToken;

pub use front::Front;
pub use hooks::git_settings;
pub use inspect::Inspector;
pub use production::{Embedded, Seams, dependencies, seams};
pub use run::{RunError, Sidecar, run, stop_signal};
pub use settings::NodeSettings;
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
use crate::seams::refdb::RefDb;
use crate::seams::volume::{NodeStore, RefRecord, StoreError, VolumeFacts};
use crate::stages::api::latch::Latches;
use crate::stages::handshake::HandshakeStage;
use crate::stages::ports::{Handshake, Refreshes, SeedCommits, Seeding, StreamEvents, Transactions};
use crate::stages::seed::Seeder;
use stages::Stages;

/// The seams that a node stands on.
#[derive(Clone)]
pub struct NodeDependencies {
    /// The global ref database.
    pub refdb: Arc<dyn RefDb>,
    /// The event logs of all sites.
    pub eventlog: Arc<dyn EventLog>,
    /// Large packs.
    pub blobs: Arc<dyn BlobStore>,
    /// Other nodes' repositories.
    pub peers: Arc<dyn Peers>,
    /// The repositories on this node's volume.
    pub repositories: Arc<dyn Repositories>,
    /// This node's durable memory.
    pub store: Arc<dyn NodeStore>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The Gerrit that is told what to look at; none when it asks by itself, or when there is none.
    pub gerrit: Option<Arc<dyn Gerrit>>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// The machine's boot id, where it is known.
    pub boot: String,
    /// Every bound.
    pub settings: NodeSettings,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repositories could not be repaired.
    #[error("the repositories cannot be used: {0}")]
    Repair(#[from] crate::seams::git::GitError),
}

/// A running node.
pub struct Node {
    tasks: Tasks,
    stages: Arc<Stages>,
    front: Arc<Front>,
    handshake: Arc<HandshakeStage>,
    seeder: Arc<Seeder>,
    latches: Latches,
    fenced: CancellationToken,
}

impl Node {
    /// Repairs the volume, builds the stages and spawns them. Joining the others goes on in the background.
    ///
    /// # Errors
    /// The volume cannot be used.
    pub async fn start(deps: NodeDependencies) -> Result<Self, StartError> {
        let (facts, unrecognized) = begin_life(&deps).await?;
        let tasks = Tasks::new();
        let fenced = CancellationToken::new();
        let (latches, [repaired, joined, caught_up]) = Latches::new(["repaired", "joined", "caught-up"]);
        repaired.open();
        let front = Arc::new(Front::default());
        let stages = Arc::new(Stages::build(deps, &tasks, &fenced)?);
        if !facts.reconciles {
            recovery::intents(&stages).await?;
        }
        let handshake = Arc::new(stages.handshake(Arc::clone(&front) as Arc<dyn Transactions>, &latches));
        let seeder = Arc::new(stages.seeder(Arc::clone(&front) as Arc<dyn SeedCommits>));
        let join = join::Join {
            stages: Arc::clone(&stages),
            front: Arc::clone(&front),
            joined,
            caught_up,
            tasks: tasks.clone(),
            fenced: fenced.clone(),
            facts,
            unrecognized,
        };
        tasks.spawn("durability", stages.durability.clone().run());
        if let (Some(refresh), Some(gerrit)) = (&stages.refresh, &stages.deps.gerrit) {
            tasks.spawn("refresh", Arc::clone(refresh).drive(Arc::clone(gerrit)));
        }
        tasks.spawn("join", join.run());
        Ok(Self { tasks, stages, front, handshake, seeder, latches, fenced })
    }

    /// The bridge's calls.
    #[must_use]
    pub fn transactions(&self) -> Arc<dyn Transactions> {
        Arc::clone(&self.front) as Arc<dyn Transactions>
    }

    /// Where a bridge posts and takes stream events; none where no bridge takes them.
    #[must_use]
    pub fn events(&self) -> Option<Arc<dyn StreamEvents>> {
        let forwards = self.stages.deps.settings.events.is_some();
        forwards.then(|| Arc::clone(&self.stages.events) as Arc<dyn StreamEvents>)
    }

    /// What the status shows of the stages.
    #[must_use]
    pub fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// What a bridge inside Gerrit asks for its tasks; none when another Gerrit is told them, or none is.
    #[must_use]
    pub fn refreshes(&self) -> Option<Arc<dyn Refreshes>> {
        let asked = self.stages.refresh.clone().filter(|_| self.stages.deps.gerrit.is_none());
        asked.map(|refresh| refresh as Arc<dyn Refreshes>)
    }

    /// Who lets Gerrits in.
    #[must_use]
    pub fn handshake(&self) -> Arc<dyn Handshake> {
        Arc::clone(&self.handshake) as Arc<dyn Handshake>
    }

    /// Who seeds projects.
    #[must_use]
    pub fn seeding(&self) -> Arc<dyn Seeding> {
        Arc::clone(&self.seeder) as Arc<dyn Seeding>
    }

    /// The bridge's calls, with what is known of this node's incarnation.
    #[must_use]
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// What `/readyz` shows.
    #[must_use]
    pub fn latches(&self) -> &Latches {
        &self.latches
    }

    /// Whether the node takes commits and has caught up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.latches.closed().is_empty() && !self.is_fenced()
    }

    /// Whether the node was fenced, or its volume failed: it must be started anew.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fenced.is_cancelled() || self.tasks.cancelled().is_cancelled()
    }

    /// Waits until the node is fenced or its volume failed.
    pub async fn fenced(&self) {
        let tasks = self.tasks.cancelled();
        tokio::select! {
            biased;
            () = self.fenced.cancelled() => {}
            () = tasks.cancelled() => {}
        }
    }

    /// Ends every task where it stands, as a crash would.
    pub fn kill(&self) {
        self.tasks.abort();
    }

    /// Ends in an orderly way: takes no more commits, lets those under way end, publishes, makes everything durable.
    pub async fn stop(&self, grace: Duration) {
        self.front.close();
        let orderly = async {
            self.front.drained().await;
            self.tasks.cancel();
            self.stages.publish_rest().await;
            self.stages.events.forward_rest().await;
            self.stages.durability.settle().await;
            let facts = self.stages.deps.store.facts().map(|facts| VolumeFacts { clean: true, ..facts });
            if let Ok(facts) = facts {
                self.stages.durability.stage(|changes| changes.facts = Some(facts));
                self.stages.durability.settle().await;
            }
        };
        let _ = tokio::time::timeout(grace, orderly).await;
        self.tasks.abort();
    }
}

/// Repairs what a crash left, and notes that a new life has begun. When the machine was booted since an unclean end, nobody
/// knows which of the unsynced moves are on the disk: that a reconciliation is due is noted with it. So it is with
/// the projects, which are answered too, of a base path that is not as this node left it.
async fn begin_life(deps: &NodeDependencies) -> Result<(VolumeFacts, Vec<ProjectName>), StartError> {
    let before = deps.store.facts()?;
    let unclean_boot = !before.clean && !before.id.is_empty() && before.boot != deps.boot;
    let projects = deps.store.projects()?;
    let lives = |record: &RefRecord| !matches!(&record.value, RefValue::State(it) if it.phase == ProjectPhase::Deleted);
    let living = projects.iter().filter(|(_, record)| lives(record)).map(|(name, _)| name.clone());
    deps.repositories.check_folders(&living.collect::<Vec<_>>()).await?;
    let report = deps.repositories.repair(unclean_boot).await?;
    tracing::info!(?report, "start-up repair is done");
    let id = if before.id.is_empty() { format!("{:016x}", deps.entropy.next()) } else { before.id };
    let known: Vec<ProjectName> = projects.into_iter().map(|(name, _)| name).collect();
    let unrecognized = deps.repositories.unrecognized(&life(&id, before.starts), &known).await?;
    if !unrecognized.is_empty() {
        let projects = unrecognized.len();
        tracing::warn!(
            projects,
            "a base path is new, or not as this node left it: it is compared with what was committed"
        );
    }
    let reconciles = before.reconciles || unclean_boot || !unrecognized.is_empty();
    let (boot, restoring) = (deps.boot.clone(), before.restoring);
    let facts = VolumeFacts { id, starts: before.starts + 1, boot, clean: false, reconciles, restoring };
    let changes = crate::seams::volume::Changes { facts: Some(facts.clone()), ..Default::default() };
    deps.store.commit(changes).await?;
    if unrecognized.is_empty() {
        deps.repositories.stamp(&life(&facts.id, facts.starts)).await?;
    }
    Ok((facts, unrecognized))
}

/// The word that is left in base paths: which life of which node worked there.
fn life(id: &str, starts: u64) -> String {
    format!("{id} {starts}")
}
