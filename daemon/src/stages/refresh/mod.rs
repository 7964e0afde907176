//! The refresh stage: tracks the subjects that this node's Gerrit must look at again, until Gerrit acknowledges each of
//! them.
//!
//! Gerrit trusts its index and caches, and the sidecar writes refs behind them. Every move of a ref therefore leaves a
//! *refresh mark* on the subject that Gerrit keeps of it (a change, an account, a project's configuration). This node's
//! own commits leave marks too: a Gerrit that dies after a commit and before it indexes the commit would otherwise
//! never index it.
//!
//! The mark is made when the disk shows the move and before the move can become durable, and both are stored in one
//! step ([`crate::state::durability`]). After a crash, every remembered move therefore has its mark, and every
//! forgotten move is applied and marked again. A later step removes the mark after Gerrit's acknowledgement. A crash
//! before that step repeats the refresh, which is harmless.
//!
//! | file | idea |
//! |---|---|
//! | `subject_of_ref` | maps the name of a ref to the subject that Gerrit keeps of it |
//! | `queue` | the marks: coalesced, ordered and bounded; pure |
//! | `drive` | calls a Gerrit that does not ask for tasks by itself |

mod drive;
pub mod queue;
mod subject_of_ref;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::limits;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, FailedTask, Subject, TasksRequest, TasksResponse};
use lockstep_proto::status::{DueStatus, RefreshStatus};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::base::backoff::Backoff;
use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::volume::{Changes, Difference, RefRecord, StoreError};
use crate::stages::ports::{DueSubjects, Refreshed, Refreshes};
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Remember;
use crate::state::gerrit_session::{Sessions, ending};
use crate::state::version_map::{Follow, Mover};
use queue::{Queue, QueueLimits};

/// The first and the longest pause before a failed task is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Number of bits of a generation that count within one start of the node. The bits above them count the starts. So no
/// two starts share a task id, and a late acknowledgement from an earlier start matches no task.
const LIFE_BITS: u32 = 40;

/// Margin that is added to the time within which Gerrit's index writes an update to its disk.
pub const COMMIT_SLACK: Duration = Duration::from_secs(60);

/// Settings of the refresh stage.
#[derive(Clone, Debug)]
pub struct RefreshSettings {
    /// The project that holds accounts and groups.
    pub all_users: ProjectName,
    /// Whether this node's own commits come from its Gerrit, which indexes them by itself.
    pub gerrit_commits: bool,
    /// Sizes and times of the queue.
    pub queue: QueueLimits,
}

impl Default for RefreshSettings {
    fn default() -> Self {
        let queue = QueueLimits {
            of_project: 10_000,
            in_all: 50_000,
            hold_own: Duration::from_secs(2),
            keep: Duration::from_secs(360),
            lease: Duration::from_secs(120),
            long_lease: Duration::from_secs(900),
        };
        Self { all_users: all_users(), gerrit_commits: true, queue }
    }
}

/// Gerrit's default name of the project that holds accounts and groups.
fn all_users() -> ProjectName {
    "All-Users".parse().expect("the name is well-formed")
}

/// The refresh stage of one node.
pub struct Refresh {
    settings: RefreshSettings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    /// Cancelled when the node ends. Calls that wait for tasks then end with an error.
    ended: CancellationToken,
    bugs: InjectedBugs,
    inner: Mutex<Inner>,
    /// A counter that rises when a subject is marked and when Gerrit reports tasks.
    news: watch::Sender<u64>,
}

struct Inner {
    queue: Queue,
    sessions: Sessions,
    done: u64,
    failed: u64,
    last: Option<(String, u64)>,
    /// The calls of the bridge for tasks that are in progress.
    asking: usize,
    /// When the last of them ended.
    asked: Option<Instant>,
}

/// How long after a call of the bridge its Gerrit counts as running. The bridge asks again at once.
const BETWEEN_CALLS: Duration = Duration::from_secs(2);

/// A call of the bridge for tasks. It ends with its connection, so it ends when its Gerrit does.
struct Asking<'a>(&'a Refresh);

impl<'a> Asking<'a> {
    fn of(refresh: &'a Refresh) -> Self {
        refresh.inner().asking += 1;
        Self(refresh)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.asking -= 1;
        inner.asked = Some(Instant::now());
    }
}

