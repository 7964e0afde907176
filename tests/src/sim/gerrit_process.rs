//! The process of a Gerrit beside a node: it asks the node for refresh tasks and does them, until it dies.

use std::sync::Arc;
use std::time::Duration;

use lockstep::stages::ports::Refreshes;
use lockstep_proto::ProjectName;
use lockstep_proto::refresh::{DoneRequest, FailedTask, Subject, Task, TasksRequest};
use tokio::time::sleep;

use super::check::refresh::documents;
use super::faults::Seam;
use super::gerrit::Gerrit;
use super::world::{World, name};

impl World {
    /// Starts the Gerrit of each node in a task of its own, if the factory's nodes have any.
    pub fn start_gerrits(self: &Arc<Self>) {
        for node in self.nodes() {
            if let Some(gerrit) = self.gerrit(&node) {
                tokio::spawn(gerrit.clone().run(self.clone()));
            }
        }
    }
}

impl Gerrit {
    /// Runs the process, and starts it again whenever it dies.
    pub async fn run(self: Arc<Self>, world: Arc<World>) {
        loop {
            let (process, session) = self.begin();
            world.trace.note(self.node.as_str(), &format!("Gerrit starts: {session}"));
            let works = async {
                loop {
                    self.round(&world, &session).await;
                }
            };
            tokio::select! {
                biased;
                () = process.cancelled() => {}
                () = works => {}
            }
            sleep(Duration::from_millis(self.dice.between(100, 4_000))).await;
        }
    }

    /// Asks for tasks once, and does them.
    async fn round(&self, world: &Arc<World>, session: &str) {
        let Some(life) = world.life(&self.node) else { return sleep(Duration::from_millis(200)).await };
        let Some(refreshes) = life.node.refreshes() else { return sleep(Duration::from_secs(1)).await };
        let most = u32::try_from(self.dice.between(1, 8)).unwrap_or(1);
        let request = TasksRequest { session: session.to_owned(), most, wait_ms: 2_000, commit_within_ms: None };
        let answer = tokio::select! {
            biased;
            () = life.ended.cancelled() => return,
            answer = refreshes.tasks(request) => answer,
        };
        let rates = world.faults.rates(Seam::Gerrit);
        let tasks = match answer {
            Ok(answer) if self.dice.chance(rates.lose_answer) => {
                world.trace.note(self.node.as_str(), &format!("Gerrit never heard of {} tasks", answer.tasks.len()));
                return;
            }
            Ok(answer) => answer.tasks,
            Err(error) => {
                world.trace.note(self.node.as_str(), &format!("Gerrit heard {}", error.message));
                return sleep(Duration::from_millis(500)).await;
            }
        };
        self.look_at_random(world);
        self.work(world, session, &tasks, refreshes.as_ref()).await;
        if self.dice.chance(world.scenario.gerrit_dies) && world.faults.is_on() {
            self.crash(&world.trace);
        }
    }

    async fn work(&self, world: &World, session: &str, tasks: &[Task], refreshes: &dyn Refreshes) {
        let rates = world.faults.rates(Seam::Gerrit);
        let mut report = DoneRequest { session: session.to_owned(), done: Vec::new(), failed: Vec::new() };
        for task in tasks {
            sleep(Duration::from_millis(self.dice.between(1, world.scenario.gerrit_ms))).await;
            if self.dice.chance(rates.fail_before) {
                report.failed.push(FailedTask { id: task.id, why: "the dice".into() });
                continue;
            }
            self.execute(&world.trace, task);
            report.done.push(task.id);
        }
        if tasks.is_empty() || self.dice.chance(rates.lose_request) {
            return;
        }
        if let Err(error) = refreshes.done(&report) {
            world.trace.note(self.node.as_str(), &format!("Gerrit's report: {}", error.message));
        }
    }

    /// A user reads a random subject, which puts it into the caches.
    fn look_at_random(&self, world: &World) {
        let project: ProjectName = name(&format!("p{}", self.dice.below(world.scenario.projects)));
        let shown: Vec<(Subject, String)> = documents(self.volume.as_ref(), &project).into_iter().collect();
        if let Some((subject, document)) = self.dice.pick(&shown) {
            self.cache(subject, document);
        }
    }

    /// Handles a commit that a user made through this Gerrit: Gerrit indexes it, or dies before.
    pub fn committed(&self, world: &World, project: &ProjectName, subjects: &[Subject]) {
        if self.is_dead() {
            return;
        }
        if self.dice.chance(world.scenario.gerrit_dies) && world.faults.is_on() {
            return self.crash(&world.trace);
        }
        let deleted =
            subjects.iter().any(|subject| matches!(subject, Subject::Project { .. })) && { !self.volume.has(project) };
        self.look(project, world.trace.now_ms(), |subject| deleted || subjects.contains(subject), |_| false);
    }
}
