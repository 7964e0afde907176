//! A Gerrit beside a node: an index on a disk, caches in memory, and a process that dies independently of its node.
//!
//! It reads the refs of its node's volume, and keeps the result until a refresh task tells it to read again. It commits
//! through its node, and then indexes its commit, unless it dies in between. Index writes reach the disk only after a
//! while, as with Lucene: a process that dies loses the later ones, although they were acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::refresh::{Subject, Task, Work};
use lockstep_proto::{NodeId, ProjectName};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::backend::Volume;
use super::check::refresh::{Documents, documents};
use super::dice::Dice;
use super::trace::Trace;

/// The delay after which an index write is on the disk, in virtual milliseconds.
pub const COMMIT_WITHIN_MS: u64 = 3_000;

/// The Gerrit of one node.
pub struct Gerrit {
    pub(super) node: NodeId,
    pub(super) volume: Arc<dyn Volume>,
    pub(super) dice: Dice,
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

    /// Begins the next process. Returns its end, and its session.
    pub(super) fn begin(&self) -> (CancellationToken, String) {
        let mut state = self.state();
        state.processes += 1;
        state.process = CancellationToken::new();
        (state.process.clone(), format!("{}-gerrit-{}", self.node, state.processes))
    }

    /// Whether the process is dead.
    pub(super) fn is_dead(&self) -> bool {
        self.state().process.is_cancelled()
    }

    /// Puts a document into the caches, unless one is there.
    pub(super) fn cache(&self, subject: &Subject, document: &str) {
        self.state().caches.entry(subject.clone()).or_insert_with(|| document.to_owned());
    }

    /// Kills the process. Its caches and its unwritten index entries are lost.
    pub fn crash(&self, trace: &Trace) {
        trace.note(self.node.as_str(), "GERRIT DIES");
        let mut state = self.state();
        state.flush(trace.now_ms().saturating_sub(COMMIT_WITHIN_MS));
        state.unwritten.clear();
        state.caches.clear();
        state.index = state.disk.clone();
        state.process.cancel();
    }

    /// Loses the disk, and kills the process.
    pub fn lose_disk(&self, trace: &Trace) {
        self.crash(trace);
        let mut state = self.state();
        state.disk.clear();
        state.index.clear();
    }

    /// Updates the documents of a task's subjects, and drops these subjects from the caches.
    pub(super) fn execute(&self, trace: &Trace, task: &Task) {
        let (own, attempt) = (task.own, task.attempt);
        trace.note(self.node.as_str(), &format!("Gerrit does {:?} own {own} try {attempt}", task.work));
        let now_ms = trace.now_ms();
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
    pub(super) fn look(
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
