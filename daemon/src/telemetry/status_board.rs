//! The status board: recent events of this node, in memory, for the status API.
//!
//! Stages write to the board; the status API and the metrics read it. No decision rests on it. Everything on it is
//! bounded: [`RECENT`] applied transactions per origin, [`ERRORS`] errors, [`MOST_UNCOMMITTED`] updates that nobody
//! committed, and [`PENDING`] transactions per origin that were seen and are not applied. When more are pending, the
//! later ones are not counted until there is room. The lag in seconds stays right, because it depends on the oldest one
//! alone; `lag_transactions` then means "at least".

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::Arc;

use lockstep_proto::status::{AppliedStatus, Counters, ErrorStatus, MOST_UNCOMMITTED, OriginStatus, UncommittedUpdate};
use lockstep_proto::{SiteId, TxnId};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::base::clock::Clock;

/// Number of applied transactions that are kept per origin.
pub const RECENT: usize = 64;
/// Number of errors that are kept.
pub const ERRORS: usize = 32;
/// Number of transactions per origin that are followed from "seen" to "applied".
pub const PENDING: usize = 8_192;
/// Longest text that is kept of an error, in characters.
const ERROR_CHARS: usize = 1_024;

/// The lag of this node behind one origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    /// The site where the transactions were committed.
    pub origin: SiteId,
    /// Number of transactions that were seen and are not applied.
    pub transactions: u64,
    /// Now minus the commit time of the oldest of them, in seconds; never below zero.
    pub seconds: f64,
}

/// A copy of the board.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Replication from each origin, in the order of the origins' names.
    pub origins: Vec<OriginStatus>,
    /// Counters since the start of the process.
    pub counters: Counters,
    /// The last errors, newest first.
    pub last_errors: Vec<ErrorStatus>,
}

/// The part of the board for one origin.
#[derive(Debug, Default)]
struct Origin {
    /// Commit times of the transactions that were seen and are not applied, in milliseconds since 1970.
    pending: BTreeMap<TxnId, u64>,
    recent: VecDeque<AppliedStatus>,
}

#[derive(Debug, Default)]
struct Board {
    origins: BTreeMap<SiteId, Origin>,
    counters: Counters,
    errors: VecDeque<ErrorStatus>,
    /// Updates that nobody committed, newest first.
    uncommitted: VecDeque<UncommittedUpdate>,
    /// The last step of the start.
    start: String,
}

/// The status board. Every method locks it for a few microseconds only.
pub struct StatusBoard {
    clock: Arc<dyn Clock>,
    board: Mutex<Board>,
    /// Notified when there are more updates that nobody committed.
    uncommitted_more: Notify,
}

