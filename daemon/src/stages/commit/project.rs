//! Creation, deletion and `HEAD` of projects. They are moves of pseudo-refs, and are committed like moves of refs.

use std::sync::Arc;

use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, Outcome, ProjectResponse, Refusal, RefusalCode,
    SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefValue};
use tokio::time::timeout;

use super::Committer;
use super::refusals::unavailable;
use super::repeated::Before;
use super::translate::{hash, split};
use super::work::{Ended, Intent, Verdict, Work};
use crate::seams::git::Judged;
use crate::seams::volume::StoreError;
use crate::stages::ports::BarrierError;

/// Why a project cannot be deleted yet, although it is closing.
#[derive(Debug, thiserror::Error)]
enum CloseError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The barrier did not pass.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
    /// This node's version map does not have the closing transaction.
    #[error("this node does not show it yet")]
    NotShown,
}

impl Committer {
    /// Creates a project that takes commits at once, or one that is read-only until its seeder opens it.
    pub(super) async fn create(
        self: &Arc<Self>,
        project: &ProjectName,
        request: CreateProjectRequest,
        phase: ProjectPhase,
    ) -> Result<ProjectResponse, ApiError> {
        if let Some(done) = self.done_already(project, &request.request_id)? {
            return Ok(done);
        }
        if let Err(why) = self.catch_up.project(project).await {
            return Ok(ProjectResponse::refused(unavailable(&why)));
        }
        let known = self.versions.project(project).map_err(ApiError::unavailable)?;
        let last = known.map_or(0, |state| state.incarnation);
        if known.is_some_and(|state| state.phase != ProjectPhase::Deleted) {
            let message = format!("project {project} exists already; choose another name, or push to it");
            let refused = Refusal::new(RefusalCode::Project, false, message);
            return Ok(self.done_before(project, &request.request_id, refused).await);
        }
        let created = ProjectState { phase, incarnation: last + 1 };
        let asked = format!("create {created} {}", request.head);
        let before = known.map_or(RefValue::Absent, RefValue::State);
        let intents = vec![
            intent(RefKey::State, Some(before), RefValue::State(created)),
            intent(RefKey::Head, Some(RefValue::Absent), RefValue::Symref(request.head)),
        ];
        let key = ProjectKey::new(project, created.incarnation);
        self.operate(key, intents, request.request_id, &asked, None).await
    }

    pub(super) async fn point_head(
        self: &Arc<Self>,
        project: &ProjectName,
        request: SetHeadRequest,
    ) -> Result<ProjectResponse, ApiError> {
        let asked = format!("head {}", request.head);
        let intents = vec![intent(RefKey::Head, None, RefValue::Symref(request.head))];
        let key = match self.key_of(project).await {
            Ok(key) => key,
            Err(refused) => {
                let done = self.remembered_of(project, &request.request_id, &intents)?;
                return Ok(done.map_or_else(|| ProjectResponse::refused(refused), |done| respond(&done)));
            }
        };
        self.operate(key, intents, request.request_id, &asked, request.lock).await
    }

    /// Deletes a project in two steps with a barrier between them: first `closing`, then `deleted` once every open
    /// incarnation knows of `closing`.
    pub(super) async fn delete(
        self: &Arc<Self>,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        if let Some(done) = self.done_already(project, &request.request_id)? {
            return Ok(done);
        }
        let key = match self.key_of(project).await {
            Ok(key) => key,
            Err(refused) => {
                let refused = match refused.code {
                    RefusalCode::Project => {
                        let message = format!("there is no project {project}, so nothing was deleted; check its name");
                        Refusal::new(RefusalCode::Project, false, message)
                    }
                    _ => refused,
                };
                return Ok(self.done_before(project, &request.request_id, refused).await);
            }
        };
        // Each step expects the state that the step before it left. A node that is behind thus cannot delete the
        // project's successor.
        let step = |from, to| {
            let state = |phase| RefValue::State(ProjectState { phase, incarnation: key.incarnation });
            vec![intent(RefKey::State, Some(state(from)), state(to))]
        };
        let phase = self.versions.project(project).ok().flatten().map_or(ProjectPhase::Active, |state| state.phase);
        if phase != ProjectPhase::Closing {
            let close = step(phase, ProjectPhase::Closing);
            let (id, lock) = (format!("{}/closing", request.request_id), request.lock.clone());
            let closing = self.operate(key.clone(), close, id, "close", lock).await?;
            if matches!(closing.outcome, Outcome::Refused | Outcome::Unknown) {
                return Ok(closing);
            }
        }
        let not_yet = |why: &dyn std::fmt::Display| {
            let message = format!("project {project} is closing, and not every node knows it yet ({why}); try again");
            Ok(ProjectResponse::refused(Refusal::new(RefusalCode::Unavailable, true, message)))
        };
        if timeout(self.limits.deadline, self.quiesce.empty(project)).await.is_err() {
            return not_yet(&"the outcome of a push to it is still unknown");
        }
        if let Err(why) = self.everybody_knows(&key).await {
            return not_yet(&why);
        }
        let delete = step(ProjectPhase::Closing, ProjectPhase::Deleted);
        self.operate(key.clone(), delete, request.request_id, "delete", request.lock).await
    }

