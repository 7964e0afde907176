//! The instruments of each stage. A method records one event of the stage. Durations are in seconds.

use lockstep_proto::SiteId;
use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::failover::Role;
use lockstep_proto::locks::LockKind;
use lockstep_proto::status::{CallerClass, EventsStatus, ShedReason};
use lockstep_proto::verify::{Part, PassStatus};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use super::labels::{ApplyOutcome, CallEnd, GitOp, Label, RefDbOp};
use super::table;
use crate::seams::git::GitError;

fn label(key: &'static str, value: impl Label) -> KeyValue {
    KeyValue::new(key, value.text())
}

fn origin(site: &SiteId) -> KeyValue {
    KeyValue::new("origin", site.to_string())
}

/// The metrics of commits, as the bridge sees them.
#[derive(Clone, Debug)]
pub struct CommitMetrics {
    total: Counter<u64>,
    seconds: Histogram<f64>,
    refs: Counter<u64>,
    refusals: Counter<u64>,
}

impl CommitMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            total: table::COMMIT_TOTAL.counter(meter),
            seconds: table::COMMIT_SECONDS.seconds(meter),
            refs: table::COMMIT_REFS.counter(meter),
            refusals: table::COMMIT_REFUSALS.counter(meter),
        }
    }

    /// Records the answer to a batch, and the number of its refs that were committed.
    pub fn answered(&self, outcome: Outcome, seconds: f64, committed_refs: u64) {
        let labels = [label("outcome", outcome)];
        self.total.add(1, &labels);
        self.seconds.record(seconds, &labels);
        self.refs.add(committed_refs, &[]);
    }

    /// Records a batch whose outcome was unknown when it was answered.
    pub fn unknown(&self) {
        self.total.add(1, &[label("outcome", Outcome::Unknown)]);
    }

    /// Records the refusal of a ref.
    pub fn refused(&self, code: RefusalCode) {
        self.refusals.add(1, &[label("code", code)]);
    }
}

/// The metrics of turns: batches that run, that wait, and that were refused.
#[derive(Clone, Debug)]
pub struct TurnMetrics {
    running: Gauge<u64>,
    waiting: Gauge<u64>,
    refused: Counter<u64>,
}

impl TurnMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            running: table::TURNS_RUNNING.gauge(meter),
            waiting: table::TURNS_WAITING.gauge(meter),
            refused: table::TURNS_REFUSED.counter(meter),
        }
    }

    /// Records how many batches have their turn.
    pub fn running(&self, count: u64) {
        self.running.record(count, &[]);
    }

    /// Records how many batches of a class wait.
    pub fn waiting(&self, class: CallerClass, count: u64) {
        self.waiting.record(count, &[label("class", class)]);
    }

    /// Counts a batch whose user was told to come again.
    pub fn refused(&self, class: CallerClass, why: ShedReason) {
        self.refused.add(1, &[label("class", class), label("reason", why)]);
    }
}

/// The metrics of refdb calls.
#[derive(Clone, Debug)]
pub struct RefDbMetrics {
    trips: Counter<u64>,
    seconds: Histogram<f64>,
}

impl RefDbMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self { trips: table::REFDB_TRIPS.counter(meter), seconds: table::REFDB_SECONDS.seconds(meter) }
    }

    /// Records the end of a call.
    pub fn called(&self, op: RefDbOp, end: CallEnd, seconds: f64) {
        self.trips.add(1, &[label("op", op), label("end", end)]);
        self.seconds.record(seconds, &[label("op", op)]);
    }
}

/// The metrics of the publisher.
#[derive(Clone, Debug)]
pub struct PublishMetrics {
    slots: Counter<u64>,
    refused: Counter<u64>,
    repeated: Counter<u64>,
    seconds: Histogram<f64>,
    unpublished: Gauge<u64>,
    in_flight: Gauge<u64>,
}

impl PublishMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            slots: table::PUBLISH_SLOTS.counter(meter),
            refused: table::PUBLISH_REFUSED.counter(meter),
            repeated: table::PUBLISH_REPEATED.counter(meter),
            seconds: table::PUBLISH_SECONDS.seconds(meter),
            unpublished: table::JOURNAL_UNPUBLISHED.gauge(meter),
            in_flight: table::JOURNAL_IN_FLIGHT.gauge(meter),
        }
    }

    /// Records the append of a batch of slots to the event log.
    pub fn appended(&self, slots: u64, seconds: f64) {
        self.slots.add(slots, &[]);
        self.seconds.record(seconds, &[]);
    }

    /// Records the records of an append that the event log did not take, and those that must be appended again.
    pub fn refused(&self, refused: u64, repeats: u64) {
        self.refused.add(refused, &[]);
        self.repeated.add(repeats, &[]);
    }

    /// Records the state of the journal, summed over its lanes.
    pub fn journal(&self, unpublished: u64, in_flight: u64) {
        self.unpublished.record(unpublished, &[]);
        self.in_flight.record(in_flight, &[]);
    }
}

