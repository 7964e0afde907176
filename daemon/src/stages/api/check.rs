//! Checks rules of a request that its types do not express: counts, lengths, each ref at most once. The check happens
//! at the edge, so that the commit stage receives only requests that it can act on. Every error is a 400.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_proto::bridge::RefTransactionRequest;
use lockstep_proto::gerrit::HandshakeRequest;
use lockstep_proto::limits;
use lockstep_proto::refresh::{DoneRequest, TasksRequest};
use lockstep_proto::transaction::check_message;

use super::deadlines::LONGEST_DEADLINE;
use super::error::Failure;

/// Checks a batch, and returns its deadline: `usual` if the request names none.
pub(super) fn batch(request: &RefTransactionRequest, usual: Duration) -> Result<Duration, Failure> {
    request_id(&request.request_id)?;
    text("actor", request.actor.as_deref())?;
    text("traceparent", request.traceparent.as_deref())?;
    message(request.message.as_deref().unwrap_or_default())?;
    commands(request)?;
    deadline(request.deadline_ms, usual)
}

/// Checks the id that a retry of the request carries again.
pub(super) fn request_id(id: &str) -> Result<(), Failure> {
    if id.is_empty() || id.len() > limits::REQUEST_ID_BYTES {
        let most = limits::REQUEST_ID_BYTES;
        let message =
            format!("field request_id is {} bytes long; give 1 to {most} bytes, a UUID for example", id.len());
        return Err(Failure::malformed(message));
    }
    Ok(())
}

/// Checks a request for refresh tasks.
pub(super) fn tasks(request: &TasksRequest) -> Result<(), Failure> {
    let longest = limits::COMMIT_WITHIN_MS;
    if let Some(within) = request.commit_within_ms.filter(|within| *within > longest) {
        let message = format!("field commit_within_ms is {within}; give 0 to {longest} milliseconds");
        return Err(Failure::malformed(message));
    }
    poll(&request.session, u64::from(request.most), request.wait_ms)
}

/// Checks a long poll of a bridge: its session, how many entries it takes, and how long it waits.
pub(super) fn poll(asks: &str, most: u64, wait_ms: u64) -> Result<(), Failure> {
    session(asks)?;
    let most_allowed = limits::POLLED as u64;
    if most == 0 || most > most_allowed {
        return Err(Failure::malformed(format!("field most is {most}; give 1 to {most_allowed}")));
    }
    wait(wait_ms)
}

/// Checks how long a call waits.
pub(super) fn wait(wait_ms: u64) -> Result<(), Failure> {
    let longest = limits::POLL_WAIT_MS;
    if wait_ms > longest {
        let message = format!("field wait_ms is {wait_ms}; give 0 to {longest} milliseconds");
        return Err(Failure::malformed(message));
    }
    Ok(())
}

/// Checks a report on refresh tasks.
pub(super) fn done(request: &DoneRequest) -> Result<(), Failure> {
    session(&request.session)?;
    let (count, most) = (request.done.len() + request.failed.len(), limits::POLLED);
    if count > most {
        let message = format!("fields done and failed have {count} entries together; send at most {most} at once");
        return Err(Failure::malformed(message));
    }
    Ok(())
}

/// Checks the id of a session, which is one process of a Gerrit.
pub(super) fn session(session: &str) -> Result<(), Failure> {
    let most = limits::SESSION_BYTES;
    if session.is_empty() || session.len() > most {
        let message = format!(
            "field session is {} bytes long; give 1 to {most} bytes, chosen at random by each process",
            session.len()
        );
        return Err(Failure::malformed(message));
    }
    Ok(())
}

/// Checks the lengths in a Gerrit's handshake. Empty fields pass, except for the session: the handshake stage denies
/// them with a reason for the administrator.
pub(super) fn gerrit(request: &HandshakeRequest) -> Result<(), Failure> {
    let fields = [
        ("session", &request.session),
        ("server_id", &request.server_id),
        ("instance_id", &request.instance_id),
        ("gerrit_version", &request.gerrit_version),
        ("bridge_version", &request.bridge_version),
    ];
    let most = limits::REQUEST_ID_BYTES;
    for (field, value) in fields {
        if value.len() > most || (field == "session" && value.is_empty()) {
            let least = usize::from(field == "session");
            let length = value.len();
            let message = format!("field {field} is {length} bytes long; give {least} to {most} bytes");
            return Err(Failure::malformed(message));
        }
    }
    folders(request)
}

fn folders(request: &HandshakeRequest) -> Result<(), Failure> {
    let (count, most) = (request.base_paths.len(), limits::BASE_PATHS);
    if count > most {
        return Err(Failure::malformed(format!("field base_paths has {count} entries; give at most {most}")));
    }
    Ok(())
}

/// Checks the number of commands of a batch.
pub(super) fn count(count: usize) -> Result<(), Failure> {
    if count == 0 || count > limits::COMMANDS {
        let most = limits::COMMANDS;
        return Err(Failure::malformed(format!(
            "field commands has {count} entries; send 1 to {most} per batch, and more in several batches"
        )));
    }
    Ok(())
}

fn commands(request: &RefTransactionRequest) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    match request.commands.iter().find(|command| !seen.insert(&command.name)) {
        Some(twice) => Err(Failure::malformed(format!(
            "field commands names {} twice; a batch may name each ref once, so send only the last command for it",
            twice.name
        ))),
        None => Ok(()),
    }
}

fn deadline(asked: Option<u64>, usual: Duration) -> Result<Duration, Failure> {
    let deadline = asked.map_or(usual, Duration::from_millis);
    if deadline.is_zero() || deadline > LONGEST_DEADLINE {
        return Err(Failure::malformed(format!(
            "field deadline_ms is {}; give 1 to {} milliseconds, or leave it out for {}",
            deadline.as_millis(),
            LONGEST_DEADLINE.as_millis(),
            usual.as_millis()
        )));
    }
    Ok(deadline)
}

fn message(message: &str) -> Result<(), Failure> {
    check_message(message).map_err(|why| Failure::malformed(format!("field message {why}")))
}

/// Checks the reason of a change, for the audit trail.
pub(super) fn reason(reason: &str) -> Result<(), Failure> {
    if reason.trim().is_empty() {
        return Err(Failure::malformed("field reason is empty; say why, for the audit trail"));
    }
    text("reason", Some(reason))
}

/// Checks a name that a request may leave out.
pub(super) fn name(field: &str, value: Option<&str>) -> Result<(), Failure> {
    match value {
        Some("") => Err(Failure::malformed(format!("field {field} is empty; give a name, or leave it out"))),
        value => text(field, value),
    }
}

fn text(field: &str, value: Option<&str>) -> Result<(), Failure> {
    let length = value.map_or(0, str::len);
    if length > limits::TEXT_BYTES {
        let most = limits::TEXT_BYTES;
        return Err(Failure::malformed(format!("field {field} is {length} bytes long; give at most {most}")));
    }
    Ok(())
}
