//! Settings in which nodes differ although all of them should have the same.

use std::collections::BTreeMap;

use lockstep_proto::doctor::Severity;

use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check = Check {
    name: "drift",
    looks_at: "settings that all nodes should share, beside those of each peer that answers",
    look,
};

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    // One finding per setting, so that one node that differs from all others is not told once per node.
    let mut differ: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::new();
    for peer in looked.see(&facts.peers).into_iter().flatten() {
        // The check of peers tells of a peer that does not answer.
        let Some(shared) = looked.see(&peer.shared) else { continue };
        for (name, here, there) in facts.shared.differences(shared) {
            let (_, nodes) = differ.entry(name).or_insert_with(|| (here, Vec::new()));
            nodes.push(format!("{there} at {}", peer.name));
        }
    }
    for (name, (here, there)) in differ {
        let text = format!("it is {here} here, and {}", there.join(", "));
        let remedy = "give all nodes the same value, and restart those that had another one, one after the other";
        looked.find(Severity::Error, name, text, remedy);
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::super::super::NotSeen;
    use super::*;

    #[test]
    fn a_setting_that_a_peer_has_otherwise_is_told_once_with_all_values() {
        let mut facts = Facts::in_order();
        let peers = facts.peers.as_mut().unwrap();
        let mut other = peers[0].clone();
        other.name = "eu-aws-0".into();
        peers.push(other);
        for peer in peers.iter_mut() {
            let shared = peer.shared.as_mut().unwrap();
            shared.settings.insert("lease.expelled_after".into(), "60s".into());
        }
        let found = look(&facts).findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].severity, found[0].subject.as_str()), (Severity::Error, "lease.expelled_after"));
        assert!(found[0].text.ends_with("and 60s at muc-1-0, 60s at eu-aws-0"), "{}", found[0].text);
    }

    #[test]
    fn a_peer_that_does_not_tell_its_settings_is_not_equal() {
        let mut facts = Facts::in_order();
        facts.peers.as_mut().unwrap()[0].shared = Err(NotSeen("peer muc-1-0: an earlier release".into()));
        let looked = look(&facts);
        assert_eq!(looked.findings, []);
        assert_eq!(looked.not_seen.as_deref(), Some("peer muc-1-0: an earlier release"));
    }
}
