//! The instruments of a watch in shadow mode. Its `/metrics` has these alone.

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use super::table;

/// The metrics of a watch in shadow mode.
#[derive(Clone, Debug)]
pub struct ShadowMetrics {
    projects: Gauge<u64>,
    proposals: Counter<u64>,
    refs: Counter<u64>,
    problems: Gauge<u64>,
    look: Histogram<f64>,
    looked: Gauge<u64>,
}

impl ShadowMetrics {
    /// Creates the instruments from a meter.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self {
            projects: table::SHADOW_PROJECTS.gauge(meter),
            proposals: table::SHADOW_PROPOSALS.counter(meter),
            refs: table::SHADOW_REFS.counter(meter),
            problems: table::SHADOW_PROBLEMS.gauge(meter),
            look: table::SHADOW_LOOK.seconds(meter),
            looked: table::SHADOW_LOOKED.gauge(meter),
        }
    }

    /// Records the end of a look, in milliseconds since 1970, and its duration in seconds.
    pub fn looked(&self, at_ms: u64, seconds: f64) {
        self.looked.record(at_ms / 1_000, &[]);
        self.look.record(seconds, &[]);
    }

    /// Counts the proposals of a look, and the refs in them.
    pub fn proposed(&self, proposals: u64, refs: u64) {
        self.proposals.add(proposals, &[]);
        self.refs.add(refs, &[]);
    }

    /// Records how many projects are watched, and how many problems they have.
    pub fn stands(&self, projects: u64, problems: u64) {
        self.projects.record(projects, &[]);
        self.problems.record(problems, &[]);
    }
}
