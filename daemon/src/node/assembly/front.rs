//! Passes the calls of the bridge to the commit stage. Until an incarnation is open, and while the node drains, it
//! refuses every commit as "not serving", with the reason.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, ProjectResponse, RefTransactionRequest,
    RefTransactionResponse, RefusalCode, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, RefName, TxnId};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::seams::git::{IsCommitted, Judged};
use crate::stages::commit::{Committer, other_refdb_text, went_back_text};
use crate::stages::ports::{SeedCommits, Transactions};
use crate::state::coming_back::ComesBack;
use crate::state::debts::Debts;
use crate::state::went_back::WentBack;

/// The entrance to the commit stage: open or closed, with a count of the calls in progress.
pub struct Front {
    state: Mutex<State>,
    inside: watch::Sender<usize>,
    went_back: WentBack,
    debts: Mutex<Option<Arc<Debts>>>,
    comes_back: Mutex<ComesBack>,
}

enum State {
    Closed(String),
    Open(Arc<Committer>),
}

/// Counts one call as in progress until it is dropped.
struct Inside<'a>(&'a watch::Sender<usize>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|inside| *inside -= 1);
    }
}

impl Front {
    /// A closed front. It refuses every commit while the refdb is known to be older than this node.
    #[must_use]
    pub fn new(went_back: WentBack) -> Self {
        let state = Mutex::new(State::Closed("it is starting and has not joined the other nodes yet".into()));
        Self { state, inside: watch::Sender::new(0), went_back, debts: Mutex::default(), comes_back: Mutex::default() }
    }

    /// Opens the front: from now on, commits go to this commit stage.
    pub fn open(&self, committer: Arc<Committer>) {
        *self.state.lock() = State::Open(committer);
    }

    /// Sets the state of the node to mind. Projects whose state the node could not learn take no commits. While the
    /// node comes back, it takes commits of the seeder alone.
    pub fn minding(&self, debts: Arc<Debts>, comes_back: ComesBack) {
        *self.debts.lock() = Some(debts);
        *self.comes_back.lock() = comes_back;
    }

    /// Enters with a change of one project.
    fn enter_for(&self, project: &ProjectName) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        if let Some(why) = self.comes_back.lock().told() {
            return Err(ApiError::not_serving(format!(
                "this sidecar takes no commits now: {why}; nothing was changed"
            )));
        }
        self.enter_as_seeder(project)
    }

    /// Enters with a change that the seeder makes of one project.
    fn enter_as_seeder(&self, project: &ProjectName) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        let debts = self.debts.lock().clone();
        if let Some(why) = debts.and_then(|debts| debts.closes(project)) {
            let message = format!(
                "project {project} is degraded at this node, which does not know its state: {why}; nothing was \
                 changed; push through another node, and see `lockstep status`"
            );
            return Err(ApiError::not_serving(message));
        }
        self.enter()
    }

    /// Closes the front: from now on, commits are refused with this reason.
    pub fn close_with(&self, why: &str) {
        *self.state.lock() = State::Closed(why.to_owned());
    }

    /// Closes the front because the node is stopping.
    pub fn close(&self) {
        self.close_with("it is draining; another node of the site takes over");
    }

    /// Waits until every call in progress has been answered.
    pub async fn drained(&self) {
        let mut inside = self.inside.subscribe();
        // The sender lives as long as `self`.
        let _ = inside.wait_for(|inside| *inside == 0).await;
    }

    /// The commit stage, if the front is open.
    #[must_use]
    pub fn committer(&self) -> Option<Arc<Committer>> {
        match &*self.state.lock() {
            State::Open(committer) => Some(Arc::clone(committer)),
            State::Closed(_) => None,
        }
    }

    /// Whether the node takes commits of everybody.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.committer().is_some() && !self.comes_back.lock().is_so()
    }

    /// Lets a question about an earlier request in. The refusal says nothing about the outcome of that request.
    fn enter_to_look(&self) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        self.enter().map_err(|error| {
            let why = error.message.replace("; nothing was changed", "");
            ApiError { message: format!("{why}; the outcome of the request cannot be told here now"), ..error }
        })
    }

    fn enter(&self) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        if let Some(evidence) = self.went_back.evidence() {
            let text = if evidence.is_of_identity() { other_refdb_text() } else { went_back_text() };
            return Err(ApiError::new(RefusalCode::NotServing, false, text));
        }
        match &*self.state.lock() {
            State::Open(committer) => {
                self.inside.send_modify(|inside| *inside += 1);
                Ok((Arc::clone(committer), Inside(&self.inside)))
            }
            State::Closed(why) => {
                let message = format!("this sidecar takes no commits now: {why}; nothing was changed");
                Err(ApiError::not_serving(message))
            }
        }
    }
}

#[async_trait]
impl Transactions for Front {
    async fn submit(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError> {
        let (committer, _inside) = self.enter_for(project)?;
        committer.submit(project, request).await
    }

    async fn submit_judged(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
        judged: Judged,
    ) -> Result<RefTransactionResponse, ApiError> {
        let (committer, _inside) = self.enter_for(project)?;
        committer.submit_judged(project, request, judged).await
    }

    async fn create_project(
        &self,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        let (committer, _inside) = self.enter_for(project)?;
        committer.create_project(project, request).await
    }

    async fn set_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError> {
        let (committer, _inside) = self.enter_for(project)?;
        committer.set_head(project, request).await
    }

    async fn delete_project(
        &self,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        let (committer, _inside) = self.enter_for(project)?;
        committer.delete_project(project, request).await
    }

    fn is_repeated(&self, project: &ProjectName, request_id: &str) -> bool {
        self.committer().is_some_and(|committer| committer.is_repeated(project, request_id))
    }

    async fn look_up(
        &self,
        project: &ProjectName,
        request: &RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError> {
        let (committer, _inside) = self.enter_to_look()?;
        committer.look_up(project, request).await
    }

    async fn outcome(&self, txn: &TxnId) -> Result<ProjectResponse, ApiError> {
        let (committer, _inside) = self.enter_to_look()?;
        committer.outcome(txn).await
    }
}

#[async_trait]
impl SeedCommits for Front {
    async fn begin(&self, project: &ProjectName, request: CreateProjectRequest) -> Result<ProjectResponse, ApiError> {
        let (committer, _inside) = self.enter_as_seeder(project)?;
        committer.begin(project, request).await
    }

    async fn commit(
        &self,
        project: &ProjectKey,
        request: RefTransactionRequest,
        behind: &IsCommitted,
    ) -> Result<RefTransactionResponse, ApiError> {
        let (committer, _inside) = self.enter_as_seeder(&project.name)?;
        committer.commit(project, request, behind).await
    }

    async fn open(&self, project: &ProjectKey, head: RefName, request_id: String) -> Result<ProjectResponse, ApiError> {
        let (committer, _inside) = self.enter_as_seeder(&project.name)?;
        SeedCommits::open(&committer, project, head, request_id).await
    }

    async fn point_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError> {
        let (committer, _inside) = self.enter_as_seeder(project)?;
        SeedCommits::point_head(&committer, project, request).await
    }
}