impl StatusBoard {
    /// Creates an empty board.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, board: Mutex::default(), uncommitted_more: Notify::new() }
    }

    /// Keeps the present step of the node's start.
    pub fn starting(&self, step: &str) {
        self.board().start = step.chars().take(ERROR_CHARS).collect();
    }

    /// The last step of the node's start. Empty before the first one.
    #[must_use]
    pub fn start(&self) -> String {
        self.board().start.clone()
    }

    /// Counts a batch that was committed here.
    pub fn committed(&self) {
        self.board().counters.committed += 1;
    }

    /// Counts a batch that was refused here.
    pub fn refused(&self) {
        self.board().counters.refused += 1;
    }

    /// Counts a batch that was answered "unknown" here.
    pub fn unknown(&self) {
        self.board().counters.unknown += 1;
    }

    /// Counts transactions that reached the event log.
    pub fn published(&self, transactions: u64) {
        self.board().counters.published += transactions;
    }

    /// Records that a transaction of an origin is committed and not applied here yet. Repeated calls are harmless.
    pub fn seen(&self, origin: &SiteId, txn: &TxnId, committed_at_ms: u64) {
        let mut board = self.board();
        let pending = &mut board.origin(origin).pending;
        if pending.len() < PENDING {
            pending.insert(txn.clone(), committed_at_ms);
        }
    }

    /// Records that a transaction was applied from the event log and its refs can be read.
    pub fn applied(&self, origin: &SiteId, applied: AppliedStatus) {
        let mut board = self.board();
        board.counters.applied += 1;
        board.origin(origin).done(applied);
    }

    /// Records that a transaction was committed here and its refs can be read.
    pub fn visible(&self, origin: &SiteId, entry: AppliedStatus) {
        self.board().origin(origin).done(entry);
    }

    /// Counts a transaction that was fetched from the journal because something was missing.
    pub fn fetched(&self) {
        self.board().counters.caught_up += 1;
    }

    /// Records that a transaction was skipped, because it is not newer than the local state.
    pub fn skipped(&self, origin: &SiteId, txn: &TxnId) {
        let mut board = self.board();
        board.counters.skipped += 1;
        board.origin(origin).pending.remove(txn);
    }

    /// Records an error of a task, with its whole chain of causes, cut to 1,024 characters.
    pub fn error(&self, stage: &str, error: &dyn Error) {
        let message = chain(error).chars().take(ERROR_CHARS).collect();
        let entry = ErrorStatus { stage: stage.to_owned(), message, at_ms: self.clock.now_ms() };
        push_bounded(&mut self.board().errors, entry, ERRORS);
    }

    /// Adds updates that were begun here and that nobody committed, oldest first. One that is there already stays.
    pub fn uncommitted(&self, updates: impl IntoIterator<Item = UncommittedUpdate>) {
        let mut board = self.board();
        for update in updates {
            if !board.uncommitted.contains(&update) {
                push_bounded(&mut board.uncommitted, update, MOST_UNCOMMITTED);
                self.uncommitted_more.notify_one();
            }
        }
    }

    /// The updates that were begun here and that nobody committed, newest first.
    #[must_use]
    pub fn all_uncommitted(&self) -> Vec<UncommittedUpdate> {
        self.board().uncommitted.iter().cloned().collect()
    }

    /// Waits until updates were added.
    pub async fn uncommitted_more(&self) {
        self.uncommitted_more.notified().await;
    }

    /// The lag behind each origin, in the order of the origins' names.
    #[must_use]
    pub fn lags(&self) -> Vec<Lag> {
        let now_ms = self.clock.now_ms();
        self.board().origins.iter().map(|(site, origin)| origin.lag(site, now_ms)).collect()
    }

    /// Returns a copy of the board.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now_ms = self.clock.now_ms();
        let board = self.board();
        Snapshot {
            origins: board.origins.iter().map(|(site, origin)| origin.status(site, now_ms)).collect(),
            counters: board.counters.clone(),
            last_errors: board.errors.iter().cloned().collect(),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock()
    }
}

impl Board {
    fn origin(&mut self, site: &SiteId) -> &mut Origin {
        self.origins.entry(site.clone()).or_default()
    }
}

impl Origin {
    fn done(&mut self, applied: AppliedStatus) {
        self.pending.remove(&applied.txn);
        push_bounded(&mut self.recent, applied, RECENT);
    }

    fn lag(&self, site: &SiteId, now_ms: u64) -> Lag {
        let oldest = self.pending.values().min();
        let millis = oldest.map_or(0, |oldest| now_ms.saturating_sub(*oldest));
        Lag { origin: site.clone(), transactions: self.pending.len() as u64, seconds: millis as f64 / 1_000.0 }
    }

    fn status(&self, site: &SiteId, now_ms: u64) -> OriginStatus {
        let lag = self.lag(site, now_ms);
        let recent = self.recent.iter().cloned().collect();
        OriginStatus { site: lag.origin, lag_transactions: lag.transactions, lag_seconds: lag.seconds, recent }
    }
}

/// Puts an entry in front, and drops the oldest entries beyond `limit`.
fn push_bounded<T>(ring: &mut VecDeque<T>, entry: T, limit: usize) {
    ring.push_front(entry);
    ring.truncate(limit);
}

