//! Debts: projects, or refs, that one node cannot bring up to date, in the form in which the status API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, ProjectName};
use crate::slot::TxnId;

/// The most entries of each list of debts in the status.
pub const MOST_SHOWN: usize = 200;

/// The kind of reason for which a project, or a ref, cannot be brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DebtKind {
    /// A committed transaction has bad content. It is in quarantine.
    BadContent,
    /// Objects are missing, and no transaction and no peer brings them.
    MissingObjects,
    /// A predecessor is missing, for example because it is in quarantine.
    MissingPredecessor,
    /// The journal, or an item of the refdb, contradicts itself or cannot be read.
    Journal,
    /// The repository or the disk failed.
    Disk,
    /// The blob store or the peers cannot be reached.
    Unreachable,
    /// Another reason, or one that a newer release has written.
    #[serde(other)]
    Other,
}

impl DebtKind {
    /// Whether a retry may succeed without a repair, a new release, or an operator's decision.
    #[must_use]
    pub fn retry_helps(self) -> bool {
        match self {
            Self::BadContent | Self::MissingPredecessor | Self::Journal => false,
            Self::MissingObjects | Self::Disk | Self::Unreachable | Self::Other => true,
        }
    }

    /// The kind as a word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadContent => "bad_content",
            Self::MissingObjects => "missing_objects",
            Self::MissingPredecessor => "missing_predecessor",
            Self::Journal => "journal",
            Self::Disk => "disk",
            Self::Unreachable => "unreachable",
            Self::Other => "other",
        }
    }
}

/// One debt of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DebtStatus {
    /// The project, with its incarnation if it is known.
    pub project: String,
    /// The refs that are behind. Empty if the whole project may be.
    pub refs: Vec<String>,
    /// The transaction at fault. Its text begins with its slot.
    #[schema(value_type = Option<String>)]
    pub txn: Option<TxnId>,
    /// The kind of the reason.
    pub kind: DebtKind,
    /// The reason in words.
    pub reason: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// The number of tries that failed.
    pub tries: u32,
    /// When the node tries next, in milliseconds since 1970. None if it tries only at its start, or when an operator
    /// asks (`lockstep quarantine retry`).
    pub next_try_ms: Option<u64>,
    /// Whether this node takes commits to the project meanwhile.
    pub takes_commits: bool,
}

/// A transaction that another node holds as bad, or a project that it cannot bring up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldElsewhere {
    /// The node that holds it.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The name of the project.
    pub project: String,
    /// The transaction with bad content. None if the whole project is behind there.
    #[schema(value_type = Option<String>)]
    pub txn: Option<TxnId>,
}

/// The state of a project at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProjectHealth {
    /// The project has no debt at this node.
    Ok,
    /// The project, or some of its refs, cannot be brought up to date.
    Degraded,
    /// The project is being seeded, and takes no commits until it is opened.
    Seeding,
    /// The project takes no commits.
    ReadOnly,
}

impl ProjectHealth {
    /// The state as a word, as in JSON, with a hyphen.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Seeding => "seeding",
            Self::ReadOnly => "read-only",
        }
    }
}

/// A project and its state at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectStatus {
    /// The name of the project.
    pub project: String,
    /// The state of the project at this node.
    pub state: ProjectHealth,
    /// The reason, if it is degraded.
    pub reason: Option<String>,
}

/// An operator's way out of a debt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Try a quarantined transaction again now, for example after a new release or a repair.
    Retry {
        /// The entry, as the quarantine lists it.
        entry: String,
    },
    /// Take the refdb's values of the transaction's project, with objects from peers, in place of the quarantined
    /// content.
    Accept {
        /// The entry, as the quarantine lists it.
        entry: String,
    },
    /// Drop a quarantined record that was never committed. Nothing waits for it.
    Drop {
        /// The entry, as the quarantine lists it.
        entry: String,
    },
    /// Bring a degraded project up to date now.
    RetryProject {
        /// The name of the project.
        #[schema(value_type = String)]
        project: ProjectName,
    },
}

/// The answer to a [`Repair`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepairAnswer {
    /// Whether the debt has ended.
    pub done: bool,
    /// The deed, or the reason why the debt stays, in words.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_a_newer_release_is_another_one_and_every_kind_is_its_word() {
        assert_eq!(serde_json::from_str::<DebtKind>("\"of_the_future\"").unwrap(), DebtKind::Other);
        let kinds = [
            DebtKind::BadContent,
            DebtKind::MissingObjects,
            DebtKind::MissingPredecessor,
            DebtKind::Journal,
            DebtKind::Disk,
            DebtKind::Unreachable,
            DebtKind::Other,
        ];
        for kind in kinds {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
        }
    }
}
