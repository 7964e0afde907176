//! Projects: their creation, deletion and `HEAD` are steps of pseudo-refs, committed like any other.

use std::sync::Arc;

use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, Outcome, ProjectResponse, RefusalCode, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefValue, Transaction};

use super::service::{hash, split};
use super::work::{Ended, Intent, Verdict, Work, refusal};
use super::{Committer, run};
use crate::refdb::SlotState;

impl Committer {
    pub(super) async fn create(
        self: &Arc<Self>,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        if let Err(why) = self.catch_up.project(project).await {
            return Ok(refuse(run::unavailable(&why)));
        }
        let known = self.table.project(project).map_err(|error| ApiError {
            code: RefusalCode::Unavailable,
            message: error.to_string(),
            retry: true,
        })?;
        let last = known.map_or(0, |state| state.incarnation);
        if known.is_some_and(|state| state.phase != ProjectPhase::Deleted) {
            if let Some(done) = self.done_before(project, &request.request_id).await {
                return Ok(done);
            }
            let message = format!("project {project} exists already; choose another name, or push to it");
            return Ok(refuse(refusal(RefusalCode::Project, false, message)));
        }
        let asked = format!("create {}", request.head);
        let created = ProjectState { phase: ProjectPhase::Active, incarnation: last + 1 };
        let before = known.map_or(RefValue::Absent, RefValue::State);
        let intents = vec![
            intent(RefKey::State, Some(before), RefValue::State(created)),
            intent(RefKey::Head, Some(RefValue::Absent), RefValue::Symref(request.head)),
        ];
        let key = ProjectKey { name: project.clone(), incarnation: created.incarnation };
        self.operate(key, intents, request.request_id, &asked).await
    }

    pub(super) async fn point_head(
        self: &Arc<Self>,
        project: &ProjectName,
        request: SetHeadRequest,
    ) -> Result<ProjectResponse, ApiError> {
        let key = match self.key_of(project).await {
            Ok(key) => key,
            Err(refused) => return Ok(refuse(refused)),
        };
        let asked = format!("head {}", request.head);
        let intents = vec![intent(RefKey::Head, None, RefValue::Symref(request.head))];
        self.operate(key, intents, request.request_id, &asked).await
    }

    /// Two steps with a barrier between them: `closing`, then, once every open incarnation knows it, `deleted`.
    pub(super) async fn delete(
        self: &Arc<Self>,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        let key = match self.key_of(project).await {
            Ok(key) => key,
            Err(refused) => {
                let done = self.done_before(project, &request.request_id).await;
                let refused = match refused.code {
                    RefusalCode::Project => {
                        let message = format!("there is no project {project}, so nothing was deleted; check its name");
                        refusal(RefusalCode::Project, false, message)
                    }
                    _ => refused,
                };
                return Ok(done.unwrap_or_else(|| refuse(refused)));
            }
        };
        // Each step holds on the one before: a node that is behind must not delete the project's successor.
        let step = |from, to| {
            let state = |phase| RefValue::State(ProjectState { phase, incarnation: key.incarnation });
            vec![intent(RefKey::State, Some(state(from)), state(to))]
        };
        let phase = |project| self.table.project(project).ok().flatten().map(|state| state.phase);
        if phase(project) != Some(ProjectPhase::Closing) {
            let close = step(ProjectPhase::Active, ProjectPhase::Closing);
            let closing = self.operate(key.clone(), close, format!("{}/closing", request.request_id), "close").await?;
            if closing.refusal.is_some() {
                return Ok(closing);
            }
        }
        self.gates.empty(project).await;
        let closing = self.table.get(&key, &RefKey::State).ok().flatten().map(|record| record.txn);
        if let Some(txn) = closing
            && let Err(why) = self.barrier.passed(&txn).await
        {
            let message = format!("project {project} is closing, and not every node knows it yet ({why}); try again");
            return Ok(refuse(refusal(RefusalCode::Unavailable, true, message)));
        }
        let delete = step(ProjectPhase::Closing, ProjectPhase::Deleted);
        self.operate(key.clone(), delete, request.request_id, "delete").await
    }

    /// The answer to a retry whose first try is in the chain: its own answer was lost, or this node restarted.
    async fn done_before(&self, project: &ProjectName, request_id: &str) -> Option<ProjectResponse> {
        let any = ProjectKey { name: project.clone(), incarnation: 0 };
        let known = self.table.get(&any, &RefKey::State).ok()??;
        let state = self.attempts.refdb.slot(&known.txn.slot).await;
        let Ok(SlotState::Committed(_, bytes)) = state else { return None };
        let earlier = Transaction::decode(&bytes).ok()?;
        let is_ours = earlier.request_id == request_id;
        is_ours.then_some(ProjectResponse { outcome: Outcome::Committed, txn: Some(earlier.id), refusal: None })
    }

    /// Commits steps of pseudo-refs. `asked` tells requests of one id apart.
    async fn operate(
        self: &Arc<Self>,
        project: ProjectKey,
        intents: Vec<Intent>,
        request_id: String,
        asked: &str,
    ) -> Result<ProjectResponse, ApiError> {
        let work = Work {
            project,
            intents,
            local: Vec::new(),
            atomic: true,
            request_id,
            actor: String::new(),
            traceparent: String::new(),
            deadline: self.deadline(None),
        };
        Ok(respond(&self.once(work, hash(asked)).await?))
    }
}

fn intent(key: RefKey, expected: Option<RefValue>, new: RefValue) -> Intent {
    Intent { key, expected, new, force: true }
}

fn refuse(refused: lockstep_proto::bridge::Refusal) -> ProjectResponse {
    respond(&Ended::all(1, &Verdict::Refused(refused)))
}

fn respond(ended: &Ended) -> ProjectResponse {
    let worst = ended.verdicts.iter().find(|verdict| !matches!(verdict, Verdict::Committed));
    let (outcome, refusal) = split(worst.unwrap_or(&Verdict::Committed));
    ProjectResponse { outcome, txn: ended.txn.clone(), refusal }
}
