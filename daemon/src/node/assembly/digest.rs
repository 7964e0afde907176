//! Leaves a small digest of this node's state in the refdb, so that it can be seen from every site while the links
//! between sites are cut.
//!
//! A digest is written every ten seconds, and at once when the node becomes ready, changes its role, has told a
//! receiver, gets a debt or can first estimate a part of its bootstrap. It has at most 4 KiB, in general less than 1
//! KiB: 0.1 write units per second and node.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::failover::HandoverStatus;
use lockstep_proto::overview::{
    DIGEST_FORMAT, DIGEST_PACE_MS, MOST_DIGEST_ENTRIES, NodeDigest, Receivers, RefreshQueue, StreamLag,
};
use tokio::time::{Instant, sleep};

use super::guards::Guards;
use super::last_contact::LastContact;
use super::stages::{Stages, streams};
use crate::seams::refdb::{DigestRecord, RefDbError, to_json};
use crate::seams::volume::StoreError;
use crate::stages::api::readiness::Latches;
use crate::stages::failover::{SlotAges, Standing};
use crate::stages::handover::Told;
use crate::telemetry::status_board::StatusBoard;

/// The interval at which the state of the node is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Writes the digests of one node.
pub(super) struct DigestWriter {
    pub(super) stages: Arc<Stages>,
    pub(super) latches: Latches,
    pub(super) board: Arc<StatusBoard>,
    pub(super) guards: Arc<Guards>,
    pub(super) contact: Arc<LastContact>,
    pub(super) handover: Vec<Told>,
}

