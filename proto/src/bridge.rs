//! Bodies of the bridge API (JSON). See `docs/bridge-api.md` and the generated OpenAPI document.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::RefName;
use crate::oid::Oid;
use crate::slot::TxnId;

/// The header of a ref transaction that says who judged the objects of the new values by the rules of git's `fsck`.
/// Without it, the sidecar judges them if the repository's configuration asks for it (`receive.fsckObjects`).
pub const OBJECTS_HEADER: &str = "lockstep-objects";

/// The value of [`OBJECTS_HEADER`] for objects that git's receive-pack or Gerrit's checker has judged.
pub const OBJECTS_JUDGED: &str = "judged";

/// The value of [`OBJECTS_HEADER`] for an existing history, which is taken as it is.
pub const OBJECTS_HISTORY: &str = "history";

/// A batch of ref commands on one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefTransactionRequest {
    /// A unique id of the batch that the caller chooses (for example a UUID), at most 128 bytes. A retry with the same
    /// id and the same commands gets the answer of the first try.
    pub request_id: String,
    /// How long the caller waits, in milliseconds. When the time is over, the answer states what is known by then.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Whether the batch is all or nothing. If not, a stale ref is refused alone and the others are committed together.
    #[serde(default)]
    pub atomic: bool,
    /// The commands: at most 50,000, each ref at most once.
    pub commands: Vec<RefCommand>,
    /// The user who pushes, for people to read.
    #[serde(default)]
    pub actor: Option<String>,
    /// The W3C trace context of the push.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The message of the lines that reflogs get, at every site: one line, at most 512 bytes. Without it, `push`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The token of the lock under which the batch is committed. It is committed only if that lock is still held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

/// The longest deadline that a request may name, in milliseconds.
pub const LONGEST_DEADLINE_MS: u64 = 600_000;

/// The deadline of a batch of many refs, in milliseconds, where that of a small one is `usual`. One partition of the
/// refdb's table takes 1,000 writes per second, and each ref is four; the rest is room for other traffic.
#[must_use]
pub fn deadline_ms(usual: u64, refs: usize) -> u64 {
    usual.saturating_add(10_000 * (refs / 1_000) as u64).min(LONGEST_DEADLINE_MS)
}

/// A node's request for objects of a peer's repository: at most 5,000 ids in each list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectsRequest {
    /// Objects that must be complete at the caller afterwards.
    #[schema(value_type = Vec<String>)]
    pub wants: Vec<Oid>,
    /// Objects that the caller already has, with everything that they need.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub haves: Vec<Oid>,
    /// Whether the wanted objects alone are sent, without anything to which they point. The caller has the rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

/// The answer of a peer that does not have all of the wanted objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectsMissing {
    /// Objects that the peer does not have: at least one of them.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<Oid>,
}

/// A command on one ref. Without `old`, the command replaces any current value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefCommand {
    /// The full name of the ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/heads/main")]
    pub name: RefName,
    /// The value that the ref must have now.
    #[serde(default)]
    #[schema(value_type = String, example = "absent")]
    pub old: Expected,
    /// The new value. Null deletes the ref. The field is required, so that a caller that forgets it deletes nothing.
    #[serde(deserialize_with = "stated")]
    #[schema(value_type = Option<String>, required = true)]
    pub new: Option<Oid>,
    /// Whether an update that is not a fast-forward is allowed.
    #[serde(default)]
    pub force: bool,
}

/// Reads a field that may be null but must be present.
pub(crate) fn stated<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Oid>, D::Error> {
    Option::deserialize(from)
}

/// The value that a ref must have for a command to apply. JSON: `"any"`, `"absent"`, or an object id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Any value, or none.
    #[default]
    Any,
    /// The ref does not exist.
    Absent,
    /// The ref points to this object.
    Oid(Oid),
}

impl Serialize for Expected {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => to.serialize_str("any"),
            Self::Absent => to.serialize_str("absent"),
            Self::Oid(oid) => oid.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match std::borrow::Cow::<'de, str>::deserialize(from)?.as_ref() {
            "any" => Ok(Self::Any),
            "absent" => Ok(Self::Absent),
            oid => oid.parse().map(Self::Oid).map_err(serde::de::Error::custom),
        }
    }
}

/// The outcome of a batch, of one of its commands, or of an operation on a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Committed, and readable in the local repository.
    Committed,
    /// Committed for ever. The local repository will show it soon.
    CommittedNotYetVisible,
    /// Not committed, and it never will be.
    Refused,
    /// Not known yet. Repeat the request with the same request id, or ask by the transaction id.
    Unknown,
}

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefTransactionResponse {
    /// The outcome of the batch: the first of `unknown`, `committed_not_yet_visible` and `committed` that any command
    /// has; `refused` if all commands were refused.
    pub outcome: Outcome,
    /// The transaction that was committed, or whose outcome is unknown.
    #[schema(value_type = Option<String>)]
    pub txn: Option<TxnId>,
    /// One verdict per command, in the order of the request.
    pub results: Vec<RefResult>,
}

