//! The refresh queue of one node: the subjects that Gerrit must refresh, is refreshing, or has refreshed lately.
//!
//! The queue is pure: it depends only on its inputs, and the time is one of them. It holds each subject once, in one of
//! four states:
//!
//! | state | meaning | left when |
//! |---|---|---|
//! | held | waits after a failure, or because Gerrit refreshes its own commit by itself | the wait is over: ready |
//! | ready | due | it is handed out: out |
//! | out | Gerrit is working on it | done: kept. Failed: held. Lease over, or another Gerrit asks: ready |
//! | kept | acknowledged lately | moved again: held or ready. Another Gerrit asks: ready. Kept long enough: gone |
//!
//! A move of a subject that is out is remembered separately, so that the acknowledgement of the earlier move does not
//! cover it. An acknowledged subject is kept for a while: a Gerrit that dies loses the index writes that were not on
//! its disk yet, and gets those subjects again. A kept subject leaves the queue only when the same Gerrit calls after
//! that while, because the call proves that Gerrit has lived so long. Time alone proves nothing: Gerrit may be down.

mod bounds;
mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_proto::ProjectName;
use lockstep_proto::refresh::{Subject, Task};
use tokio::time::Instant;

use crate::seams::volume::{Difference, RefreshMark};
use entry::{Entry, Line, State};

/// Number of failures after which a project's configuration no longer holds back the project's other subjects.
const CONFIG_TRIES: u32 = 3;

/// Sizes and times of the queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Maximum number of changes and branches per project. Beyond it, all changes of the project become one task.
    pub of_project: usize,
    /// Maximum number of subjects in the queue. Beyond it, the largest projects become one task each.
    pub in_all: usize,
    /// How long a subject that this node's own commit has moved is held, because Gerrit refreshes it by itself.
    pub hold_own: Duration,
    /// How long an acknowledged subject is kept, in case Gerrit dies and loses it.
    pub keep: Duration,
    /// How long a task may be out. After that, its acknowledgement counts as lost and the task is due again.
    pub lease: Duration,
    /// The same for tasks that may go over all changes of a project.
    pub long_lease: Duration,
}

/// Counts of the queue, for the status and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Number of subjects that are not acknowledged.
    pub due: u64,
    /// Number of subjects among them that Gerrit is working on.
    pub out: u64,
    /// When the oldest of them moved, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
}

/// The subjects of one node and their states. The module's documentation defines the states.
pub struct Queue {
    limits: QueueLimits,
    lines: BTreeMap<Option<ProjectName>, Line>,
    ready: BTreeMap<u64, Subject>,
    timers: BTreeMap<(Instant, u64), Subject>,
    kept: BTreeMap<(Instant, u64), Subject>,
    out: BTreeMap<u64, Subject>,
    unsaved: BTreeSet<Subject>,
    generation: u64,
    turn: u64,
    total: usize,
    squeeze_at: usize,
    forgets_newer: bool,
}

impl Queue {
    /// Builds the queue from the marks that earlier starts of the node stored. New generations count up from
    /// `generation`.
    #[must_use]
    pub fn new(
        limits: QueueLimits,
        generation: u64,
        mut marks: Vec<(Subject, RefreshMark)>,
        now: Instant,
        forgets_newer: bool,
    ) -> Self {
        let mut queue = Self {
            limits,
            lines: BTreeMap::new(),
            ready: BTreeMap::new(),
            timers: BTreeMap::new(),
            kept: BTreeMap::new(),
            out: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            generation,
            turn: 0,
            total: 0,
            squeeze_at: limits.in_all,
            forgets_newer,
        };
        marks.sort_by_key(|(_, mark)| mark.generation);
        for (subject, mark) in marks {
            let acknowledged = mark.acknowledged;
            queue.insert(&subject, Entry { saved: true, ..Entry::new(mark) });
            match acknowledged {
                true => queue.keep(&subject, now),
                false => queue.make_ready(&subject),
            }
        }
        queue
    }

    /// Notes that the refs of a subject have moved at `now`, which is `now_ms` milliseconds since 1970. `own` says that
    /// the move is a commit of this node's own Gerrit.
    pub fn mark(&mut self, subject: &Subject, difference: Difference, own: bool, now: Instant, now_ms: u64) {
        self.generation += 1;
        let mark = RefreshMark { generation: self.generation, since_ms: now_ms, own, acknowledged: false, difference };
        if matches!(difference, Difference::Project { deleted: true, .. }) {
            self.drop_all_of(subject);
        }
        match self.covering(subject) {
            // The task gets a new id, so that a pass over all changes that began before this move cannot acknowledge
            // it.
            Some(all) => self.note(&all, RefreshMark { difference: Difference::Some, own: false, ..mark }, now),
            None => self.note(subject, mark, now),
        }
        self.bound(subject, now, now_ms);
    }

