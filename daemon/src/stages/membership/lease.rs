//! Detects nodes that seem to be gone. The result is only a hint: adoption is safe at any time.
//!
//! No absolute times are compared. A watcher waits until it has seen a node's heartbeat unchanged for a whole lease of
//! its own clock. Clocks that differ, or are set, can only make the watcher act too early or too late.
//!
//! A time in which the watcher itself could not look does not count. Otherwise, after the refdb was away for a lease,
//! the first node that reaches it would take all others for dead.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_proto::NodeId;
use tokio::time::Instant;

use crate::seams::refdb::NodeRecord;

/// The heartbeats of other nodes as one watcher has seen them, each with the time since which it stands still.
#[derive(Debug, Default)]
pub struct Leases {
    seen: BTreeMap<NodeId, (u64, u64, Instant)>,
    looked: Option<Instant>,
}

impl Leases {
    /// Takes the records of all nodes, and answers the nodes whose heartbeat has not changed for `lease`.
    pub fn expired(&mut self, nodes: &[NodeRecord], now: Instant, lease: Duration) -> Vec<NodeId> {
        self.forgive(now, lease / 3);
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

    /// Moves all times on by the time in which nobody looked, beyond the usual pause between two looks.
    fn forgive(&mut self, now: Instant, usual: Duration) {
        let blind = self.looked.map_or(Duration::ZERO, |looked| now.duration_since(looked)).saturating_sub(usual);
        self.seen.values_mut().for_each(|(_, _, since)| *since += blind);
        self.looked = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(9);

    fn node(beat: u64) -> NodeRecord {
        NodeRecord { beat, ..NodeRecord::first("n", "s") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_stands_still_for_a_lease_is_expired() {
        let mut leases = Leases::default();
        for (beat, expires) in [(1, false), (1, false), (1, false), (2, false), (2, false), (2, false), (2, true)] {
            let expired = leases.expired(&[node(beat)], Instant::now(), LEASE);
            assert_eq!(!expired.is_empty(), expires);
            tokio::time::advance(LEASE / 3).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_could_not_look_takes_nobody_for_dead() {
        let mut leases = Leases::default();
        assert!(leases.expired(&[node(1)], Instant::now(), LEASE).is_empty());
        tokio::time::advance(LEASE * 10).await;
        assert!(leases.expired(&[node(1)], Instant::now(), LEASE).is_empty());
        tokio::time::advance(LEASE / 3).await;
        assert!(leases.expired(&[node(1)], Instant::now(), LEASE).is_empty());
        tokio::time::advance(LEASE / 3).await;
        assert_eq!(leases.expired(&[node(1)], Instant::now(), LEASE), vec![node(1).node]);
    }
}
