//! The seeder's commits. Their project is read-only from its creation, and takes no commits from others.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, ProjectResponse, RefTransactionRequest, RefTransactionResponse, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefName, RefValue};

use super::Committer;
use super::project::intent;
use super::translate::check;
use super::work::Seed;
use crate::seams::git::{IsCommitted, Judged};
use crate::stages::ports::SeedCommits;

#[async_trait]
impl SeedCommits for Arc<Committer> {
    async fn begin(&self, project: &ProjectName, request: CreateProjectRequest) -> Result<ProjectResponse, ApiError> {
        self.create(project, request, ProjectPhase::ReadOnly).await
    }

    async fn commit(
        &self,
        project: &ProjectKey,
        request: RefTransactionRequest,
        behind: &IsCommitted,
    ) -> Result<RefTransactionResponse, ApiError> {
        check(&request)?;
        self.batch(project.clone(), request, Judged::TakenAsItIs, Some(Seed { behind: Arc::clone(behind) })).await
    }

    async fn open(&self, project: &ProjectKey, head: RefName, request_id: String) -> Result<ProjectResponse, ApiError> {
        let state = |phase| RefValue::State(ProjectState { phase, incarnation: project.incarnation });
        let asked = format!("open {head}");
        let intents = vec![
            intent(RefKey::State, Some(state(ProjectPhase::ReadOnly)), state(ProjectPhase::Active)),
            intent(RefKey::Head, None, RefValue::Symref(head)),
        ];
        self.operate(project.clone(), intents, request_id, &asked, None).await
    }

    async fn point_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError> {
        Committer::point_head(self, project, request).await
    }
}
