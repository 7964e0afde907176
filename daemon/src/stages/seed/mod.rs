//! The seed stage: brings the refs and objects of an existing repository into the refdb as a project.
//!
//! A seeded project is created read-only. It takes refs from the seeder alone, so that the committed refs are those of
//! the disk. They are committed together, with one pack, as far as they fit into one commit: git reuses the packs of
//! the repository for it, and receivers keep it as it is. Refs that are in the version map already are left out, so an
//! interrupted seed is simply begun again. At the end, the refs on the disk are compared with the refdb. The project is
//! opened when a node of another site holds its objects: from then on, the loss of this site loses nothing.
//!
//! A project that takes commits already is compared alone, unless the caller says what is to become of the refs that
//! differ: they are committed, or they give way to the committed values.
//!
//! A crash leaves a project that is read-only and has a part of the refs. It stays so until it is seeded again or
//! deleted.
//!
//! | file | idea |
//! |---|---|
//! | `job` | the seed of one project, from its creation to its opening |
//! | `differences` | refs of a project that takes commits already, which something wrote without Lockstep |
//! | `commit_refs` | commits refs and history, in as few parts as possible |
//! | `verify` | compares the disk with the refdb |
//! | `holders` | decides whether another site holds the project |

mod commit_refs;
mod differences;
mod holders;
mod job;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::seed::{Differences, SeedRequest, SeedResponse, SeedStage};
use lockstep_proto::{NodeId, ProjectName, SiteId, limits};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::base::clock::Entropy;
use crate::base::tasks::Tasks;
use crate::seams::refdb::RefDb;
use crate::seams::volume::NodeStore;
use crate::stages::ports::{CatchUp, SeedCommits, Seeding};
use crate::state::context::{NodeContext, NodeState};
use crate::state::materialize::Materializer;
use crate::state::site_roles::SiteRoles;

/// Number of projects that are filled at the same time. The refs of each of them are in memory.
const PROJECTS: usize = 2;

/// Sizes and times of the seed stage.
#[derive(Clone, Copy, Debug)]
pub struct SeedLimits {
    /// Approximate number of commits per step. A longer history is committed in steps, so that no pack of it is too
    /// large for its receivers.
    pub step_commits: usize,
    /// Maximum number of refs, and of folders that their names need, per commit.
    pub part_refs: usize,
    /// Interval of the checks whether another site holds a project.
    pub look: Duration,
    /// Maximum number of these checks. After that, the seed fails, and seeding again goes on waiting.
    pub looks: u32,
}

impl Default for SeedLimits {
    fn default() -> Self {
        Self { step_commits: 20_000, part_refs: limits::COMMANDS, look: Duration::from_secs(1), looks: 600 }
    }
}

/// Seeds projects of one node. All clones share the jobs.
#[derive(Clone)]
pub struct Seeder {
    /// The site of this node.
    site: SiteId,
    /// The name of this node.
    node: NodeId,
    /// The refdb, with which the disk is compared.
    refdb: RefDb,
    /// The repositories and the version map.
    materializer: Materializer,
    /// The roles of all sites.
    roles: Arc<SiteRoles>,
    /// The node's own store, which knows the repositories that are being restored.
    store: Arc<dyn NodeStore>,
    /// The apply stage, which fetches a project that this node does not know yet.
    catch_up: Arc<dyn CatchUp>,
    /// The commit stage, which commits to projects that only the seeder may change.
    commits: Arc<dyn SeedCommits>,
    /// Randomness for request ids and the jitter of retries.
    entropy: Arc<dyn Entropy>,
    /// Owns the tasks of the jobs.
    tasks: Tasks,
    /// Sizes and times of seeding.
    limits: SeedLimits,
    /// Permits for the projects that are filled at the same time.
    turns: Arc<Semaphore>,
    /// The jobs that run, and the jobs that have ended and whose result nobody has asked for yet.
    jobs: Jobs,
}

/// The jobs of a node, by project.
type Jobs = Arc<Mutex<BTreeMap<ProjectName, Job>>>;

/// A handle to the seed of one project, for its callers.
#[derive(Clone, Debug)]
struct Job {
    progress: watch::Receiver<SeedResponse>,
    alone: Arc<AtomicBool>,
    differences: Differences,
}

fn has_ended(progress: &SeedResponse) -> bool {
    matches!(progress.stage, SeedStage::Open | SeedStage::Failed)
}

impl Seeder {
    /// Creates the stage without jobs. It commits through `commits`.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        catch_up: Arc<dyn CatchUp>,
        commits: Arc<dyn SeedCommits>,
        limits: SeedLimits,
    ) -> Self {
        let NodeContext { site, node, refdb, store, entropy, tasks, .. } = context.clone();
        let NodeState { materializer, roles, .. } = state.clone();
        let turns = Arc::new(Semaphore::new(PROJECTS));
        let jobs = Jobs::default();
        Self { site, node, refdb, materializer, roles, store, catch_up, commits, entropy, tasks, limits, turns, jobs }
    }

    /// The running job of a project, or a new one. A job that runs with another aim is an error.
    fn job(&self, project: &ProjectName, alone: bool, differences: Differences) -> Result<Job, ApiError> {
        let mut jobs = self.jobs.lock();
        let runs = |job: &&Job| !has_ended(&job.progress.borrow()) && job.progress.has_changed().is_ok();
        if let Some(job) = jobs.get(project).filter(runs) {
            if job.differences != differences {
                let why = "is being seeded with another way to treat differences; try again when that has ended";
                return Err(ApiError::unavailable(format!("project {project} {why}")));
            }
            job.alone.fetch_or(alone, Ordering::SeqCst);
            return Ok(job.clone());
        }
        let (sender, progress) = watch::channel(SeedResponse::default());
        let job = Job { progress, alone: Arc::new(AtomicBool::new(alone)), differences };
        jobs.insert(project.clone(), job.clone());
        let run = job::Run::new(self.clone(), project.clone(), differences, sender, Arc::clone(&job.alone));
        self.tasks.spawn("seed", run.run());
        Ok(job)
    }

    fn forget(&self, project: &ProjectName) {
        let mut jobs = self.jobs.lock();
        if jobs.get(project).is_some_and(|job| has_ended(&job.progress.borrow())) {
            jobs.remove(project);
        }
    }
}

#[async_trait]
impl Seeding for Seeder {
    async fn seed(&self, project: &ProjectName, request: SeedRequest) -> Result<SeedResponse, ApiError> {
        let mut job = self.job(project, request.alone, request.differences)?;
        let wait = Duration::from_millis(request.wait_ms);
        // An error means that the job ended with the node. Its last progress is then the answer.
        let _ = timeout(wait, job.progress.wait_for(has_ended)).await;
        let progress = job.progress.borrow().clone();
        self.forget(project);
        Ok(progress)
    }
}
