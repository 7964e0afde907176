//! Latencies: recorded in microseconds, reported in milliseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Fallible;
use crate::report::round;

/// A distribution of latencies.
#[derive(Clone, Debug)]
pub struct Stats(Histogram<u64>);

impl Stats {
    /// An empty distribution, for latencies up to ten minutes with a precision of three digits.
    pub fn new() -> Fallible<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 600_000_000, 3)?))
    }

    /// Adds one latency, in whole microseconds. Longer than ten minutes counts as ten minutes.
    pub fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The distribution of these latencies.
    pub fn of(all: impl IntoIterator<Item = Duration>) -> Fallible<Self> {
        let mut stats = Self::new()?;
        all.into_iter().for_each(|took| stats.add(took));
        Ok(stats)
    }

    /// The quantile of `part` (0 to 1), in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a benchmark")]
    pub fn at(&self, part: f64) -> f64 {
        self.0.value_at_quantile(part) as f64 / 1000.0
    }

    /// The median in milliseconds.
    pub fn p50(&self) -> f64 {
        self.at(0.5)
    }

    /// The number of latencies.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The usual percentiles, in milliseconds.
    pub fn json(&self) -> Value {
        json!({"p50": round(self.p50()), "p90": round(self.at(0.9)), "p99": round(self.at(0.99)),
               "max": round(self.at(1.0))})
    }
}
