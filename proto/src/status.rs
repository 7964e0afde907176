//! Bodies of the status API (JSON), as `lockstep status --json` prints them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::aws::AwsStatus;
use crate::capacity::StreamCapacity;
use crate::debt::{DebtStatus, HeldElsewhere, ProjectStatus};
use crate::failover::HandoverStatus;
use crate::gerrit::BasePath;
use crate::keys::NodeSigning;
use crate::locks::LockStatus;
use crate::name::{NodeId, ProjectName, RefName, SiteId};
use crate::oid::Oid;
use crate::peer::TlsStatus;
use crate::sharing::SharingStatus;
use crate::site_list::{Bootstrap, ComingBack};
use crate::slot::{Incarnation, LaneId, TxnId};
use crate::verify::{BackgroundVerification, LastVerified};

/// The status of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// The site that the node belongs to.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The root of the git volume: the repository of project `p` is `<root>/p.git`.
    #[serde(default)]
    pub root: Option<String>,
    /// Projects whose repositories lie below another folder. If several entries match a project, the longest one
    /// counts.
    #[serde(default)]
    pub base_paths: Vec<BasePath>,
    /// The current incarnation of the node. None before it is opened.
    #[schema(value_type = Option<u64>)]
    pub incarnation: Option<Incarnation>,
    /// The site's role: active, standby, draining or fenced.
    pub role: String,
    /// The epoch of the site's role: each change of the role raises it by one.
    pub epoch: u64,
    /// Whether every latch of `/readyz` is open.
    pub ready: bool,
    /// The latches of `/readyz`: the preconditions of readiness.
    pub latches: Vec<Latch>,
    /// Replication from each origin site, the node's own site included.
    pub origins: Vec<OriginStatus>,
    /// The lanes of the current incarnation.
    pub lanes: Vec<LaneStatus>,
    /// How far each shard of each stream is durably applied.
    pub checkpoints: Vec<CheckpointStatus>,
    /// How the node reads each stream. Empty if every stream is polled by configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamStatus>,
    /// The sharing of its reads with the other nodes of its site. None of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingStatus>,
    /// The capacity of the stream of this site. None if no autoscaler looks at it (`[eventlog.autoscale]`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<StreamCapacity>,
    /// The number of parked transactions.
    pub parked: u64,
    /// The number of quarantined records.
    pub quarantined: u64,
    /// The debts of this node, oldest first, at most [`crate::debt::MOST_SHOWN`]. Only their projects or refs are
    /// behind.
    #[serde(default)]
    pub degraded: Vec<DebtStatus>,
    /// The number of degraded projects.
    #[serde(default)]
    pub degraded_projects: u64,
    /// Transactions of which other nodes say that their content is bad, and projects that other nodes cannot bring up
    /// to date, at most [`crate::debt::MOST_SHOWN`].
    #[serde(default)]
    pub held_elsewhere: Vec<HeldElsewhere>,
    /// The projects that are not `ok`, at most [`crate::debt::MOST_SHOWN`].
    #[serde(default)]
    pub projects: Vec<ProjectStatus>,
    /// Stream events of Gerrit that are in transit.
    #[serde(default)]
    pub events: EventsStatus,
    /// Counters of transactions and refusals since the start.
    pub counters: Counters,
    /// The subjects that the node's Gerrit must look at. None if no Gerrit is refreshed (`gerrit.refresh`).
    #[serde(default)]
    pub refresh: Option<RefreshStatus>,
    /// Repositories whose git hooks are not in force: the first hundred. Nodes of earlier releases do not look.
    #[serde(default)]
    pub guards_off: Vec<GuardStatus>,
    /// Locks that programs left behind in repositories: the first hundred. Nodes of earlier releases do not look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_locks: Vec<LeftLockStatus>,
    /// Why the refdb is known to be older than this node: it was restored from a backup. Then no node commits. None
    /// while it is not known to be older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refdb_went_back: Option<String>,
    /// Why the refdb is not the one of this node: its tables hold another one, or it is still being rebuilt. Then this
    /// node commits nothing. None while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refdb_not_own: Option<String>,
    /// The receivers that are told when the role of the site changes (`[handover]`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handover: Vec<HandoverStatus>,
    /// Mutual TLS with other sites. None if it is not configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
    /// The signing of records. None if this node does not sign, and records need not be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<NodeSigning>,
    /// How far the node is with taking everything from the refdb and from peers. None if it has that behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// Set while the node comes back from a time in which its site was off: it takes no commits until its disk equals
    /// the committed state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming_back: Option<ComingBack>,
    /// When this node was last ready and reached the refdb, in milliseconds since 1970: reads show the state of that
    /// time, or a newer one. It is noted every ten seconds, and kept over restarts. None if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_ms: Option<u64>,
    /// The batches that commit, wait for their turn, or were told to come again. None from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<TurnsStatus>,
    /// The last verification of the refs of this node against each side: the refdb, and peers. Empty if there was none
    /// since the volume was new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verified: Vec<LastVerified>,
    /// The verification that goes on in the background (`[verify]`). None from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundVerification>,
    /// The way of the node to AWS: its endpoints with their circuits, and its credentials. None from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsStatus>,
    /// The locks of operators and bridges, maintenance included, as this node obeys them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<LockStatus>,
    /// Updates of refs that this node had begun to commit when its site was fenced, and that nobody committed: the
    /// newest [`MOST_UNCOMMITTED`]. One leaves the list when its stray was adopted or discarded, or when its ref has
    /// the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncommitted: Vec<UncommittedUpdate>,
    /// The last errors, newest first.
    pub last_errors: Vec<ErrorStatus>,
}

