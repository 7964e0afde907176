//! The bridge's calls: a request is turned into work, and the outcome of the work into an answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, Outcome, ProjectResponse, RefCommand, RefTransactionRequest,
    RefTransactionResponse, Refusal, RefusalCode, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, TxnId};
use tokio::time::Instant;
use tracing::Instrument;

use super::Committer;
use super::refusals::unavailable;
use super::repeated::Before;
use super::requests::{Begin, Doubt, answer};
use super::translate::{carried, check, fingerprint, names, respond, sort};
use super::work::{Ended, Seed, Verdict, Work};
use crate::seams::git::{Judged, REFLOG_MESSAGE, RefMove};
use crate::seams::refdb::SlotState;
use crate::seams::refdb::gone::may_be_gone;
use crate::stages::ports::Transactions;
use crate::telemetry::{current_traceparent, set_parent};

#[async_trait]
impl Transactions for Arc<Committer> {
    async fn submit_judged(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
        judged: Judged,
    ) -> Result<RefTransactionResponse, ApiError> {
        check(&request)?;
        let names = names(&request.commands);
        let key = match self.key_of(project).await {
            Ok(key) => key,
            Err(refused) => {
                let (intents, _) = sort(&request.commands)?;
                // The project is gone, or not known here. The request may be a repeated one from before.
                if let Some(ended) = self.remembered_of(project, &request.request_id, &intents)? {
                    return Ok(respond(&names, &carried(&intents), ended));
                }
                let ended = Ended::all(names.len(), &Verdict::Refused(refused));
                return Ok(respond(&names, &[], ended));
            }
        };
        self.batch(key, request, judged, None).await
    }

    fn is_repeated(&self, project: &ProjectName, request_id: &str) -> bool {
        self.may_have_tried(project, request_id)
    }

    async fn create_project(
        &self,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        self.create(project, request, ProjectPhase::Active).await
    }

    async fn set_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError> {
        self.point_head(project, request).await
    }

    async fn delete_project(
        &self,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        self.delete(project, request).await
    }

    async fn look_up(
        &self,
        project: &ProjectName,
        request: &RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError> {
        check(request)?;
        let (intents, _) = sort(&request.commands)?;
        let answered = self.requests.answered(project, &request.request_id, fingerprint(request));
        let found = match self.versions.project_key(project) {
            _ if answered.as_ref().is_some_and(Ended::is_visible) => Ok(answered),
            Ok(Some(project)) => {
                self.committed_before(&project, &request.request_id, &intents).await.map(Before::found)
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error.into()),
        };
        let unknown = |why: String| {
            let verdict = Verdict::Unknown(Refusal::new(RefusalCode::Unavailable, true, why));
            // A batch of local refs alone has no intents, but needs a verdict too.
            Ended::all(intents.len().max(1), &verdict)
        };
        let ended = match found {
            Ok(Some(ended)) => ended,
            Ok(None) => unknown("no commit of this request can be seen here yet; ask again".to_owned()),
            Err(why) => unknown(format!("it is not known whether this was committed ({why}); ask again")),
        };
        Ok(respond(&names(&request.commands), &carried(&intents), ended))
    }

    async fn outcome(&self, txn: &TxnId) -> Result<ProjectResponse, ApiError> {
        let state = self.attempts.refdb.journal.slot(&txn.slot).await;
        let (outcome, message) = match state {
            Ok(SlotState::Committed(id, _)) if id == *txn => {
                return Ok(ProjectResponse::committed(Some(txn.clone())));
            }
            Ok(SlotState::Committed(other, _)) => self.unless_gone(txn, &format!("its slot holds {other}")).await,
            Ok(SlotState::Poisoned) => self.unless_gone(txn, "its slot is poisoned").await,
            Ok(SlotState::Empty) => {
                (Outcome::Unknown, "its slot is empty: it is in progress, or was collected long ago".to_owned())
            }
            Err(error) => (Outcome::Unknown, error.to_string()),
        };
        let retry = outcome == Outcome::Unknown;
        let refusal = Some(Refusal::new(RefusalCode::Unavailable, retry, message));
        Ok(ProjectResponse { outcome, txn: Some(txn.clone()), refusal })
    }
}

impl Committer {
    /// Whether a request with this id was tried here: it is in progress, its answer is kept, or it may have ended
    /// without a known outcome.
    #[must_use]
    pub fn may_have_tried(&self, project: &ProjectName, request_id: &str) -> bool {
        self.requests.knows(project, request_id) || self.requests.doubt(project, request_id) != Doubt::None
    }

    /// The outcome of a transaction whose slot has other content: not committed, unless the slot may have been
    /// collected before.
    async fn unless_gone(&self, txn: &TxnId, what: &str) -> (Outcome, String) {
        match may_be_gone(&self.attempts.refdb, &txn.slot).await {
            Ok(false) => (Outcome::Refused, format!("not committed: {what}")),
            Ok(true) => {
                let message =
                    format!("{what}, but that may have come after the transaction was collected: look at its refs");
                (Outcome::Unknown, message)
            }
            Err(error) => (Outcome::Unknown, error.to_string()),
        }
    }

