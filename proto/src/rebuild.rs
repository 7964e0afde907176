//! The identity of a refdb, and the bodies of the calls that rebuild a lost one, or move a running one (JSON).
//!
//! A rebuild reads the version maps of all nodes that answer, page by page, and writes the highest version of each ref
//! into a new table with a new identity. A move copies the refs of the running refdb instead.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failover::Role;
use crate::name::{NodeId, ProjectKey, ProjectName, SiteId};
use crate::refdb_move::{MoveRequest, MoveStep, RefdbPlace};
use crate::site_list::StreamPlace;
use crate::slot::{TxnId, Version};
use crate::value::{RefKey, RefValue};

/// By how much a rebuild raises each version, and the grain of the floor of incarnation numbers. For a ref that the
/// rebuild knew, each version since then is above every version of the time before, unless the ref had this many
/// commits that no node knows. A ref that the rebuild did not know begins with version 1. So versions of two refdbs of
/// one line are never compared.
pub const LEAP: u64 = 1_000_000_000;

/// By how much a rebuild raises the epoch of each site.
pub const EPOCHS: u64 = 1_000;

/// The most entries of each list in a report. The counts beside the lists are complete.
pub const MOST_LISTED: usize = 200;

/// Whether a refdb may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefdbState {
    /// A rebuild is still writing into it. No node commits there, or joins.
    Building,
    /// The refdb is complete, and every node may use it.
    Ready,
    /// It moves to other tables: no incarnation is opened in it, and those that are open end. An operator may still
    /// abort the move. A release that does not know this state uses no such refdb.
    Moving,
    /// It has moved to other tables, for good. Nothing is committed in it any more, and its nodes follow.
    Moved,
}

/// The move of a refdb that runs to other tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefdbMove {
    /// The place of the refdb that succeeds it.
    pub to: RefdbPlace,
    /// The run that moves it.
    pub by: Builder,
}

/// The rebuild that writes into a refdb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// The node that writes.
    pub node: NodeId,
    /// A random number of this run of the rebuild.
    pub run: u64,
}

/// A node whose version map a rebuild has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVolume {
    /// The name of the node.
    pub node: NodeId,
    /// The id of its volume. A new volume knows nothing of the reports of the one before.
    pub volume: String,
}

/// The identity of a refdb: which refdb the tables hold, whatever their name. It is one document in the refdb, and each
/// node keeps the one that its volume belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefdbIdentity {
    /// The id: 32 hexadecimal digits, chosen at random.
    pub id: String,
    /// Whether it may be used.
    pub state: RefdbState,
    /// The prefix of its tables when it was made. Empty if it was not made by a rebuild.
    #[serde(default)]
    pub table: String,
    /// The ids of the refdbs that it succeeds, oldest first. Their nodes may move to it.
    #[serde(default)]
    pub succeeds: Vec<String>,
    /// The prefixes of the tables of those refdbs, as far as they are known.
    #[serde(default)]
    pub tables_before: Vec<String>,
    /// Every incarnation of this refdb has a higher number, and every incarnation of those before has a lower one. Zero
    /// if it was not made by a rebuild.
    #[serde(default)]
    pub floor: u64,
    /// The nodes whose version maps were read for it. A rebuild that goes on reads all of them again, because what it
    /// finds in the tables may be half of a transaction that only one of them has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceVolume>,
    /// The rebuild in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<Builder>,
    /// The move to other tables, in progress or complete. The state tells which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves: Option<RefdbMove>,
}

impl RefdbIdentity {
    /// The identity of a refdb that was not made by a rebuild.
    #[must_use]
    pub fn first(id: String) -> Self {
        Self {
            id,
            state: RefdbState::Ready,
            table: String::new(),
            succeeds: Vec::new(),
            tables_before: Vec::new(),
            floor: 0,
            sources: Vec::new(),
            builder: None,
            moves: None,
        }
    }