/// The most updates in [`NodeStatus::uncommitted`].
pub const MOST_UNCOMMITTED: usize = 100;

/// An update of a ref that a node had begun to commit when its site was fenced, and that nobody committed. Its new
/// value is kept as a stray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UncommittedUpdate {
    /// The project of the ref.
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// The full name of the ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/heads/main")]
    pub name: RefName,
    /// The value that the ref had to have. None if it had to be absent, or if any value was accepted.
    #[schema(value_type = Option<String>)]
    pub old: Option<Oid>,
    /// The value that the ref should get. None if it should be deleted.
    #[schema(value_type = Option<String>)]
    pub new: Option<Oid>,
    /// The user who asked for it. Empty if unknown.
    pub actor: String,
    /// When it was sent to the refdb or given up, by the clock of the node, in milliseconds since 1970.
    pub at_ms: u64,
}

/// The most callers in [`TurnsStatus::shed`].
pub const MOST_SHED: usize = 10;

/// A class of callers. Classes take turns by their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallerClass {
    /// Everybody whom the configuration does not name as an agent.
    People,
    /// The users of `turns.agents`: programs.
    Agents,
}

impl CallerClass {
    /// All classes, as lists and metrics show them.
    pub const ALL: [Self; 2] = [Self::People, Self::Agents];

    /// The name of the class, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Agents => "agents",
        }
    }
}

/// Why a batch was told to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShedReason {
    /// Its user had enough batches that waited (`turns.waiting_per_user`).
    User,
    /// The line of its class was full.
    Class,
    /// Its turn did not come in time (`turns.patience`).
    Late,
}

impl ShedReason {
    /// The name of the reason, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Class => "class",
            Self::Late => "late",
        }
    }
}

/// The turns of a node: the order of batches when more of them come than it works on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnsStatus {
    /// The batches that commit now.
    pub running: u64,
    /// The most batches that commit at the same time (`turns.running`).
    pub most_running: u64,
    /// The turns of each class.
    pub classes: Vec<ClassTurns>,
    /// The callers that were told to come again, the latest one first, at most [`MOST_SHED`].
    pub shed: Vec<ShedCaller>,
}

/// The turns of a class of callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassTurns {
    /// The class of the callers.
    pub class: CallerClass,
    /// The batches that wait now.
    pub waiting: u64,
    /// The batches that were told to come again, since the start.
    pub refused: u64,
}

/// A caller that was told to come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShedCaller {
    /// The user, as the caller named it.
    pub user: String,
    /// The class of the caller.
    pub class: CallerClass,
    /// The project of its last refused batch.
    pub project: String,
    /// Why that was refused.
    pub why: ShedReason,
    /// How many of its batches were refused since it entered this list.
    pub count: u64,
    /// When the last one was, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A repository whose git hooks are not in force, so that refs can move without Lockstep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuardStatus {
    /// The name of the project.
    pub project: String,
    /// The path of its repository.
    pub repository: String,
    /// The reason and the remedy, for people to read.
    pub reason: String,
}

/// A lock that a program left behind in a repository. While it is there, commits on the locked refs are true everywhere
/// and may not be visible at this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftLockStatus {
    /// The name of the project.
    pub project: String,
    /// The path of the lock file.
    pub path: String,
    /// When it was made, in milliseconds since 1970.
    pub since_ms: u64,
}

/// Counts of the subjects that the node's Gerrit must look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshStatus {
    /// The number of subjects (changes, accounts, ...) whose refs moved and that Gerrit has not acknowledged.
    pub due: u64,
    /// The number of these subjects that Gerrit is looking at now.
    pub out: u64,
    /// How long ago the refs of the oldest of these subjects moved, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// The number of tasks that were acknowledged since the start.
    pub done: u64,
    /// The number of tasks that failed since the start. They are handed out again.
    pub failed: u64,
    /// The last failure: the subject and the reason.
    pub last_error: Option<String>,
    /// The time of the last failure, in milliseconds since 1970.
    pub last_error_at_ms: Option<u64>,
}

