//! One subject in the queue, and the subjects of one project.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_proto::Oid;
use lockstep_proto::refresh::{Subject, Task, Work};
use tokio::time::Instant;

use super::Queue;
use crate::seams::volume::{Difference, RefreshMark};

/// The subjects of one project, or those that all projects share.
pub(super) type Line = BTreeMap<Subject, Entry>;

/// A subject's marks and its state.
pub(super) struct Entry {
    /// The mark that is not acknowledged. While the subject is out or kept: the mark that it was handed out with.
    pub(super) mark: RefreshMark,
    /// The mark of the moves since the subject was handed out.
    pub(super) later: Option<RefreshMark>,
    /// The value from which a Gerrit that dies has to be told again; none when nothing is acknowledged.
    pub(super) durable: Option<Durable>,
    pub(super) state: State,
    /// Number of failures since the subject was last done.
    pub(super) failures: u32,
    /// Whether the store has a mark of the subject.
    pub(super) saved: bool,
}

/// The value of a subject whose refresh is on Gerrit's disk. Gerrit may lose the refreshes of all later values.
pub(super) struct Durable {
    value: Option<Oid>,
    /// A value that was acknowledged later, and the time from which its refresh is on the disk.
    next: Option<(Instant, Option<Oid>)>,
}

/// The state of a subject. The fields are the time at which the state ends, and the subject's place in the index of the
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    New,
    Held(Instant, u64),
    Ready(u64),
    Out(Instant, u64),
    Kept(Instant, u64),
}

impl Entry {
    pub(super) fn new(mark: RefreshMark) -> Self {
        Self { mark, later: None, durable: None, state: State::New, failures: 0, saved: false }
    }

    pub(super) fn is_kept(&self) -> bool {
        matches!(self.state, State::Kept(..))
    }

    /// Whether other subjects of the project wait for this one. A subject that is held because Gerrit refreshes it by
    /// itself does not stop the others, except for a deletion: when Gerrit is told of one, it drops everything that it
    /// has refreshed before.
    pub(super) fn stops_others(&self) -> bool {
        match self.state {
            State::Kept(..) => false,
            State::Held(..) => !self.mark.own || self.failures > 0 || self.says_deleted(),
            State::New | State::Ready(_) | State::Out(..) => true,
        }
    }

    fn says_deleted(&self) -> bool {
        matches!(self.mark.difference, Difference::Project { deleted: true, .. })
    }

    /// Notes that Gerrit acknowledged the mark. Its refresh is on Gerrit's disk after `keep`.
    pub(super) fn acknowledge(&mut self, now: Instant, keep: Duration) {
        let Difference::Value { new, .. } = self.mark.difference else { return };
        let Some(durable) = self.durable() else { return };
        match durable.next {
            Some((at, _)) if at > now => {}
            Some((_, value)) => *durable = Durable { value, next: Some((now + keep, new)) },
            None => durable.next = Some((now + keep, new)),
        }
    }

    /// The durable value of a subject that has values. Before the first acknowledgement it is the mark's old value.
    fn durable(&mut self) -> Option<&mut Durable> {
        let Difference::Value { old, .. } = self.mark.difference else { return None };
        Some(self.durable.get_or_insert(Durable { value: old, next: None }))
    }

    /// Replaces the acknowledged mark by the mark of a later move. The old value of the later mark is the acknowledged
    /// value, because Gerrit's caches hold that one. The deletion of a project stays in the mark, in case Gerrit loses
    /// it again.
    pub(super) fn go_on_from_acknowledged(&mut self, mark: RefreshMark) {
        let _ = self.durable();
        let difference = match mark.difference {
            Difference::Project { .. } => self.mark.clone().then(mark.clone()).difference,
            difference => difference,
        };
        self.mark = RefreshMark { difference, ..mark };
    }

    /// Merges the mark that was handed out with that of the moves since, as not acknowledged.
    pub(super) fn come_back(&mut self) {
        self.mark = self.whole();
        self.mark.acknowledged = false;
        self.later = None;
    }

    /// Gerrit died: the mark covers the moves since the durable value, also those that it had acknowledged.
    pub(super) fn go_back_to_durable(&mut self) {
        self.mark = self.since_durable(self.mark.clone());
        self.durable = None;
    }

    /// The mark that a restart of this node begins with. It covers every move since the durable value.
    pub(super) fn stored(&self) -> RefreshMark {
        self.since_durable(self.whole())
    }