    /// Whether no incarnation may be opened in it, because it moves to other tables, or has moved.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, RefdbState::Moving | RefdbState::Moved)
    }

    /// Whether a rebuild has made it.
    #[must_use]
    pub fn is_rebuilt(&self) -> bool {
        self.floor > 0
    }

    /// Whether the rebuild has read this volume, at whatever node.
    #[must_use]
    pub fn has_read(&self, volume: &str) -> bool {
        !volume.is_empty() && self.sources.iter().any(|source| source.volume == volume)
    }

    /// Whether it is this refdb, or succeeds it.
    #[must_use]
    pub fn covers(&self, id: &str) -> bool {
        self.id == id || self.succeeds.iter().any(|before| before == id)
    }
}

/// A site, as a node knew it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownSite {
    /// The name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The role of the site, as that node knew it.
    pub role: Role,
    /// The epoch of the site, as that node knew it.
    pub epoch: u64,
    /// Whether it was removed from the list of sites.
    #[serde(default)]
    pub removed: bool,
    /// Whether Lockstep is switched off at the site.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
    /// The epoch at which it was switched off last. Zero if it never was.
    #[serde(default)]
    pub left: u64,
    /// The place of its stream.
    #[serde(default)]
    pub stream: StreamPlace,
    /// Whether its records must be signed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed: bool,
}

/// Asks a node for a page of its version map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionsRequest {
    /// The last entry of the page before. None for the first page.
    #[serde(default)]
    pub after: Option<VersionsCursor>,
    /// The only project to tell about. None: all projects. A node of an earlier release does not know this field, and
    /// tells about all of them.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<ProjectName>,
}

/// A position in a version map. The order is by the name of the project; within it `@state` is first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct VersionsCursor {
    /// The name of the project.
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// The ref or pseudo-ref.
    #[schema(value_type = String)]
    pub key: RefKey,
}

/// The facts about a node beside its version map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionsHead {
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The refdb that its volume belongs to. None if it never met one with an identity.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    pub refdb: Option<RefdbIdentity>,
    /// The id of its volume.
    #[serde(default)]
    pub volume: String,
    /// The start of the node. With `moves` it tells whether the version map has changed between two pages.
    pub start: u64,
    /// The number of changes of the version map since that start.
    pub moves: u64,
    /// Whether the node takes commits now.
    pub commits: bool,
    /// Whether the node was reconciling, or has not taken anything from a refdb yet, so that its version map may lack
    /// refs.
    pub reconciles: bool,
    /// The highest number of an incarnation that it knows.
    pub highest_incarnation: u64,
    /// The sites, as it knew them last. Empty if it never read them.
    pub sites: Vec<KnownSite>,
    /// The number of transactions that it has, and has not applied, because something is missing.
    pub parked: u64,
    /// The number of transactions that it has, and has not applied, because their content is bad.
    pub quarantined: u64,
    /// The number of projects that it could not bring up to date.
    pub debts: u64,
}

/// One ref as a node has applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionsEntry {
    /// The project with its incarnation.
    #[schema(value_type = String)]
    pub project: ProjectKey,
    /// The ref or pseudo-ref.
    #[schema(value_type = String)]
    pub key: RefKey,
    /// The version of the ref.
    #[schema(value_type = u64)]
    pub version: Version,
    /// The value: an object id, a branch, a state, or `absent`.
    #[schema(value_type = String)]
    pub value: RefValue,
    /// The transaction that gave it.
    #[schema(value_type = String)]
    pub txn: TxnId,
}

/// A page of a node's version map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionsPage {
    /// The node, at the moment of this page.
    pub head: VersionsHead,
    /// The entries, in their order. They are far fewer bytes than one answer may have.
    pub entries: Vec<VersionsEntry>,
    /// Where the next page begins. None if this is the last one.
    #[serde(default)]
    pub next: Option<VersionsCursor>,
}

