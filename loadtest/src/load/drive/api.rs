//! A request through the bridge API, as Gerrit's bridge sends it. An answer that is lost is asked for again with the
//! same request id; so is one that says "unknown".

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use http::Method;
use lockstep::clients::api_client::{Call, Client, ClientError, project_path};
use lockstep_proto::bridge::{
    ApiError, Expected, OBJECTS_JUDGED, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse,
    RefusalCode, deadline_ms,
};
use lockstep_proto::{Oid, ProjectName};
use tokio::time::{Instant, sleep};

use super::verdict::Verdict;
use crate::Fallible;
use crate::load::ledger::Move;
use crate::load::world::Built;

/// The time that one call may take at the sidecar, in milliseconds. A client then asks again.
const CALL_MS: u64 = 10_000;
/// The first pause before the same request is sent again. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The user who makes what a run needs before it begins.
const PREPARATION: &str = "load";

/// A batch to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    /// The user.
    pub user: &'a str,
    /// The project.
    pub project: &'a ProjectName,
    /// The request id.
    pub request: &'a str,
    /// The refs.
    pub moves: &'a [Move],
}

/// Sends a batch until it has a verdict, or until `deadline`, or until the users have been led to another site: a batch
/// that has not arrived anywhere can be made anew there. `told` counts the answers that say when to come again.
pub(super) async fn send(
    client: &Client,
    sent: Sent<'_>,
    has_moved: impl Fn() -> bool,
    deadline: Instant,
    told: &mut u64,
) -> Verdict {
    let Sent { user, project, request, moves } = sent;
    let call = match call(user, project, request, moves, "/ref-transactions") {
        Ok(call) => call,
        Err(why) => return Verdict::Refused { code: format!("not_sent: {why}"), again: false },
    };
    let (mut doubt, mut pause) = (None, FIRST_PAUSE);
    let mut busy = String::new();
    loop {
        let longest = Duration::from_millis(deadline_ms(CALL_MS, moves.len()) + 2_000);
        match client.send::<RefTransactionResponse>(&call, deadline.min(Instant::now() + longest)).await {
            Ok(answer) => match verdict(&answer) {
                Verdict::Unknown(why) => doubt = Some(why),
                verdict => return verdict,
            },
            Err(ClientError::NoAnswer(why)) => doubt = Some(why),
            Err(error) if doubt.is_none() && takes_nothing(&error) && has_moved() => {
                return Verdict::Refused { code: "moved".to_owned(), again: true };
            }
            Err(ClientError::NotSent { why, .. }) => busy = why,
            // Once a try may have arrived, an error of a later one does not tell the outcome of the first.
            Err(ClientError::Answered(error)) if doubt.is_none() && !error.retry && !is_closed(&error) => {
                return Verdict::Refused { code: word(error.code), again: false };
            }
            Err(ClientError::Answered(error)) => {
                busy = word(error.code);
                if let Some(seconds) = error.retry_after_seconds.filter(|_| doubt.is_none()) {
                    *told += 1;
                    pause = wait(seconds, request, *told);
                }
            }
        }
        if Instant::now() + pause >= deadline {
            return match doubt {
                Some(why) => Verdict::Unknown(why),
                None => Verdict::Refused { code: format!("gave_up: {busy}"), again: false },
            };
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE).max(FIRST_PAUSE);
    }
}

/// Whether the site is away, or takes no writes. Its users are then led to another one.
fn takes_nothing(error: &ClientError) -> bool {
    match error {
        ClientError::NotSent { .. } => true,
        ClientError::Answered(error) => is_closed(error),
        ClientError::NoAnswer(_) => false,
    }
}

/// Whether the site takes no writes.
fn is_closed(error: &ApiError) -> bool {
    error.code == RefusalCode::NotServing
}

