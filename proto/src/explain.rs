//! Bodies of the calls that explain one ref (JSON): how far its last transaction has come, from the commit to the users
//! of every site. The node that is asked reads the refdb, and each other node tells its own part.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::debt::DebtStatus;
use crate::name::{NodeId, ProjectKey, ProjectName, SiteId};
use crate::slot::TxnId;
use crate::status::{AppliedStatus, CheckpointStatus};
use crate::value::RefKey;
use crate::verify::Side;

/// The most entries of [`RefAtNode::set_aside`].
pub const MOST_SET_ASIDE: usize = 20;
/// The most entries of [`RefAtNode::read`].
pub const MOST_SHARDS: usize = 16;

/// Asks a node to explain a ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The project of the ref.
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// The full name of the ref, `@HEAD` or `@state`.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/heads/main")]
    pub key: RefKey,
}

/// Asks a node for its own part of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefAtNodeRequest {
    /// The project with its incarnation.
    #[schema(value_type = String)]
    pub project: ProjectKey,
    /// The ref or pseudo-ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/heads/main")]
    pub key: RefKey,
    /// The transaction that gave the ref its committed version.
    #[schema(value_type = String)]
    pub txn: TxnId,
    /// The site that committed it. None if that is not known any more.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub origin: Option<SiteId>,
}

/// Why a transaction does not go on at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetAsideKind {
    /// Something that it needs has not arrived.
    Parked,
    /// Its content is bad.
    Quarantined,
}

/// A committed transaction of the ref that a node has set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetAsideRef {
    /// Whether it is parked or quarantined.
    pub kind: SetAsideKind,
    /// The name of the entry: the id of the transaction, which begins with its slot.
    pub entry: String,
    /// The version that it gives to the ref. None if its long form would have to be read for that.
    #[serde(default)]
    pub version: Option<u64>,
    /// Why it is set aside.
    pub reason: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The subject that a node's Gerrit keeps of the ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshOfRef {
    /// The subject as text, such as `change tools/build~12`.
    pub subject: String,
    /// Whether Gerrit may still show it as it was before the last move.
    pub due: bool,
}

/// A ref at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefAtNode {
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The closed latches of its `/readyz`. Empty if it is ready.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// The state of the project as the node has applied it. None if it does not know the project.
    #[serde(default)]
    pub project: Option<String>,
    /// The record of its version map. None if it has applied no version of the ref.
    #[serde(default)]
    pub record: Option<Side>,
    /// The value on its disk. None if the ref is not there.
    #[serde(default)]
    pub disk: Option<String>,
    /// Why its disk could not be read, if it could not.
    #[serde(default)]
    pub problem: Option<String>,
    /// The number of slots of the transaction's lane, up to its own, that the node has not durably applied. None if
    /// there are none, or the lane is not known here.
    #[serde(default)]
    pub slots_behind: Option<u64>,
    /// The transactions of the ref that it has set aside, at most [`MOST_SET_ASIDE`].
    #[serde(default)]
    pub set_aside: Vec<SetAsideRef>,
    /// Its debts of the ref, or of the whole project.
    #[serde(default)]
    pub debts: Vec<DebtStatus>,
    /// The subject that its Gerrit keeps of the ref. None if it has no Gerrit, or if Gerrit reads the ref each time.
    #[serde(default)]
    pub refresh: Option<RefreshOfRef>,
    /// The number of stream events of other nodes that name the ref, and that its Gerrit has not confirmed.
    #[serde(default)]
    pub events_waiting: u64,
    /// The number of stream events of its Gerrit, about any ref, that are not in the event log yet.
    #[serde(default)]
    pub events_unsent: u64,
    /// When the transaction became visible here, if it is one of the last that the node has applied.
    #[serde(default)]
    pub applied: Option<AppliedStatus>,
    /// How far the node has durably applied the stream of the transaction's site, at most [`MOST_SHARDS`] shards.
    #[serde(default)]
    pub read: Vec<CheckpointStatus>,
}

/// A ref as the refdb has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefCommitted {
    /// The version of the ref, from 1.
    pub version: u64,
    /// The value as text; empty if the ref is deleted.
    pub value: String,
    /// The transaction that gave it.
    #[schema(value_type = String)]
    pub txn: TxnId,
    /// The transaction that has locked the ref: a large one on its way. None if the ref is not locked.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub locked_by: Option<TxnId>,
}

/// The content of the slot of a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotContent {
    /// A transaction that was committed.
    Transaction,
    /// Nothing any more: every node has applied the slot, and it was collected.
    Collected,
    /// Another transaction, poison, or nothing although no node can have collected it. The refdb contradicts itself.
    SomethingElse,
}

/// The slot of the transaction in the journal of its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotOfRef {
    /// The slot: node, incarnation, lane, position.
    pub slot: String,
    /// The site that committed the transaction. Its stream carries it. None if that is not known any more.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub site: Option<SiteId>,
    /// The node that committed it.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The incarnation of that node's journal.
    pub incarnation: u64,
    /// The content of the slot.
    pub content: SlotContent,
    /// The origin's clock at the commit, in milliseconds since 1970. None once the slot is collected.
    #[serde(default)]
    pub committed_at_ms: Option<u64>,
    /// The user who asked for it. Empty if unknown. None once the slot is collected.
    #[serde(default)]
    pub actor: Option<String>,
    /// The transaction that gave the version before. None for the first version, and if it is not known any more.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub predecessor: Option<TxnId>,
    /// Whether the published mark of its lane has passed it: it is in the event log.
    pub published: bool,
}

/// One node in an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeExplained {
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its own part. None if it was not reached.
    #[serde(default)]
    pub here: Option<RefAtNode>,
    /// Why it was not reached.
    #[serde(default)]
    pub not_reached: Option<String>,
    /// Whether its record in the refdb says that it has applied the slot. A held transaction counts as not applied.
    pub marked: bool,
    /// Why it does not show the committed version. None if it does, or was not reached.
    #[serde(default)]
    pub lacks: Option<String>,
    /// The remedy, as a command or a sentence.
    #[serde(default)]
    pub next: Option<String>,
}

/// One site in an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteExplained {
    /// The name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Whether Lockstep is switched off there. Then nobody expects the ref there.
    pub off: bool,
    /// Its nodes, without those that were expelled.
    pub nodes: Vec<NodeExplained>,
}

/// The end of an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefVerdictKind {
    /// Every node of every site that is not off shows the committed version.
    Everywhere,
    /// A node does not show it.
    Lacking,
    /// Every node that was reached shows it. Not all were, or a site has no node.
    NotReached,
}

/// The end of an explanation, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefVerdict {
    /// The kind of the end.
    pub kind: RefVerdictKind,
    /// The verdict in one sentence.
    pub sentence: String,
    /// The next command, and the node that runs it. None if nothing is to be done.
    #[serde(default)]
    pub next: Option<String>,
}

/// One ref through every stage at every site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The project with its incarnation.
    #[schema(value_type = String)]
    pub project: ProjectKey,
    /// The ref or pseudo-ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/heads/main")]
    pub key: RefKey,
    /// The node that was asked.
    #[schema(value_type = String)]
    pub by: NodeId,
    /// Its clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The ref as the refdb has it.
    pub refdb: RefCommitted,
    /// The slot of its transaction.
    pub slot: SlotOfRef,
    /// The sites of the list.
    pub sites: Vec<SiteExplained>,
    /// The verdict over all sites.
    pub verdict: RefVerdict,
}