    /// A mark with the durable value as its old one. A subject that has that value again keeps the difference to the
    /// acknowledged one, because a difference between equal values would say nothing.
    fn since_durable(&self, mark: RefreshMark) -> RefreshMark {
        match (&self.durable, mark.difference) {
            (Some(durable), Difference::Value { new, .. }) if durable.value != new => {
                RefreshMark { difference: Difference::Value { old: durable.value, new }, ..mark }
            }
            _ => mark,
        }
    }

    /// The mark over all moves that are not acknowledged.
    fn whole(&self) -> RefreshMark {
        match &self.later {
            Some(later) => self.mark.clone().then(later.clone()),
            None => self.mark.clone(),
        }
    }

    pub(super) fn task(&self, subject: &Subject) -> Task {
        let work = work(subject, self.mark.difference);
        Task { id: self.mark.generation, own: self.mark.own, attempt: self.failures.saturating_add(1), work }
    }
}

fn work(subject: &Subject, difference: Difference) -> Work {
    let (old, new) = values(difference);
    match subject.clone() {
        Subject::Project { project } => {
            // Without these facts in the mark, Gerrit refreshes everything.
            let (deleted, exists) = match difference {
                Difference::Project { deleted, exists } => (deleted, exists),
                Difference::Some | Difference::Value { .. } => (true, true),
            };
            Work::Project { project, deleted, exists }
        }
        Subject::ProjectConfig { project } => Work::ProjectConfig { project, old, new },
        Subject::Changes { project } => Work::Changes { project },
        Subject::Change { project, number } => Work::Change { project, number },
        Subject::Branch { project, name } => Work::Branch { project, name },
        Subject::Account { account } => Work::Account { account },
        Subject::Group { group } => Work::Group { group, old, new },
        Subject::GroupNames => Work::GroupNames { old, new },
        Subject::ExternalIds => Work::ExternalIds { old, new },
    }
}

fn values(difference: Difference) -> (Option<Oid>, Option<Oid>) {
    match difference {
        Difference::Value { old, new } => (old, new),
        Difference::Some | Difference::Project { .. } => (None, None),
    }
}

impl Queue {
    pub(super) fn entry(&self, subject: &Subject) -> Option<&Entry> {
        self.lines.get(&subject.project().cloned())?.get(subject)
    }

    pub(super) fn entry_mut(&mut self, subject: &Subject) -> Option<&mut Entry> {
        self.lines.get_mut(&subject.project().cloned())?.get_mut(subject)
    }

    pub(super) fn subjects(&self) -> Vec<Subject> {
        self.lines.values().flat_map(BTreeMap::keys).cloned().collect()
    }

    pub(super) fn insert(&mut self, subject: &Subject, entry: Entry) {
        self.lines.entry(subject.project().cloned()).or_default().insert(subject.clone(), entry);
        self.total += 1;
    }

    /// Removes a subject from the queue, in any state. The next durability step removes its mark from the store.
    pub(super) fn remove(&mut self, subject: &Subject) {
        self.set(subject, State::New);
        let project = subject.project().cloned();
        let Some(line) = self.lines.get_mut(&project) else { return };
        let Some(entry) = line.remove(subject) else { return };
        if line.is_empty() {
            self.lines.remove(&project);
        }
        self.total -= 1;
        self.out.remove(&entry.mark.generation);
        match entry.saved {
            true => self.unsaved.insert(subject.clone()),
            false => self.unsaved.remove(subject),
        };
    }

    /// Changes the state of a subject, and moves it to the index of that state.
    pub(super) fn set(&mut self, subject: &Subject, state: State) {
        let Some(entry) = self.entry_mut(subject) else { return };
        match std::mem::replace(&mut entry.state, state) {
            State::New => {}
            State::Ready(turn) => _ = self.ready.remove(&turn),
            State::Held(at, turn) | State::Out(at, turn) => _ = self.timers.remove(&(at, turn)),
            State::Kept(at, turn) => _ = self.kept.remove(&(at, turn)),
        }
        match state {
            State::New => {}
            State::Ready(turn) => _ = self.ready.insert(turn, subject.clone()),
            State::Held(at, turn) | State::Out(at, turn) => _ = self.timers.insert((at, turn), subject.clone()),
            State::Kept(at, turn) => _ = self.kept.insert((at, turn), subject.clone()),
        }
    }
}