    /// Runs a checked batch on a project that exists. `seed` is set for a batch of the seeder.
    pub(super) async fn batch(
        self: &Arc<Self>,
        key: ProjectKey,
        request: RefTransactionRequest,
        judged: Judged,
        seed: Option<Seed>,
    ) -> Result<RefTransactionResponse, ApiError> {
        let names = names(&request.commands);
        let (intents, local) = sort(&request.commands)?;
        let fingerprint = fingerprint(&request);
        let carried = carried(&intents);
        let span = tracing::info_span!("commit", project = %key, request = request.request_id);
        set_parent(&span, request.traceparent.as_deref().unwrap_or_default());
        let work = Work {
            intents,
            local: self.local_moves(&key.name, &local).await?,
            atomic: request.atomic,
            request_id: request.request_id.clone(),
            actor: request.actor.unwrap_or_default(),
            traceparent: span.in_scope(current_traceparent),
            message: request.message.filter(|message| message != REFLOG_MESSAGE).unwrap_or_default(),
            deadline: self.deadline(request.deadline_ms),
            project: key,
            judged,
            seed,
            lock: request.lock,
            loosens: false,
        };
        let ended = self.once(work, fingerprint).instrument(span).await?;
        Ok(respond(&names, &carried, ended))
    }

    pub(super) fn deadline(&self, asked_ms: Option<u64>) -> Instant {
        Instant::now() + asked_ms.map_or(self.limits.deadline, Duration::from_millis)
    }

    /// The project's key. A project that this node does not know is looked up in the refdb.
    pub(super) async fn key_of(&self, project: &ProjectName) -> Result<ProjectKey, Refusal> {
        let read = || self.versions.project_key(project).map_err(|error| unavailable(&error));
        if let Some(key) = read()? {
            return Ok(key);
        }
        if let Err(why) = self.catch_up.project(project).await {
            let message = format!("it is not known whether project {project} exists ({why}); nothing was changed");
            return Err(Refusal::new(RefusalCode::Unavailable, true, message));
        }
        read()?.ok_or_else(|| {
            let message = format!(
                "there is no project {project}; if its repository exists, bring it in with `lockstep seed`, which says \
                 what is in the way; otherwise create it with `lockstep project create {project}`"
            );
            Refusal::new(RefusalCode::Project, false, message)
        })
    }

    /// Runs work once per request id, in a task of its own that outlives the caller.
    pub(super) async fn once(self: &Arc<Self>, work: Work, fingerprint: u64) -> Result<Ended, ApiError> {
        if self.fenced.is_cancelled() {
            return Err(ApiError::not_serving("this sidecar takes no commits now: this node was fenced"));
        }
        let (project, count) = (work.project.name.clone(), work.intents.len());
        let waiting = match self.requests.begin(&project, &work.request_id, fingerprint) {
            Begin::Join(waiting) => waiting,
            Begin::Reused => {
                let message =
                    format!("request_id {:?} was used for another request; choose a new one", work.request_id);
                return Err(ApiError::invalid(message));
            }
            Begin::Start(sender) => {
                let (node, waiting) = (Arc::clone(self), sender.subscribe());
                let span = tracing::Span::current();
                let batch = async move {
                    let ended = node.run(&work).await;
                    node.in_doubt.uncommitted.keep_refused(&work, &ended).await;
                    for verdict in &ended.verdicts {
                        if let Verdict::Refused(refused) = verdict {
                            node.observer.refused(refused.code);
                        }
                    }
                    let kept = ended.kept();
                    node.requests.end(&work.project.name, &work.request_id, &sender, ended, kept);
                };
                self.tasks.spawn("commit", batch.instrument(span));
                waiting
            }
        };
        let stopped = "this sidecar stopped before the outcome was known; ask again with the same request_id";
        let unknown = || Ended::all(count, &Verdict::Unknown(Refusal::new(RefusalCode::Unavailable, true, stopped)));
        Ok(answer(waiting).await.unwrap_or_else(unknown))
    }

    /// The moves of refs that only this site keeps. Their old values are read from the disk.
    async fn local_moves(&self, project: &ProjectName, commands: &[RefCommand]) -> Result<Vec<RefMove>, ApiError> {
        let mut moves = Vec::with_capacity(commands.len());
        for command in commands {
            let old = self.repositories.read_ref(project, &command.name).await.map_err(ApiError::unavailable)?;
            if old != command.new {
                let (name, new) = (command.name.clone(), command.new);
                moves.push(RefMove { name, old, new, message: String::new() });
            }
        }
        Ok(moves)
    }
}