    fn note(&mut self, subject: &Subject, mark: RefreshMark, now: Instant) {
        // A subject that is absent here and listed in `unsaved` is about to be removed from the store, and still in it.
        let saved = !self.unsaved.insert(subject.clone());
        let Some(entry) = self.entry_mut(subject) else {
            self.insert(subject, Entry { saved, ..Entry::new(mark) });
            return self.wait(subject, now);
        };
        match entry.state {
            State::Out(..) => {
                entry.later = Some(match entry.later.take() {
                    Some(later) => later.then(mark),
                    None => mark,
                });
            }
            State::Kept(..) => {
                entry.go_on_from_acknowledged(mark);
                self.wait(subject, now);
            }
            State::New | State::Ready(_) | State::Held(..) => {
                let failed = entry.failures > 0;
                entry.mark = entry.mark.clone().then(mark);
                if !entry.mark.own && !failed {
                    self.make_ready(subject);
                }
            }
        }
    }

    /// Hands out tasks that are due, at most `most`.
    pub fn take(&mut self, most: usize, now: Instant) -> Vec<Task> {
        self.tick(now);
        let free = self.ready.values().filter(|subject| !self.is_blocked(subject));
        let subjects: Vec<Subject> = free.take(most).cloned().collect();
        subjects.iter().filter_map(|subject| self.hand_out(subject, now)).collect()
    }

    fn hand_out(&mut self, subject: &Subject, now: Instant) -> Option<Task> {
        let lease = match subject {
            Subject::Changes { .. } | Subject::ProjectConfig { .. } | Subject::Branch { .. } => self.limits.long_lease,
            Subject::Project { .. }
            | Subject::Change { .. }
            | Subject::Account { .. }
            | Subject::Group { .. }
            | Subject::GroupNames
            | Subject::ExternalIds => self.limits.lease,
        };
        let (until, turn) = (now + lease, self.next_turn());
        self.set(subject, State::Out(until, turn));
        let entry = self.entry_mut(subject)?;
        let task = entry.task(subject);
        self.out.insert(task.id, subject.clone());
        Some(task)
    }

    /// Notes that Gerrit has done a task. Answers whether the task was out.
    pub fn done(&mut self, id: u64, now: Instant) -> bool {
        let Some(subject) = self.out.remove(&id) else { return false };
        let (forgets_newer, keep) = (self.forgets_newer, self.limits.keep);
        let Some(entry) = self.entry_mut(&subject) else { return false };
        entry.failures = 0;
        entry.acknowledge(now, keep);
        let later = entry.later.take().filter(|_| !forgets_newer);
        self.unsaved.insert(subject.clone());
        match later {
            Some(later) => {
                if let Some(entry) = self.entry_mut(&subject) {
                    entry.go_on_from_acknowledged(later);
                }
                self.wait(&subject, now);
            }
            None => self.keep(&subject, now),
        }
        true
    }

    /// Notes that Gerrit failed to do a task. It becomes ready again after `pause`, a function of the number of
    /// failures. Answers the task's subject; none when no such task was out.
    pub fn failed(&mut self, id: u64, now: Instant, pause: impl FnOnce(u32) -> Duration) -> Option<Subject> {
        let subject = self.out.remove(&id)?;
        let entry = self.entry_mut(&subject)?;
        entry.come_back();
        entry.failures = entry.failures.saturating_add(1);
        let (at, turn) = (now + pause(entry.failures), self.next_turn());
        self.set(&subject, State::Held(at, turn));
        Some(subject)
    }

    /// Keeps subjects that are acknowledged from now on for this long.
    pub fn keep_for(&mut self, keep: Duration) {
        self.limits.keep = keep;
    }

    /// Begins a session of another Gerrit process. Tasks that the previous process was given and did not acknowledge
    /// become ready again, and so do those that it acknowledged lately and may have lost. A task over a pair of values
    /// begins at the value whose refresh is on Gerrit's disk for sure.
    pub fn begin(&mut self, now: Instant) {
        self.tick(now);
        self.out.clear();
        let mut made_again = Vec::new();
        for subject in self.subjects() {
            let Some(entry) = self.entry_mut(&subject) else { continue };
            match entry.state {
                State::Out(..) | State::Kept(..) => {
                    if let Subject::Project { project } = &subject
                        && entry.is_kept()
                        && entry.mark.difference == (Difference::Project { deleted: true, exists: true })
                    {
                        made_again.push((project.clone(), entry.mark.since_ms));
                    }
                    entry.come_back();
                    entry.go_back_to_durable();
                    self.unsaved.insert(subject.clone());
                    self.make_ready(&subject);
                }
                State::Held(..) if entry.failures > 0 => {
                    entry.failures = 0;
                    entry.go_back_to_durable();
                    self.make_ready(&subject);
                }
                State::New | State::Held(..) | State::Ready(_) => entry.go_back_to_durable(),
            }
        }
        // When Gerrit is told again that a project was deleted, it drops what it has since indexed of the project's
        // successor. So all changes of the successor are refreshed again.
        for (project, since_ms) in made_again {
            let mark = self.mark_of_all(since_ms);
            self.note(&Subject::Changes { project }, mark, now);
        }
    }

    /// Notes that the Gerrit that asks is alive. Subjects that it acknowledged long enough ago are on its disk by now
    /// and leave the queue.
    pub fn polled(&mut self, now: Instant) {
        while let Some(subject) =
            self.kept.first_key_value().filter(|((at, _), _)| *at <= now).map(|(_, it)| it.clone())
        {
            self.remove(&subject);
        }
    }