/// Asks a node to rebuild the refdb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildRequest {
    /// The prefix of the new tables: the `refdb.prefix` of the time after.
    pub into: String,
    /// The sites whose nodes are read. Empty for all that answer.
    #[schema(value_type = Vec<String>)]
    #[serde(default)]
    pub from_sites: Vec<SiteId>,
    /// Whether to read and compare only.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether to go on with the rebuild of another node, which then writes nothing any more.
    #[serde(default)]
    pub take_over: bool,
    /// Whether the operator knows that the refdb is lost, although it only does not answer.
    #[serde(default)]
    pub lost: bool,
    /// Moves the running refdb to the new tables. None: a lost refdb is rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves: Option<MoveRequest>,
}

impl RebuildRequest {
    /// The place of the new tables.
    #[must_use]
    pub fn place(&self) -> RefdbPlace {
        let MoveRequest { region, endpoint, .. } = self.moves.clone().unwrap_or_default();
        RefdbPlace { prefix: self.into.clone(), region, endpoint }
    }
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildPhase {
    /// It reads the version maps, and writes the new refdb.
    Running,
    /// The new refdb is complete, or the dry run has read everything.
    Done,
    /// It was refused. Nothing that a node would use was written.
    Refused,
    /// It failed half-way. The same command goes on; no node uses the tables before.
    Failed,
}

/// A node that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildSource {
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The number of refs that it has, deleted ones and pseudo-refs included.
    pub refs: u64,
    /// The number of refs of which another node has a higher version.
    pub behind: u64,
    /// The number of refs of which no other *site* has this version.
    pub alone: u64,
    /// The number of transactions and projects that it has and has not applied, so that they are not taken: parked,
    /// quarantined, and with debts.
    pub unapplied: u64,
    /// Whether its version map may lack refs.
    pub reconciles: bool,
}

/// A ref of which two nodes have different transactions with the highest version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Contradiction {
    /// The project with its incarnation.
    #[schema(value_type = String)]
    pub project: ProjectKey,
    /// The ref or pseudo-ref.
    #[schema(value_type = String)]
    pub key: RefKey,
    /// The version that both have.
    #[schema(value_type = u64)]
    pub version: Version,
    /// The value that was taken, with its nodes.
    pub taken: String,
    /// The other values, with their nodes. Each stays in the repositories of its nodes as a stray.
    pub others: Vec<String>,
}

/// A rebuild, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rebuild {
    /// How far it is.
    pub phase: RebuildPhase,
    /// The prefix of the new tables.
    pub into: String,
    /// Whether it reads only.
    pub dry_run: bool,
    /// The step of a move. None if it is no move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<MoveStep>,
    /// The incarnations and nodes that the step of a move waits for, at most [`MOST_LISTED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// Why it was refused or failed, with the next step.
    #[serde(default)]
    pub why: Option<String>,
    /// The id of the new refdb. None until it has one.
    #[serde(default)]
    pub identity: Option<String>,
    /// The nodes that were read.
    pub sources: Vec<RebuildSource>,
    /// The sites of which no node was read.
    #[schema(value_type = Vec<String>)]
    pub unread_sites: Vec<SiteId>,
    /// The peers that did not answer, with the reasons.
    pub silent: Vec<String>,
    /// The nodes that answered, and were not read, because their volumes belong to a refdb of an earlier rebuild.
    #[schema(value_type = Vec<String>)]
    #[serde(default)]
    pub earlier: Vec<NodeId>,
    /// The sites of the new refdb.
    pub sites: Vec<KnownSite>,
    /// The sites whose role no node knew. They are standby in the new refdb.
    #[schema(value_type = Vec<String>)]
    pub roles_unknown: Vec<SiteId>,
    /// The number of living projects.
    pub projects: u64,
    /// The number of refs with a value.
    pub refs: u64,
    /// The number of deleted refs and projects.
    pub tombstones: u64,
    /// The number of contradictions.
    pub contradicted: u64,
    /// The first contradictions, at most [`MOST_LISTED`].
    pub contradictions: Vec<Contradiction>,
}