impl DigestWriter {
    /// Writes digests until the task is aborted. A node that has not joined writes none, unless it takes everything
    /// from the refdb and from peers. Neither does a node that knows that the refdb is older than itself.
    pub(super) async fn run(self) {
        let mut last: Option<(NodeDigest, Instant)> = None;
        let mut ages = SlotAges::default();
        loop {
            sleep(LOOK).await;
            let written = match self.digest() {
                Ok(digest) => self.write_if_due(digest, &mut last, &mut ages).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = written {
                self.stages.deps.observer.failed("digest", &error);
                sleep(Duration::from_millis(DIGEST_PACE_MS)).await;
            }
        }
    }

    async fn write_if_due(
        &self,
        digest: NodeDigest,
        last: &mut Option<(NodeDigest, Instant)>,
        ages: &mut SlotAges,
    ) -> Result<(), DigestError> {
        let has_joined = !digest.closed.iter().any(|latch| latch == "joined");
        if !(has_joined || digest.bootstrap.is_some())
            || self.stages.context.went_back.is_known()
            || !is_due(last.as_ref(), &digest)
        {
            return Ok(());
        }
        let standing = ages.look(&self.stages.deps.refdb, &digest.node).await?;
        self.write(&standing.into_iter().fold(digest.clone(), with_standing)).await?;
        if digest.closed.is_empty() {
            self.contact.note(digest.at_ms).await?;
        }
        *last = Some((digest, Instant::now()));
        Ok(())
    }

    async fn write(&self, digest: &NodeDigest) -> Result<(), RefDbError> {
        let body = to_json(digest)?;
        self.stages.deps.refdb.nodes.put_digest(&DigestRecord { node: digest.node.clone(), body }).await
    }

    /// The state of this node, without its standing in the refdb. Figures that cannot be read make no digest: the
    /// last one grows old.
    fn digest(&self) -> Result<NodeDigest, StoreError> {
        let (deps, state) = (&self.stages.deps, &self.stages.state);
        let site = state.roles.of(&deps.settings.site);
        let journal = self.stages.journal.lock().clone();
        let marks = journal.as_ref().map(|journal| journal.marks()).unwrap_or_default();
        let (parked, held) = deps.store.held_counts()?;
        let refresh = self.stages.refresh.as_ref().map(|refresh| refresh.status());
        let mut closed = self.latches.closed();
        closed.truncate(MOST_DIGEST_ENTRIES);
        let epoch = site.as_ref().map_or(0, |site| site.epoch);
        let told: Vec<HandoverStatus> = self.handover.iter().map(|told| told.lock().clone()).collect();
        Ok(NodeDigest {
            format: DIGEST_FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            site: deps.settings.site.clone(),
            node: deps.settings.node.clone(),
            at_ms: deps.clock.now_ms(),
            starts: None,
            role: site.as_ref().map_or("unknown", |site| site.role.name()).to_owned(),
            epoch,
            receivers: receivers(&told, epoch, journal.is_some()),
            incarnation: journal.map(|journal| journal.id().number),
            closed,
            streams: self.lags(),
            unpublished: marks.iter().map(|mark| mark.settled.0 - mark.published.0).sum(),
            in_flight: marks.iter().map(|mark| mark.in_flight).sum(),
            parked,
            held,
            owed: state.debts.owed(),
            degraded: state.debts.degraded().len() as u64,
            guards_off: self.guards.found().count,
            refresh: refresh.map(|it| RefreshQueue { due: it.due, oldest_ms: it.oldest_ms }),
            verified: self.stages.verifier.verified(),
            follows_list: true,
            signs_with: state.signing.key(),
            obeys_mode: true,
            probes_users: Some(!deps.probes.probes.is_empty()),
            bootstrap: state.bootstrap.now(),
            written: deps.eventlog.written(&deps.settings.site),
        })
    }

    /// The lag behind each stream that this node reads.
    fn lags(&self) -> Vec<StreamLag> {
        let known = self.board.lags();
        let lag = |site| {
            let lag = known.iter().find(|lag| lag.origin == site);
            let (transactions, seconds) = lag.map_or((0, 0.0), |lag| (lag.transactions, lag.seconds));
            StreamLag { site, transactions, seconds }
        };
        streams(&self.stages).into_iter().map(lag).collect()
    }
}

/// The receivers of a node, and those among them that took the notice of this epoch and of whether the node takes
/// writes. None without receivers.
fn receivers(told: &[HandoverStatus], epoch: u64, takes_writes: bool) -> Option<Receivers> {
    let is_told = |one: &&HandoverStatus| {
        one.told.as_ref().is_some_and(|notice| (notice.epoch, notice.takes_writes) == (epoch, takes_writes))
    };
    let (all, told) = (told.len() as u64, told.iter().filter(is_told).count() as u64);
    (all > 0).then_some(Receivers { all, told })
}

/// Why a digest could not be written.
#[derive(Debug, thiserror::Error)]
enum DigestError {
    /// A call of the refdb failed.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The time of the last contact cannot be kept.
    #[error("the time of the last contact cannot be written into the state folder: {0}")]
    Contact(#[from] std::io::Error),
}

/// The digest with the node's standing in the refdb: a node that reads no stream sees no transaction that it lacks, and
/// still lacks slots. Names the longest lags if they are too many.
fn with_standing(mut digest: NodeDigest, standing: Standing) -> NodeDigest {
    digest.starts = Some(standing.starts);
    for lag in &mut digest.streams {
        let age = standing.ages.get(&lag.site).map_or(0.0, Duration::as_secs_f64);
        lag.seconds = lag.seconds.max(age);
    }
    if digest.streams.len() > MOST_DIGEST_ENTRIES {
        digest.streams.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        digest.streams.truncate(MOST_DIGEST_ENTRIES);
    }
    digest
}

/// Whether a digest is to be written: the last one is old enough, or something that an operator waits for has changed.
fn is_due(last: Option<&(NodeDigest, Instant)>, now: &NodeDigest) -> bool {
    let Some((last, written)) = last else { return true };
    let urgent = |it: &NodeDigest| {
        let of_failover = (it.epoch, it.incarnation, it.receivers.clone());
        let estimated = it.bootstrap.as_ref().map(|part| (part.stage, part.left_ms.is_some()));
        (of_failover, estimated, it.closed.clone(), it.degraded, it.held, it.owed, it.verified.clone())
    };
    written.elapsed() >= Duration::from_millis(DIGEST_PACE_MS) || urgent(last) != urgent(now)
}

#[cfg(test)]
mod tests {
    use lockstep_proto::failover::{Role, RoleNotice};
    use lockstep_proto::overview::MOST_DIGEST_BYTES;
    use lockstep_proto::site_list::{Bootstrap, BootstrapStage};