    /// Waits until no incarnation can commit to the project without knowing that it is closing. This node must know the
    /// closing transaction itself, because a barrier on an earlier transaction proves nothing.
    async fn everybody_knows(&self, key: &ProjectKey) -> Result<(), CloseError> {
        let closing = RefValue::State(ProjectState { phase: ProjectPhase::Closing, incarnation: key.incarnation });
        let known = self.versions.get(key, &RefKey::State)?;
        match known.filter(|record| record.value == closing) {
            Some(record) => Ok(self.barrier.passed(&record.txn, self.limits.barrier_patience).await?),
            None => Err(CloseError::NotShown),
        }
    }

    /// The answer to an operation that this node remembers as committed. Repeated, it would hit a successor of the
    /// project, or undo a later operation.
    fn done_already(&self, project: &ProjectName, request_id: &str) -> Result<Option<ProjectResponse>, ApiError> {
        let found = self.committed.find(project, request_id).map_err(ApiError::unavailable)?;
        Ok(found.map(|found| ProjectResponse::committed(Some(found.txn))))
    }

    /// Answers a retry whose first try is in the chain: the first answer was lost, or this node restarted. Without such
    /// a try the answer is the refusal. When the chain cannot be read, the answer is "unknown".
    async fn done_before(&self, project: &ProjectName, request_id: &str, refused: Refusal) -> ProjectResponse {
        let unknown = |why: &dyn std::fmt::Display| {
            let message = format!("it is not known whether an earlier try did this ({why}); ask again");
            respond(&Ended::all(1, &Verdict::Unknown(Refusal::new(RefusalCode::Unavailable, true, message))))
        };
        match self.operated_before(&ProjectKey::of_name(project), request_id).await {
            Ok(Before::Not) => ProjectResponse::refused(refused),
            Ok(Before::Found(txn)) => ProjectResponse::committed(Some(txn)),
            Ok(Before::NotKnown) => unknown(&"it may be collected"),
            Err(why) => unknown(&why),
        }
    }

    /// Commits moves of pseudo-refs. `asked` describes the request, to tell requests with the same id apart. `lock` is
    /// the token of the operator lock under which they are committed.
    pub(super) async fn operate(
        self: &Arc<Self>,
        project: ProjectKey,
        intents: Vec<Intent>,
        request_id: String,
        asked: &str,
        lock: Option<String>,
    ) -> Result<ProjectResponse, ApiError> {
        let work = Work {
            project,
            intents,
            local: Vec::new(),
            atomic: true,
            request_id,
            actor: String::new(),
            traceparent: String::new(),
            message: String::new(),
            deadline: self.deadline(None),
            judged: Judged::No,
            seed: None,
            lock,
            loosens: false,
        };
        Ok(respond(&self.once(work, hash(asked)).await?))
    }
}

pub(super) fn intent(key: RefKey, expected: Option<RefValue>, new: RefValue) -> Intent {
    Intent { key, expected, new, force: true }
}

fn respond(ended: &Ended) -> ProjectResponse {
    let worst = ended.verdicts.iter().find(|verdict| !matches!(verdict, Verdict::Committed));
    let (outcome, refusal) = split(worst.unwrap_or(&Verdict::Committed));
    ProjectResponse { outcome, txn: ended.txn.clone(), refusal }
}
