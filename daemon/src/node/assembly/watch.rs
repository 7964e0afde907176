//! The production observer: turns the events of the stages into metrics, the status board and log lines.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::sharing::RecordOrigin;
use lockstep_proto::status::{AppliedStatus, UncommittedUpdate};
use lockstep_proto::{SiteId, Transaction, TxnId};

use crate::base::clock::Clock;
use crate::base::observer::Observer;
use crate::telemetry::metrics::{ApplyOutcome, Metrics};
use crate::telemetry::set_parent;
use crate::telemetry::status_board::StatusBoard;

/// The observer of a production node.
pub struct Watch {
    board: Arc<StatusBoard>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

/// An error as text, in the form that the status board takes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

impl Watch {
    /// An observer that writes to this board and these metrics.
    #[must_use]
    pub fn new(board: Arc<StatusBoard>, metrics: Metrics, clock: Arc<dyn Clock>) -> Self {
        Self { board, metrics, clock }
    }

    fn entry(&self, transaction: &Transaction) -> AppliedStatus {
        AppliedStatus {
            txn: transaction.id.clone(),
            project: transaction.project.to_string(),
            refs: u32::try_from(transaction.commands.len()).unwrap_or(u32::MAX),
            first_ref: transaction.commands.first().map(|command| command.key.to_string()).unwrap_or_default(),
            committed_at_ms: transaction.committed_at_ms,
            visible_at_ms: self.clock.now_ms(),
        }
    }
}

impl Observer for Watch {
    fn committed(&self, transaction: &Transaction, visible: bool, took: Duration) {
        let outcome = if visible { Outcome::Committed } else { Outcome::CommittedNotYetVisible };
        self.metrics.commit.answered(outcome, took.as_secs_f64(), transaction.commands.len() as u64);
        self.board.committed();
        if visible {
            self.board.visible(&transaction.site, self.entry(transaction));
        }
        tracing::debug!(txn = %transaction.id, project = %transaction.project, visible, "committed");
    }

    fn refused(&self, code: RefusalCode) {
        self.metrics.commit.refused(code);
        self.board.refused();
    }

    fn unknown(&self, txn: &TxnId) {
        self.metrics.commit.unknown();
        self.board.unknown();
        tracing::warn!(%txn, "the refdb did not answer: resolving the outcome of the transaction");
    }

    fn uncommitted(&self, update: &UncommittedUpdate) {
        let UncommittedUpdate { project, name, old, new, actor, at_ms } = update;
        tracing::warn!(
            %project, %name, ?old, ?new, actor, at_ms,
            "an update was not committed, because the site was fenced meanwhile: its value is kept as a stray"
        );
        self.board.uncommitted([update.clone()]);
    }

    fn records_from(&self, origin: RecordOrigin, count: usize) {
        self.metrics.eventlog.records_from(origin, count as u64);
    }

    fn reader_lease(&self, change: &'static str) {
        tracing::info!(change, "the lease of a shard has changed");
        self.metrics.eventlog.lease_changed(change);
    }

    fn read_alone(&self, reason: &'static str) {
        self.metrics.eventlog.read_alone(reason);
    }

    fn seen(&self, origin: &SiteId, txn: &TxnId, committed_at_ms: u64) {
        self.metrics.consume.read(origin, 1);
        self.board.seen(origin, txn, committed_at_ms);
    }

    fn applied(&self, transaction: &Transaction) {
        let span = tracing::info_span!("apply", txn = %transaction.id, project = %transaction.project);
        set_parent(&span, &transaction.traceparent);
        let _inside = span.entered();
        self.metrics.apply.transaction(&transaction.site, ApplyOutcome::Applied);
        self.board.applied(&transaction.site, self.entry(transaction));
        tracing::debug!(txn = %transaction.id, project = %transaction.project, "applied");
    }

    fn skipped(&self, origin: &SiteId, txn: &TxnId) {
        self.metrics.apply.transaction(origin, ApplyOutcome::Skipped);
        self.board.skipped(origin, txn);
    }

    fn caught_up(&self, txn: &TxnId) {
        tracing::info!(%txn, "caught up from the journal");
        self.board.fetched();
    }

    fn parked(&self, txn: &TxnId, reason: &dyn Display) {
        tracing::info!(%txn, reason = reason.to_string(), "parked");
    }

    fn quarantined(&self, what: &str, reason: &dyn Display) {
        let reason = reason.to_string();
        tracing::error!(what, reason, "quarantined: later moves of its refs are blocked; see `lockstep quarantine`");
        self.board.error("apply", &Told(format!("{what} is quarantined: {reason}")));
    }

    fn unsigned(&self, end: &'static str) {
        self.metrics.apply.unsigned(end);
    }

    fn published(&self, count: usize, took: Duration) {
        self.metrics.publish.appended(count as u64, took.as_secs_f64());
        self.board.published(count as u64);
    }

    fn publish_refused(&self, refused: usize, repeats: usize) {
        self.metrics.publish.refused(refused as u64, repeats as u64);
    }

    fn forwarded(&self, count: usize) {
        self.metrics.events.forwarded(count as u64);
    }

    fn event_confirmed(&self, count: usize) {
        self.metrics.events.delivered(count as u64);
    }

    fn event_dropped(&self, what: &str, reason: &str) {
        tracing::error!(what, reason, "a stream event was dropped: this node's Gerrit will not receive it");
        self.metrics.events.dropped();
        self.board.error("events", &Told(format!("stream event {what} was dropped: {reason}")));
    }

    fn refreshed(&self, done: u64, failed: u64) {
        self.metrics.refresh.reported(done, failed);
    }

    fn drill_ended(&self, number: u64, red: &[String]) {
        match red {
            [] => tracing::info!(number, "the drill is green"),
            red => self.failed("drill", &format!("drill {number} is red: {}", red.join("; "))),
        }
    }

    fn silent_drill_ended(&self, id: &str, red: &[String]) {
        match red {
            [] => tracing::info!(id, "the silent drill is green"),
            red => self.failed("drill", &format!("silent drill {id} is red: {}", red.join("; "))),
        }
    }

    fn strays(&self, count: u64) {
        self.metrics.apply.strays(count);
    }

    fn starting(&self, step: &dyn Display) {
        self.board.starting(&step.to_string());
    }

    fn failed(&self, stage: &'static str, why: &dyn Display) {
        let why = why.to_string();
        tracing::warn!(stage, why, "a step failed and will be retried");
        self.metrics.site.failed(stage);
        self.board.error(stage, &Told(why));
    }
}
