//! The table of metrics, and instruments made from its rows.

use opentelemetry::metrics::{AsyncInstrumentBuilder, Counter, Gauge, Histogram, Meter, ObservableGauge};

/// Upper bounds of the buckets of every duration, in seconds: a round trip in the region is some milliseconds, an
/// apply of a large pack some seconds.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// What is now.
    Gauge,
    /// A duration in seconds, in buckets.
    Histogram,
}

impl Kind {
    /// As Prometheus writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric, as operators know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDoc {
    /// Its name in `/metrics`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, with its unit.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: MetricDoc =
            MetricDoc { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric of the sidecar, in the order of the data flow.
        pub const ALL: &[MetricDoc] = &[$($constant),*];
    };
}

metrics! {
    COMMIT_TOTAL = Counter "lockstep_commit_total" ["outcome"] "batches that were answered, by the answer";
    COMMIT_SECONDS = Histogram "lockstep_commit_seconds" ["outcome"] "seconds from a batch to its answer";
    COMMIT_REFS = Counter "lockstep_commit_refs_total" [] "refs that were committed here";
    COMMIT_REFUSALS = Counter "lockstep_commit_refusals_total" ["code"] "refs that were refused, by the code of the bridge API";
    REFDB_TRIPS = Counter "lockstep_refdb_round_trips_total" ["op", "end"] "calls of the refdb, by how they ended";
    REFDB_SECONDS = Histogram "lockstep_refdb_seconds" ["op"] "seconds of a call of the refdb";
    PUBLISH_SLOTS = Counter "lockstep_publish_slots_total" [] "settled slots that were moved to the event log, poisoned ones included";
    PUBLISH_SECONDS = Histogram "lockstep_publish_seconds" [] "seconds of an append to the event log";
    JOURNAL_UNPUBLISHED = Gauge "lockstep_journal_unpublished" [] "slots of this node that are settled and not yet in the event log";
    JOURNAL_IN_FLIGHT = Gauge "lockstep_journal_in_flight" [] "slots of this node in use above the settled mark";
    CONSUME_RECORDS = Counter "lockstep_consume_records_total" ["origin"] "records that were read from the event log";
    APPLY_TOTAL = Counter "lockstep_apply_total" ["origin", "outcome"] "transactions, by what became of them at this node";
    PARKED = Gauge "lockstep_parked" [] "transactions that wait for something that has not arrived";
    QUARANTINED = Gauge "lockstep_quarantined" [] "records that were set aside because their content is bad";
    LAG_SECONDS = Gauge "lockstep_lag_seconds" ["origin"] "now minus the commit time of the oldest transaction that is not applied, in seconds";
    LAG_TRANSACTIONS = Gauge "lockstep_lag_transactions" ["origin"] "transactions that were seen and are not applied";
    EVENTS_FORWARDED = Counter "lockstep_events_forwarded_total" [] "stream events of this node's Gerrit that were moved to the event log";
    EVENTS_DELIVERED = Counter "lockstep_events_delivered_total" [] "stream events of other nodes that this node's Gerrit confirmed";
    EVENTS_DROPPED = Counter "lockstep_events_dropped_total" [] "stream events of other nodes that this node's Gerrit will not hear: an alarm";
    EVENTS_UNSENT = Gauge "lockstep_events_unsent" [] "stream events of this node's Gerrit that are not yet in the event log";
    EVENTS_WAITING = Gauge "lockstep_events_waiting" [] "stream events of other nodes that this node's Gerrit has not confirmed";
    EVENTS_OLDEST = Gauge "lockstep_events_oldest_seconds" [] "how long the oldest of these waits, in seconds";
    REFRESH_DUE = Gauge "lockstep_refresh_due" [] "changes, accounts and the like whose refs moved and that Gerrit has not acknowledged";
    REFRESH_OLDEST = Gauge "lockstep_refresh_oldest_seconds" [] "how long ago the oldest of them moved, in seconds";
    REFRESH_DONE = Counter "lockstep_refresh_done_total" [] "refresh tasks that Gerrit acknowledged";
    REFRESH_FAILED = Counter "lockstep_refresh_failed_total" [] "refresh tasks that failed and come again";
    GIT_SECONDS = Histogram "lockstep_git_seconds" ["op"] "seconds of an operation on a repository";
    GIT_ERRORS = Counter "lockstep_git_errors_total" ["op", "kind"] "operations on a repository that failed, by kind";
    FAILURES = Counter "lockstep_task_failures_total" ["stage"] "failures of a stage's task that are tried again";
    READY = Gauge "lockstep_ready" [] "1 when every latch of /readyz is open, else 0";
    EPOCH = Gauge "lockstep_epoch" [] "epoch of the site, as this node knows it";
}

impl MetricDoc {
    pub(super) fn counter(&self, meter: &Meter) -> Counter<u64> {
        meter.u64_counter(self.name).with_description(self.help).build()
    }

    pub(super) fn gauge(&self, meter: &Meter) -> Gauge<u64> {
        meter.u64_gauge(self.name).with_description(self.help).build()
    }

    pub(super) fn seconds(&self, meter: &Meter) -> Histogram<f64> {
        meter.f64_histogram(self.name).with_description(self.help).with_boundaries(SECONDS.to_vec()).build()
    }

    pub(super) fn observed<'a>(&self, meter: &'a Meter) -> AsyncInstrumentBuilder<'a, ObservableGauge<f64>, f64> {
        meter.f64_observable_gauge(self.name).with_description(self.help)
    }
}

/// The table as `docs/operations.md` has it.
#[must_use]
pub fn markdown() -> String {
    let rows = ALL.iter().map(|doc| {
        let labels = doc.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        format!("| `{}` | {} | {labels} | {} |\n", doc.name, doc.kind.as_str(), doc.help)
    });
    format!("| metric | kind | labels | meaning |\n|---|---|---|---|\n{}", rows.collect::<String>())
}