impl Rebuild {
    /// A rebuild that has just begun.
    #[must_use]
    pub fn begun(request: &RebuildRequest) -> Self {
        Self {
            phase: RebuildPhase::Running,
            into: request.into.clone(),
            dry_run: request.dry_run,
            step: request.moves.is_some().then_some(MoveStep::Look),
            waits: Vec::new(),
            why: None,
            identity: None,
            sources: Vec::new(),
            unread_sites: Vec::new(),
            silent: Vec::new(),
            earlier: Vec::new(),
            sites: Vec::new(),
            roles_unknown: Vec::new(),
            projects: 0,
            refs: 0,
            tombstones: 0,
            contradicted: 0,
            contradictions: Vec::new(),
        }
    }

    /// Whether no project was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.projects == 0 && self.tombstones == 0
    }

    /// Whether an operator should look: something was not read, or contradicts itself.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        let odd = |source: &RebuildSource| source.unapplied > 0 || source.reconciles;
        self.contradicted > 0
            || !self.unread_sites.is_empty()
            || !self.silent.is_empty()
            || !self.earlier.is_empty()
            || !self.roles_unknown.is_empty()
            || self.sources.iter().any(odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As this release writes it. A later release must read it.
    const GOLDEN: &str = r#"{"id":"0f","state":"building","table":"lockstep-2","succeeds":["0a"],
        "tables_before":["lockstep"],"floor":1000000000,
        "sources":[{"node":"muc-1-0","volume":"ab"}],"builder":{"node":"muc-1-0","run":7}}"#;

    #[test]
    fn an_identity_is_read_in_the_form_of_this_release_and_with_less() {
        let golden: RefdbIdentity = serde_json::from_str(GOLDEN).unwrap();
        let builder = Some(Builder { node: "muc-1-0".parse().unwrap(), run: 7 });
        let expected = RefdbIdentity {
            state: RefdbState::Building,
            table: "lockstep-2".into(),
            succeeds: vec!["0a".into()],
            tables_before: vec!["lockstep".into()],
            floor: LEAP,
            sources: vec![SourceVolume { node: "muc-1-0".parse().unwrap(), volume: "ab".into() }],
            builder,
            ..RefdbIdentity::first("0f".into())
        };
        assert_eq!(golden, expected);
        assert!(golden.covers("0a") && golden.covers("0f") && !golden.covers("0b") && golden.is_rebuilt());
        assert!(golden.has_read("ab") && !golden.has_read("cd") && !golden.has_read(""));
        let least: RefdbIdentity = serde_json::from_str(r#"{"id":"0a","state":"ready","later":1}"#).unwrap();
        assert_eq!(least, RefdbIdentity::first("0a".into()));
    }

    /// As this release writes a refdb that moves. Every later release must take it for closed.
    const MOVING: &str = r#"{"id":"0a","state":"moved",
        "moves":{"to":{"prefix":"lockstep-2","region":"eu-west-1"},"by":{"node":"muc-1-0","run":7}}}"#;

    #[test]
    fn a_refdb_that_has_moved_is_closed_and_names_the_place() {
        let moved: RefdbIdentity = serde_json::from_str(MOVING).unwrap();
        let to = RefdbPlace { prefix: "lockstep-2".into(), region: Some("eu-west-1".into()), endpoint: None };
        let by = Builder { node: "muc-1-0".parse().unwrap(), run: 7 };
        let expected = RefdbIdentity {
            state: RefdbState::Moved,
            moves: Some(RefdbMove { to, by }),
            ..RefdbIdentity::first("0a".into())
        };
        assert_eq!(moved, expected);
        assert!(moved.is_closed() && !RefdbIdentity::first("0a".into()).is_closed());
        let written = serde_json::to_string(&moved).unwrap();
        assert_eq!(serde_json::from_str::<RefdbIdentity>(&written).unwrap(), moved);
    }
}
