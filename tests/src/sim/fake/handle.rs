//! The tiny node as the simulator and its clients see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::seams::git::Judged;
use lockstep::stages::api::Transactions;
use lockstep::stages::ports::Refreshes;
use lockstep_proto::bridge::*;
use lockstep_proto::*;
use tokio::task::JoinHandle;

use super::node::{Inner, Mistake};
use crate::sim::backend::{NodeFactory, SimDependencies, SimNode};

pub(super) struct Fakes(pub(super) Mistake);

struct FakeNode {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

#[async_trait]
impl NodeFactory for Fakes {
    fn have_gerrits(&self) -> bool {
        false
    }

    async fn start(&self, parts: SimDependencies) -> Result<Arc<dyn SimNode>, String> {
        let inner = Arc::new(Inner::new(parts, self.0));
        let looker = inner.clone();
        let tasks = vec![tokio::spawn(async move { looker.run().await })];
        Ok(Arc::new(FakeNode { inner, tasks }))
    }
}

#[async_trait]
impl SimNode for FakeNode {
    fn transactions(&self) -> Arc<dyn Transactions> {
        Arc::new(Handle(self.inner.clone()))
    }

    fn refreshes(&self) -> Option<Arc<dyn Refreshes>> {
        None
    }

    fn events(&self) -> Option<Arc<dyn lockstep::stages::ports::StreamEvents>> {
        None
    }

    fn kill(&self) {
        self.inner.kill();
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    async fn stop(&self) {
        self.inner.stop().await;
    }

    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    fn is_fenced(&self) -> bool {
        false
    }
}

struct Handle(Arc<Inner>);

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
    async fn submit_judged(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
        _: Judged,
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
