//! Passes the calls of the bridge to the commit stage. Until an incarnation is open, and while the node drains, it
//! refuses every commit as "not serving", with the reason.
//!
//! A site that is not active refuses at once, and names the site that takes writes. While the site drains, writes are
//! held for a moment before. A held write is not in progress: nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, Outcome, ProjectResponse, RefTransactionRequest,
    RefTransactionResponse, Refusal, RefusalCode, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, RefName, SiteId, TxnId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::not_active::{self, refused};
use crate::seams::git::{IsCommitted, Judged};
use crate::stages::api::health::Writes;
use crate::stages::commit::{Committer, other_refdb_text, went_back_text};
use crate::stages::ports::{SeedCommits, Transactions};
use crate::state::coming_back::ComesBack;
use crate::state::debts::Debts;
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::WentBack;

/// How long writes are held at a site that drains, from the moment at which the node stopped taking them. They end
/// earlier when a site becomes active. Later writes are refused at once: another try, at the other site, helps more.
const HOLD: Duration = Duration::from_secs(1);

/// The entrance to the commit stage: open or closed, with a count of the calls in progress.
pub struct Front {
    state: watch::Sender<State>,
    inside: watch::Sender<usize>,
    went_back: WentBack,
    site: SiteId,
    roles: Arc<SiteRoles>,
    debts: Mutex<Option<Arc<Debts>>>,
    comes_back: Mutex<ComesBack>,
}

enum State {
    Open(Arc<Committer>),
    /// For this reason, which may pass.
    Closed(String),
    /// For this reason, as long as the site does not come back.
    Out(String),
    /// Because of the role of the site. Writes are held until this moment. The commit stage of the last incarnation
    /// knows the requests that were tried before.
    NotActive {
        held_until: Option<Instant>,
        last: Option<Arc<Committer>>,
    },
}

/// Counts one call as in progress until it is dropped.
struct Inside<'a>(&'a watch::Sender<usize>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|inside| *inside -= 1);
    }
}

impl Front {
    /// A closed front of a node of this site. It refuses every commit while the refdb is known to be older than this
    /// node.
    #[must_use]
    pub fn new(went_back: WentBack, site: SiteId, roles: Arc<SiteRoles>) -> Self {
        let state = State::Closed("it is starting and has not joined the other nodes yet".into());
        let (state, inside) = (watch::Sender::new(state), watch::Sender::new(0));
        Self { state, inside, went_back, site, roles, debts: Mutex::default(), comes_back: Mutex::default() }
    }

    /// Opens the front: from now on, commits go to this commit stage.
    pub fn open(&self, committer: Arc<Committer>) {
        self.state.send_replace(State::Open(committer));
    }

    /// Sets the state of the node to mind. Projects whose state the node could not learn take no commits. While the
    /// node comes back, it takes commits of the seeder alone.
    pub fn minding(&self, debts: Arc<Debts>, comes_back: ComesBack) {
        *self.debts.lock() = Some(debts);
        *self.comes_back.lock() = comes_back;
    }

