//! The lag of each link over the last hour, in memory, and since when the refdb or a peer does not answer. A link is a
//! node that reads the stream of a site. A look every 15 seconds notes the lags that the digests of all nodes tell. A
//! node whose digest is old, or that has none, leaves a gap.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::overview::Overview;
use lockstep_proto::peer::PeerStatus;
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::base::clock::Clock;
use crate::stages::ports::{Inspection, Operators};

/// The pause between two looks.
const EVERY: Duration = Duration::from_secs(15);
/// How long the refdb, and all peers, may take to answer a look.
const ANSWER: Duration = Duration::from_secs(8);
/// The looks of one hour.
pub(super) const KEPT: usize = 240;
/// The most links that are followed.
const MOST_LINKS: usize = 1_024;

/// A node that reads the stream of a site.
pub(super) type Link = (NodeId, SiteId);

/// A peer, as it answered the last look.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PeerSeen {
    /// Its answer, or the problem.
    pub(super) status: PeerStatus,
    /// Since when it does not answer, in milliseconds since 1970, as far as this process knows.
    pub(super) silent_since: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    links: BTreeMap<Link, VecDeque<Option<f64>>>,
    refdb_silent_since: Option<u64>,
    peers: BTreeMap<String, PeerSeen>,
    /// When the peers were asked last.
    asked_ms: Option<u64>,
}

/// The looks of the last hour.
#[derive(Debug, Default)]
pub(super) struct Trend(Mutex<Inner>);

impl Trend {
    /// Looks until the task is aborted.
    pub(super) async fn watch(&self, operators: &dyn Operators, inspection: &dyn Inspection, clock: &dyn Clock) {
        loop {
            let late = |_| Err(ApiError::unavailable("no answer in time"));
            let seen = timeout(ANSWER, operators.overview()).await.unwrap_or_else(late);
            self.note_sites(seen.as_ref(), clock.now_ms());
            drop(seen);
            if let Ok(peers) = timeout(ANSWER, inspection.peers()).await {
                self.note_peers(peers, clock.now_ms());
            }
            sleep(EVERY).await;
        }
    }

    /// Notes the lags of an overview, or that there is none. A refdb that refuses the call is not silent.
    pub(super) fn note_sites(&self, seen: Result<&Overview, &ApiError>, now_ms: u64) {
        let mut inner = self.0.lock();
        inner.refdb_silent_since = match seen {
            Err(error) if is_silence(error) => inner.refdb_silent_since.or(Some(now_ms)),
            _ => None,
        };
        let mut lags: BTreeMap<Link, f64> = seen.into_iter().flat_map(lags).collect();
        for (link, looks) in &mut inner.links {
            looks.push_back(lags.remove(link));
            if looks.len() > KEPT {
                looks.pop_front();
            }
        }
        inner.links.retain(|_, looks| looks.iter().any(Option::is_some));
        let room = MOST_LINKS.saturating_sub(inner.links.len());
        inner.links.extend(lags.into_iter().take(room).map(|(link, lag)| (link, VecDeque::from([Some(lag)]))));
    }

    /// Notes the answers of all peers.
    pub(super) fn note_peers(&self, statuses: Vec<PeerStatus>, now_ms: u64) {
        let mut inner = self.0.lock();
        let before = std::mem::take(&mut inner.peers);
        let since = |status: &PeerStatus| match status.answer {
            Some(_) => None,
            None => before.get(&status.name).and_then(|peer| peer.silent_since).or(Some(now_ms)),
        };
        let seen = |status: PeerStatus| (status.name.clone(), PeerSeen { silent_since: since(&status), status });
        inner.peers = statuses.into_iter().map(seen).collect();
        inner.asked_ms = Some(now_ms);
    }

    /// The lags of all links, oldest first, each with a gap where it is not known.
    pub(super) fn links(&self) -> BTreeMap<Link, Vec<Option<f64>>> {
        let inner = self.0.lock();
        inner.links.iter().map(|(link, looks)| (link.clone(), looks.iter().copied().collect())).collect()
    }

