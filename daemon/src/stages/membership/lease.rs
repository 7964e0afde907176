//! Detects nodes that seem to be gone. The result is only a hint: adoption is safe at any time.
//!
//! No absolute times are compared. A watcher waits until it has seen a node's heartbeat unchanged for a whole lease of
//! its own clock. Clocks that differ, or are set, can only make the watcher act too early or too late.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_proto::NodeId;
use tokio::time::Instant;

use crate::seams::refdb::NodeRecord;

/// The heartbeats of other nodes as one watcher has seen them, each with the time since which it stands still.
#[derive(Debug, Default)]
pub struct Leases {
    seen: BTreeMap<NodeId, (u64, u64, Instant)>,
}

impl Leases {
    /// Takes the records of all nodes, and answers the nodes whose heartbeat has not changed for `lease`.
    pub fn expired(&mut self, nodes: &[NodeRecord], now: Instant, lease: Duration) -> Vec<NodeId> {
        let mut expired = Vec::new();
        for node in nodes {
            let (starts, beat, since) = *self.seen.entry(node.node.clone()).or_insert((node.starts, node.beat, now));
            if (starts, beat) != (node.starts, node.beat) {
                self.seen.insert(node.node.clone(), (node.starts, node.beat, now));
            } else if now.duration_since(since) >= lease {
                expired.push(node.node.clone());
            }
        }
        self.seen.retain(|id, _| nodes.iter().any(|node| node.node == *id));
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(beat: u64) -> NodeRecord {
        NodeRecord {
            node: "n".parse().unwrap(),
            site: "s".parse().unwrap(),
            volume: String::new(),
            starts: 1,
            beat,
            expelled: false,
            low_water: BTreeMap::new(),
            whole: BTreeMap::new(),
            needs: Default::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_stands_still_for_a_lease_is_expired() {
        let lease = Duration::from_secs(10);
        let mut leases = Leases::default();
        assert!(leases.expired(&[node(1)], Instant::now(), lease).is_empty());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(leases.expired(&[node(2)], Instant::now(), lease).is_empty());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(leases.expired(&[node(2)], Instant::now(), lease).is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(leases.expired(&[node(2)], Instant::now(), lease), vec![node(2).node]);
    }
}