    /// Enters with a change of one project.
    fn enter_for(&self, project: &ProjectName) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        let comes_back = self.comes_back.lock().told();
        match comes_back.filter(|_| !matches!(&*self.state.borrow(), State::NotActive { .. })) {
            Some(why) => Err(refused(true, &why)),
            None => self.enter_known(project),
        }
    }

    /// Enters with a change that the seeder makes of one project.
    fn enter_as_seeder(&self, project: &ProjectName) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        self.enter_known(project).map_err(|error| self.may_pass(error))
    }

    /// Enters with a change of one project, unless the node does not know its state.
    fn enter_known(&self, project: &ProjectName) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        let entered = self.enter()?;
        let debts = self.debts.lock().clone();
        match debts.and_then(|debts| debts.closes(project)) {
            None => Ok(entered),
            Some(why) => Err(ApiError::not_serving(format!(
                "project {project} is degraded at this node, which does not know its state: {why}; nothing was \
                 changed; push through another node, and see `lockstep status`"
            ))),
        }
    }

    /// Closes the front: from now on, commits are refused with this reason, which may pass.
    pub fn close_with(&self, why: &str) {
        self.state.send_replace(State::Closed(why.to_owned()));
    }

    /// Closes the front with a reason that lasts as long as the site does not come back.
    pub fn close_out(&self, why: &str) {
        self.state.send_replace(State::Out(why.to_owned()));
    }

    /// Closes the front because of the role of the site. Writes are held for a moment if it was open.
    pub fn close_by_role(&self) {
        self.state.send_if_modified(|state| {
            let (held_until, last) = match state {
                State::NotActive { .. } => return false,
                State::Open(committer) => (Some(Instant::now() + HOLD), Some(Arc::clone(committer))),
                State::Closed(_) | State::Out(_) => (None, None),
            };
            *state = State::NotActive { held_until, last };
            true
        });
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
        match &*self.state.borrow() {
            State::Open(committer) => Some(Arc::clone(committer)),
            State::Closed(_) | State::Out(_) | State::NotActive { .. } => None,
        }
    }

    /// Whether the node takes commits of everybody.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.committer().is_some() && !self.comes_back.lock().is_so()
    }

    /// Whether the node takes commits of everybody, for the load balancers that ask it.
    #[must_use]
    pub fn writes(&self) -> Writes {
        let role = not_active::role(&self.roles, &self.site);
        Writes { taken: self.takes_writes(), role, active: self.roles.active() }
    }

    /// Lets a question about an earlier request in. The refusal says nothing about the outcome of that request.
    fn enter_to_look(&self) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        self.enter().map_err(|error| {
            let why = error.message.replace("; nothing was changed", "");
            let message = format!("{why}; the outcome of the request cannot be told here now");
            self.may_pass(ApiError { message, ..error })
        })
    }

    /// The refusal for callers that must not give up while the site has another role: it may become active again.
    fn may_pass(&self, error: ApiError) -> ApiError {
        ApiError { retry: error.retry || !self.went_back.is_known(), ..error }
    }

    fn enter(&self) -> Result<(Arc<Committer>, Inside<'_>), ApiError> {
        if let Some(evidence) = self.went_back.evidence() {
            let text = if evidence.is_of_identity() { other_refdb_text() } else { went_back_text() };
            return Err(ApiError::new(RefusalCode::NotServing, false, text));
        }
        match &*self.state.borrow() {
            State::Open(committer) => {
                self.inside.send_modify(|inside| *inside += 1);
                Ok((Arc::clone(committer), Inside(&self.inside)))
            }
            State::Closed(why) => Err(refused(true, why)),
            State::Out(why) => {
                let instead = not_active::instead(&self.roles).map(|instead| format!("; {instead}"));
                Err(refused(false, &format!("{why}{}", instead.unwrap_or_default())))
            }
            State::NotActive { .. } => Err(not_active::refusal(&self.roles, &self.site)),
        }
    }

    /// The end of the hold of writes, if they are held now.
    fn held_until(&self) -> Option<Instant> {
        let until = match &*self.state.borrow() {
            State::NotActive { held_until, .. } => *held_until,
            State::Open(_) | State::Closed(_) | State::Out(_) => None,
        };
        until.filter(|until| Instant::now() < *until && not_active::is_between(&self.roles, &self.site))
    }

    /// Waits while writes are held, for `most` at most.
    async fn hold(&self, most: Duration) {
        let end = Instant::now() + most;
        let (mut state, mut roles) = (self.state.subscribe(), self.roles.changes());
        while let Some(until) = self.held_until().map(|until| until.min(end)).filter(|until| Instant::now() < *until) {
            // Both senders live as long as `self`.
            tokio::select! {
                biased;
                _ = state.changed() => {}
                _ = roles.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Holds a batch while writes are held. The time counts into its deadline.
    async fn held(&self, mut request: RefTransactionRequest) -> RefTransactionRequest {
        let began = Instant::now();
        self.hold(request.deadline_ms.map_or(HOLD, Duration::from_millis)).await;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        request.deadline_ms = request.deadline_ms.map(|left| left.saturating_sub(took));
        request
    }

    /// The commit stage of the last incarnation, if it may have tried this request before the site stopped taking
    /// writes. A refusal of a repeat would be taken for the outcome of the first try.
    fn tried_by(&self, project: &ProjectName, request_id: &str) -> Option<Arc<Committer>> {
        let last = match &*self.state.borrow() {
            State::NotActive { last, .. } => last.clone(),
            State::Open(_) | State::Closed(_) | State::Out(_) => None,
        };
        last.filter(|last| last.may_have_tried(project, request_id))
    }

    /// The end of an operation that cannot enter: "unknown" if it may have been tried before.
    fn not_begun(&self, project: &ProjectName, request_id: &str, why: ApiError) -> Result<ProjectResponse, ApiError> {
        if self.tried_by(project, request_id).is_none() {
            return Err(why);
        }
        let message = format!("it is not known yet whether this was done before: {}", why.message);
        let refusal = Some(Refusal::new(RefusalCode::Unavailable, true, message));
        Ok(ProjectResponse { outcome: Outcome::Unknown, txn: None, refusal })
    }
}

#[async_trait]
impl Transactions for Front {
    async fn submit_judged(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
        judged: Judged,
    ) -> Result<RefTransactionResponse, ApiError> {
        let request = self.held(request).await;
        match self.enter_for(project) {
            Ok((committer, _inside)) => committer.submit_judged(project, request, judged).await,
            Err(why) => match self.tried_by(project, &request.request_id) {
                Some(last) => last.look_up(project, &request).await,
                None => Err(why),
            },
        }
    }

    async fn create_project(
        &self,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        self.hold(HOLD).await;
        match self.enter_for(project) {
            Ok((committer, _inside)) => committer.create_project(project, request).await,
            Err(why) => self.not_begun(project, &request.request_id, why),
        }
    }

    async fn set_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError> {
        self.hold(HOLD).await;
        match self.enter_for(project) {
            Ok((committer, _inside)) => committer.set_head(project, request).await,
            Err(why) => self.not_begun(project, &request.request_id, why),
        }
    }

    async fn delete_project(
        &self,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        self.hold(HOLD).await;
        match self.enter_for(project) {
            Ok((committer, _inside)) => committer.delete_project(project, request).await,
            Err(why) => self.not_begun(project, &request.request_id, why),
        }
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