/// An error and all of its causes, joined by colons.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the sync failed")]
    struct SyncFailed(#[source] std::io::Error);

    struct At(u64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0
        }
    }

    fn board() -> StatusBoard {
        StatusBoard::new(Arc::new(At(10_000)))
    }

    fn site() -> SiteId {
        "muc-1".parse().unwrap()
    }

    fn txn(seq: u64) -> TxnId {
        format!("muc-1-0.1.0.{seq}.00c0ffee00c0ffee").parse().unwrap()
    }

    fn applied(seq: u64) -> AppliedStatus {
        AppliedStatus {
            txn: txn(seq),
            project: "tools#1".to_owned(),
            refs: 1,
            first_ref: "refs/heads/main".to_owned(),
            committed_at_ms: 1,
            visible_at_ms: 2,
        }
    }

    fn lag(board: &StatusBoard) -> (u64, f64) {
        let lag = board.lags().remove(0);
        (lag.transactions, lag.seconds)
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_that_is_not_applied() {
        let board = board();
        board.seen(&site(), &txn(2), 9_000);
        board.seen(&site(), &txn(1), 7_500);
        assert_eq!(lag(&board), (2, 2.5));
        board.applied(&site(), applied(1));
        assert_eq!(lag(&board), (1, 1.0));
        board.skipped(&site(), &txn(2));
        assert_eq!(lag(&board), (0, 0.0));
    }

    #[test]
    fn an_origin_whose_clock_is_ahead_has_no_lag() {
        let board = board();
        board.seen(&site(), &txn(1), 12_000);
        assert_eq!(lag(&board), (1, 0.0));
    }

    #[test]
    fn rings_keep_the_newest_and_are_bounded() {
        let board = board();
        for seq in 0..RECENT as u64 + 5 {
            board.applied(&site(), applied(seq));
            board.error("apply", &std::io::Error::other(format!("error {seq}")));
        }
        let snapshot = board.snapshot();
        assert_eq!(snapshot.origins[0].recent.len(), RECENT);
        assert_eq!(snapshot.origins[0].recent[0].txn, txn(RECENT as u64 + 4));
        assert_eq!(snapshot.last_errors.len(), ERRORS);
        assert_eq!(snapshot.last_errors[0].message, format!("error {}", RECENT + 4));
        assert_eq!(snapshot.last_errors[0].at_ms, 10_000);
    }

    #[test]
    fn the_number_of_pending_transactions_is_bounded_and_the_oldest_are_kept() {
        let board = board();
        for seq in 0..PENDING as u64 + 10 {
            board.seen(&site(), &txn(seq), 4_000 + seq);
        }
        assert_eq!(lag(&board), (PENDING as u64, 6.0));
    }

    #[test]
    fn updates_that_nobody_committed_are_listed_once_and_bounded() {
        let board = board();
        let update = |at_ms| UncommittedUpdate {
            project: "p".parse().unwrap(),
            name: "refs/heads/main".parse().unwrap(),
            old: None,
            new: None,
            actor: String::new(),
            at_ms,
        };
        board.uncommitted((0..MOST_UNCOMMITTED as u64 + 5).map(update));
        board.uncommitted([update(7)]);
        let all = board.all_uncommitted();
        assert_eq!((all.len(), all[0].at_ms), (MOST_UNCOMMITTED, MOST_UNCOMMITTED as u64 + 4));
    }

    #[test]
    fn counters_count_and_errors_carry_their_causes() {
        let board = board();
        board.committed();
        board.refused();
        board.unknown();
        board.published(3);
        board.fetched();
        board.error("git", &SyncFailed(std::io::Error::other("the disk is full")));
        let snapshot = board.snapshot();
        let expected =
            Counters { committed: 1, refused: 1, unknown: 1, published: 3, caught_up: 1, ..Counters::default() };
        assert_eq!(snapshot.counters, expected);
        assert_eq!(snapshot.last_errors[0].message, "the sync failed: the disk is full");
    }
}
