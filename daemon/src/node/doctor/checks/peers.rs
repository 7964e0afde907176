//! Whether the peers of the configuration answer.

use lockstep_proto::doctor::Severity;

use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check = Check {
    name: "peers",
    looks_at: "the peers of [peers]: does each answer, and is it the node that is meant?",
    look,
};

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    for peer in looked.see(&facts.peers).into_iter().flatten() {
        let subject = format!("peers.{}", peer.name);
        if let Some(problem) = &peer.problem {
            let remedy = "look with `lockstep peers`, and at the sidecar of that node; commits need no peer, and a new \
                          node that takes everything from others does";
            looked.find(Severity::Warning, subject, problem, remedy);
        } else if let Some(answer) = peer.answer.as_ref().filter(|answer| answer.node.as_str() != peer.name) {
            let text = format!("the node that answers there is {}", answer.node);
            looked.find(Severity::Warning, subject, text, "correct the address or the name of this section");
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::super::super::PeerSeen;
    use super::*;

    fn found(break_it: impl FnOnce(&mut PeerSeen)) -> Vec<String> {
        let mut facts = Facts::in_order();
        if let Ok(peers) = &mut facts.peers {
            break_it(&mut peers[0]);
        }
        look(&facts).findings.into_iter().map(|one| format!("{}: {}", one.subject, one.text)).collect()
    }

    #[test]
    fn a_silent_peer_and_one_that_is_another_node_are_told() {
        let silent = found(|peer| peer.problem = Some("it did not answer in time".into()));
        assert_eq!(silent, ["peers.muc-1-0: it did not answer in time"]);
        let answer = |node: &str| {
            let text = format!(
                r#"{{"site": "a", "node": "{node}", "version": "1", "role": "active", "epoch": 1, "ready": true}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(
            found(|peer| peer.answer = Some(answer("x-0"))),
            ["peers.muc-1-0: the node that answers there is x-0"]
        );
        assert_eq!(found(|peer| peer.answer = Some(answer("muc-1-0"))), [""; 0]);
    }
}
