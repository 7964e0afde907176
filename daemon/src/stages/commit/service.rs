//! The bridge's calls: a request is turned into work, and the outcome of the work into an answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, Outcome, ProjectResponse, RefCommand, RefTransactionRequest,
    RefTransactionResponse, Refusal, RefusalCode, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, Transaction, TxnId};
use tokio::time::Instant;
use tracing::Instrument;

use super::Committer;
use super::refusals::unavailable;
use super::requests::{Begin, answer};
use super::translate::{carried, check, fingerprint, names, respond, sort};
use super::work::{Ended, Intent, Seed, Verdict, Work};
use crate::seams::blob::long_form::LongFormError;
use crate::seams::git::{Judged, RefMove};
use crate::seams::refdb::{RefDbError, SlotState};
use crate::seams::volume::StoreError;
use crate::stages::ports::Transactions;
use crate::telemetry::{current_traceparent, set_parent};

/// Number of transactions per ref among which a retry after a restart looks for its own first try.
const LOOK_BACK: usize = 16;

/// Why an earlier try of a request cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookBackError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A slot could not be read from the refdb.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// A transaction of the chain cannot be read.
    #[error(transparent)]
    Unreadable(#[from] LongFormError),
}

#[async_trait]
impl Transactions for Arc<Committer> {
    async fn submit(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError> {
        self.submit_judged(project, request, Judged::No).await
    }

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
                let ended = Ended::all(names.len(), &Verdict::Refused(refused));
                return Ok(respond(&names, &[], ended));
            }
        };
        self.batch(key, request, judged, None).await
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
            Ok(Some(project)) => self.committed_before(&project, &request.request_id, &intents).await,
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
            Ok(SlotState::Committed(other, _)) => (Outcome::Refused, format!("not committed: its slot holds {other}")),
            Ok(SlotState::Poisoned) => (Outcome::Refused, "not committed: its slot is poisoned".to_owned()),
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
            deadline: self.deadline(request.deadline_ms),
            project: key,
            judged,
            seed,
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
                    for verdict in &ended.verdicts {
                        if let Verdict::Refused(refused) = verdict {
                            node.observer.refused(refused.code);
                        }
                    }
                    let lasting = ended.verdicts.iter().all(|verdict| !matches!(verdict, Verdict::Unknown(_)))
                        && ended.verdicts.iter().any(|verdict| !matches!(verdict, Verdict::Refused(_)));
                    node.requests.end(&work.project.name, &work.request_id, &sender, ended, lasting);
                };
                self.tasks.spawn("commit", batch.instrument(span));
                waiting
            }
        };
        let stopped = "this sidecar stopped before the outcome was known; ask again with the same request_id";
        let unknown = || Ended::all(count, &Verdict::Unknown(Refusal::new(RefusalCode::Unavailable, true, stopped)));
        Ok(answer(waiting).await.unwrap_or_else(unknown))
    }

    /// Looks for an earlier try of a request in the chain: its answer was lost, or this node restarted. Only a ref that
    /// does not have the value that the request expects can have such a try.
    ///
    /// # Errors
    /// The chain cannot be read now. Never take this for "no".
    pub(super) async fn committed_before(
        &self,
        project: &ProjectKey,
        request_id: &str,
        intents: &[Intent],
    ) -> Result<Option<Ended>, LookBackError> {
        let is_ours = |earlier: &Transaction| earlier.request_id == request_id && earlier.project == *project;
        for intent in intents {
            let known = self.versions.get(project, &intent.key)?;
            let stale = known.filter(|known| intent.expected.as_ref().is_some_and(|expected| *expected != known.value));
            if let Some(known) = stale
                && let Some(earlier) = self.earlier_try(&intent.key, known.txn, is_ours).await?
            {
                return Ok(Some(replay(intents, &earlier)));
            }
        }
        Ok(None)
    }

    /// Searches a ref's chain backwards from a transaction for a try of a request. A collected transaction ends the
    /// search: it is so old that every retry of it was answered from memory long ago.
    pub(super) async fn earlier_try(
        &self,
        key: &RefKey,
        from: TxnId,
        is_ours: impl Fn(&Transaction) -> bool,
    ) -> Result<Option<Transaction>, LookBackError> {
        let mut next = Some(from);
        for _ in 0..LOOK_BACK {
            let Some(txn) = next.take() else { return Ok(None) };
            let state = self.attempts.refdb.journal.slot(&txn.slot).await?;
            let SlotState::Committed(_, bytes) = state else { return Ok(None) };
            let earlier = match self.long_forms.read(&bytes).await {
                Err(error) if error.is_absent() => return Ok(None),
                read => read?,
            };
            if is_ours(&earlier) {
                return Ok(Some(earlier));
            }
            next = earlier.command(key).and_then(|command| command.predecessor.clone());
        }
        Ok(None)
    }

    /// The moves of refs that only this site keeps. Their old values are read from the disk.
    async fn local_moves(&self, project: &ProjectName, commands: &[RefCommand]) -> Result<Vec<RefMove>, ApiError> {
        let mut moves = Vec::with_capacity(commands.len());
        for command in commands {
            let old = self.repositories.read_ref(project, &command.name).await.map_err(ApiError::unavailable)?;
            if old != command.new {
                moves.push(RefMove { name: command.name.clone(), old, new: command.new });
            }
        }
        Ok(moves)
    }
}

/// The answer of an earlier try. Intents that its transaction carries are committed; the others were refused then.
fn replay(intents: &[Intent], earlier: &Transaction) -> Ended {
    let verdicts = intents.iter().map(|intent| match earlier.command(&intent.key) {
        Some(command) if command.new == intent.new => Verdict::Committed,
        _ => Verdict::Refused(Refusal::new(
            RefusalCode::Stale,
            false,
            format!("{} was refused at the first try", intent.key),
        )),
    });
    Ended { txn: Some(earlier.id.clone()), verdicts: verdicts.collect() }
}
