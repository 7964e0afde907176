//! The verification in progress, and the last ones. They are kept in the node's store as one bounded document, so that
//! a restart forgets neither when the node was verified nor what differed.

use std::collections::BTreeMap;

use lockstep_proto::ProjectKey;
use lockstep_proto::overview::Verified;
use lockstep_proto::verify::{
    Estimate, LastVerified, MOST_FOUND, MOST_KEPT, Mismatch, NotCompared, PeerCompared, Right, Verification,
    VerifyRequest,
};
use serde::{Deserialize, Serialize};

use super::background::Kept as Background;
use super::project::{CompareError, Compared};
use super::results::{Kept as KeptResults, Results};
use crate::seams::volume::{NodeStore, StoreError};

/// The name of the refdb among the sides of a comparison.
const REFDB: &str = "refdb";

/// The verifications of one node.
#[derive(Default)]
pub(super) struct Log {
    /// The verification that is in progress, or was the last one.
    pub(super) last: Option<Verification>,
    pub(super) results: Results,
    /// The progress of the verification in the background.
    pub(super) background: Background,
    /// The last one that has ended.
    ended: Option<Verification>,
    /// The last one against each peer. Bounded by [`MOST_KEPT`].
    each: BTreeMap<String, LastVerified>,
    /// The highest number that was given out.
    number: u64,
}

/// The log as it is stored. Fields may be added with a default.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    number: u64,
    #[serde(default)]
    last: Option<Verification>,
    #[serde(default)]
    each: Vec<LastVerified>,
    #[serde(default)]
    results: KeptResults,
    #[serde(default)]
    background: Background,
}