    /// The next time at which a subject that is held or out may become ready; none when there is no such subject.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the changes since the last call: marks to store, and subjects whose marks the store must remove.
    pub fn save(&mut self, now: Instant) -> (Vec<(Subject, RefreshMark)>, Vec<Subject>) {
        self.tick(now);
        let (mut marks, mut gone) = (Vec::new(), Vec::new());
        for subject in std::mem::take(&mut self.unsaved) {
            match self.entry_mut(&subject) {
                Some(entry) => {
                    entry.saved = true;
                    let mark = entry.stored();
                    marks.push((subject, mark));
                }
                None => gone.push(subject),
            }
        }
        (marks, gone)
    }

    /// Whether Gerrit may still show this subject as it was before a move that readers can see already.
    #[must_use]
    pub fn is_due(&self, subject: &Subject) -> bool {
        let is_open = |subject: &Subject| self.entry(subject).is_some_and(|entry| !entry.is_kept());
        let above = subject.project().into_iter().flat_map(|project| {
            [Subject::Project { project: project.clone() }, Subject::Changes { project: project.clone() }]
        });
        is_open(subject) || above.into_iter().any(|above| is_open(&above))
    }

    /// The subjects of a project that are not acknowledged. Without a project, those that all projects share.
    #[must_use]
    pub fn open_of(&self, project: Option<&ProjectName>) -> Vec<Subject> {
        let line = self.lines.get(&project.cloned()).into_iter().flatten();
        line.filter(|(_, entry)| !entry.is_kept()).map(|(subject, _)| subject.clone()).collect()
    }

    /// Counts the subjects that are due and out.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let open = self.lines.values().flat_map(BTreeMap::values).filter(|entry| !entry.is_kept());
        let oldest_ms = open.clone().map(|entry| entry.mark.since_ms).min();
        Figures { due: open.count() as u64, out: self.out.len() as u64, oldest_ms }
    }

    /// The first `most` subjects that are not acknowledged, the oldest first. Each comes with the time since which it
    /// is due (milliseconds since 1970), whether Gerrit is working on it, and its number of failures.
    #[must_use]
    pub fn list(&self, most: usize) -> Vec<(Subject, u64, bool, u32)> {
        let open = self.lines.values().flatten().filter(|(_, entry)| !entry.is_kept());
        let mut open: Vec<(Subject, u64, bool, u32)> = open
            .map(|(subject, entry)| {
                let out = matches!(entry.state, State::Out(..));
                (subject.clone(), entry.mark.since_ms, out, entry.failures)
            })
            .collect();
        open.sort_by_key(|(_, since_ms, ..)| *since_ms);
        open.truncate(most);
        open
    }

    /// Makes subjects ready whose wait or lease is over.
    fn tick(&mut self, now: Instant) {
        while let Some(((at, turn), subject)) = self.timers.first_key_value().map(|(key, it)| (*key, it.clone())) {
            if at > now {
                return;
            }
            self.timers.remove(&(at, turn));
            let Some(entry) = self.entry_mut(&subject) else { continue };
            match entry.state {
                State::Out(..) => {
                    let id = entry.mark.generation;
                    entry.come_back();
                    entry.failures = entry.failures.saturating_add(1);
                    self.out.remove(&id);
                    self.make_ready(&subject);
                }
                State::New | State::Ready(_) | State::Held(..) | State::Kept(..) => self.make_ready(&subject),
            }
        }
    }

    /// Whether another subject of the same project must be done first.
    fn is_blocked(&self, subject: &Subject) -> bool {
        let Some(project) = subject.project() else { return false };
        let stops = |first: Subject, tries: u32| {
            first < *subject && self.entry(&first).is_some_and(|entry| entry.stops_others() && entry.failures < tries)
        };
        stops(Subject::Project { project: project.clone() }, u32::MAX)
            || stops(Subject::ProjectConfig { project: project.clone() }, CONFIG_TRIES)
    }

    fn wait(&mut self, subject: &Subject, now: Instant) {
        let own = self.entry(subject).is_some_and(|entry| entry.mark.own);
        if own && !self.limits.hold_own.is_zero() {
            let turn = self.next_turn();
            self.set(subject, State::Held(now + self.limits.hold_own, turn));
        } else {
            self.make_ready(subject);
        }
    }

    fn keep(&mut self, subject: &Subject, now: Instant) {
        if self.limits.keep.is_zero() {
            return self.remove(subject);
        }
        let turn = self.next_turn();
        if let Some(entry) = self.entry_mut(subject) {
            entry.mark.acknowledged = true;
        }
        self.set(subject, State::Kept(now + self.limits.keep, turn));
    }

    /// Makes a subject ready. A subject that is ready already keeps its place.
    fn make_ready(&mut self, subject: &Subject) {
        if self.entry(subject).is_some_and(|entry| !matches!(entry.state, State::Ready(_))) {
            let turn = self.next_turn();
            self.set(subject, State::Ready(turn));
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }
}
