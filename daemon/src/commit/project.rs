//! Projects: their creation, deletion and `HEAD` are steps of pseudo-refs, committed like any other.

use std::sync::Arc;

use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, ProjectResponse, RefusalCode, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefValue};

use super::service::split;
use super::work::{Ended, Intent, Verdict, Work, refusal};
use super::{Committer, run};

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
            let message = format!("project {project} exists already");
            return Ok(refuse(refusal(RefusalCode::Project, false, message)));
        }
        let created = ProjectState { phase: ProjectPhase::Active, incarnation: last + 1 };
        let before = known.map_or(RefValue::Absent, RefValue::State);
        let intents = vec![
            intent(RefKey::State, Some(before), RefValue::State(created)),
            intent(RefKey::Head, Some(RefValue::Absent), RefValue::Symref(request.head)),
        ];
        let key = ProjectKey { name: project.clone(), incarnation: created.incarnation };
        self.operate(key, intents, request.request_id).await
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
        let intents = vec![intent(RefKey::Head, None, RefValue::Symref(request.head))];
        self.operate(key, intents, request.request_id).await
    }

    /// Two steps with a barrier between them: `closing`, then, once every open incarnation knows it, `deleted`.
    pub(super) async fn delete(
        self: &Arc<Self>,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        let key = match self.key_of(project).await {
            Ok(key) => key,
            Err(refused) => return Ok(refuse(refused)),
        };
        let step = |phase| {
            let state = ProjectState { phase, incarnation: key.incarnation };
            vec![intent(RefKey::State, None, RefValue::State(state))]
        };
        let closing_id = format!("{}/closing", request.request_id);
        let closing = self.operate(key.clone(), step(ProjectPhase::Closing), closing_id).await?;
        if closing.refusal.is_some() {
            return Ok(closing);
        }
        self.gates.empty(project).await;
        let barrier = match &closing.txn {
            Some(txn) => Some(txn.clone()),
            None => self.table.get(&key, &RefKey::State).ok().flatten().map(|record| record.txn),
        };
        if let Some(txn) = barrier
            && let Err(why) = self.barrier.passed(&txn).await
        {
            let message = format!("project {project} is closing, and not every node knows it yet ({why}); try again");
            return Ok(refuse(refusal(RefusalCode::Unavailable, true, message)));
        }
        self.operate(key.clone(), step(ProjectPhase::Deleted), request.request_id).await
    }

    async fn operate(
        self: &Arc<Self>,
        project: ProjectKey,
        intents: Vec<Intent>,
        request_id: String,
    ) -> Result<ProjectResponse, ApiError> {
        let fingerprint = 0;
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
        Ok(respond(&self.once(work, fingerprint).await?))
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