/// The metrics of the readers of the event log.
#[derive(Clone, Debug)]
pub struct ConsumeMetrics {
    records: Counter<u64>,
}

impl ConsumeMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self { records: table::CONSUME_RECORDS.counter(meter) }
    }

    /// Counts records that were read from a site's stream.
    pub fn read(&self, site: &SiteId, records: u64) {
        self.records.add(records, &[origin(site)]);
    }
}

/// The metrics of the apply stage.
#[derive(Clone, Debug)]
pub struct ApplyMetrics {
    total: Counter<u64>,
    parked: Gauge<u64>,
    quarantined: Gauge<u64>,
    unsigned: Counter<u64>,
    degraded: Gauge<u64>,
    elsewhere: Gauge<u64>,
    strays: Gauge<u64>,
}

impl ApplyMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            total: table::APPLY_TOTAL.counter(meter),
            parked: table::PARKED.gauge(meter),
            quarantined: table::QUARANTINED.gauge(meter),
            unsigned: table::UNSIGNED.counter(meter),
            degraded: table::DEGRADED.gauge(meter),
            elsewhere: table::HELD_ELSEWHERE.gauge(meter),
            strays: table::STRAYS.gauge(meter),
        }
    }

    /// Records the outcome of a transaction.
    pub fn transaction(&self, site: &SiteId, outcome: ApplyOutcome) {
        self.total.add(1, &[origin(site), label("outcome", outcome)]);
    }

    /// Counts a record without a good signature, by the name of its end.
    pub fn unsigned(&self, end: &'static str) {
        self.unsigned.add(1, &[opentelemetry::KeyValue::new("end", end)]);
    }

    /// Records how many projects are degraded here, and how many debts other nodes have.
    pub fn debts(&self, degraded: u64, elsewhere: u64) {
        self.degraded.record(degraded, &[]);
        self.elsewhere.record(elsewhere, &[]);
    }

    /// Records how many strays the repositories have.
    pub fn strays(&self, count: u64) {
        self.strays.record(count, &[]);
    }

    /// Records how many transactions are parked, and how many records are quarantined.
    pub fn held(&self, parked: u64, quarantined: u64) {
        self.parked.record(parked, &[]);
        self.quarantined.record(quarantined, &[]);
    }
}

/// The metrics of stream events.
#[derive(Clone, Debug)]
pub struct EventMetrics {
    forwarded: Counter<u64>,
    delivered: Counter<u64>,
    dropped: Counter<u64>,
    unsent: Gauge<u64>,
    waiting: Gauge<u64>,
    oldest: Gauge<u64>,
}

impl EventMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            forwarded: table::EVENTS_FORWARDED.counter(meter),
            delivered: table::EVENTS_DELIVERED.counter(meter),
            dropped: table::EVENTS_DROPPED.counter(meter),
            unsent: table::EVENTS_UNSENT.gauge(meter),
            waiting: table::EVENTS_WAITING.gauge(meter),
            oldest: table::EVENTS_OLDEST.gauge(meter),
        }
    }

    /// Counts events that reached the event log.
    pub fn forwarded(&self, count: u64) {
        self.forwarded.add(count, &[]);
    }

    /// Counts events that Gerrit has confirmed.
    pub fn delivered(&self, count: u64) {
        self.delivered.add(count, &[]);
    }

    /// Counts an event that was dropped.
    pub fn dropped(&self) {
        self.dropped.add(1, &[]);
    }

    /// Records how many events are on their way, and how long the oldest has waited.
    pub fn on_their_way(&self, now: &EventsStatus) {
        self.unsent.record(now.unsent, &[]);
        self.waiting.record(now.waiting, &[]);
        self.oldest.record(now.oldest_ms / 1_000, &[]);
    }
}

/// The metrics of the verification in the background.
#[derive(Clone, Debug)]
pub struct VerifyMetrics {
    age: Gauge<u64>,
    within: Gauge<u64>,
    repaired: Gauge<u64>,
    unrepaired: Gauge<u64>,
}

impl VerifyMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            age: table::VERIFY_AGE.gauge(meter),
            within: table::VERIFY_WITHIN.gauge(meter),
            repaired: table::VERIFY_REPAIRED.gauge(meter),
            unrepaired: table::VERIFY_UNREPAIRED.gauge(meter),
        }
    }

    /// Records how old the last complete pass of a part is, and its findings.
    pub fn stands(&self, part: Part, status: &PassStatus) {
        let part = [KeyValue::new("part", part.as_str())];
        self.age.record(status.age_ms / 1_000, &part);
        self.within.record(status.within_ms / 1_000, &part);
        self.repaired.record(status.repaired, &part);
        self.unrepaired.record(status.unrepaired_projects, &part);
    }
}

