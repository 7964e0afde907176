//! A Gerrit beside a node: an index on a disk, caches in memory, and a process that dies apart from its node.
//!
//! It reads the refs of its node's volume and believes what it has read until somebody tells it to look again. It commits
//! through its node and then indexes what it committed, unless it dies between. What its index was given is on its disk only
//! after a while, as Lucene does it: a process that dies loses the rest, though it was acknowledged.

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

/// After how long a write of the index is on the disk, in virtual milliseconds.
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
    /// What searches find.
    index: Documents,
    /// What of it is on the disk.
    disk: Documents,
    /// What is not: when it was written, the subject, its document.
    unwritten: Vec<(u64, Subject, Option<String>)>,
    /// What was read once and is not read again.
    caches: Documents,
    process: CancellationToken,
    processes: u64,
}

impl Gerrit {
    /// The Gerrit of a node, which has looked at nothing yet.
    #[must_use]
    pub fn new(seed: u64, node: NodeId, volume: Arc<dyn Volume>) -> Self {
        let dice = Dice::new(seed, &format!("{node}/gerrit"));
        Self { node, volume, dice, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Lives, dies, and lives again.
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

    /// The process dies: caches go, and what of the index was not on the disk.
    pub fn crash(&self, world: &World) {
        world.trace.note(self.node.as_str(), "GERRIT DIES");
        let mut state = self.state();
        state.flush(world.trace.now_ms().saturating_sub(COMMIT_WITHIN_MS));
        state.unwritten.clear();
        state.caches.clear();
        state.index = state.disk.clone();
        state.process.cancel();
    }

    /// The disk is lost, and the process with it.
    pub fn lose_disk(&self, world: &World) {
        self.crash(world);
        let mut state = self.state();
        state.disk.clear();
        state.index.clear();
    }

    /// It asks for tasks once, and does them.
    async fn round(&self, world: &Arc<World>, session: &str) {
        let Some(life) = world.life(&self.node) else { return sleep(Duration::from_millis(200)).await };
        let Some(refreshes) = life.node.refreshes() else { return sleep(Duration::from_secs(1)).await };
        let most = u32::try_from(self.dice.between(1, 8)).unwrap_or(1);
        let request = TasksRequest { session: session.to_owned(), most, wait_ms: 2_000 };
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

    /// Looks at what a task names, and forgets what the caches have of it.
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

    /// The documents of these subjects become what the refs say now, or nothing.
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

    /// Somebody looks at something: it is in the caches from then on.
    fn look_at_random(&self, world: &World) {
        let project: ProjectName = super::world::name(&format!("p{}", self.dice.below(world.scenario.projects)));
        let shown: Vec<(Subject, String)> = documents(self.volume.as_ref(), &project).into_iter().collect();
        if let Some((subject, document)) = self.dice.pick(&shown) {
            self.state().caches.entry(subject.clone()).or_insert_with(|| document.clone());
        }
    }

    /// A user's request of this Gerrit was committed through its node: it indexes what it committed, or dies before.
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

    /// What searches find, and what the caches say.
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

    /// What was written until then is on the disk.
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
