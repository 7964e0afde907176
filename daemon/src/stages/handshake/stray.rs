//! Ends a stray: an operator adopts it with a commit, or discards it.

use lockstep_proto::bridge::{
    ApiError, Expected, Outcome, ProjectResponse, RefCommand, RefTransactionRequest, Refusal, RefusalCode,
};
use lockstep_proto::gerrit::{Stray, StrayEnd, StrayRequest};
use lockstep_proto::{ProjectKey, ProjectName};

use super::{Denied, HandshakeStage};
use crate::seams::git::Judged;

impl HandshakeStage {
    /// Ends a stray. A stray that is gone already may have been ended by an earlier try of the same request.
    pub(super) async fn end(&self, project: &ProjectName, request: StrayRequest) -> Result<ProjectResponse, ApiError> {
        let StrayRequest { request_id, stray, end } = request;
        let Some(key) = self.materializer.versions.project_key(project).map_err(ApiError::unavailable)? else {
            return Ok(refused(format!("there is no project {project}; check its name")));
        };
        if !self.materializer.strays(project).await.map_err(ApiError::unavailable)?.contains(&stray) {
            return self.ended_before(&key, &stray, end);
        }
        let apart = self.is_apart(&key, &stray).await.map_err(|denied| match denied {
            Denied::Refused(why) | Denied::NotNow(why) => ApiError::unavailable(why),
        })?;
        if apart {
            return Ok(refused(format!(
                "{} at {} has nothing in common with the committed history: it belongs to another installation. Move \
                 the folder of {project} out of the sidecar's root or its base path. The sidecar then brings in that \
                 of the other sites",
                stray.name, stray.value
            )));
        }
        let txn = match end {
            StrayEnd::Discard => None,
            StrayEnd::Adopt => match self.adopt(project, &stray, request_id).await? {
                ProjectResponse { outcome: Outcome::Committed, txn, .. } => txn,
                other => return Ok(other),
            },
        };
        self.materializer.forget_stray(project, &stray).await.map_err(ApiError::unavailable)?;
        Ok(ProjectResponse::committed(txn))
    }

    /// The answer for a stray that is not there: committed when the wanted end has come already, refused otherwise.
    fn ended_before(&self, key: &ProjectKey, stray: &Stray, end: StrayEnd) -> Result<ProjectResponse, ApiError> {
        let now = self.value(key, &stray.name).map_err(|denied| match denied {
            Denied::Refused(why) | Denied::NotNow(why) => ApiError::unavailable(why),
        })?;
        if end == StrayEnd::Discard || now == Some(stray.value) {
            return Ok(ProjectResponse::committed(None));
        }
        Ok(refused(format!(
            "{} has no stray at {}; `lockstep stray list PROJECT` shows the strays",
            stray.name, stray.value
        )))
    }

    async fn adopt(
        &self,
        project: &ProjectName,
        stray: &Stray,
        request_id: String,
    ) -> Result<ProjectResponse, ApiError> {
        let command = RefCommand { name: stray.name.clone(), old: Expected::Any, new: Some(stray.value), force: true };
        let request = RefTransactionRequest {
            request_id,
            deadline_ms: None,
            atomic: true,
            commands: vec![command],
            actor: Some("stray adopt".to_owned()),
            traceparent: None,
            message: None,
            lock: None,
        };
        let answer = self.transactions.submit_judged(project, request, Judged::TakenAsItIs).await?;
        let refusal = answer.results.into_iter().next().and_then(|result| result.refusal);
        Ok(ProjectResponse { outcome: answer.outcome, txn: answer.txn, refusal })
    }
}

fn refused(message: String) -> ProjectResponse {
    ProjectResponse::refused(Refusal::new(RefusalCode::Project, false, message))
}