/// The wait of a client that is told to come again after some seconds: by chance up to half as long again, so that
/// those who were told together do not come together.
pub(super) fn wait(seconds: u32, request: &str, told: u64) -> Duration {
    Duration::from_secs_f64(f64::from(seconds) * (1.0 + chance(request, told) / 2.0))
}

/// A number from 0 to 1 that differs from request to request and from try to try, and is the same in each run.
fn chance(request: &str, tried: u64) -> f64 {
    let mut hasher = DefaultHasher::new();
    (request, tried).hash(&mut hasher);
    hasher.finish() as f64 / u64::MAX as f64
}

/// Sends a batch that must be committed. Returns its transaction.
///
/// # Errors
/// It was not committed, or that is not known.
pub async fn commit_or_fail(
    client: &Client,
    project: &ProjectName,
    built: &Built,
    deadline: Instant,
) -> Fallible<Option<String>> {
    let sent = Sent { user: PREPARATION, project, request: &built.request, moves: &built.moves };
    match send(client, sent, || false, deadline, &mut 0).await {
        Verdict::Committed(txn) => Ok(txn),
        other => Err(format!("{project}: the preparation was not committed: {other:?}").into()),
    }
}

/// Asks for the outcome of a request without trying it again. `None` if the sidecar does not know it either.
pub async fn look_up(client: &Client, project: &str, request: &str, moves: &[Move]) -> Option<String> {
    let call = call(PREPARATION, &project.parse().ok()?, request, moves, "/ref-transactions/look-up").ok()?;
    let end = Instant::now() + Duration::from_millis(CALL_MS + 2_000);
    let answer: RefTransactionResponse = client.send(&call, end).await.ok()?;
    match verdict(&answer) {
        Verdict::Committed(txn) => Some(txn.unwrap_or_default()),
        Verdict::Refused { .. } | Verdict::Unknown(_) => None,
    }
}

fn call(user: &str, project: &ProjectName, request: &str, moves: &[Move], below: &str) -> Fallible<Call> {
    let oid = |text: &Option<String>| text.as_ref().map(|text| text.parse::<Oid>()).transpose();
    let command = |one: &Move| -> Fallible<RefCommand> {
        let old = oid(&one.old)?.map_or(Expected::Absent, Expected::Oid);
        Ok(RefCommand { name: one.name.parse()?, old, new: oid(&one.new)?, force: false })
    };
    let body = RefTransactionRequest {
        request_id: request.to_owned(),
        deadline_ms: Some(deadline_ms(CALL_MS, moves.len())),
        atomic: true,
        commands: moves.iter().map(command).collect::<Fallible<_>>()?,
        actor: Some(user.to_owned()),
        traceparent: None,
        message: None,
        lock: None,
    };
    Ok(Call::new(Method::POST, project_path(project, below), &body)?.objects(OBJECTS_JUDGED))
}

fn verdict(answer: &RefTransactionResponse) -> Verdict {
    match answer.outcome {
        Outcome::Committed | Outcome::CommittedNotYetVisible => {
            Verdict::Committed(answer.txn.as_ref().map(ToString::to_string))
        }
        Outcome::Unknown => Verdict::Unknown("the sidecar does not know the outcome yet".to_owned()),
        Outcome::Refused => {
            // In an atomic batch, one ref has the reason, and the others refer to it.
            let reasons = answer.results.iter().filter_map(|result| result.refusal.as_ref());
            let own = reasons.clone().find(|reason| reason.code != RefusalCode::Transaction);
            let Some(reason) = own.or_else(|| reasons.clone().next()) else {
                return Verdict::Refused { code: "no_reason".to_owned(), again: false };
            };
            let again = reason.retry || matches!(reason.code, RefusalCode::Stale | RefusalCode::NonFastForward);
            Verdict::Refused { code: word(reason.code), again }
        }
    }
}

fn word(code: RefusalCode) -> String {
    let text = serde_json::to_string(&code).unwrap_or_default();
    text.trim_matches('"').to_owned()
}
