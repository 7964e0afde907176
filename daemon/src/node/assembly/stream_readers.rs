//! Tells the event log which nodes read the streams, and shows how this node reads them. Tells the peers which nodes
//! this site has.
//!
//! An event log that has a choice makes it by the number of readers. It removes the consumers of nodes that left for
//! good: expelled ones, and those of removed sites. The other nodes of the site are reached by the pattern of
//! `[siblings]`, so a site may grow and shrink without a restart of any node. A node that the refdb does not list any
//! more stays a sibling: the refdb may be empty, or older, and its rebuild has to read that node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::status::{StreamStatus, StreamWay};
use lockstep_proto::{NodeId, SiteId};
use tokio::time::sleep;

use super::stages::{Stages, streams};
use crate::seams::eventlog::{Readers, Way};
use crate::seams::refdb::NodeRecord;

/// The interval of the looks at the list of nodes.
const PACE: Duration = Duration::from_secs(60);

/// Tells them until the task is aborted. An error changes nothing: both keep the last answer. The event log is told if
/// it has a choice.
pub(super) async fn tell(stages: Arc<Stages>, has_choice: bool) {
    let mut siblings = BTreeSet::new();
    loop {
        match stages.deps.refdb.nodes.nodes().await {
            Ok(nodes) => {
                let settings = &stages.deps.settings;
                learn(&mut siblings, &nodes, &settings.site, &settings.node);
                stages.deps.peers.tell_siblings(&siblings.iter().cloned().collect::<Vec<_>>());
                if has_choice {
                    tell_event_log(&stages, &nodes).await;
                }
            }
            Err(error) => stages.deps.observer.failed("nodes", &error),
        }
        sleep(PACE).await;
    }
}

async fn tell_event_log(stages: &Stages, nodes: &[NodeRecord]) {
    let readers = readers(nodes, &stages.state.roles.removed());
    for site in streams(stages) {
        if let Err(error) = stages.deps.eventlog.tell_readers(&site, &readers).await {
            stages.deps.observer.failed("event-log", &error);
        }
    }
}

/// Learns the other nodes of a site. A node that was removed has no sidecar that could be asked. A list without the
/// record of a node says nothing about that node.
fn learn(siblings: &mut BTreeSet<NodeId>, nodes: &[NodeRecord], site: &SiteId, node: &NodeId) {
    for one in nodes.iter().filter(|one| one.node != *node) {
        match one.site == *site && !one.expelled {
            true => siblings.insert(one.node.clone()),
            false => siblings.remove(&one.node),
        };
    }
}

/// The nodes that read the streams, and those that left for good.
fn readers(nodes: &[NodeRecord], removed: &BTreeSet<SiteId>) -> Readers {
    let (gone, stay): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node.expelled || removed.contains(&node.site));
    let name = |node: &NodeRecord| (node.site.clone(), node.node.clone());
    Readers { count: stay.len(), gone: gone.into_iter().map(name).collect() }
}

/// How this node reads each stream, where it has a choice.
pub(super) fn statuses(stages: &Stages) -> Vec<StreamStatus> {
    let status = |stream: SiteId| {
        let reading = stages.deps.eventlog.reading(&stream)?;
        let way = match reading.way {
            Way::Polling => StreamWay::Polling,
            Way::FanOut => StreamWay::FanOut,
        };
        Some(StreamStatus { stream, way, is_fallback: reading.is_fallback, reason: reading.reason })
    };
    streams(stages).into_iter().filter_map(status).collect()
}

/// The number of streams that are read by enhanced fan-out, and of those that are polled because it is refused.
pub(super) fn counts(stages: &Stages) -> (u64, u64) {
    let statuses = statuses(stages);
    let fan_out = statuses.iter().filter(|one| one.way == StreamWay::FanOut).count();
    (fan_out as u64, statuses.iter().filter(|one| one.is_fallback).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_siblings_of_a_node_are_the_others_of_its_site_that_were_not_removed() {
        let removed = NodeRecord { expelled: true, ..NodeRecord::first("a-2", "a") };
        let (one, two) = (NodeRecord::first("a-0", "a"), NodeRecord::first("a-1", "a"));
        let nodes = [one, two, removed, NodeRecord::first("b-0", "b")];
        let of = |node: &str| {
            let mut siblings = BTreeSet::new();
            learn(&mut siblings, &nodes, &"a".parse().unwrap(), &node.parse().unwrap());
            siblings
        };
        assert_eq!(of("a-0"), BTreeSet::from(["a-1".parse().unwrap()]));
        assert_eq!(of("a-1"), BTreeSet::from(["a-0".parse().unwrap()]));
    }

    #[test]
    fn a_refdb_that_lists_no_node_takes_no_sibling_away_and_a_removal_does() {
        let (site, node) = ("a".parse().unwrap(), "a-0".parse().unwrap());
        let mut siblings = BTreeSet::new();
        learn(&mut siblings, &[NodeRecord::first("a-1", "a"), NodeRecord::first("a-2", "a")], &site, &node);
        learn(&mut siblings, &[], &site, &node);
        assert_eq!(siblings.len(), 2, "a rebuild of the refdb reads both");
        learn(&mut siblings, &[NodeRecord { expelled: true, ..NodeRecord::first("a-2", "a") }], &site, &node);
        assert_eq!(siblings, BTreeSet::from(["a-1".parse().unwrap()]));
    }

    #[test]
    fn expelled_nodes_and_those_of_removed_sites_left_for_good() {
        let expelled = NodeRecord { expelled: true, ..NodeRecord::first("a-1", "a") };
        let nodes = [NodeRecord::first("a-0", "a"), expelled, NodeRecord::first("b-0", "b")];
        let readers = readers(&nodes, &BTreeSet::from(["b".parse().unwrap()]));
        assert_eq!(readers.count, 1);
        let gone: Vec<String> = readers.gone.iter().map(|(site, node)| format!("{site} {node}")).collect();
        assert_eq!(gone, ["a a-1", "b b-0"]);
    }
}
