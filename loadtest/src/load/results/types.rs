//! The report, as `report.json` holds it. Latencies are milliseconds.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::drive::FaultMark;
use crate::load::measure::{OwnCheck, ProcessCourse};
use crate::load::model::Day;
use crate::load::oracle::Judgement;
use crate::load::profile::Profile;

/// Quantiles of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The number of values.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// The quantiles of a histogram of microseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a run")]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| crate::report::round(histogram.value_at_quantile(quantile) as f64 / 1_000.0);
        if histogram.is_empty() {
            return Self::default();
        }
        Self { count: histogram.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

/// The figures of one class, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Arrivals.
    pub offered: u64,
    /// Operations that were done.
    pub done: u64,
    /// Refusals per code.
    pub refused: BTreeMap<String, u64>,
    /// Operations whose client does not know the outcome.
    pub unknown: u64,
    /// Arrivals that were dropped by the generator.
    pub dropped: u64,
    /// Operations that the generator began late.
    pub late: u64,
    /// Further tries.
    pub retries: u64,
    /// How often clients were told to wait and come again.
    #[serde(default)]
    pub told: u64,
    /// Refs that moved.
    pub refs: u64,
    /// From the intended start to the end.
    pub latency: Quantiles,
    /// The client's own work: objects, packs.
    pub prepare: Quantiles,
    /// From the sending of the last try to its answer.
    pub answer: Quantiles,
}

/// The lag of one site behind the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteReport {
    /// The site.
    pub name: String,
    /// From the commit at another site to the time when it could be read here.
    pub lag: Quantiles,
    /// Transactions of other sites that it applied since its start.
    pub applied: u64,
}

/// One stage of the sidecars, from their own metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The metric, and the label that tells its kind.
    pub name: String,
    /// The number of calls.
    pub count: f64,
    /// The mean in milliseconds.
    pub mean_ms: f64,
    /// The bound of the bucket with the 99th percentile, in milliseconds. None above the last bucket.
    pub p99_at_most_ms: Option<f64>,
}

/// One goal and its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalReport {
    /// The value that is judged, with its unit.
    pub name: String,
    /// The highest value that meets the goal.
    pub most: f64,
    /// The value of the run. None if it could not be measured.
    pub measured: Option<f64>,
}

impl GoalReport {
    /// Whether the run met the goal.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.measured.is_some_and(|value| value <= self.most)
    }
}

/// One kind of units of AWS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostLine {
    /// The service and the unit.
    pub name: String,
    /// The units of the run.
    pub count: f64,
    /// The units per transaction.
    pub per_transaction: f64,
    /// Their cost. None if the profile has no price.
    pub dollars: Option<f64>,
}

/// The least that AWS charges for the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostReport {
    /// Transactions that were committed, warm-up included.
    pub transactions: f64,
    /// Per kind of units.
    pub lines: Vec<CostLine>,
    /// The sum. None if a price is missing.
    pub dollars: Option<f64>,
}

/// The needs at another rate, in proportion to those of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The load.
    pub name: String,
    /// Transactions per second.
    pub per_second: f64,
    /// Processors of the sidecar of each site, git included.
    pub cores_per_site: f64,
    /// The cost. None if a price is missing.
    pub dollars_per_hour: Option<f64>,
}

/// The course of the run per second, from its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Arrivals.
    pub offered: Vec<u64>,
    /// Operations that were done.
    pub done: Vec<u64>,
    /// Refused, unknown and dropped operations.
    pub failed: Vec<u64>,
    /// Operations in progress.
    pub in_flight: Vec<u64>,
    /// The median of the latencies of the operations that ended in the second.
    pub p50_ms: Vec<Option<f64>>,
    /// Their 99th percentile.
    pub p99_ms: Vec<Option<f64>>,
    /// Per site: the longest lag of the transactions that became visible.
    pub lag_ms: BTreeMap<String, Vec<Option<u64>>>,
    /// Per site: the age of the oldest transaction that was not applied.
    pub backlog_ms: BTreeMap<String, Vec<Option<u64>>>,
}

/// The verdict on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The oracle is clean and the generator kept up.
    Passed,
    /// The oracle found a violation.
    Failed,
    /// The generator did not keep up: the figures say nothing.
    Void,
}

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form: 1.
    pub form: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// The command that repeats the run.
    pub command: String,
    /// The time of the start, in milliseconds since 1970.
    pub started_ms: u64,
    /// The machine.
    pub host: Value,
    /// The versions of the programs.
    pub versions: BTreeMap<String, String>,
    /// The estate.
    pub estate: String,
    /// How far the run is from a real day.
    pub notes: Vec<String>,
    /// The profile, complete.
    pub profile: Profile,
    /// The day of the model.
    pub day: Day,
    /// The generator's check of itself.
    pub own: OwnCheck,
    /// All classes together.
    pub total: ClassReport,
    /// From the intended start to the end, of all classes that move refs.
    #[serde(default)]
    pub updates: Quantiles,
    /// With a burst: the same of people alone, before the burst and in it.
    #[serde(default)]
    pub people: Option<[Quantiles; 2]>,
    /// With a burst: the operations done per second before the burst and in it.
    #[serde(default)]
    pub goodput: Option<[f64; 2]>,
    /// The goals of the profile.
    #[serde(default)]
    pub goals: Vec<GoalReport>,
    /// Per class.
    pub classes: BTreeMap<String, ClassReport>,
    /// The measured time in seconds, without warm-up.
    pub measured_s: f64,
    /// From the last end of an operation until every site had applied everything, in seconds. None if that did not
    /// happen in time.
    pub settled_after_s: Option<f64>,
    /// The same from the end of the burst, if there is one, until the sites have caught up with it.
    #[serde(default)]
    pub caught_up_after_s: Option<f64>,
    /// Per site.
    pub sites: Vec<SiteReport>,
    /// Per stage.
    pub stages: Vec<StageReport>,
    /// Calls to the refdb and the streams, and records, from the sidecars' metrics.
    pub calls: BTreeMap<String, f64>,
    /// The units of AWS and their cost.
    #[serde(default)]
    pub cost: Option<CostReport>,
    /// Extrapolated to other rates.
    #[serde(default)]
    pub growth: Vec<Growth>,
    /// Per process.
    pub processes: Vec<ProcessCourse>,
    /// Injected faults.
    pub faults: Vec<FaultMark>,
    /// The oracle's judgement.
    pub oracle: Judgement,
    /// The course.
    pub course: Course,
}
