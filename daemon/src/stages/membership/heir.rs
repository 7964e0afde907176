//! Decides which node publishes what a dead incarnation left.
//!
//! Two nodes may decide differently for a while. Then both publish, and readers skip the duplicates.

use std::collections::BTreeSet;

use lockstep_proto::NodeId;

use crate::seams::refdb::{IncarnationRecord, NodeRecord};

/// The nodes that seem to be gone, as one watcher sees them.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    /// For longer than the lease after which a sibling acts.
    pub lately: BTreeSet<NodeId>,
    /// For longer than the lease after which any site acts.
    pub long: BTreeSet<NodeId>,
}

/// The node that publishes what an incarnation left: its own node if that lives, else a living sibling. A node of
/// another site follows only when the whole site is gone for long, and has joined: one that still takes everything from
/// the refdb does not reach the streams of all sites.
#[must_use]
pub fn heir<'a>(left: &IncarnationRecord, nodes: &'a [NodeRecord], gone: &Gone) -> Option<&'a NodeId> {
    let lives = |one: &&NodeRecord| !one.expelled && !gone.lately.contains(&one.node);
    let mut siblings = nodes.iter().filter(|one| one.site == left.site);
    if let Some(own) = siblings.clone().filter(lives).find(|one| one.node == left.id.node) {
        return Some(&own.node);
    }
    let sibling = siblings.clone().filter(lives).map(|one| &one.node).min();
    if sibling.is_some() || !siblings.all(|one| one.expelled || gone.long.contains(&one.node)) {
        return sibling;
    }
    nodes.iter().filter(lives).filter(|one| !one.reconciles()).map(|one| &one.node).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::refdb::IncarnationState;

    fn left() -> IncarnationRecord {
        let open = IncarnationRecord::open("a-1.1".parse().unwrap(), "a".parse().unwrap(), 1, 1, 0);
        IncarnationRecord { state: IncarnationState::Poisoned, ..open }
    }

    fn chosen(lately: &[&str], long: &[&str]) -> Option<String> {
        let nodes = [
            NodeRecord::first("b-0", "b"),
            NodeRecord::first("a-1", "a"),
            NodeRecord::first("a-0", "a"),
            NodeRecord::first("c-0", "c"),
        ];
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        heir(&left(), &nodes, &Gone { lately: names(lately), long: names(long) }).map(ToString::to_string)
    }

    #[test]
    fn a_node_that_reconciles_inherits_from_no_other_site() {
        let volume = NodeRecord::reconciling("v");
        let b = NodeRecord { volume, ..NodeRecord::first("b-0", "b") };
        let nodes = [NodeRecord::first("a-1", "a"), b, NodeRecord::first("c-0", "c")];
        let gone = || ["a-1".parse().unwrap()].into();
        let heir = heir(&left(), &nodes, &Gone { lately: gone(), long: gone() }).map(ToString::to_string);
        assert_eq!(heir.as_deref(), Some("c-0"));
    }

    #[test]
    fn its_own_node_comes_first_then_a_sibling_then_any_site() {
        assert_eq!(chosen(&[], &[]).as_deref(), Some("a-1"));
        assert_eq!(chosen(&["a-1"], &[]).as_deref(), Some("a-0"));
        assert_eq!(chosen(&["a-1", "a-0"], &["a-1"]), None, "a sibling may come back");
        assert_eq!(chosen(&["a-1", "a-0"], &["a-1", "a-0"]).as_deref(), Some("b-0"));
        assert_eq!(chosen(&["a-1", "a-0", "b-0"], &["a-1", "a-0"]).as_deref(), Some("c-0"));
    }
}