impl Refresh {
    /// Loads the refresh marks that earlier starts of the node left in the store, and follows the moves of refs.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(context: &NodeContext, state: &NodeState, settings: RefreshSettings) -> Result<Arc<Self>, StoreError> {
        let NodeContext { store, clock, entropy, observer, bugs, .. } = context.clone();
        let generation = store.facts()?.starts << LIFE_BITS;
        let (marks, forgets_newer) = (store.refresh_marks()?, bugs.has(InjectedBug::AckForgetsNewer));
        let mut limits = settings.queue;
        if bugs.has(InjectedBug::AckedNotKept) {
            limits.keep = Duration::ZERO;
        }
        let queue = Queue::new(limits, generation, marks, Instant::now(), forgets_newer);
        let inner =
            Inner { queue, sessions: Sessions::default(), done: 0, failed: 0, last: None, asking: 0, asked: None };
        let (inner, news, ended) = (Mutex::new(inner), watch::Sender::new(0), context.tasks.cancelled());
        let refresh = Arc::new(Self { settings, clock, entropy, observer, ended, bugs, inner, news });
        state.versions.set_follower(Arc::clone(&refresh) as _);
        state.durability.add(Arc::clone(&refresh) as _);
        Ok(refresh)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    fn mark(&self, subject: &Subject, difference: Difference, own: bool) {
        self.inner().queue.mark(subject, difference, own, Instant::now(), self.clock.now_ms());
        self.news.send_modify(|news| *news += 1);
    }

    /// Whether a refresh of this subject is outstanding: Gerrit may show it as it was before the last move of its refs.
    #[must_use]
    pub fn is_due(&self, subject: &Subject) -> bool {
        self.inner().queue.is_due(subject)
    }

    /// Whether a Gerrit asks for tasks now, or did so just before. A Gerrit asks once its handshake was accepted, so
    /// its `init` is over.
    #[must_use]
    pub fn gerrit_runs(&self) -> bool {
        let inner = self.inner();
        inner.asking > 0 || inner.asked.is_some_and(|asked| asked.elapsed() < BETWEEN_CALLS)
    }

    /// The subject that Gerrit keeps of a ref, and whether a refresh of it is outstanding. None if Gerrit keeps none.
    #[must_use]
    pub fn of_ref(&self, project: &ProjectName, key: &RefKey) -> Option<(Subject, bool)> {
        let subject = subject_of_ref::of(project, key, &self.settings.all_users)?;
        let is_due = self.is_due(&subject);
        Some((subject, is_due))
    }

    /// Changes after each report of tasks, and when a new task may be due.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Counts of the queue and the last error, for the status.
    #[must_use]
    pub fn status(&self) -> RefreshStatus {
        let inner = self.inner();
        let (figures, now_ms) = (inner.queue.figures(), self.clock.now_ms());
        RefreshStatus {
            due: figures.due,
            out: figures.out,
            oldest_ms: figures.oldest_ms.map(|oldest| now_ms.saturating_sub(oldest)),
            done: inner.done,
            failed: inner.failed,
            last_error: inner.last.as_ref().map(|(why, _)| why.clone()),
            last_error_at_ms: inner.last.as_ref().map(|(_, at)| *at),
        }
    }

    /// The oldest `most` subjects that are due.
    #[must_use]
    pub fn list(&self, most: usize) -> Vec<DueStatus> {
        let listed = self.inner().queue.list(most);
        let status = |(subject, since_ms, out, failures): (Subject, u64, bool, u32)| DueStatus {
            subject: subject.to_string(),
            since_ms,
            out,
            failures,
        };
        listed.into_iter().map(status).collect()
    }

    /// Hands out tasks that are due now. Also answers when another task may become due.
    fn take(&self, request: &TasksRequest) -> Result<(TasksResponse, Option<Instant>), ApiError> {
        let mut inner = self.inner();
        if inner.sessions.enter(&request.session, "refresh tasks")? {
            inner.begin(&request.session);
        }
        let most = usize::try_from(request.most).unwrap_or(usize::MAX);
        let tasks = inner.queue.take(most, Instant::now());
        Ok((TasksResponse { tasks }, inner.queue.next()))
    }

    /// Notes that the bridge has called, which proves that its Gerrit is alive.
    fn polled(&self, session: &str) -> Result<(), ApiError> {
        let mut inner = self.inner();
        match inner.sessions.enter(session, "refresh tasks")? {
            true => inner.begin(session),
            false => inner.queue.polled(Instant::now()),
        }
        Ok(())
    }

    fn report(&self, inner: &mut Inner, failed: &FailedTask) {
        let entropy = &self.entropy;
        let pause = |failures| Backoff::nth(entropy.as_ref(), PAUSES.0, PAUSES.1, failures);
        let Some(subject) = inner.queue.failed(failed.id, Instant::now(), pause) else { return };
        let why: String = failed.why.chars().take(limits::REFRESH_REASON_BYTES).collect();
        let why = format!("{subject}: {why}");
        self.observer.failed("refresh", &why);
        inner.failed += 1;
        inner.last = Some((why, self.clock.now_ms()));
    }
}

impl Inner {
    fn begin(&mut self, session: &str) {
        tracing::info!(session, "a new Gerrit session asks for refresh tasks");
        self.queue.begin(Instant::now());
    }
}

