//! A Gerrit beside a node: an index on a disk, caches in memory, and a process that dies independently of its node.
//!
//! It reads the refs of its node's volume, and keeps the result until a refresh task tells it to read again. It commits
//! through its node, and then indexes its commit, unless it dies in between. Index writes reach the disk only after a
//! while, as with Lucene: a process that dies loses the later ones, although they were acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep::stages::ports::Refreshes;
use lockstep_proto::refresh::{DoneRequest, FailedTask, Subject, Task, TasksRequest, Work};
use lockstep_proto::{NodeId, ProjectName};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backend::Volume;
use super::check::refresh::{Documents, documents};
use super::dice::Dice;
use super::faults::Seam;
use super::world::World;

/// The delay after which an index write is on the disk, in virtual milliseconds.
pub const COMMIT_WITHIN_MS: u64 = 3_000;

/// The Gerrit of one node.
pub struct Gerrit {
    node: NodeId,
    volume: Arc<dyn Volume>,
    dice: Dice,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The index that searches use.
    index: Documents,
    /// The part of the index that is on the disk.
    disk: Documents,
    /// Index writes that are not on the disk yet: time, subject and document.
    unwritten: Vec<(u64, Subject, Option<String>)>,
    /// Documents that were read once, and are not read again.
    caches: Documents,
    process: CancellationToken,
    processes: u64,
}

impl Gerrit {
    /// The Gerrit of a node. Its index and caches are empty.
    #[must_use]
    pub fn new(seed: u64, node: NodeId, volume: Arc<dyn Volume>) -> Self {
        let dice = Dice::new(seed, &format!("{node}/gerrit"));
        Self { node, volume, dice, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

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

    fn begin(&self) -> (CancellationToken, String) {
        let mut state = self.state();
        state.processes += 1;
        state.process = CancellationToken::new();
        (state.process.clone(), format!("{}-gerrit-{}", self.node, state.processes))
    }

    /// Kills the process. Its caches and its unwritten index entries are lost.
    pub fn crash(&self, world: &World) {
        world.trace.note(self.node.as_str(), "GERRIT DIES");
        let mut state = self.state();
        state.flush(world.trace.now_ms().saturating_sub(COMMIT_WITHIN_MS));
        state.unwritten.clear();
        state.caches.clear();
        state.index = state.disk.clone();
        state.process.cancel();
    }

    /// Loses the disk, and kills the process.
    pub fn lose_disk(&self, world: &World) {
        self.crash(world);
        let mut state = self.state();
        state.disk.clear();
        state.index.clear();
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
            self.crash(world);
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
            self.execute(world, task);
            report.done.push(task.id);
        }
        if tasks.is_empty() || self.dice.chance(rates.lose_request) {
            return;
        }
        if let Err(error) = refreshes.done(&report) {
            world.trace.note(self.node.as_str(), &format!("Gerrit's report: {}", error.message));
        }
    }

    /// Updates the documents of a task's subjects, and drops these subjects from the caches.
    fn execute(&self, world: &World, task: &Task) {
        let (own, attempt) = (task.own, task.attempt);
        world.trace.note(self.node.as_str(), &format!("Gerrit does {:?} own {own} try {attempt}", task.work));
        let now_ms = world.trace.now_ms();
        match &task.work {
            Work::Project { project, deleted, .. } => {
                if *deleted {
                    self.look(project, now_ms, |_| true, |_| true);
                }
                self.look(
                    project,
                    now_ms,
                    |subject| *subject == Subject::Project { project: project.clone() },
                    |_| false,
                );
            }
            Work::ProjectConfig { project, .. } => {
                let config = Subject::ProjectConfig { project: project.clone() };
                self.look(project, now_ms, |subject| *subject == config, |_| false);
            }
            Work::Changes { project } => {
                let of_changes = |subject: &Subject| matches!(subject, Subject::Change { .. } | Subject::Branch { .. });
                self.look(project, now_ms, of_changes, |_| false);
            }
            Work::Change { project, number } => {
                let change = Subject::Change { project: project.clone(), number: *number };
                self.look(project, now_ms, |subject| *subject == change, |_| false);
            }
            Work::Branch { project, name } => {
                let branch = Subject::Branch { project: project.clone(), name: name.clone() };
                self.look(project, now_ms, |subject| *subject == branch, |_| false);
            }
            Work::Account { .. } | Work::Group { .. } | Work::GroupNames { .. } | Work::ExternalIds { .. } => {}
        }
    }

    /// Updates the documents of these subjects to the present refs. Removes the documents of subjects that `drop`
    /// selects.
    fn look(
        &self,
        project: &ProjectName,
        now_ms: u64,
        which: impl Fn(&Subject) -> bool,
        drop: impl Fn(&Subject) -> bool,
    ) {
        let shown = documents(self.volume.as_ref(), project);
        let mut state = self.state();
        let is_of = |subject: &Subject| subject.project() == Some(project) && which(subject);
        let known: Vec<Subject> = state.index.keys().chain(shown.keys()).filter(|it| is_of(it)).cloned().collect();
        state.caches.retain(|subject, _| !is_of(subject));
        for subject in known {
            let document = shown.get(&subject).filter(|_| !drop(&subject)).cloned();
            if state.index.get(&subject) != document.as_ref() {
                state.write(now_ms, subject, document);
            }
        }
    }

    /// A user reads a random subject, which puts it into the caches.
    fn look_at_random(&self, world: &World) {
        let project: ProjectName = super::world::name(&format!("p{}", self.dice.below(world.scenario.projects)));
        let shown: Vec<(Subject, String)> = documents(self.volume.as_ref(), &project).into_iter().collect();
        if let Some((subject, document)) = self.dice.pick(&shown) {
            self.state().caches.entry(subject.clone()).or_insert_with(|| document.clone());
        }
    }

    /// Handles a commit that a user made through this Gerrit: Gerrit indexes it, or dies before.
    pub fn committed(&self, world: &World, project: &ProjectName, subjects: &[Subject]) {
        if self.state().process.is_cancelled() {
            return;
        }
        if self.dice.chance(world.scenario.gerrit_dies) && world.faults.is_on() {
            return self.crash(world);
        }
        let deleted =
            subjects.iter().any(|subject| matches!(subject, Subject::Project { .. })) && { !self.volume.has(project) };
        self.look(project, world.trace.now_ms(), |subject| deleted || subjects.contains(subject), |_| false);
    }

    /// The index and the caches.
    #[must_use]
    pub fn shows(&self) -> (Documents, Documents) {
        let state = self.state();
        (state.index.clone(), state.caches.clone())
    }
}

impl State {
    fn write(&mut self, now_ms: u64, subject: Subject, document: Option<String>) {
        put(&mut self.index, &subject, document.as_ref());
        self.unwritten.push((now_ms, subject, document));
    }

    /// Writes the index entries up to this time to the disk.
    fn flush(&mut self, until_ms: u64) {
        let old = self.unwritten.partition_point(|(at, ..)| *at <= until_ms);
        for (_, subject, document) in self.unwritten.drain(..old) {
            put(&mut self.disk, &subject, document.as_ref());
        }
    }
}

fn put(documents: &mut BTreeMap<Subject, String>, subject: &Subject, document: Option<&String>) {
    match document {
        Some(document) => documents.insert(subject.clone(), document.clone()),
        None => documents.remove(subject),
    };
}
