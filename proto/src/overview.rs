//! Bodies of the overview (JSON): all sites with the digests of their nodes, and the two answers that count for each
//! site: whether it is safe to fail over to it now, and what would be lost.
//!
//! A digest is a small summary of a node's state that the node leaves in the refdb. So every site can be seen from any
//! site while the links between them are cut.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failover::{Failover, Role, SiteStatus};
use crate::locks::LockStatus;
use crate::name::{NodeId, SiteId};
use crate::site_list::Bootstrap;
use crate::slot::Incarnation;
use crate::transaction::KeyId;

/// The format of a digest that this release writes. A later format adds fields, and changes the meaning of none.
pub const DIGEST_FORMAT: u32 = 1;
/// The most bytes of a digest as JSON.
pub const MOST_DIGEST_BYTES: usize = 4_096;
/// The most streams, and the most closed latches, that a digest names.
pub const MOST_DIGEST_ENTRIES: usize = 16;
/// The interval at which a node writes its digest, in milliseconds.
pub const DIGEST_PACE_MS: u64 = 10_000;
/// The age from which a digest counts as old: it tells nothing about the present. In milliseconds.
pub const DIGEST_OLD_MS: u64 = 3 * DIGEST_PACE_MS;

/// The state of one node, as it leaves it in the refdb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeDigest {
    /// The format, [`DIGEST_FORMAT`] or a later one.
    pub format: u32,
    /// The version of the program.
    #[serde(default)]
    pub program: String,
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// When it was written, by the node's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The number of starts of the node. A digest of an earlier start tells nothing about the present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<u64>,
    /// The role of the site, as the node knows it.
    #[serde(default)]
    pub role: String,
    /// The epoch of the site, as the node knows it.
    #[serde(default)]
    pub epoch: u64,
    /// The open incarnation of the node. None while it takes no writes.
    #[schema(value_type = Option<u64>)]
    #[serde(default)]
    pub incarnation: Option<Incarnation>,
    /// The closed latches of `/readyz`, at most [`MOST_DIGEST_ENTRIES`]. Empty if the node is ready.
    #[serde(default)]
    pub closed: Vec<String>,
    /// The streams that the node reads, with its lag behind each, at most [`MOST_DIGEST_ENTRIES`].
    #[serde(default)]
    pub streams: Vec<StreamLag>,
    /// The length of its journal: settled slots that are not in the event log.
    #[serde(default)]
    pub unpublished: u64,
    /// Slots in use above the settled marks.
    #[serde(default)]
    pub in_flight: u64,
    /// The number of parked transactions.
    #[serde(default)]
    pub parked: u64,
    /// The number of quarantined records.
    #[serde(default)]
    pub held: u64,
    /// The number of projects that the node could not bring up to date as a whole.
    #[serde(default)]
    pub owed: u64,
    /// The number of degraded projects.
    #[serde(default)]
    pub degraded: u64,
    /// The number of repositories whose git hooks are not in force.
    #[serde(default)]
    pub guards_off: u64,
    /// The subjects that its Gerrit must still look at. None if no Gerrit is refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshQueue>,
    /// The receivers that are told when the role of the site changes (`[handover]`). None if the node has none, and
    /// from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receivers: Option<Receivers>,
    /// The last verification against the refdb that has ended. None if there was none. Earlier releases forget it when
    /// they are restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// Whether the node follows the list of sites in the refdb. Earlier releases read the sites of their configuration.
    #[serde(default)]
    pub follows_list: bool,
    /// The key with which the node signs its records. None if it does not sign.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs_with: Option<KeyId>,
    /// Whether the node obeys the mode of its site, and keeps it in each change of a site's record. Earlier releases do
    /// not.
    #[serde(default)]
    pub obeys_mode: bool,
    /// Whether the node probes the way of its users (`[probes]`), and not its commit path alone. None from earlier
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes_users: Option<bool>,
    /// How far the node is with taking everything from the refdb and from peers. None if it has that behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// The writes of the node to the stream of its site since its start. None from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

/// The writes of a node to a stream since its start. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Written {
    /// Bytes of the records that the stream took, with their keys.
    pub bytes: u64,
    /// Records that the stream took.
    pub records: u64,
    /// Records that it did not take at once, because the limit of a shard was met.
    pub refused: u64,
}

/// The lag of a node behind the stream of one site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StreamLag {
    /// The site of the stream.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Transactions that were seen in the stream and are not applied.
    pub transactions: u64,
    /// Now minus the commit time of the oldest of them, in seconds. Or how long the node has lacked slots that are
    /// settled, if that is longer: it may read no stream at all.
    pub seconds: f64,
}

/// The length of the queue of refresh tasks of a Gerrit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshQueue {
    /// The number of subjects whose refs moved and that Gerrit has not acknowledged.
    pub due: u64,
    /// How long ago the refs of the oldest of these subjects moved, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ms: Option<u64>,
}

/// The receivers of a node that are told when the role of its site changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receivers {
    /// The number of receivers.
    pub all: u64,
    /// The number of those that have taken the notice of the present role, and of whether the node takes writes.
    pub told: u64,
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// The number of projects that were compared.
    pub projects: u64,
    /// Whether it was about all projects, and every one of them could be compared.
    pub whole: bool,
    /// The number of refs that differ.
    pub mismatches: u64,
}