/// The verdict on one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefResult {
    /// The full name of the ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String)]
    pub name: RefName,
    /// The outcome of the ref's command.
    pub outcome: Outcome,
    /// The reason, if the command was not simply committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// The reason why a ref was refused or is in doubt: a stable code, a sentence for people, and what the caller may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// The stable code, for programs.
    pub code: RefusalCode,
    /// The sentence for people: the reason, and the next step.
    pub message: String,
    /// The value that the command expected the ref to have (`absent` or an object id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The value that the ref has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// Whether the local repository already shows `actual`. If so, fetch and try again.
    #[serde(default)]
    pub caught_up: bool,
    /// Whether the same request, unchanged, may succeed later.
    #[serde(default)]
    pub retry: bool,
    /// Whether `message` tells a user of git the next step. If not, the hook adds one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub next_step: bool,
}

impl Refusal {
    /// A refusal without an expected and an actual value.
    #[must_use]
    pub fn new(code: RefusalCode, retry: bool, message: impl Into<String>) -> Self {
        let (message, caught_up, next_step) = (message.into(), false, false);
        Self { code, message, expected: None, actual: None, caught_up, retry, next_step }
    }

    /// The same refusal, whose message tells a user of git the next step.
    #[must_use]
    pub fn with_next_step(self) -> Self {
        Self { next_step: true, ..self }
    }
}

/// The stable code of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The ref does not have the value that the command expected.
    Stale,
    /// The update is not a fast-forward, and was not forced.
    NonFastForward,
    /// The new object, or an object that it needs, is not in the repository.
    MissingObject,
    /// The name excludes another one (as `a` excludes `a/b`), or is reserved.
    NameConflict,
    /// The ref is locked by a long operation.
    Locked,
    /// Another command of the atomic batch was refused.
    Transaction,
    /// The project does not exist, or takes no commits.
    Project,
    /// This sidecar takes no commits, because of its role, or because it is draining or starting.
    NotServing,
    /// The batch is too large or malformed, or the name of the ref is none.
    Invalid,
    /// The refdb cannot be reached, or rejects calls for the moment.
    Unavailable,
}

/// Creates a project at every site. It has no refs yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProjectRequest {
    /// A unique id that the caller chooses, as in a ref transaction.
    pub request_id: String,
    /// The ref that `HEAD` points to.
    #[schema(value_type = String, example = "refs/heads/main")]
    pub head: RefName,
}

/// Points a project's `HEAD` to another ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetHeadRequest {
    /// A unique id that the caller chooses, as in a ref transaction.
    pub request_id: String,
    /// The ref that `HEAD` must point to. It need not exist.
    #[schema(value_type = String, example = "refs/heads/main")]
    pub head: RefName,
    /// The token of the lock under which it is done. It is done only if that lock is still held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

/// Deletes a project, or sets its phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteProjectRequest {
    /// A unique id that the caller chooses, as in a ref transaction.
    pub request_id: String,
    /// The token of the lock under which it is done. It is done only if that lock is still held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

/// The answer to an operation on a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectResponse {
    /// The outcome of the operation.
    pub outcome: Outcome,
    /// The transaction that carries out the operation, if one was made.
    #[schema(value_type = Option<String>)]
    pub txn: Option<TxnId>,
    /// The reason, if the operation is not committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// The body of every error answer (HTTP 4xx and 5xx). Such an answer has no verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// The stable code, for programs.
    pub code: RefusalCode,
    /// The sentence for people: the field, its value, and what to do.
    pub message: String,
    /// Whether the same request, unchanged, may succeed later.
    pub retry: bool,
    /// After how many seconds to come again: others have to have their turns first. None if nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl ProjectResponse {
    /// The answer to an operation that is committed.
    #[must_use]
    pub fn committed(txn: Option<TxnId>) -> Self {
        Self { outcome: Outcome::Committed, txn, refusal: None }
    }

    /// The answer to an operation that is not committed.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Self {
        Self { outcome: Outcome::Refused, txn: None, refusal: Some(refusal) }
    }
}

impl ApiError {
    /// An error with any code.
    #[must_use]
    pub fn new(code: RefusalCode, retry: bool, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry, retry_after_seconds: None }
    }

    /// The request can never succeed as it is.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Invalid, false, message)
    }

    /// A part that the request needs does not answer now: the caller tries again.
    #[must_use]
    pub fn unavailable(why: impl fmt::Display) -> Self {
        Self::new(RefusalCode::Unavailable, true, why.to_string())
    }

    /// This sidecar takes no such request now: the caller tries again, or asks another node.
    #[must_use]
    pub fn not_serving(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::NotServing, true, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_said_and_never_a_field_that_was_forgotten() {
        let read = |text: &str| serde_json::from_str::<RefCommand>(text);
        assert_eq!(read(r#"{"ref":"refs/heads/a","new":null}"#).unwrap().new, None);
        let forgotten = read(r#"{"ref":"refs/heads/a"}"#).unwrap_err().to_string();
        assert!(forgotten.contains("missing field `new`"), "{forgotten}");
    }
}
