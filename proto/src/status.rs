//! Bodies of the status API (JSON): what `lockstep status --json` prints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gerrit::BasePath;
use crate::name::{NodeId, SiteId};
use crate::slot::{Incarnation, LaneId, TxnId};

/// Everything about one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// The site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The git volume's folder: the repository of project `p` is `<root>/p.git`.
    #[serde(default)]
    pub root: Option<String>,
    /// Projects whose repositories lie below another folder: of the entries that fit a project, the longest counts.
    #[serde(default)]
    pub base_paths: Vec<BasePath>,
    /// Its current incarnation; none before it is born.
    #[schema(value_type = Option<u64>)]
    pub incarnation: Option<Incarnation>,
    /// The site's role: active, standby, draining or fenced.
    pub role: String,
    /// The site's epoch.
    pub epoch: u64,
    /// Whether every latch of `/readyz` is open.
    pub ready: bool,
    /// The latches of `/readyz`: name and whether it is open.
    pub latches: Vec<Latch>,
    /// Replication from each origin site, the own one included.
    pub origins: Vec<OriginStatus>,
    /// The journal's lanes.
    pub lanes: Vec<LaneStatus>,
    /// How far each shard of each stream is durably applied.
    pub checkpoints: Vec<CheckpointStatus>,
    /// How many transactions are parked.
    pub parked: u64,
    /// How many records are quarantined.
    pub quarantined: u64,
    /// Stream events of Gerrit on their way.
    #[serde(default)]
    pub events: EventsStatus,
    /// Counters since the start: commits, refusals, unknowns, applied.
    pub counters: Counters,
    /// What the node's Gerrit has to look at; none when none is refreshed (`gerrit.refresh`).
    #[serde(default)]
    pub refresh: Option<RefreshStatus>,
    /// The last errors, the newest first.
    pub last_errors: Vec<ErrorStatus>,
}

/// What the node's Gerrit has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshStatus {
    /// Subjects (changes, accounts, ...) whose refs moved and that Gerrit has not acknowledged.
    pub due: u64,
    /// Of them, those that Gerrit is looking at.
    pub out: u64,
    /// How long ago the oldest of them moved, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Tasks that were acknowledged since the start.
    pub done: u64,
    /// Tasks that failed since the start; they come again.
    pub failed: u64,
    /// The last failure: which subject, and why.
    pub last_error: Option<String>,
    /// When it was, in milliseconds since 1970.
    pub last_error_at_ms: Option<u64>,
}

/// A subject that Gerrit has to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DueStatus {
    /// What it is.
    pub subject: String,
    /// When its refs moved, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether Gerrit is looking at it.
    pub out: bool,
    /// How often it failed.
    pub failures: u32,
}

/// A precondition of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latch {
    /// What must have happened.
    pub name: String,
    /// Whether it has.
    pub open: bool,
}

/// How far behind an origin site this node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OriginStatus {
    /// The origin.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Transactions that were seen and are not applied.
    pub lag_transactions: u64,
    /// Now minus the commit time of the oldest of them, in seconds.
    pub lag_seconds: f64,
    /// The last transactions that were applied, the newest first.
    pub recent: Vec<AppliedStatus>,
}

/// One applied transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppliedStatus {
    /// The transaction.
    #[schema(value_type = String)]
    pub txn: TxnId,
    /// Its project, with its incarnation.
    pub project: String,
    /// How many refs it moved, and the first of them.
    pub refs: u32,
    /// The first of its refs.
    pub first_ref: String,
    /// The origin's clock at the commit, in milliseconds since 1970.
    pub committed_at_ms: u64,
    /// This node's clock when the refs could be read.
    pub visible_at_ms: u64,
}

/// One lane of the current incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneStatus {
    /// The lane.
    #[schema(value_type = String)]
    pub lane: LaneId,
    /// Every slot below it is committed or poisoned.
    pub settled: u64,
    /// Every slot below it is in the event log.
    pub published: u64,
    /// Slots in use above the settled mark.
    pub in_flight: u64,
}

/// How far a shard is durably applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointStatus {
    /// The stream's site.
    #[schema(value_type = String)]
    pub stream: SiteId,
    /// The shard.
    pub shard: String,
    /// The position: a sequence number, `end`, or `start`.
    pub position: String,
}

/// Stream events of Gerrit on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventsStatus {
    /// Of this node's Gerrit, and not in the event log yet.
    pub unsent: u64,
    /// Of other nodes, and not confirmed by this node's Gerrit.
    pub waiting: u64,
    /// How long the oldest of these waits, in milliseconds.
    pub oldest_ms: u64,
    /// Of other nodes, and dropped since the start: this node's Gerrit does not hear them.
    pub dropped: u64,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Committed here.
    pub committed: u64,
    /// Refused here.
    pub refused: u64,
    /// Unknown when the caller was answered.
    pub unknown: u64,
    /// Applied from the event log.
    pub applied: u64,
    /// Skipped because they were not newer.
    pub skipped: u64,
    /// Applied out of band, from journal or refdb, because something was missing.
    pub caught_up: u64,
    /// Published to the event log.
    pub published: u64,
}

/// An error that a task met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorStatus {
    /// The stage.
    pub stage: String,
    /// The whole chain of causes.
    pub message: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Something that waits (parked) or was set aside (quarantined).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldStatus {
    /// The transaction, where it could be read.
    pub txn: String,
    /// The project.
    pub project: String,
    /// Why it waits, or what is wrong with it.
    pub reason: String,
    /// What it waits for.
    pub waits_for: Vec<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Its size in bytes.
    pub bytes: u64,
}
