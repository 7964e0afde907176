//! The peers that a request names: one of them, those of a site, or all. A site that was removed from the list takes
//! part in nothing, so that all peers are those of the other sites.

use std::collections::BTreeSet;

use lockstep_proto::SiteId;
use lockstep_proto::peer::PeerStatus;
use lockstep_proto::verify::ALL_PEERS;

use crate::stages::verify::Verifier;

/// A peer that a request names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The peer for people.
    pub(super) label: String,
    /// Its name in `[peers]`, or why it cannot be compared.
    pub(super) peer: Result<String, String>,
}

impl Verifier {
    /// The peers to compare with. A peer that does not answer is among them with the reason.
    pub(super) async fn choose(&self, against: &str) -> Vec<Chosen> {
        let all = self.peers.statuses().await;
        let others = all.into_iter().filter(|peer| peer.answer.as_ref().is_none_or(|answer| answer.node != self.node));
        choose(against, &others.collect::<Vec<_>>(), &self.roles.removed())
    }
}

fn choose(against: &str, peers: &[PeerStatus], removed: &BTreeSet<SiteId>) -> Vec<Chosen> {
    let is_named = peers.iter().any(|peer| peer.name == against);
    let is_listed = |peer: &PeerStatus| peer.answer.as_ref().is_none_or(|answer| !removed.contains(&answer.site));
    let is_site = |peer: &PeerStatus| peer.answer.as_ref().is_none_or(|answer| answer.site.as_str() == against);
    let chosen: Vec<&PeerStatus> = match () {
        () if against == ALL_PEERS => peers.iter().filter(|peer| is_listed(peer)).collect(),
        () if is_named => peers.iter().filter(|peer| peer.name == against).collect(),
        () => peers.iter().filter(|peer| is_site(peer)).collect(),
    };
    if chosen.is_empty() {
        return vec![Chosen { label: against.to_owned(), peer: Err(nobody(against, peers)) }];
    }
    let outcome = |peer: &PeerStatus| match (&peer.answer, &peer.problem) {
        (Some(_), _) => Ok(peer.name.clone()),
        (None, problem) => {
            let why = problem.as_deref().unwrap_or("it did not answer");
            let maybe = format!("; it may belong to {against}: name a peer to compare with that one alone");
            Err(format!("{why}{}", if is_named || against == ALL_PEERS { "" } else { &maybe }))
        }
    };
    chosen.into_iter().map(|peer| Chosen { label: format!("peer {}", peer.name), peer: outcome(peer) }).collect()
}

fn nobody(against: &str, peers: &[PeerStatus]) -> String {
    if peers.is_empty() {
        return "this node has no peers: add the other nodes to [peers], and restart it".to_owned();
    }
    let named = peers.iter().map(|peer| match &peer.answer {
        Some(answer) => format!("{} (site {})", peer.name, answer.site),
        None => peer.name.clone(),
    });
    let named = named.collect::<Vec<_>>().join(", ");
    match against {
        ALL_PEERS => format!("every peer belongs to a site that was removed from the list of sites: {named}"),
        _ => format!("no peer has this name or belongs to such a site; the peers are {named}"),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::peer::PeerAnswer;

    use super::*;

    fn peer(name: &str, site: Option<&str>) -> PeerStatus {
        let answer = site.map(|site| PeerAnswer {
            site: site.parse().unwrap(),
            node: name.parse().unwrap(),
            version: String::new(),
            role: String::new(),
            epoch: 1,
            ready: true,
            waits_for: Vec::new(),
        });
        let problem = site.is_none().then(|| "connection refused".to_owned());
        PeerStatus { name: name.into(), address: String::new(), way: String::new(), answer, problem, took_ms: 0 }
    }

    fn names(against: &str, peers: &[PeerStatus]) -> Vec<(String, bool)> {
        let chosen = choose(against, peers, &["gone".parse().unwrap()].into());
        chosen.into_iter().map(|one| (one.label, one.peer.is_ok())).collect()
    }

    fn named(name: &str, is_ok: bool) -> (String, bool) {
        (format!("peer {name}"), is_ok)
    }

    #[test]
    fn a_peer_a_site_or_all_are_chosen_and_one_that_may_belong_to_the_site_is_named() {
        let peers = [peer("b-0", Some("b")), peer("c-0", Some("c")), peer("b-1", None)];
        assert_eq!(names("c-0", &peers), [named("c-0", true)]);
        assert_eq!(names("b", &peers), [named("b-0", true), named("b-1", false)]);
        assert_eq!(names("all", &peers), [named("b-0", true), named("c-0", true), named("b-1", false)]);
        assert_eq!(names("b-1", &peers), [named("b-1", false)]);
        let why = choose("b", &peers, &BTreeSet::new())[1].peer.clone().unwrap_err();
        assert!(why.contains("connection refused; it may belong to b"), "{why}");
    }

    #[test]
    fn a_peer_of_a_removed_site_is_compared_only_if_it_is_named() {
        let peers = [peer("b-0", Some("b")), peer("d-0", Some("gone"))];
        assert_eq!(names("all", &peers), [named("b-0", true)]);
        assert_eq!(names("gone", &peers), [named("d-0", true)]);
        let [Chosen { peer: Err(why), .. }] = &choose("all", &peers[1..], &["gone".parse().unwrap()].into())[..] else {
            panic!("nothing can be compared")
        };
        assert!(why.contains("d-0 (site gone)"), "{why}");
    }

    #[test]
    fn a_name_that_nobody_has_is_no_success() {
        for (against, peers, part) in
            [("x", &[peer("b-0", Some("b"))][..], "b-0 (site b)"), ("all", &[][..], "no peers")]
        {
            let chosen = choose(against, peers, &BTreeSet::new());
            let [Chosen { peer: Err(why), .. }] = &chosen[..] else { panic!("{chosen:?}") };
            assert!(why.contains(part), "{why}");
        }
    }
}