/// The difference that a move of a ref makes to its subject; none when it makes none.
fn difference(
    subject: &Subject,
    before: &dyn Fn() -> Result<Option<RefRecord>, StoreError>,
    now: &RefValue,
) -> Result<Option<Difference>, StoreError> {
    match subject {
        Subject::Project { .. } => {
            let was = before()?.and_then(|before| incarnation(&before.value));
            Ok(match (was, incarnation(now)) {
                (was, is) if was == is => None,
                (was, is) => Some(Difference::Project { deleted: was.is_some(), exists: is.is_some() }),
            })
        }
        Subject::ProjectConfig { .. } | Subject::Group { .. } | Subject::GroupNames | Subject::ExternalIds => {
            let old = before()?.and_then(|before| before.value.oid());
            Ok(Some(Difference::Value { old, new: now.oid() }))
        }
        Subject::Changes { .. } | Subject::Change { .. } | Subject::Branch { .. } | Subject::Account { .. } => {
            Ok(Some(Difference::Some))
        }
    }
}

/// The incarnation of a project that exists; none when the project does not exist.
fn incarnation(value: &RefValue) -> Option<u32> {
    match value {
        RefValue::State(state) if state.phase != ProjectPhase::Deleted => Some(state.incarnation),
        RefValue::State(_) | RefValue::Absent | RefValue::Oid(_) | RefValue::Symref(_) => None,
    }
}

impl Follow for Refresh {
    fn moved(
        &self,
        project: &ProjectKey,
        key: &RefKey,
        before: &dyn Fn() -> Result<Option<RefRecord>, StoreError>,
        now: &RefValue,
        mover: Mover,
    ) -> Result<(), StoreError> {
        let own = mover == Mover::Own && self.settings.gerrit_commits;
        if own && self.bugs.has(InjectedBug::OwnNotRefreshed) {
            return Ok(());
        }
        let Some(subject) = subject_of_ref::of(&project.name, key, &self.settings.all_users) else { return Ok(()) };
        if let Some(difference) = difference(&subject, before, now)? {
            self.mark(&subject, difference, own);
        }
        Ok(())
    }
}

impl Remember for Refresh {
    fn remember(&self, _into: &mut Changes) {}

    fn remember_of_moves(&self, into: &mut Changes) {
        (into.refresh, into.refreshed) = self.inner().queue.save(Instant::now());
    }
}

impl Refreshed for Refresh {
    fn is_refreshed(&self, project: &ProjectName, change: Option<u64>) -> bool {
        let project = project.clone();
        match change.map(u32::try_from) {
            Some(Ok(number)) => !self.is_due(&Subject::Change { project, number }),
            // A change number above 32 bits has no refs. An event that belongs to no change belongs to the project.
            Some(Err(_)) | None => !self.is_due(&Subject::ProjectConfig { project }),
        }
    }
}

impl DueSubjects for Refresh {
    fn due_of(&self, project: &ProjectName, keys: &[RefKey]) -> Vec<Subject> {
        let (inner, all_users) = (self.inner(), &self.settings.all_users);
        if keys.is_empty() {
            let shared = if project == all_users { inner.queue.open_of(None) } else { Vec::new() };
            return [inner.queue.open_of(Some(project)), shared].concat();
        }
        let subjects: BTreeSet<Subject> =
            keys.iter().filter_map(|key| subject_of_ref::of(project, key, all_users)).collect();
        subjects.into_iter().filter(|subject| inner.queue.is_due(subject)).collect()
    }

    fn is_outstanding(&self, subject: &Subject) -> bool {
        self.is_due(subject)
    }

    fn reports(&self) -> watch::Receiver<u64> {
        self.news()
    }
}

#[async_trait]
impl Refreshes for Refresh {
    async fn tasks(&self, request: TasksRequest) -> Result<TasksResponse, ApiError> {
        let deadline = Instant::now() + Duration::from_millis(request.wait_ms);
        let mut news = self.news.subscribe();
        if let Some(within) = request.commit_within_ms {
            self.inner().queue.keep_for(Duration::from_millis(within) + COMMIT_SLACK);
        }
        if self.settings.gerrit_commits {
            self.polled(&request.session)?;
        }
        let _asking = Asking::of(self);
        loop {
            let (response, next) = self.take(&request)?;
            if !response.tasks.is_empty() || Instant::now() >= deadline {
                return Ok(response);
            }
            if self.ended.is_cancelled() {
                return Err(ending());
            }
            let until = next.map_or(deadline, |next| next.min(deadline));
            tokio::select! {
                biased;
                () = self.ended.cancelled() => {}
                // This never fails: the sender lives as long as `self`.
                _ = news.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    fn done(&self, request: &DoneRequest) -> Result<DoneResponse, ApiError> {
        {
            let mut inner = self.inner();
            if inner.sessions.enter(&request.session, "refresh tasks")? {
                // The session is new: this start of the node has not handed out anything to it.
                inner.begin(&request.session);
            }
            if !request.done.is_empty() {
                inner.queue.polled(Instant::now());
            }
            let before = (inner.done, inner.failed);
            for id in &request.done {
                inner.done += u64::from(inner.queue.done(*id, Instant::now()));
            }
            for failed in &request.failed {
                self.report(&mut inner, failed);
            }
            self.observer.refreshed(inner.done - before.0, inner.failed - before.1);
        }
        self.news.send_modify(|news| *news += 1);
        Ok(DoneResponse {})
    }
}