    use super::*;

    fn digest() -> NodeDigest {
        serde_json::from_str(r#"{"format": 1, "site": "a", "node": "a-0", "at_ms": 7}"#).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_digest_is_due_after_ten_seconds_or_when_something_urgent_has_changed() {
        assert!(is_due(None, &digest()));
        let last = (digest(), Instant::now());
        let lagging = NodeDigest { unpublished: 7, parked: 3, at_ms: 99, ..digest() };
        assert!(!is_due(Some(&last), &lagging));
        assert!(is_due(Some(&last), &NodeDigest { degraded: 1, ..digest() }));
        let receivers = Some(Receivers { all: 1, told: 1 });
        assert!(is_due(Some(&last), &NodeDigest { receivers, ..digest() }));
        assert!(is_due(Some(&last), &NodeDigest { closed: vec!["caught-up".into()], ..digest() }));
        let joins = |done, left_ms| {
            let bootstrap = Some(Bootstrap { stage: BootstrapStage::Projects, done, total: 4, left_ms });
            NodeDigest { bootstrap, ..digest() }
        };
        assert!(is_due(Some(&(joins(0, None), Instant::now())), &joins(1, Some(3_000))), "the first estimate");
        assert!(!is_due(Some(&(joins(1, Some(3_000)), Instant::now())), &joins(2, Some(2_000))));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(is_due(Some(&last), &lagging));
    }

    #[test]
    fn a_node_that_sees_no_transaction_lags_as_long_as_it_lacks_slots() {
        let site = || "b".parse().unwrap();
        let silent = StreamLag { site: site(), transactions: 0, seconds: 0.0 };
        let standing = Standing { starts: 3, ages: [(site(), Duration::from_secs(40))].into() };
        let digest = with_standing(NodeDigest { streams: vec![silent], ..digest() }, standing);
        assert_eq!((digest.starts, digest.streams[0].seconds), (Some(3), 40.0));
    }

    #[test]
    fn a_receiver_is_told_once_it_has_taken_the_notice_of_the_present_state() {
        let told = |notice: Option<(u64, bool)>| HandoverStatus {
            receiver: "program".to_owned(),
            told: notice.map(|(epoch, takes_writes)| RoleNotice {
                site: "a".parse().unwrap(),
                node: "a-0".parse().unwrap(),
                role: Role::Active,
                epoch,
                takes_writes,
                start: 1,
                number: 1,
            }),
            at_ms: None,
            problem: None,
        };
        let all = [None, Some((2, true)), Some((3, false)), Some((3, true))].map(told);
        assert_eq!(receivers(&all, 3, true), Some(Receivers { all: 4, told: 1 }));
        assert_eq!(receivers(&[], 3, true), None);
    }

    #[test]
    fn the_largest_digest_fits_into_its_bound() {
        let name = "x".repeat(48);
        let lag = StreamLag { site: name.parse().unwrap(), transactions: u64::MAX, seconds: 1_234_567.123 };
        let largest = NodeDigest {
            site: name.parse().unwrap(),
            node: name.parse().unwrap(),
            starts: Some(u64::MAX),
            closed: ["repaired", "joined", "caught-up", "refdb-current"].map(str::to_owned).to_vec(),
            streams: vec![lag; MOST_DIGEST_ENTRIES],
            receivers: Some(Receivers { all: u64::MAX, told: u64::MAX }),
            ..digest()
        };
        let bytes = serde_json::to_string(&largest).unwrap().len();
        assert!(bytes + 700 < MOST_DIGEST_BYTES, "{bytes}");
    }
}
