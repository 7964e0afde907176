//! The seed of one project, from its creation to its opening.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_proto::bridge::{ApiError, CreateProjectRequest, Outcome, ProjectResponse};
use lockstep_proto::seed::{Differences, SeedResponse, SeedStage};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefName};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Seeder;
use crate::base::backoff::Backoff;

/// Number of tries per commit, or per other call.
pub(super) const TRIES: u32 = 20;
/// Maximum number of problems that are reported.
const TOLD: usize = 20;

/// A job that is running.
pub(super) struct Run {
    pub(super) seeder: Seeder,
    pub(super) project: ProjectName,
    /// The way to treat refs that differ, if the project takes commits already.
    differences: Differences,
    progress: watch::Sender<SeedResponse>,
    alone: Arc<AtomicBool>,
}

/// The reasons why a seed failed: one text per ref, or one text for the whole seed.
pub(super) struct Failure(pub(super) Vec<String>);

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(vec![error.to_string()])
    }
}

impl Run {
    pub(super) fn new(
        seeder: Seeder,
        project: ProjectName,
        differences: Differences,
        progress: watch::Sender<SeedResponse>,
        alone: Arc<AtomicBool>,
    ) -> Self {
        Self { seeder, project, differences, progress, alone }
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut SeedResponse)) {
        self.progress.send_modify(change);
    }

    pub(super) async fn run(self) {
        match self.seed().await {
            Ok(()) => self.tell(|progress| progress.stage = SeedStage::Open),
            Err(Failure(mut problems)) => {
                tracing::warn!(
                    project = %self.project,
                    first = problems.first(),
                    count = problems.len(),
                    "a seed failed"
                );
                let more = problems.len().saturating_sub(TOLD);
                problems.truncate(TOLD);
                self.tell(|progress| {
                    progress.stage = SeedStage::Failed;
                    progress.problems = problems;
                    progress.more_problems = more as u64;
                });
            }
        }
    }

    async fn seed(&self) -> Result<(), Failure> {
        let turn = self.seeder.turns.acquire().await?;
        self.refuse_unfit().await?;
        let head = self.head().await?;
        let key = self.begin(&head).await?;
        if self.phase()? == Some(ProjectPhase::Active) {
            match self.differences {
                Differences::Refuse => {}
                Differences::Commit => self.commit_differences(&key, &head).await?,
                Differences::SetAside => self.set_aside(&key).await?,
            }
            let strays = self.seeder.materializer.strays(&self.project).await?.len() as u64;
            self.tell(|progress| progress.strays = strays);
            return self.verify(&key, Some(&self.head().await?)).await;
        }
        self.fill(&key, &head).await?;
        self.verify(&key, None).await?;
        drop(turn);
        self.wait_for_another_site(&key).await?;
        let id = self.request_id();
        let answer = self.patiently(|| self.seeder.commits.open(&key, head.clone(), id.clone())).await?;
        committed(&answer)?;
        tracing::info!(project = %key, "a project is seeded and open");
        Ok(())
    }

    /// Refuses a repository that Lockstep cannot take, before anything of it is committed. Refs that are left out are
    /// logged; the command that asked for the seed reports them.
    async fn refuse_unfit(&self) -> Result<(), Failure> {
        let fitness = self.seeder.materializer.repositories.fitness(&self.project).await?;
        for one in fitness.left_out.iter().take(TOLD) {
            tracing::warn!(project = %self.project, name = one.name, why = one.why, "a ref is not seeded");
        }
        if fitness.unfit.is_empty() {
            return Ok(());
        }
        Err(Failure(fitness.unfit.iter().map(ToString::to_string).collect()))
    }

    /// The branch that the repository's own `HEAD` names.
    pub(super) async fn head(&self) -> Result<RefName, Failure> {
        let name = &self.project;
        let head = self.seeder.materializer.repositories.head(name).await?;
        head.ok_or_else(|| format!("HEAD of {name} is detached; point it to a branch with `git symbolic-ref`").into())
    }

    pub(super) fn phase(&self) -> Result<Option<ProjectPhase>, Failure> {
        Ok(self.seeder.materializer.versions.project(&self.project)?.map(|state| state.phase))
    }

    /// Creates the project, read-only, unless it exists. Answers its key.
    async fn begin(&self, head: &RefName) -> Result<ProjectKey, Failure> {
        let name = &self.project;
        self.patiently(async || self.seeder.catch_up.project(name).await.map_err(ApiError::unavailable)).await?;
        match self.phase()? {
            Some(ProjectPhase::Active) => {}
            Some(ProjectPhase::ReadOnly) => self.refuse_anothers()?,
            Some(ProjectPhase::Closing) => {
                let why =
                    format!("project {name} is being deleted; finish that with `lockstep project delete {name} --yes`");
                return Err(why.into());
            }
            Some(ProjectPhase::Deleted) | None => {
                let request = CreateProjectRequest { request_id: self.request_id(), head: head.clone() };
                let answer = self.patiently(|| self.seeder.commits.begin(name, request.clone())).await?;
                committed(&answer)?;
            }
        }
        let key = self.seeder.materializer.versions.project_key(name)?;
        key.ok_or_else(|| format!("project {name} was deleted during its seed").into())
    }

    /// Refuses a project that another node has begun to seed, because this node may have only a part of it: going on
    /// would open that part, or delete the rest.
    fn refuse_anothers(&self) -> Result<(), Failure> {
        let Some(state) = self.seeder.materializer.versions.get(&ProjectKey::of_name(&self.project), &RefKey::State)?
        else {
            return Ok(());
        };
        let node = state.txn.slot.lane.incarnation.node;
        if node == self.seeder.node {
            return Ok(());
        }
        let name = &self.project;
        let why = format!(
            "node {node} has made project {name} read-only and may be seeding it; seed it there, or delete it with \
             `lockstep project delete {name} --yes`"
        );
        Err(why.into())
    }

    /// Waits until a node of another site holds the project as this node knows it, or a caller asks to open it without
    /// one.
    async fn wait_for_another_site(&self, key: &ProjectKey) -> Result<(), Failure> {
        for _ in 0..self.seeder.limits.looks {
            if self.alone.load(Ordering::SeqCst) {
                return Ok(());
            }
            let Some(why) = self.waits_for(key).await? else { return Ok(()) };
            self.tell(|progress| {
                progress.stage = SeedStage::Waiting;
                progress.waits_for = Some(why);
            });
            sleep(self.seeder.limits.look).await;
        }
        Err("no other site holds it yet; seed again to go on waiting".to_owned().into())
    }

    /// Repeats a call while a retry may help: the sidecar is starting, or the refdb does not answer for a moment.
    pub(super) async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let entropy = Arc::clone(&self.seeder.entropy);
        let mut backoff = Backoff::new(entropy, Duration::from_millis(100), Duration::from_secs(5));
        let end = backoff.retry(TRIES, |error: &ApiError| error.retry, ask).await;
        end.map_err(|error| error.message.into())
    }

    pub(super) fn request_id(&self) -> String {
        format!("seed-{:016x}{:016x}", self.seeder.entropy.next(), self.seeder.entropy.next())
    }
}

pub(super) fn committed(answer: &ProjectResponse) -> Result<(), Failure> {
    match (answer.outcome, &answer.refusal) {
        (Outcome::Committed | Outcome::CommittedNotYetVisible, _) => Ok(()),
        (_, Some(refusal)) => Err(refusal.message.clone().into()),
        (_, None) => Err("the outcome is unknown; seed again".to_owned().into()),
    }
}