/// A subject that Gerrit must look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DueStatus {
    /// The subject as text, such as `change tools/build~12`.
    pub subject: String,
    /// The time when its refs moved, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether Gerrit is looking at it now.
    pub out: bool,
    /// The number of tries that failed.
    pub failures: u32,
}

/// One precondition of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latch {
    /// The name of the precondition.
    pub name: String,
    /// Whether the precondition holds.
    pub open: bool,
}

/// The lag of this node behind one origin site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OriginStatus {
    /// The site at which the transactions were committed.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The number of transactions that were seen and are not applied.
    pub lag_transactions: u64,
    /// Now minus the commit time of the oldest of them, in seconds.
    pub lag_seconds: f64,
    /// The transactions that were applied last, newest first.
    pub recent: Vec<AppliedStatus>,
}

/// A transaction that this node has applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppliedStatus {
    /// The id of the transaction.
    #[schema(value_type = String)]
    pub txn: TxnId,
    /// The project, with its incarnation.
    pub project: String,
    /// The number of refs that it moved.
    pub refs: u32,
    /// The first of its refs.
    pub first_ref: String,
    /// The origin's clock at the commit, in milliseconds since 1970.
    pub committed_at_ms: u64,
    /// This node's clock when the refs became readable, in milliseconds since 1970.
    pub visible_at_ms: u64,
}

/// One lane of the current incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneStatus {
    /// The id of the lane.
    #[schema(value_type = String)]
    pub lane: LaneId,
    /// The settled mark: every slot below it is committed or poisoned.
    pub settled: u64,
    /// The published mark: every slot below it is in the event log.
    pub published: u64,
    /// The number of slots in use above the settled mark.
    pub in_flight: u64,
}

/// How a node reads one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamStatus {
    /// The site of the stream.
    #[schema(value_type = String)]
    pub stream: SiteId,
    /// The way in which it is read now.
    pub way: StreamWay,
    /// Whether the other way was chosen, and was refused.
    pub is_fallback: bool,
    /// Why it is read in this way.
    pub reason: String,
}

/// The ways to read a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamWay {
    /// The node asks again and again. All readers of a shard share five reads per second.
    Polling,
    /// The stream sends each record to the node: enhanced fan-out.
    FanOut,
}

impl StreamWay {
    /// The word for the way in texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::FanOut => "fan-out",
        }
    }
}

/// The checkpoint of one shard: how far it is durably applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointStatus {
    /// The site of the stream.
    #[schema(value_type = String)]
    pub stream: SiteId,
    /// The id of the shard.
    pub shard: String,
    /// The position in the shard: a sequence number, `start` or `end`.
    pub position: String,
}

/// Stream events of Gerrit that are in transit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventsStatus {
    /// The number of events of this node's Gerrit that are not in the event log yet.
    pub unsent: u64,
    /// The number of events of other nodes that this node's Gerrit has not confirmed.
    pub waiting: u64,
    /// How long the oldest of the waiting events has waited, in milliseconds.
    pub oldest_ms: u64,
    /// The number of events of other nodes that were dropped since the start. This node's Gerrit does not receive them.
    pub dropped: u64,
}

/// Counters since the start of the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Transactions that were committed here.
    pub committed: u64,
    /// Commands that were refused here.
    pub refused: u64,
    /// Transactions whose outcome was unknown when the caller was answered.
    pub unknown: u64,
    /// Transactions that were applied from the event log.
    pub applied: u64,
    /// Transactions that were skipped because they were not newer.
    pub skipped: u64,
    /// Transactions that were applied from the journal or the refdb, out of order, because something was missing.
    pub caught_up: u64,
    /// Slots that were published to the event log.
    pub published: u64,
}

/// An error in a stage of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorStatus {
    /// The stage that reported the error.
    pub stage: String,
    /// The error with its whole chain of causes.
    pub message: String,
    /// The time of the error, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A transaction that is parked, or a record that is quarantined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldStatus {
    /// The id of the transaction, if it could be read.
    pub txn: String,
    /// The project of the transaction.
    pub project: String,
    /// Why it is parked, or what is wrong with it.
    pub reason: String,
    /// The transactions, objects or project that it waits for. Empty in quarantine, and while only a retry is due.
    pub waits_for: Vec<String>,
    /// The time when it was set aside, in milliseconds since 1970.
    pub since_ms: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The name of the entry, by which it is retried, accepted or dropped. Empty in the answer of an earlier release.
    #[serde(default)]
    pub entry: String,
}
