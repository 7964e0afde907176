//! The client side of the tiny node.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::stages::api::Transactions;
use lockstep_proto::bridge::*;
use lockstep_proto::*;

use super::node::Inner;

pub(super) struct Handle(pub(super) Arc<Inner>);

fn response(commands: &[RefCommand], committed: bool) -> RefTransactionResponse {
    let outcome = if committed { Outcome::Committed } else { Outcome::Refused };
    let result = |command: &RefCommand| RefResult { name: command.name.clone(), outcome, refusal: None };
    RefTransactionResponse { outcome, txn: None, results: commands.iter().map(result).collect() }
}

fn not_here() -> ApiError {
    ApiError::invalid("the tiny node cannot")
}

#[async_trait]
impl Transactions for Handle {
    async fn submit(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError> {
        let project = ProjectKey::new(project, 1);
        let want = |c: &RefCommand| (RefKey::Ref(c.name.clone()), RefValue::from(c.new), c.old);
        let wants: BTreeMap<RefName, _> = request.commands.iter().map(|c| (c.name.clone(), want(c))).collect();
        let wants: Vec<_> = wants.into_values().collect();
        let committed = self.0.commit(&project, &request.request_id, &wants).await;
        Ok(response(&request.commands, committed))
    }

    async fn create_project(
        &self,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        let key = ProjectKey::new(project, 1);
        let state = RefValue::State(ProjectState { phase: ProjectPhase::Active, incarnation: 1 });
        let committed = self.0.commit(&key, &request.request_id, &[(RefKey::State, state, Expected::Any)]).await;
        let outcome = if committed { Outcome::Committed } else { Outcome::Refused };
        Ok(ProjectResponse { outcome, txn: None, refusal: None })
    }

    async fn set_head(&self, _: &ProjectName, _: SetHeadRequest) -> Result<ProjectResponse, ApiError> {
        Err(not_here())
    }

    async fn delete_project(&self, _: &ProjectName, _: DeleteProjectRequest) -> Result<ProjectResponse, ApiError> {
        Err(not_here())
    }

    async fn look_up(&self, _: &ProjectName, _: &RefTransactionRequest) -> Result<RefTransactionResponse, ApiError> {
        Err(not_here())
    }

    async fn outcome(&self, _: &TxnId) -> Result<ProjectResponse, ApiError> {
        Err(not_here())
    }
}
