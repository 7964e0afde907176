//! Nodes that will not come back: removes them, as operators ask, so that nothing waits for them.
//!
//! A removed node is an expelled one, without the wait for `lease.expelled_after`. It may come back all the same: it
//! then reconciles, and takes part again.

use lockstep_proto::NodeId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::site_list::RemoveNodeRequest;

use super::desk::OperatorDesk;
use super::refusals::{given, invalid, refused, unanswered};
use super::view::View;
use crate::seams::refdb::{NodeAnswer, NodeRecord};

impl OperatorDesk {
    /// Expels a node whose heartbeat stands still, and that can commit nothing any more.
    pub(super) async fn expel(&self, actor: &str, node: &NodeId, request: RemoveNodeRequest) -> Result<(), ApiError> {
        given("reason", &request.reason)?;
        let view = self.view().await?;
        let Some(away) = may_go(&view, node)? else { return Ok(()) };
        tracing::warn!(%node, actor, reason = request.reason, "an operator removes a node");
        // It has no effect if the heartbeat has moved since the view was read.
        let expelled = NodeRecord { expelled: true, ..away.clone() };
        match self.refdb.nodes.put_node(&expelled, Some(away)).await.map_err(unanswered)? {
            NodeAnswer::Written => Ok(()),
            NodeAnswer::Differs(stored) if stored.expelled => Ok(()),
            NodeAnswer::Differs(_) => Err(lives(node)),
            NodeAnswer::Gone => Err(invalid(&format!("node {node} is not in the refdb any more; look at the sites"))),
        }
    }
}

/// The record of a node that may be removed. None if it was removed or expelled already.
fn may_go<'a>(view: &'a View, node: &NodeId) -> Result<Option<&'a NodeRecord>, ApiError> {
    let Some(record) = view.nodes.iter().find(|one| one.node == *node) else {
        return Err(invalid(&format!("node {node} is not in the refdb; `lockstep sites` lists the nodes")));
    };
    if record.expelled {
        return Ok(None);
    }
    if !view.gone.contains(node) {
        return Err(lives(node));
    }
    if view.incarnations.iter().any(|one| one.id.node == *node && one.may_commit()) {
        return Err(refused(&format!(
            "an incarnation of {node} is not poisoned yet; another node poisons it within \
             `lease.adopted_elsewhere_after`: ask again then"
        )));
    }
    Ok(Some(record))
}

fn lives(node: &NodeId) -> ApiError {
    refused(&format!(
        "{node} lives, or its heartbeat has not stood still for `lease.expires_after` yet; stop it, and ask again then"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lockstep_proto::{Incarnation, IncarnationId};

    use super::*;
    use crate::seams::refdb::{IncarnationRecord, IncarnationState};

    fn view(gone: &[&str], expelled: bool, state: IncarnationState) -> View {
        let id = IncarnationId { node: "b-1".parse().unwrap(), number: Incarnation(1) };
        let incarnation = IncarnationRecord { state, ..IncarnationRecord::open(id, "b".parse().unwrap(), 1, 64, 0) };
        View {
            nodes: vec![NodeRecord { expelled, ..NodeRecord::first("b-1", "b") }],
            incarnations: vec![incarnation],
            gone: gone.iter().map(|node| node.parse().unwrap()).collect::<BTreeSet<_>>(),
            ..View::default()
        }
    }

    fn answer(view: &View, node: &str) -> Result<bool, String> {
        may_go(view, &node.parse().unwrap()).map(|found| found.is_some()).map_err(|error| error.message)
    }

    #[test]
    fn only_a_node_that_is_gone_and_whose_commits_have_ended_may_be_removed() {
        use IncarnationState::{Drained, Frozen, Open, Poisoned};
        for state in [Poisoned, Drained] {
            assert_eq!(answer(&view(&["b-1"], false, state), "b-1"), Ok(true));
        }
        for state in [Open, Frozen] {
            assert!(answer(&view(&["b-1"], false, state), "b-1").unwrap_err().contains("not poisoned yet"));
        }
        assert!(answer(&view(&[], false, Drained), "b-1").unwrap_err().contains("b-1 lives"));
        assert!(answer(&view(&["b-1"], false, Drained), "b-2").unwrap_err().contains("b-2 is not in the refdb"));
        assert_eq!(answer(&view(&[], true, Drained), "b-1"), Ok(false), "a repeated request is done already");
    }
}
