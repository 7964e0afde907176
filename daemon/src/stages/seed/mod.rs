//! The seed stage: the refs of an existing repository become a project.
//!
//! A seeded project is read-only from its birth: it takes the seeder's refs and nobody else's, so that what is committed is
//! what the disk shows. Its refs go in parts of one commit each, its history first; what is in the version map already is
//! left out, so that a seed that was cut is simply begun again. At the end the refs of the disk are held against the refdb.
//! The project is opened when a node of another site holds its objects: from then on the loss of this site loses nothing.
//!
//! A crash leaves a project that is read-only and in part. It stays so until it is seeded again, or deleted.
//!
//! | file | idea |
//! |---|---|
//! | `job` | one project's seed, from its birth to its opening |
//! | `fill` | refs and history, in parts |
//! | `verify` | the disk held against the refdb |
//! | `holders` | whether another site holds it |

mod fill;
mod holders;
mod job;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::seed::{SeedRequest, SeedResponse, SeedStage};
use lockstep_proto::{NodeId, ProjectName, SiteId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::base::clock::Entropy;
use crate::base::tasks::Tasks;
use crate::seams::refdb::RefDb;
use crate::stages::ports::{CatchUp, SeedCommits, Seeding};
use crate::state::materialize::Materializer;

/// Projects that are filled at the same time: the refs of each are in memory.
pub const PROJECTS: usize = 2;

/// Bounds of seeding.
#[derive(Clone, Copy, Debug)]
pub struct SeedLimits {
    /// A longer history goes in steps of about so many commits, so that no pack of it is too large for its receivers.
    pub step_commits: usize,
    /// How often it is looked whether another site holds a project.
    pub look: Duration,
    /// How often it is looked before somebody has to ask again.
    pub looks: u32,
}

impl Default for SeedLimits {
    fn default() -> Self {
        Self { step_commits: 20_000, look: Duration::from_secs(1), looks: 600 }
    }
}

/// Seeds projects of one node. Clones share it.
#[derive(Clone)]
pub struct Seeder {
    /// This site.
    pub site: SiteId,
    /// This node.
    pub node: NodeId,
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// The repositories and the version map.
    pub materializer: Materializer,
    /// The apply stage.
    pub catch_up: Arc<dyn CatchUp>,
    /// The commit stage.
    pub commits: Arc<dyn SeedCommits>,
    /// For request ids.
    pub entropy: Arc<dyn Entropy>,
    /// Owns the jobs.
    pub tasks: Tasks,
    /// Bounds.
    pub limits: SeedLimits,
    /// How many projects are filled at the same time.
    pub turns: Arc<Semaphore>,
    /// The jobs that run, and those that ended and were not asked for since.
    pub jobs: Jobs,
}

/// The jobs of a node.
pub type Jobs = Arc<Mutex<BTreeMap<ProjectName, Job>>>;

/// One project's seed, as who asks for it sees it.
#[derive(Clone, Debug)]
pub struct Job {
    progress: watch::Receiver<SeedResponse>,
    alone: Arc<AtomicBool>,
}

fn has_ended(progress: &SeedResponse) -> bool {
    matches!(progress.stage, SeedStage::Open | SeedStage::Failed)
}

impl Seeder {
    /// The job of a project; a new one, if none runs.
    fn job(&self, project: &ProjectName, alone: bool) -> Job {
        let mut jobs = self.jobs.lock();
        let runs = |job: &&Job| !has_ended(&job.progress.borrow()) && job.progress.has_changed().is_ok();
        if let Some(job) = jobs.get(project).filter(runs) {
            job.alone.fetch_or(alone, Ordering::SeqCst);
            return job.clone();
        }
        let (sender, progress) = watch::channel(SeedResponse::default());
        let job = Job { progress, alone: Arc::new(AtomicBool::new(alone)) };
        jobs.insert(project.clone(), job.clone());
        let run = job::Run::new(self.clone(), project.clone(), sender, Arc::clone(&job.alone));
        self.tasks.spawn("seed", run.run());
        job
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
        let mut job = self.job(project, request.alone);
        let wait = Duration::from_millis(request.wait_ms);
        // An error means that the job was ended with the node: then what it said last is what is known.
        let _ = timeout(wait, job.progress.wait_for(has_ended)).await;
        let progress = job.progress.borrow().clone();
        self.forget(project);
        Ok(progress)
    }
}
