//! What keeps the queue small: a site that gets half a million refs at once must not hold a task a change.
//!
//! Changes and branches of one project become one task of the project. Accounts, groups, and what there is once a project
//! are not put together: each is there once, however often it moves.

use lockstep_proto::ProjectName;
use lockstep_proto::refresh::Subject;
use tokio::time::Instant;

use super::line::{Entry, Line};
use super::{Queue, State};
use crate::seams::volume::{Difference, RefreshMark};

/// Subjects of a project that stay when its changes are put together: itself, its configuration, its changes.
const OTHERS: usize = 3;

fn is_of_a_change(subject: &Subject) -> bool {
    matches!(subject, Subject::Change { .. } | Subject::Branch { .. })
}

fn size(line: &Line) -> usize {
    line.keys().filter(|subject| is_of_a_change(subject)).count()
}

impl Queue {
    /// Keeps the bounds after a subject came in.
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

    /// Too many subjects in all: the largest projects become one task each. When there is nothing to gain, it is not tried
    /// again for a while.
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

    /// What Gerrit looked at lately becomes one subject that is kept.
    fn put_kept_together(&mut self, project: &ProjectName, now: Instant, now_ms: u64) {
        let all = Subject::Changes { project: project.clone() };
        if self.take_out(project, Entry::is_kept).is_some() && self.entry(&all).is_none_or(Entry::is_kept) {
            let mark = self.mark_of_all(now_ms);
            self.note(&all, mark, now);
            self.keep(&all, now);
        }
    }

    /// All changes of a project become one task, those too that Gerrit is looking at, or looked at lately.
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

    /// Takes changes and branches of a project out of the queue; since when the oldest was there, if there was one.
    fn take_out(&mut self, project: &ProjectName, which: impl Fn(&Entry) -> bool) -> Option<u64> {
        let line = self.lines.get(&Some(project.clone()))?;
        let single = line.iter().filter(|(subject, entry)| is_of_a_change(subject) && which(entry));
        let single: Vec<(Subject, u64)> =
            single.map(|(subject, entry)| (subject.clone(), entry.mark.since_ms)).collect();
        single.iter().for_each(|(subject, _)| self.remove(subject));
        single.into_iter().map(|(_, since_ms)| since_ms).min()
    }

    /// A project is gone, and everything that was to be said of it; its own task says that it is.
    pub(super) fn drop_all_of(&mut self, deleted: &Subject) {
        let Some(line) = self.lines.get(&deleted.project().cloned()) else { return };
        let others: Vec<Subject> = line.keys().filter(|subject| *subject != deleted).cloned().collect();
        others.iter().for_each(|subject| self.remove(subject));
    }

    /// All changes of its project, if they are to be looked at anyway and nobody has begun with it.
    pub(super) fn covering(&self, subject: &Subject) -> Option<Subject> {
        let (Subject::Change { project, .. } | Subject::Branch { project, .. }) = subject else { return None };
        let all = Subject::Changes { project: project.clone() };
        let is_waiting = self.entry(&all).is_some_and(|entry| matches!(entry.state, State::Ready(_) | State::Held(..)));
        is_waiting.then_some(all)
    }
}
