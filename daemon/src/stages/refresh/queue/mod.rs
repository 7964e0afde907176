//! The queue of one node: which subjects Gerrit has to look at, which it is looking at, which it looked at lately.
//!
//! Pure: a function of what happened and of the time it is told. A subject is in it once, in one of four states:
//!
//! ```text
//! a move -> held (own: Gerrit does it anyway) -> ready -> out -> kept -> gone
//!                     ^                            ^       |       |
//!                     +-- failed, after a pause ---+-------+-------+-- moved again, or another Gerrit
//! ```
//!
//! A move of a subject that is out is remembered apart, so that its acknowledgement cannot take the move with it. What is
//! acknowledged is kept for a while: a Gerrit that dies loses what its index had not written yet, and gets it again. Only a
//! word of the same Gerrit after that while shows that it lived so long: time alone ends nothing, it may be down.

mod bounds;
mod line;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_proto::ProjectName;
use lockstep_proto::refresh::{Subject, Task};
use tokio::time::Instant;

use crate::seams::volume::{Difference, RefreshMark};
use line::{Entry, Line, State};

/// After so many failures a project's configuration does not hold back its other subjects.
const CONFIG_TRIES: u32 = 3;

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Above so many changes and branches of one project, all of its changes become one task.
    pub of_project: usize,
    /// Above so many subjects in all, the projects with the most become one task each.
    pub in_all: usize,
    /// How long this node's own commits wait: Gerrit does them itself.
    pub hold_own: Duration,
    /// How long what was acknowledged is kept for a Gerrit that dies.
    pub keep: Duration,
    /// How long a task may be out; then its answer counts as lost.
    pub lease: Duration,
    /// The same for tasks that go over whole projects.
    pub long_lease: Duration,
}

/// What the queue holds, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Subjects that are not acknowledged.
    pub due: u64,
    /// Of them, those that Gerrit is looking at.
    pub out: u64,
    /// When the oldest of them moved, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
}

/// See the module.
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
    /// Goes on with what an earlier life of the node left; generations go on from `generation`.
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

    /// A subject's refs have moved, at `now` and `now_ms`.
    pub fn mark(&mut self, subject: &Subject, difference: Difference, own: bool, now: Instant, now_ms: u64) {
        self.generation += 1;
        let mark = RefreshMark { generation: self.generation, since_ms: now_ms, own, acknowledged: false, difference };
        if matches!(difference, Difference::Project { deleted: true, .. }) {
            self.drop_all_of(subject);
        }
        match self.covering(subject) {
            // A new id: whoever looked at all of them before this move cannot acknowledge it.
            Some(all) => self.note(&all, RefreshMark { difference: Difference::Some, own: false, ..mark }, now),
            None => self.note(subject, mark, now),
        }
        self.bound(subject, now, now_ms);
    }

    fn note(&mut self, subject: &Subject, mark: RefreshMark, now: Instant) {
        // A subject that is to be removed from the store is in it still.
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

    /// Hands out what is due, at most `most`.
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

    /// Gerrit has done a task. Answers whether there was such a task.
    pub fn done(&mut self, id: u64, now: Instant) -> bool {
        let Some(subject) = self.out.remove(&id) else { return false };
        let forgets_newer = self.forgets_newer;
        let Some(entry) = self.entry_mut(&subject) else { return false };
        entry.failures = 0;
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

    /// Gerrit has not done a task; it comes again after a pause. Answers how often it failed, and its subject.
    pub fn failed(&mut self, id: u64, now: Instant, pause: impl FnOnce(u32) -> Duration) -> Option<Subject> {
        let subject = self.out.remove(&id)?;
        let entry = self.entry_mut(&subject)?;
        entry.come_back();
        entry.failures = entry.failures.saturating_add(1);
        let (at, turn) = (now + pause(entry.failures), self.next_turn());
        self.set(&subject, State::Held(at, turn));
        Some(subject)
    }

    /// Another Gerrit asks: what the one before it was given and did not acknowledge is handed out again, and so is what it
    /// acknowledged lately and may have lost.
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
                    self.unsaved.insert(subject.clone());
                    self.make_ready(&subject);
                }
                State::Held(..) if entry.failures > 0 => {
                    entry.failures = 0;
                    self.make_ready(&subject);
                }
                State::New | State::Held(..) | State::Ready(_) => {}
            }
        }
        // To be told again that a project was deleted is to lose what was indexed of its successor since.
        for (project, since_ms) in made_again {
            let mark = self.mark_of_all(since_ms);
            self.note(&Subject::Changes { project }, mark, now);
        }
    }

    /// The Gerrit that asks is alive: what it acknowledged long enough ago is on its disk.
    pub fn heard(&mut self, now: Instant) {
        while let Some(subject) =
            self.kept.first_key_value().filter(|((at, _), _)| *at <= now).map(|(_, it)| it.clone())
        {
            self.remove(&subject);
        }
    }

    /// When something may be due that is not due now.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// What has changed since the last call: marks to be stored, and subjects that have none any more.
    pub fn save(&mut self, now: Instant) -> (Vec<(Subject, RefreshMark)>, Vec<Subject>) {
        self.tick(now);
        let (mut marks, mut gone) = (Vec::new(), Vec::new());
        for subject in std::mem::take(&mut self.unsaved) {
            match self.entry_mut(&subject) {
                Some(entry) => {
                    entry.saved = true;
                    let mark = entry.whole();
                    marks.push((subject, mark));
                }
                None => gone.push(subject),
            }
        }
        (marks, gone)
    }

    /// Whether Gerrit may show this subject as it was before a move that can be read by now.
    #[must_use]
    pub fn is_due(&self, subject: &Subject) -> bool {
        let is_open = |subject: &Subject| self.entry(subject).is_some_and(|entry| !entry.is_kept());
        let above = subject.project().into_iter().flat_map(|project| {
            [Subject::Project { project: project.clone() }, Subject::Changes { project: project.clone() }]
        });
        is_open(subject) || above.into_iter().any(|above| is_open(&above))
    }

    /// What the queue holds.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let open = self.lines.values().flat_map(BTreeMap::values).filter(|entry| !entry.is_kept());
        let oldest_ms = open.clone().map(|entry| entry.mark.since_ms).min();
        Figures { due: open.count() as u64, out: self.out.len() as u64, oldest_ms }
    }

    /// The first `most` subjects that are not acknowledged, the oldest first: with since when, whether Gerrit has it, and
    /// how often it failed.
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

    /// Time has passed.
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

    /// Whether something of the same project must be done first.
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

    /// What is ready stays where it stands.
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
