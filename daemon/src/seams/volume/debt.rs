//! A debt: a project that this node cannot bring up to date. Only that project is degraded; the node goes on.

use lockstep_proto::debt::DebtKind;
use lockstep_proto::{RefKey, TxnId};
use serde::{Deserialize, Serialize};

/// The most refs that one debt names.
pub const MOST_REFS: usize = 20;

/// The durable record of a debt, per project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// The kind of the reason.
    pub kind: DebtKind,
    /// The reason in words.
    pub why: String,
    /// The transaction at fault.
    #[serde(default)]
    pub txn: Option<TxnId>,
    /// The refs that are behind, at most [`MOST_REFS`]. Empty if the whole project may be.
    #[serde(default)]
    pub refs: Vec<RefKey>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// The number of tries that failed.
    pub tries: u32,
    /// Whether the project's state could not be learned, so that this node must take no commits to it: a barrier may
    /// have passed this node.
    #[serde(default)]
    pub closed: bool,
    /// Whether the node's record in the refdb names the project, so that its journal is not collected.
    #[serde(default)]
    pub named: bool,
}