/// All sites, as one node sees them in the refdb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// The node that answers.
    #[schema(value_type = String)]
    pub by: NodeId,
    /// The time of the answer by that node's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The sites, by name.
    pub sites: Vec<SiteOverview>,
    /// The consequence of the loss of the refdb's own Region, for people.
    pub exposure: String,
    /// Why the refdb is known to be older than a node: it was restored from a backup. Then no node commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refdb_went_back: Option<String>,
    /// The failover that is in progress, or else the last one. None if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// Why the failover that is in progress does not move on at the moment, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The locks of operators and bridges, maintenance included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<LockStatus>,
}

/// One site of the overview.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SiteOverview {
    /// Role, epoch and nodes, as the refdb has them.
    pub status: SiteStatus,
    /// The nodes, with their digests.
    pub nodes: Vec<NodeOverview>,
    /// Whether it is safe to fail over to this site now. None if no other site takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe: Option<Safety>,
    /// The commits of other sites that this site lacks. It would lose them if their origin and the refdb vanished now.
    pub lacks: Vec<Lack>,
    /// The defects of this site, for people.
    pub problems: Vec<String>,
}

/// Whether it is safe to fail over to a site now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Safety {
    /// Whether it is safe.
    pub safe: bool,
    /// Why it is not.
    pub blockers: Vec<String>,
}

/// The commits of another site that a site lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lack {
    /// The site that has committed it.
    #[schema(value_type = String)]
    pub from: SiteId,
    /// Settled slots that no living node of this site has durably applied, and its quarantined transactions. A slot is
    /// a transaction, or poison. The settled marks are as old as the last heartbeat of the source: its later
    /// commits come on top. None if it is not known: no node of this site knows all that it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
    /// Slots in use above the settled marks, which may hold more transactions. None if a node of the source has left no
    /// digest that tells about the present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
    /// The lag of the node of this site that is behind least. None if no node of this site has left a digest that tells
    /// about the present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// The slots in use at a site, above the settled marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InFlight {
    /// The number of slots.
    pub slots: u64,
    /// The age of the oldest digest that tells it, in milliseconds.
    pub age_ms: u64,
}

/// The lag of one node behind a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// Transactions that the node has seen in the stream and not applied.
    pub transactions: u64,
    /// The lag in seconds, as in the node's digest.
    pub seconds: f64,
    /// The age of that digest, in milliseconds.
    pub age_ms: u64,
}

/// One node of the overview.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeOverview {
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Whether the node that answers has seen its heartbeat move within the lease.
    pub lives: bool,
    /// Whether the node was away for too long: nothing is kept for it any more.
    pub expelled: bool,
    /// Whether it takes writes.
    pub takes_writes: bool,
    /// Settled slots of other sites that it has not durably applied, by site.
    pub behind: Vec<Behind>,
    /// The age of the digest in milliseconds: never less than the time since the node that answers saw it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Whether the digest tells nothing about the present: it is old, or the heartbeat of its node stands still.
    pub is_old: bool,
    /// The digest. None if the node has left none, or one that this release cannot read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<NodeDigest>,
}

/// How far a node is behind one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Behind {
    /// The site whose slots these are.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The number of settled slots that the node has not durably applied.
    pub slots: u64,
}

impl NodeDigest {
    /// Whether the node was ready when it wrote the digest.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.closed.is_empty()
    }
}

impl Overview {
    /// Whether something is out of order somewhere, or it is not safe to fail over to some site.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        let unsafe_now = |site: &SiteOverview| site.safe.as_ref().is_some_and(|answer| !answer.safe);
        let is_bad = |site: &SiteOverview| !site.problems.is_empty() || unsafe_now(site);
        self.refdb_went_back.is_some() || self.nobody_writes() || self.sites.iter().any(is_bad)
    }

    /// Whether no site takes writes, and no failover is about to change that.
    #[must_use]
    pub fn nobody_writes(&self) -> bool {
        let is_active = |site: &SiteOverview| site.status.role == Role::Active;
        let goes_on = |failover: &Failover| failover.is_in_progress() && !failover.paused;
        !self.sites.iter().any(is_active) && !self.failover.as_ref().is_some_and(goes_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_a_later_release_is_read_and_one_of_an_earlier_release_too() {
        let later = r#"{"format": 2, "site": "a", "node": "a-0", "at_ms": 7, "role": "active", "mood": "good"}"#;
        let digest: NodeDigest = serde_json::from_str(later).expect("a digest");
        assert_eq!((digest.format, digest.role.as_str(), digest.at_ms), (2, "active", 7));
        let earlier: NodeDigest =
            serde_json::from_str(r#"{"format": 1, "site": "a", "node": "a-0", "at_ms": 7}"#).expect("a digest");
        assert!(earlier.verified.is_none() && earlier.streams.is_empty());
    }

    #[test]
    fn sites_of_which_none_is_active_are_out_of_order() {
        let site = |role: &str| {
            serde_json::json!({
                "status": {"site": "a", "role": role, "epoch": 1, "nodes": [], "unpublished": 0},
                "nodes": [], "lacks": [], "problems": [],
            })
        };
        let is_degraded = |sites: Vec<serde_json::Value>| {
            let all = serde_json::json!({"by": "a-0", "at_ms": 1, "exposure": "", "sites": sites});
            serde_json::from_value::<Overview>(all).expect("an overview").is_degraded()
        };
        assert!(!is_degraded(vec![site("active"), site("standby")]));
        assert!(is_degraded(vec![site("standby"), site("standby")]) && is_degraded(vec![]));
    }
}