impl Log {
    /// Reads the log of the earlier lives of the node. One that this release cannot read counts as none.
    pub(super) fn load(store: &dyn NodeStore) -> Result<Self, StoreError> {
        let Some(text) = store.verified()? else { return Ok(Self::default()) };
        let kept: Kept = serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the results of earlier verifications cannot be read: run `lockstep verify` again");
            Kept::default()
        });
        let Kept { number, last, each, results, background } = kept;
        let each = each.into_iter().map(|one| (one.against.clone(), one)).collect();
        let results = Results::from_kept(results);
        Ok(Self { last: last.clone(), ended: last, results, background, each, number })
    }

    /// The log as text for the store.
    pub(super) fn to_keep(&self) -> String {
        let each = self.each.values().cloned().collect();
        let (results, background) = (self.results.to_keep(), self.background.clone());
        let kept = Kept { number: self.number, last: self.ended.clone(), each, results, background };
        // It has only strings, numbers, lists and structs, so serialising it cannot fail.
        serde_json::to_string(&kept).unwrap_or_default()
    }

    pub(super) fn running(&self) -> Option<Verification> {
        self.last.clone().filter(|one| one.ended_ms.is_none())
    }

    pub(super) fn begin(&mut self, request: VerifyRequest, estimate: Estimate, now_ms: u64) -> Verification {
        self.number += 1;
        let begun = Verification {
            number: self.number,
            request,
            estimate,
            began_ms: now_ms,
            ended_ms: None,
            projects: 0,
            refs: 0,
            on_their_way: 0,
            repaired: 0,
            mismatches: 0,
            found: Vec::new(),
            failures: 0,
            failed: Vec::new(),
            peers: Vec::new(),
        };
        self.last = Some(begun.clone());
        begun
    }

    /// Notes a project that was compared with the refdb.
    pub(super) fn compared(&mut self, project: &ProjectKey, compared: Compared, now_ms: u64) {
        self.results.compared(&project.name, compared.mismatches.len() as u64, now_ms);
        self.count(compared);
    }

    /// Notes a project that was compared with a peer. A ref of this node that is wrong stays known until the project is
    /// compared with the refdb.
    pub(super) fn compared_with(&mut self, project: &ProjectKey, compared: Compared, now_ms: u64) {
        let is_wrong = |one: &&Mismatch| one.right != Right::ThisNode;
        let wrong = compared.mismatches.iter().filter(is_wrong).count() as u64;
        self.results.at_least(&project.name, wrong, now_ms);
        self.count(compared);
    }

    /// Adds the figures of a project to the verification in progress.
    fn count(&mut self, compared: Compared) {
        let Some(last) = &mut self.last else { return };
        last.projects += 1;
        last.refs += compared.refs;
        last.on_their_way += compared.on_their_way;
        last.repaired += compared.repaired;
        last.mismatches += compared.mismatches.len() as u64;
        let room = MOST_FOUND.saturating_sub(last.found.len());
        last.found.extend(compared.mismatches.into_iter().take(room));
    }

    /// Notes projects of a peer whose digests are equal.
    pub(super) fn equal(&mut self, projects: u64, refs: u64) {
        let Some(last) = &mut self.last else { return };
        last.projects += projects;
        last.refs += refs;
    }

    pub(super) fn failed(&mut self, project: String, failure: &CompareError) {
        let Some(last) = &mut self.last else { return };
        last.failures += 1;
        if last.failed.len() < MOST_FOUND {
            last.failed.push(NotCompared { project, why: failure.to_string() });
        }
    }

    /// Mismatches and failures of the verification in progress.
    pub(super) fn bad(&self) -> (u64, u64) {
        self.last.as_ref().map_or((0, 0), |last| (last.mismatches, last.failures))
    }

    /// Notes a peer that was compared to its end.
    pub(super) fn with_peer(&mut self, compared: PeerCompared, at_ms: u64) {
        let Some(last) = &mut self.last else { return };
        let is_of_all = last.request.project.is_none();
        last.peers.push(compared.clone());
        self.put(compared, is_of_all, at_ms);
    }

    /// Notes a comparison of all projects with a peer that was made in the background.
    pub(super) fn in_background(&mut self, compared: PeerCompared, at_ms: u64) {
        self.put(compared, true, at_ms);
    }

    pub(super) fn end(&mut self, at_ms: u64) {
        let Some(last) = &mut self.last else { return };
        last.ended_ms = Some(at_ms);
        let whole = last.request.project.is_none() && last.failures == 0;
        let (projects, mismatches, of_refdb) = (last.projects, last.mismatches, last.request.against.is_none());
        self.ended = Some(last.clone());
        if of_refdb {
            self.results.ended(Verified { at_ms, projects, whole, mismatches });
        }
    }

    /// The last verification against each side. That against the refdb has the mismatches that are known now.
    pub(super) fn each(&self) -> Vec<LastVerified> {
        let of_refdb = self.results.verified().map(|Verified { at_ms, projects, whole, mismatches }| LastVerified {
            against: REFDB.to_owned(),
            at_ms,
            projects,
            whole,
            mismatches,
        });
        of_refdb.into_iter().chain(self.each.values().cloned()).collect()
    }

    /// Keeps the result of a peer. It does not replace one of all projects, unless it is one itself, or refs differ.
    fn put(&mut self, compared: PeerCompared, is_of_all: bool, at_ms: u64) {
        let PeerCompared { peer: against, projects, mismatches, failures, .. } = compared;
        let ended = LastVerified { against, at_ms, projects, whole: is_of_all && failures == 0, mismatches };
        let known = self.each.get(&ended.against);
        if known.is_some_and(|known| known.whole && !ended.whole && ended.mismatches == 0) {
            return;
        }
        self.each.insert(ended.against.clone(), ended);
        while self.each.len() > MOST_KEPT {
            let oldest = self.each.values().min_by_key(|one| one.at_ms).map(|one| one.against.clone());
            oldest.map(|oldest| self.each.remove(&oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::verify::DEFAULT_SHARE;

    use super::*;
    use crate::seams::volume::Changes;
    use crate::seams::volume::memory::MemoryStore;

    fn peer(name: &str, mismatches: u64) -> PeerCompared {
        let (site, node) = ("b".to_owned(), "b-0".to_owned());
        PeerCompared { peer: name.to_owned(), site, node, projects: 2, by_digest: 1, mismatches, failures: 0 }
    }

    fn against(name: &str) -> VerifyRequest {
        VerifyRequest { against: Some(name.to_owned()), ..VerifyRequest::of_refdb(None, DEFAULT_SHARE) }
    }

    async fn reloaded(log: &Log) -> Log {
        let store = MemoryStore::default();
        store.commit(Changes { verified: Some(log.to_keep()), ..Changes::default() }).await.unwrap();
        Log::load(&store).unwrap()
    }

    #[tokio::test]
    async fn results_and_numbers_outlive_a_restart() {
        let mut log = Log::default();
        let _ = log.begin(VerifyRequest::of_refdb(None, DEFAULT_SHARE), Estimate::default(), 1);
        log.compared(&"p#1".parse().unwrap(), Compared { refs: 3, ..Compared::default() }, 2);
        log.end(3);
        let _ = log.begin(against("b-0"), Estimate::default(), 4);
        log.with_peer(peer("b-0", 5), 6);
        log.end(6);
        let _ = log.begin(against("all"), Estimate::default(), 7);
        let mut again = reloaded(&log).await;
        assert_eq!((again.each(), again.results.verified()), (log.each(), log.results.verified()));
        let of = |log: &Log| log.each().iter().map(|one| (one.against.clone(), one.mismatches)).collect::<Vec<_>>();
        assert_eq!(of(&again), [("refdb".to_owned(), 0), ("b-0".to_owned(), 5)]);
        assert_eq!(again.last.as_ref().map(|last| (last.number, last.ended_ms)), Some((2, Some(6))), "3 has not ended");
        assert!(again.running().is_none());
        assert_eq!(again.begin(against("b"), Estimate::default(), 8).number, 4);
    }

    #[tokio::test]
    async fn a_log_of_another_form_counts_as_none_and_the_number_of_peers_is_bounded() {
        let store = MemoryStore::default();
        store.commit(Changes { verified: Some("{\"number\":\"x\"}".into()), ..Changes::default() }).await.unwrap();
        let mut log = Log::load(&store).unwrap();
        assert_eq!(log.each(), []);
        let _ = log.begin(against("all"), Estimate::default(), 1);
        for number in 0..2 * MOST_KEPT as u64 {
            log.with_peer(peer(&format!("n-{number}"), 0), number);
        }
        assert_eq!(log.each().len(), MOST_KEPT);
        assert!(log.each().iter().all(|one| one.at_ms >= MOST_KEPT as u64), "the oldest give way");
    }

    #[test]
    fn a_wrong_ref_of_this_node_that_a_peer_shows_stays_known_until_the_refdb_is_compared() {
        let mut log = Log::default();
        let mismatch = |right| Mismatch {
            project: "p#1".into(),
            name: "refs/heads/a".into(),
            refdb: None,
            here: None,
            disk: None,
            peer: Some("b-0".into()),
            there: None,
            disk_there: None,
            right,
            why: String::new(),
        };
        let compared = |right| Compared { mismatches: vec![mismatch(right)], ..Compared::default() };
        let p: ProjectKey = "p#1".parse().unwrap();
        log.compared_with(&p, compared(Right::ThisNode), 1);
        assert_eq!(log.results.verified(), None, "the peer is wrong");
        log.compared_with(&p, compared(Right::Peer), 2);
        log.compared_with(&p, Compared::default(), 3);
        assert_eq!(log.results.verified().map(|found| found.mismatches), Some(1), "an equal peer proves nothing");
        log.compared(&p, Compared::default(), 4);
        assert_eq!(log.results.verified(), None);
    }
}
