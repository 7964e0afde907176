//! Tells the event log which nodes read the streams, and shows how this node reads them.
//!
//! An event log that has a choice makes it by the number of readers. It removes the consumers of nodes that left for
//! good: expelled ones, and those of removed sites.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use lockstep_proto::status::{StreamStatus, StreamWay};
use tokio::time::sleep;

use super::stages::{Stages, streams};
use crate::seams::eventlog::{Readers, Way};
use crate::seams::refdb::NodeRecord;

/// The interval of the looks at the list of nodes.
const PACE: Duration = Duration::from_secs(60);

/// Tells it until the task is aborted. An error changes nothing: the event log keeps the last answer.
pub(super) async fn tell(stages: Arc<Stages>) {
    loop {
        match stages.deps.refdb.nodes.nodes().await {
            Ok(nodes) => {
                let readers = readers(&nodes, &stages.state.roles.removed());
                for site in streams(&stages) {
                    if let Err(error) = stages.deps.eventlog.tell_readers(&site, &readers).await {
                        stages.deps.observer.failed("event-log", &error);
                    }
                }
            }
            Err(error) => stages.deps.observer.failed("event-log", &error),
        }
        sleep(PACE).await;
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
    fn expelled_nodes_and_those_of_removed_sites_left_for_good() {
        let expelled = NodeRecord { expelled: true, ..NodeRecord::first("a-1", "a") };
        let nodes = [NodeRecord::first("a-0", "a"), expelled, NodeRecord::first("b-0", "b")];
        let readers = readers(&nodes, &BTreeSet::from(["b".parse().unwrap()]));
        assert_eq!(readers.count, 1);
        let gone: Vec<String> = readers.gone.iter().map(|(site, node)| format!("{site} {node}")).collect();
        assert_eq!(gone, ["a a-1", "b b-0"]);
    }
}
