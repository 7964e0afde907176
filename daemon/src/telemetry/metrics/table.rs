//! The table of metrics, and instruments made from its rows.

use opentelemetry::metrics::{
    AsyncInstrumentBuilder, Counter, Gauge, Histogram, Meter, ObservableCounter, ObservableGauge,
};

/// Upper bounds of the buckets of every duration, in seconds. A round trip within the region takes some milliseconds,
/// and the apply of a large pack takes some seconds.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows, from the start of the process.
    Counter,
    /// A value that may rise and fall.
    Gauge,
    /// Durations in seconds, counted in buckets.
    Histogram,
}

impl Kind {
    /// The name of the kind, as Prometheus writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The documentation of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDoc {
    /// Its name in `/metrics`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The names of its labels, in their order.
    pub labels: &'static [&'static str],
    /// Its meaning, with its unit.
    pub help: &'static str,
}

macro_rules! metrics {
    ($(#[$doc:meta])* $list:ident:
     $($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: MetricDoc =
            MetricDoc { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        $(#[$doc])*
        pub const $list: &[MetricDoc] = &[$($constant),*];
    };
}

metrics! {
    /// Every metric of the sidecar, in the order of the data flow.
    ALL:
    COMMIT_TOTAL = Counter "lockstep_commit_total" ["outcome"]
        "batches that were committed, or whose outcome is unknown, by outcome";
    COMMIT_SECONDS = Histogram "lockstep_commit_seconds" ["outcome"]
        "duration of a committed batch, from the packing of its objects to its answer, in seconds";
    COMMIT_REFS = Counter "lockstep_commit_refs_total" [] "refs that were committed at this node";
    COMMIT_REFUSALS = Counter "lockstep_commit_refusals_total" ["code"]
        "refs that were refused, by the refusal code of the bridge API";
    TURNS_RUNNING = Gauge "lockstep_turns_running" [] "batches that have their turn: they commit now";
    TURNS_WAITING = Gauge "lockstep_turns_waiting" ["class"] "batches that wait for their turn, by class of their user";
    TURNS_REFUSED = Counter "lockstep_turns_refused_total" ["class", "reason"]
        "batches whose user was told to come again later, by class of the user: too much work waits";
    REFDB_TRIPS = Counter "lockstep_refdb_round_trips_total" ["op", "end"] "refdb calls, by purpose and end";
    REFDB_SECONDS = Histogram "lockstep_refdb_seconds" ["op"] "duration of a refdb call, in seconds";
    REFDB_UNITS = Counter "lockstep_refdb_request_units_total" ["kind"]
        "request units that the refdb told for answered calls, by kind: on-demand tables are billed by them";
    AWS_CIRCUITS = Gauge "lockstep_aws_open_circuits" ["service"]
        "endpoints of a service of AWS to which no connection can be made, so that calls end at once: an alarm";
    AWS_OPENED = Counter "lockstep_aws_circuits_opened_total" ["service"]
        "how often connections to an endpoint of a service of AWS failed so often that calls then ended at once";
    AWS_CREDENTIALS = Gauge "lockstep_aws_credentials_expire_timestamp_seconds" []
        "when the credentials for DynamoDB and Kinesis expire, in seconds since 1970; none if they do not";
    APPENDED_RECORDS = Counter "lockstep_eventlog_appended_records_total" []
        "records that the event log took: transactions, announcements and stream events";
    APPENDED_BYTES = Counter "lockstep_eventlog_appended_bytes_total" []
        "bytes of the records that the event log took, with their keys";
    READ_BYTES = Counter "lockstep_eventlog_read_bytes_total" []
        "bytes of the records that were read from the event log, of all sites";
    FAN_OUT_STREAMS = Gauge "lockstep_eventlog_fan_out_streams" [] "streams that are read by enhanced fan-out";
    FALLBACK_STREAMS = Gauge "lockstep_eventlog_fallback_streams" []
        "streams that are polled because enhanced fan-out, which was chosen, is refused";
    SHARED_RECORDS = Counter "lockstep_reader_records_total" ["source"]
        "records of shared shards, by source: read from the stream, or handed over by a sibling";
    LEASE_CHANGES = Counter "lockstep_reader_lease_changes_total" ["change"]
        "leases of shards that this node has taken, taken over, handed over or lost";
    READ_ALONE = Counter "lockstep_reader_alone_total" ["reason"]
        "calls for which a sibling had no records, so that this node read the stream, by reason";
    READER_LEASES = Gauge "lockstep_reader_leases" [] "shards that this node reads for the other nodes of its site";
    STREAM_SHARDS = Gauge "lockstep_eventlog_shards" []
        "open shards of this site's stream, as its autoscaler saw them last; none while it is off";
    STREAM_LOAD = Gauge "lockstep_eventlog_load_percent" []
        "load of this site's stream at that look, in percent of the writes that its shards take";
    STREAM_CHANGES = Gauge "lockstep_eventlog_shard_changes" []
        "changes of the number of its shards within 24 hours: Kinesis allows ten";
    STREAM_STUCK = Gauge "lockstep_eventlog_shards_stuck" []
        "1 when it needs more shards and its autoscaler may not add any, else 0";
    BLOB_CALLS = Counter "lockstep_blob_calls_total" ["call"]
        "blobs that were stored, fetched or deleted, by call: a large one takes several requests";
    BLOB_BYTES = Counter "lockstep_blob_bytes_total" ["call"] "bytes of the blobs that were stored or fetched";
    PUBLISH_SLOTS = Counter "lockstep_publish_slots_total" []
        "transactions of this node that are in the event log";
    PUBLISH_REFUSED = Counter "lockstep_publish_refused_total" []
        "records that the event log did not take at once: the limit of a shard was met";
    PUBLISH_REPEATED = Counter "lockstep_publish_repeated_total" []
        "records that were appended a second time, because they overtook a refused record of their project";
    PUBLISH_SECONDS = Histogram "lockstep_publish_seconds" [] "duration of an append to the event log, in seconds";
    JOURNAL_UNPUBLISHED = Gauge "lockstep_journal_unpublished" []
        "settled slots of this node that are not yet in the event log";
    JOURNAL_IN_FLIGHT = Gauge "lockstep_journal_in_flight" []
        "slots of this node that are in use above the settled mark";
    CONSUME_RECORDS = Counter "lockstep_consume_records_total" ["origin"] "records that were read from the event log";
    APPLY_TOTAL = Counter "lockstep_apply_total" ["origin", "outcome"] "transactions, by their outcome at this node";
    PARKED = Gauge "lockstep_parked" [] "parked transactions: they wait for something that has not arrived";
    QUARANTINED = Gauge "lockstep_quarantined" []
        "quarantined records: they were set aside because their content is bad";
    UNSIGNED = Counter "lockstep_unsigned_records_total" ["end"]
        "records of streams without a good signature, while signatures are required, by their outcome";
    DEGRADED = Gauge "lockstep_degraded_projects" []
        "projects that this node cannot bring up to date, in whole or in part: an alarm";
    HELD_ELSEWHERE = Gauge "lockstep_held_elsewhere" []
        "transactions that other nodes hold as bad, and projects that they cannot bring up to date: an alarm";
    STRAYS = Gauge "lockstep_strays" []
        "strays: values that were never committed and gave way to committed ones";
    LAG_SECONDS = Gauge "lockstep_lag_seconds" ["origin"]
        "now minus the commit time of the oldest transaction that is not applied yet, in seconds";
    LAG_TRANSACTIONS = Gauge "lockstep_lag_transactions" ["origin"]
        "transactions that were seen and are not applied yet";
    VERIFY_AGE = Gauge "lockstep_verify_age_seconds" ["part"]
        "time within which every ref, or object, of this node was verified last, in seconds";
    VERIFY_WITHIN = Gauge "lockstep_verify_within_seconds" ["part"]
        "time within which every ref, or object, is to be verified again, in seconds: as configured";
    VERIFY_REPAIRED = Gauge "lockstep_verify_repaired" ["part"]
        "refs and objects that the verification in the background has repaired since the volume was new";
    VERIFY_UNREPAIRED = Gauge "lockstep_verify_unrepaired" ["part"]
        "projects with refs or objects that it cannot repair, or that it cannot verify: an alarm";
    EVENTS_FORWARDED = Counter "lockstep_events_forwarded_total" []
        "stream events of this node's Gerrit that were appended to the event log";
    EVENTS_DELIVERED = Counter "lockstep_events_delivered_total" []
        "stream events of other nodes that this node's Gerrit confirmed";
    EVENTS_DROPPED = Counter "lockstep_events_dropped_total" []
        "stream events of other nodes that were dropped and never reach this node's Gerrit: an alarm";
    EVENTS_UNSENT = Gauge "lockstep_events_unsent" []
        "stream events of this node's Gerrit that are not yet in the event log";
    EVENTS_WAITING = Gauge "lockstep_events_waiting" []
        "stream events of other nodes that this node's Gerrit has not confirmed yet";
    EVENTS_OLDEST = Gauge "lockstep_events_oldest_seconds" []
        "age of the oldest event that this node's Gerrit has not confirmed yet: seconds since its arrival";
    REFRESH_DUE = Gauge "lockstep_refresh_due" []
        "subjects (changes, accounts, groups, projects) whose refs moved and that Gerrit has not acknowledged yet";
    REFRESH_OLDEST = Gauge "lockstep_refresh_oldest_seconds" []
        "age of the oldest subject that Gerrit has not acknowledged yet: seconds since its refs moved";
    REFRESH_DONE = Counter "lockstep_refresh_done_total" [] "refresh tasks that Gerrit acknowledged";
    REFRESH_FAILED = Counter "lockstep_refresh_failed_total" []
        "refresh tasks that failed and will be handed out again";
    GIT_SECONDS = Histogram "lockstep_git_seconds" ["op"] "duration of an operation on a repository, in seconds";
    GIT_ERRORS = Counter "lockstep_git_errors_total" ["op", "kind"]
        "operations on a repository that failed, by operation and kind of error";
    FAILURES = Counter "lockstep_task_failures_total" ["stage"] "failures of a stage's task, which then tries again";
    GUARDS_OFF = Gauge "lockstep_guards_off" []
        "repositories whose git hooks are not in force, so that refs can bypass Lockstep";
    LEFT_LOCKS = Gauge "lockstep_left_locks" []
        "locks that programs left behind in repositories, so that commits may not be visible here";
    LOCKS = Gauge "lockstep_locks" ["kind"]
        "locks of operators and bridges that this node obeys, by kind: lock, or maintenance of a project or a site";
    READY = Gauge "lockstep_ready" [] "1 when every latch of /readyz is open, else 0";
    EPOCH = Gauge "lockstep_epoch" [] "epoch of the site, as this node knows it";
    ROLE = Gauge "lockstep_role" ["role"]
        "1 for the role of the site, as this node knows it, else 0; 0 for all before it is known";
    FAILOVER_SAFE = Gauge "lockstep_failover_safe" ["to"]
        "1 when it is safe to fail over to the site now, else 0, also while the refdb does not answer, after a first \
         answer; none if no other site takes writes";
    FAILOVER_HELD = Gauge "lockstep_failover_held" []
        "1 when a failover is paused, or holds itself, and waits for an operator; else 0; none while the refdb does \
         not answer";
    DRILL_GREEN = Gauge "lockstep_drill_green" ["kind"]
        "1 when the last drill of the kind was green, else 0; silent drills are those of this node, at a standby";
    DRILL_TIMESTAMP = Gauge "lockstep_drill_timestamp_seconds" ["kind"]
        "when the last green drill of the kind was requested, in seconds since 1970; 0 if none was green";
    CERTIFICATE_EXPIRES = Gauge "lockstep_certificate_expires_timestamp_seconds" ["certificate"]
        "when a certificate for TLS between sites expires, in seconds since 1970: its own, the first of its trust";
    DOCTOR_FINDINGS = Gauge "lockstep_doctor_findings" ["check", "severity"]
        "findings of the doctor, which looks every 10 minutes, by check and severity (`note`, `warning`, `error`)";
    NOT_OWN = Gauge "lockstep_refdb_not_own" []
        "1 when the tables of the configuration are not the refdb of this node, which then commits nothing; else 0";
    WENT_BACK = Gauge "lockstep_refdb_went_back" []
        "1 when the refdb is known to be older than a node, so that no node commits: an alarm; else 0";
}

metrics! {
    /// Every metric of a watch in shadow mode.
    SHADOW:
    SHADOW_PROJECTS = Gauge "lockstep_shadow_projects" [] "projects that the watch looks at";
    SHADOW_PROPOSALS = Counter "lockstep_shadow_proposals_total" []
        "proposals: the moves of one look at a project, which Lockstep would have committed together";
    SHADOW_REFS = Counter "lockstep_shadow_refs_total" [] "refs in these proposals";
    SHADOW_PROBLEMS = Gauge "lockstep_shadow_problems" []
        "repositories and refs that cannot be read, or that Lockstep would not take";
    SHADOW_LOOK = Histogram "lockstep_shadow_look_seconds" [] "duration of a look at all projects, in seconds";
    SHADOW_LOOKED = Gauge "lockstep_shadow_looked_timestamp_seconds" []
        "when the last look ended, in seconds since 1970";
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

    pub(super) fn summed<'a>(&self, meter: &'a Meter) -> AsyncInstrumentBuilder<'a, ObservableCounter<f64>, f64> {
        meter.f64_observable_counter(self.name).with_description(self.help)
    }
}

/// A table of metrics in Markdown, as it stands in `docs/operations.md`.
#[must_use]
pub fn markdown(docs: &[MetricDoc]) -> String {
    let rows = docs.iter().map(|doc| {
        let labels = doc.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        format!("| `{}` | {} | {labels} | {} |\n", doc.name, doc.kind.as_str(), doc.help)
    });
    format!("| metric | kind | labels | meaning |\n|---|---|---|---|\n{}", rows.collect::<String>())
}

/// The list of all metrics for programs, as it stands in `deploy/observability/metrics.txt`: name, kind and labels,
/// separated by tabs, and the labels by commas. Those of a watch in shadow mode stand at the end.
#[must_use]
pub fn list() -> String {
    let row = |doc: &MetricDoc| format!("{}\t{}\t{}\n", doc.name, doc.kind.as_str(), doc.labels.join(","));
    ALL.iter().chain(SHADOW).map(row).collect()
}
