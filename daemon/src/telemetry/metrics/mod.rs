//! Every metric of the sidecar: its name, kind, labels and meaning in one table, its instruments by stage.
//!
//! [`ALL`] is the documentation: `docs/operations.md` has the same table, and a test holds them together. A label
//! has few values: enums of this crate, or `origin`, which has one value a site (operators enroll sites; no push
//! makes one). Projects, refs and transactions are never labels.
//!
//! Stages get their struct out of [`Metrics`]; [`Metrics::noop`] measures nothing, for tests and the simulator.

mod board;
mod labels;
mod stages;
mod table;

use opentelemetry::metrics::{Meter, MeterProvider, NoopMeterProvider};

pub use board::observe_board;
pub use labels::{ApplyOutcome, CallEnd, GitOp, RefDbOp};
pub use stages::{
    ApplyMetrics, CommitMetrics, ConsumeMetrics, EventMetrics, GitMetrics, PublishMetrics, RefDbMetrics,
    RefreshMetrics, SiteMetrics,
};
pub use table::{ALL, Kind, MetricDoc, markdown};

/// The instruments of all stages. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Commits, as the bridge sees them.
    pub commit: CommitMetrics,
    /// Calls of the refdb.
    pub refdb: RefDbMetrics,
    /// From the journal to the event log.
    pub publish: PublishMetrics,
    /// From the event log.
    pub consume: ConsumeMetrics,
    /// Into the local repositories.
    pub apply: ApplyMetrics,
    /// Stream events.
    pub events: EventMetrics,
    /// What Gerrit has to look at.
    pub refresh: RefreshMetrics,
    /// The repositories themselves.
    pub git: GitMetrics,
    /// Role and readiness.
    pub site: SiteMetrics,
}

impl Metrics {
    /// Instruments of this meter.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self {
            commit: CommitMetrics::new(meter),
            refdb: RefDbMetrics::new(meter),
            publish: PublishMetrics::new(meter),
            consume: ConsumeMetrics::new(meter),
            apply: ApplyMetrics::new(meter),
            events: EventMetrics::new(meter),
            refresh: RefreshMetrics::new(meter),
            git: GitMetrics::new(meter),
            site: SiteMetrics::new(meter),
        }
    }

    /// Instruments that measure nothing.
    #[must_use]
    pub fn noop() -> Self {
        Self::new(&NoopMeterProvider::new().meter("noop"))
    }
}