/// The metrics of refresh tasks.
#[derive(Clone, Debug)]
pub struct RefreshMetrics {
    due: Gauge<u64>,
    oldest: Gauge<u64>,
    done: Counter<u64>,
    failed: Counter<u64>,
}

impl RefreshMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            due: table::REFRESH_DUE.gauge(meter),
            oldest: table::REFRESH_OLDEST.gauge(meter),
            done: table::REFRESH_DONE.counter(meter),
            failed: table::REFRESH_FAILED.counter(meter),
        }
    }

    /// Records the number of subjects in the queue, and the age of the oldest in seconds.
    pub fn stands(&self, due: u64, oldest_seconds: u64) {
        self.due.record(due, &[]);
        self.oldest.record(oldest_seconds, &[]);
    }

    /// Counts the tasks that Gerrit reported as done and as failed.
    pub fn reported(&self, done: u64, failed: u64) {
        self.done.add(done, &[]);
        self.failed.add(failed, &[]);
    }
}

/// The metrics of operations on the repositories.
#[derive(Clone, Debug)]
pub struct GitMetrics {
    seconds: Histogram<f64>,
    errors: Counter<u64>,
}

impl GitMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self { seconds: table::GIT_SECONDS.seconds(meter), errors: table::GIT_ERRORS.counter(meter) }
    }

    /// Records the end of an operation.
    pub fn ended<T>(&self, op: GitOp, result: &Result<T, GitError>, seconds: f64) {
        self.seconds.record(seconds, &[label("op", op)]);
        if let Err(error) = result {
            self.errors.add(1, &[label("op", op), label("kind", error)]);
        }
    }
}

/// The metrics of the node itself: readiness, role and epoch of its site, and failures of its tasks.
#[derive(Clone, Debug)]
pub struct SiteMetrics {
    ready: Gauge<u64>,
    epoch: Gauge<u64>,
    role: Gauge<u64>,
    went_back: Gauge<u64>,
    not_own: Gauge<u64>,
    guards: Gauge<u64>,
    left_locks: Gauge<u64>,
    locks: Gauge<u64>,
    certificates: Gauge<u64>,
    failures: Counter<u64>,
}

impl SiteMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        let failures = table::FAILURES.counter(meter);
        let not_own = table::NOT_OWN.gauge(meter);
        let (went_back, guards) = (table::WENT_BACK.gauge(meter), table::GUARDS_OFF.gauge(meter));
        let (left_locks, locks) = (table::LEFT_LOCKS.gauge(meter), table::LOCKS.gauge(meter));
        let (ready, epoch) = (table::READY.gauge(meter), table::EPOCH.gauge(meter));
        let (role, certificates) = (table::ROLE.gauge(meter), table::CERTIFICATE_EXPIRES.gauge(meter));
        Self { ready, epoch, role, went_back, not_own, guards, left_locks, locks, certificates, failures }
    }

    /// Records whether the node is ready, and its site's role and epoch as the node knows them. No role is 1 before the
    /// node has read it.
    pub fn state(&self, ready: bool, role: Option<Role>, epoch: u64) {
        self.ready.record(u64::from(ready), &[]);
        self.epoch.record(epoch, &[]);
        for one in Role::ALL {
            self.role.record(u64::from(role == Some(one)), &[KeyValue::new("role", one.name())]);
        }
    }

    /// Records whether the refdb is known to be older than a node, and whether it is not the refdb of this node at all.
    pub fn went_back(&self, is_older: bool, is_not_own: bool) {
        self.went_back.record(u64::from(is_older), &[]);
        self.not_own.record(u64::from(is_not_own), &[]);
    }

    /// Records the number of repositories whose hooks are not in force.
    pub fn guards(&self, off: u64) {
        self.guards.record(off, &[]);
    }

    /// Records the number of locks that programs left behind in repositories.
    pub fn left_locks(&self, count: u64) {
        self.left_locks.record(count, &[]);
    }

    /// Records the number of locks of operators and bridges, by their kind.
    pub fn locks(&self, count: impl Fn(LockKind) -> usize) {
        for kind in LockKind::ALL {
            self.locks.record(count(kind) as u64, &[KeyValue::new("kind", kind.name())]);
        }
    }

    /// Records when the node's certificate and the first of its trusted authorities expire, in seconds since 1970.
    pub fn certificates(&self, own: i64, trust: i64) {
        for (certificate, expires) in [("own", own), ("trust", trust)] {
            let expires = u64::try_from(expires).unwrap_or_default();
            self.certificates.record(expires, &[KeyValue::new("certificate", certificate)]);
        }
    }

    /// Records that a stage's task failed and will try again. Stage names are fixed.
    pub fn failed(&self, stage: &'static str) {
        self.failures.add(1, &[KeyValue::new("stage", stage)]);
    }
}