    /// Since when the refdb does not answer, in milliseconds since 1970, as far as this process knows.
    pub(super) fn refdb_silent_since(&self) -> Option<u64> {
        self.0.lock().refdb_silent_since
    }

    /// The peers, by name, and when they were asked, in milliseconds since 1970. None before the first look.
    pub(super) fn peers(&self) -> (Vec<PeerSeen>, Option<u64>) {
        let inner = self.0.lock();
        (inner.peers.values().cloned().collect(), inner.asked_ms)
    }
}

/// Whether an error means that the refdb gave no answer. A retry helps then; it does not if the refdb refuses a call.
pub(super) fn is_silence(error: &ApiError) -> bool {
    error.code == RefusalCode::Unavailable && error.retry
}

/// The lags that the digests tell about the present.
fn lags(all: &Overview) -> impl Iterator<Item = (Link, f64)> {
    let nodes = all.sites.iter().flat_map(|site| &site.nodes).filter(|node| !node.is_old);
    nodes.flat_map(|node| {
        let streams = node.digest.iter().flat_map(|digest| &digest.streams);
        streams.map(move |lag| ((node.node.clone(), lag.site.clone()), lag.seconds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::console::tests::overview;

    fn of_b(trend: &Trend) -> Vec<Option<f64>> {
        let link = ("b-0".parse().unwrap(), "a".parse().unwrap());
        trend.links().remove(&link).unwrap_or_default()
    }

    #[test]
    fn a_look_without_an_answer_is_a_gap_and_an_hour_is_kept() {
        let (trend, silence) = (Trend::default(), ApiError::unavailable("no answer in time"));
        trend.note_sites(Ok(&overview(2.5, false)), 1_000);
        trend.note_sites(Err(&silence), 2_000);
        trend.note_sites(Err(&silence), 3_000);
        assert_eq!(trend.refdb_silent_since(), Some(2_000), "the first look without an answer counts");
        trend.note_sites(Ok(&overview(0.0, true)), 4_000);
        trend.note_sites(Ok(&overview(1.0, false)), 5_000);
        assert_eq!(trend.refdb_silent_since(), None);
        assert_eq!(of_b(&trend), [Some(2.5), None, None, None, Some(1.0)], "an old digest is a gap, too");
        (0..KEPT).for_each(|_| trend.note_sites(Ok(&overview(3.0, false)), 6_000));
        assert_eq!(of_b(&trend), vec![Some(3.0); KEPT]);
        (0..KEPT).for_each(|_| trend.note_sites(Err(&silence), 7_000));
        assert_eq!(trend.links().len(), 0, "a link of which nothing is known any more is forgotten");
    }

    #[test]
    fn a_refdb_that_refuses_a_call_is_not_silent() {
        let trend = Trend::default();
        trend.note_sites(Err(&ApiError::unavailable("no answer in time")), 1_000);
        trend.note_sites(Err(&ApiError::new(RefusalCode::Unavailable, false, "AccessDenied")), 2_000);
        assert_eq!(trend.refdb_silent_since(), None);
    }

    #[test]
    fn a_peer_is_silent_since_the_first_look_that_it_did_not_answer() {
        let trend = Trend::default();
        let peer = |answers: bool| {
            let answer =
                r#"{"site": "b", "node": "b-0", "version": "1", "role": "standby", "epoch": 1, "ready": true}"#;
            let answer = if answers { answer } else { "null" };
            let text = format!(r#"{{"name": "b-0", "address": "x", "way": "tls", "answer": {answer}, "took_ms": 1}}"#);
            vec![serde_json::from_str(&text).unwrap()]
        };
        assert_eq!(trend.peers(), (Vec::new(), None));
        for (answers, now_ms, since) in [(false, 1, Some(1)), (false, 2, Some(1)), (true, 3, None), (false, 4, Some(4))]
        {
            trend.note_peers(peer(answers), now_ms);
            let (peers, asked) = trend.peers();
            assert_eq!((peers[0].silent_since, asked), (since, Some(now_ms)));
        }
    }
}
