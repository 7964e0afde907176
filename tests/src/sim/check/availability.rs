//! Invariant 19: everything that a fault does not cut off goes on. A node that no fault touches sends heartbeats,
//! without regard to the state of streams, of other nodes and of other sites. The incarnations of a site that is down
//! are adopted elsewhere.

use std::collections::BTreeMap;

use lockstep::seams::refdb::{IncarnationRecord, NodeRecord};
use lockstep_proto::NodeId;

use super::Verdict;

/// A node must have been out of every fault's reach for this long before it is judged.
const SETTLED_MS: u64 = 15_000;
/// The longest time without a heartbeat of a node that no fault touches. The sender beats once per second.
const SILENT_MS: u64 = 8_000;
/// A node that is down for this long must have been adopted, at the latest by another site.
const ADOPTED_MS: u64 = 28_000;

/// The state of a node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Whether its process is up.
    pub is_up: bool,
    /// Whether it is up, not paused, and has its link to the refdb.
    pub is_untouched: bool,
}

#[derive(Debug, Default)]
struct Seen {
    untouched_since: Option<u64>,
    down_since: Option<u64>,
    beat: u64,
    /// Heartbeats of this life. A node that registers or reconciles has sent few, and is not judged yet.
    beats: u64,
}

/// The heartbeats, faults and ends of all nodes, as seen so far.
#[derive(Debug, Default)]
pub struct Availability(BTreeMap<NodeId, Seen>);

impl Availability {
    /// A heartbeat has arrived. A node that reconciles sends none until it is done, and is not judged before.
    pub fn beat(&mut self, record: &NodeRecord, now_ms: u64) {
        let seen = self.0.entry(record.node.clone()).or_default();
        (seen.beat, seen.beats) = (now_ms, if record.reconciles() { 0 } else { seen.beats + 1 });
    }

    /// The site of a node joins or leaves: earlier heartbeats of the node count no more.
    pub fn forget(&mut self, node: &NodeId) {
        self.0.remove(node);
    }

    /// Judges the heartbeats of a node.
    ///
    /// # Errors
    /// No fault touches the node, and it is silent.
    pub fn look(&mut self, node: &NodeId, now: Now, now_ms: u64) -> Verdict {
        let seen = self.0.entry(node.clone()).or_default();
        let since = |known: Option<u64>, is_so: bool| is_so.then(|| known.unwrap_or(now_ms));
        seen.untouched_since = since(seen.untouched_since, now.is_untouched);
        seen.down_since = since(seen.down_since, !now.is_up);
        seen.beats = if now.is_up { seen.beats } else { 0 };
        let is_judged = seen.beats > 3 && seen.untouched_since.is_some_and(|since| now_ms >= since + SETTLED_MS);
        let silent = now_ms.saturating_sub(seen.beat);
        if is_judged && silent > SILENT_MS {
            return Err(format!("no fault touches {node}, and it has sent no heartbeat for {silent} ms"));
        }
        Ok(())
    }

    /// Judges the incarnations of nodes that are down.
    ///
    /// # Errors
    /// Something may still be committed in an incarnation whose node is down for long, although a node that no fault
    /// touches could have adopted it.
    pub fn adopted<'a>(&self, records: impl Iterator<Item = &'a IncarnationRecord>, now_ms: u64) -> Verdict {
        let for_long = |since: Option<u64>| since.is_some_and(|since| now_ms >= since + ADOPTED_MS);
        if !self.0.values().any(|seen| for_long(seen.untouched_since)) {
            return Ok(());
        }
        for record in records.filter(|record| record.may_commit()) {
            if self.0.get(&record.id.node).is_some_and(|seen| for_long(seen.down_since)) {
                return Err(format!(
                    "{} is down for {ADOPTED_MS} ms, and {} is not adopted",
                    record.id.node, record.id
                ));
            }
        }
        Ok(())
    }
}
