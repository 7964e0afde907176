//! Keeps the queue small: a site that receives half a million refs at once must not hold one task per change.
//!
//! Changes and branches of one project are collapsed into one task of the project. Accounts, groups and subjects that
//! exist once per project are not collapsed, because the queue holds each of them once, however often it moves.

use lockstep_proto::ProjectName;
use lockstep_proto::refresh::Subject;
use tokio::time::Instant;

use super::entry::{Entry, Line};
use super::{Queue, State};
use crate::seams::volume::{Difference, RefreshMark};

/// Subjects of a project that remain when its changes are collapsed: the project, its configuration, and all its
/// changes as one subject.
const OTHERS: usize = 3;

fn is_of_a_change(subject: &Subject) -> bool {
    matches!(subject, Subject::Change { .. } | Subject::Branch { .. })
}

fn size(line: &Line) -> usize {
    line.keys().filter(|subject| is_of_a_change(subject)).count()
}

impl Queue {
    /// Enforces the bounds after a subject was marked.
    pub(super) fn bound(&mut self, subject: &Subject, now: Instant, now_ms: u64) {
        let project = subject.project().cloned();
        let length = self.lines.get(&project).map_or(0, Line::len);
        if let Some(project) = project.filter(|_| length > self.limits.of_project + OTHERS) {
            self.put_kept_together(&project, now, now_ms);
            if self.lines.get(&Some(project.clone())).map_or(0, size) > self.limits.of_project / 2 {
                self.put_all_together(&project, now, now_ms);
            }
        }
        if self.total > self.squeeze_at {
            self.squeeze(now, now_ms);
        }
    }

    /// Collapses the largest projects into one task each, because the queue holds too many subjects. The next attempt
    /// comes after the queue has grown by an eighth of its limit, even if this one has gained nothing.
    fn squeeze(&mut self, now: Instant, now_ms: u64) {
        let room = self.limits.in_all / 8;
        for collapse in [Self::put_kept_together, Self::put_all_together] {
            let lines = self.lines.iter().filter_map(|(project, line)| Some((size(line), project.clone()?)));
            let mut lines: Vec<(usize, ProjectName)> = lines.filter(|(size, _)| *size > 1).collect();
            lines.sort_unstable();
            while self.total > self.limits.in_all - room
                && let Some((_, project)) = lines.pop()
            {
                collapse(self, &project, now, now_ms);
            }
        }
        self.squeeze_at = self.limits.in_all.max(self.total + room);
    }

    /// Collapses the kept changes and branches of a project into one kept subject.
    fn put_kept_together(&mut self, project: &ProjectName, now: Instant, now_ms: u64) {
        let all = Subject::Changes { project: project.clone() };
        if self.take_out(project, Entry::is_kept).is_some() && self.entry(&all).is_none_or(Entry::is_kept) {
            let mark = self.mark_of_all(now_ms);
            self.note(&all, mark, now);
            self.keep(&all, now);
        }
    }

    /// Collapses all changes and branches of a project into one task, including those that are out or kept.
    fn put_all_together(&mut self, project: &ProjectName, now: Instant, now_ms: u64) {
        if let Some(since_ms) = self.take_out(project, |_| true) {
            let mark = self.mark_of_all(since_ms.min(now_ms));
            self.note(&Subject::Changes { project: project.clone() }, mark, now);
        }
    }

    pub(super) fn mark_of_all(&mut self, since_ms: u64) -> RefreshMark {
        self.generation += 1;
        let generation = self.generation;
        RefreshMark { generation, since_ms, own: false, acknowledged: false, difference: Difference::Some }
    }

    /// Removes the selected changes and branches of a project from the queue. Answers since when the oldest of them was
    /// due (milliseconds since 1970); none when nothing was selected.
    fn take_out(&mut self, project: &ProjectName, which: impl Fn(&Entry) -> bool) -> Option<u64> {
        let line = self.lines.get(&Some(project.clone()))?;
        let single = line.iter().filter(|(subject, entry)| is_of_a_change(subject) && which(entry));
        let single: Vec<(Subject, u64)> =
            single.map(|(subject, entry)| (subject.clone(), entry.mark.since_ms)).collect();
        single.iter().for_each(|(subject, _)| self.remove(subject));
        single.into_iter().map(|(_, since_ms)| since_ms).min()
    }

    /// Drops all other subjects of a deleted project. The project's own task tells Gerrit of the deletion.
    pub(super) fn drop_all_of(&mut self, deleted: &Subject) {
        let Some(line) = self.lines.get(&deleted.project().cloned()) else { return };
        let others: Vec<Subject> = line.keys().filter(|subject| *subject != deleted).cloned().collect();
        others.iter().for_each(|subject| self.remove(subject));
    }

    /// The subject of all changes of the same project, if it is in the queue and not handed out yet: it covers this
    /// subject.
    pub(super) fn covering(&self, subject: &Subject) -> Option<Subject> {
        let (Subject::Change { project, .. } | Subject::Branch { project, .. }) = subject else { return None };
        let all = Subject::Changes { project: project.clone() };
        let is_waiting = self.entry(&all).is_some_and(|entry| matches!(entry.state, State::Ready(_) | State::Held(..)));
        is_waiting.then_some(all)
    }
}
