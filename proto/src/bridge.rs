//! Bodies of the bridge API (JSON). See `docs/bridge-api.md` and the generated OpenAPI document.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::RefName;
use crate::oid::Oid;
use crate::slot::TxnId;

/// A whole batch of ref commands on one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefTransactionRequest {
    /// Chosen by the caller, unique for the batch (a UUID, say). A retry with the same id and the same commands
    /// gets the answer of the first try. At most 128 bytes.
    pub request_id: String,
    /// How long the caller waits, in milliseconds; at its end the answer is what is known by then.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// All or nothing. Without it a stale ref is refused alone and the others are committed together.
    #[serde(default)]
    pub atomic: bool,
    /// What to do; at most 2,000 commands, each ref at most once.
    pub commands: Vec<RefCommand>,
    /// Who pushes, for people.
    #[serde(default)]
    pub actor: Option<String>,
    /// W3C trace context.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// What a node wants of a peer's repository: at most 5,000 ids in each list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectsRequest {
    /// Objects that shall be complete afterwards.
    #[schema(value_type = Vec<String>)]
    pub wants: Vec<Oid>,
    /// Objects that the caller has, with everything that they need.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub haves: Vec<Oid>,
}

/// What a peer lacks of what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectsMissing {
    /// At least one of the objects that are not there.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<Oid>,
}

/// One ref's command. Without `old` the current value is replaced whatever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefCommand {
    /// The ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/heads/main")]
    pub name: RefName,
    /// What it must be now.
    #[serde(default)]
    #[schema(value_type = String, example = "absent")]
    pub old: Expected,
    /// What it shall be; null deletes it. It must be said: a caller that forgets it deletes nothing.
    #[serde(deserialize_with = "stated")]
    #[schema(value_type = Option<String>, required = true)]
    pub new: Option<Oid>,
    /// Allow an update that is no fast-forward.
    #[serde(default)]
    pub force: bool,
}

/// Reads a field that may be null and may not be left out.
fn stated<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Oid>, D::Error> {
    Option::deserialize(from)
}

/// What a ref must be for a command to hold. JSON: `"any"`, `"absent"`, or an object id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    #[default]
    Any,
    /// Not there.
    Absent,
    /// This object.
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

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Committed, and readable in the local repository.
    Committed,
    /// Committed for ever; the local repository will show it soon.
    CommittedNotYetVisible,
    /// Not committed, and it never will be.
    Refused,
    /// Not known yet. Ask again with the same request id, or by the transaction id.
    Unknown,
}

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefTransactionResponse {
    /// The outcome of the batch: `committed` when anything of it is.
    pub outcome: Outcome,
    /// The transaction that was committed, or whose fate is unknown.
    #[schema(value_type = Option<String>)]
    pub txn: Option<TxnId>,
    /// One verdict a command, in the order of the request.
    pub results: Vec<RefResult>,
}

/// The verdict on one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefResult {
    /// The ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String)]
    pub name: RefName,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, when it is not simply committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Why a ref was refused or is in doubt: a stable code, a sentence for people, and what a caller may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// What the command expected the ref to be (`absent` or an object id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// Whether the local repository already shows `actual`: fetch, and try again.
    #[serde(default)]
    pub caught_up: bool,
    /// Whether the very same request may succeed later.
    #[serde(default)]
    pub retry: bool,
}

/// Why a ref was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The ref is not what the command expected.
    Stale,
    /// Not a fast-forward, and not forced.
    NonFastForward,
    /// The new object, or something that it needs, is not in the repository.
    MissingObject,
    /// The name excludes another one (`a` and `a/b`), or is reserved.
    NameConflict,
    /// The ref is locked by a long operation.
    Locked,
    /// An atomic batch had another bad command.
    Transaction,
    /// The project does not exist, or takes no commits.
    Project,
    /// This sidecar takes no commits: role, draining, starting.
    NotServing,
    /// The batch is too large or malformed.
    Invalid,
    /// The refdb cannot be reached, or does not take it now.
    Unavailable,
}

/// Creates a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProjectRequest {
    /// As in a ref transaction.
    pub request_id: String,
    /// What `HEAD` points to.
    #[schema(value_type = String, example = "refs/heads/main")]
    pub head: RefName,
}

/// Points `HEAD` elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetHeadRequest {
    /// As in a ref transaction.
    pub request_id: String,
    /// What `HEAD` shall point to; the branch need not exist.
    #[schema(value_type = String, example = "refs/heads/main")]
    pub head: RefName,
}

/// Deletes a project, or sets its phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteProjectRequest {
    /// As in a ref transaction.
    pub request_id: String,
}

/// The answer to an operation on a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectResponse {
    /// The outcome.
    pub outcome: Outcome,
    /// The transaction.
    #[schema(value_type = Option<String>)]
    pub txn: Option<TxnId>,
    /// Why not, when it is not committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// The body of every answer that is no verdict (HTTP 4xx and 5xx).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// For programs.
    pub code: RefusalCode,
    /// For people: the field, its value, what to do.
    pub message: String,
    /// Whether the very same request may succeed later.
    pub retry: bool,
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
