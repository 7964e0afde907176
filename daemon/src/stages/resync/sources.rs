//! The peers that send the objects: those that the operator names, or all.

use std::sync::Arc;

use lockstep_proto::bridge::ApiError;
use lockstep_proto::peer::PeerStatus;

use crate::seams::peers::{Peers, named_peers};

/// The peers of a site, of a node, or the one with this name in `[peers]`. Without a name, every peer.
///
/// # Errors
/// No peer has this name, or belongs to such a site or node.
pub(super) async fn choose(peers: &Arc<dyn Peers>, from: Option<&str>) -> Result<Arc<dyn Peers>, ApiError> {
    let Some(from) = from else { return Ok(Arc::clone(peers)) };
    let names = named(from, &peers.statuses().await)?;
    Ok(named_peers(peers, names))
}

fn named(from: &str, peers: &[PeerStatus]) -> Result<Vec<String>, ApiError> {
    let is_meant = |peer: &&PeerStatus| {
        let answered = peer.answer.as_ref();
        peer.name == from || answered.is_some_and(|answer| answer.site.as_str() == from || answer.node.as_str() == from)
    };
    let names: Vec<String> = peers.iter().filter(is_meant).map(|peer| peer.name.clone()).collect();
    if !names.is_empty() {
        return Ok(names);
    }
    if peers.is_empty() {
        let message = format!(
            "from {from}: this node has no peers; add the other nodes to [peers], and restart it, or leave --from out"
        );
        return Err(ApiError::invalid(message));
    }
    let known = peers.iter().map(|peer| match &peer.answer {
        Some(answer) => format!("{} (site {})", peer.name, answer.site),
        None => format!("{} (does not answer)", peer.name),
    });
    let known = known.collect::<Vec<_>>().join(", ");
    Err(ApiError::invalid(format!(
        "from {from}: no peer has this name, or belongs to such a site or node; the peers are {known}"
    )))
}

#[cfg(test)]
mod tests {
    use lockstep_proto::peer::PeerAnswer;

    use super::*;

    fn peer(name: &str, node: Option<(&str, &str)>) -> PeerStatus {
        let answer = node.map(|(site, node)| PeerAnswer {
            site: site.parse().unwrap(),
            node: node.parse().unwrap(),
            version: String::new(),
            role: String::new(),
            epoch: 1,
            ready: true,
            waits_for: Vec::new(),
        });
        PeerStatus { name: name.into(), address: String::new(), way: String::new(), answer, problem: None, took_ms: 0 }
    }

    #[test]
    fn peers_are_named_by_themselves_their_nodes_and_their_sites() {
        let peers = [peer("one", Some(("b", "b-0"))), peer("two", Some(("b", "b-1"))), peer("three", None)];
        let names = |from: &str| named(from, &peers);
        assert_eq!(names("b"), Ok(vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(names("b-1"), Ok(vec!["two".to_owned()]));
        assert_eq!(names("three"), Ok(vec!["three".to_owned()]), "a peer may answer again when it is asked");
        let unknown = names("c").unwrap_err().message;
        assert!(unknown.contains("one (site b)") && unknown.contains("three (does not answer)"), "{unknown}");
        assert!(named("c", &[]).unwrap_err().message.contains("no peers"));
    }
}
