//! The time that the sidecar spent on the parts of a commit, by its own metrics.

use std::net::SocketAddr;

use lockstep_loadtest::report::round;
use lockstep_tests::e2e::gerrit::rest::get;
use serde_json::{Value, json};

/// The metrics of a commit and its parts: the whole, the refdb's answer, packing, moving refs.
const PARTS: [&str; 4] = [
    "lockstep_commit_seconds_sum{outcome=\"committed\"}",
    "lockstep_refdb_seconds_sum{op=\"commit\"}",
    "lockstep_git_seconds_sum{op=\"pack\"}",
    "lockstep_git_seconds_sum{op=\"move_refs\"}",
];
const COMMITS: &str = "lockstep_commit_total{outcome=\"committed\"}";

/// The address of a sidecar's metrics.
#[derive(Clone, Copy, Debug)]
pub struct Sidecar(pub SocketAddr);

impl Sidecar {
    /// The totals so far.
    pub async fn inside(&self) -> Inside {
        let metrics = get(self.0, "/metrics").await.expect("the sidecar answers").text;
        let value = |name: &str| {
            let sample = metrics.lines().find_map(|line| line.strip_prefix(name));
            sample.map_or(0.0, |sample| sample.trim().parse().expect("a number"))
        };
        Inside { commits: value(COMMITS), seconds: PARTS.map(value) }
    }
}

/// Commits, and the seconds of their parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inside {
    /// The number of commits.
    pub commits: f64,
    /// The seconds of each part.
    seconds: [f64; PARTS.len()],
}

impl Inside {
    /// The difference between these totals and earlier ones.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let part = |at: usize| self.seconds[at] - before.seconds[at];
        Self { commits: self.commits - before.commits, seconds: std::array::from_fn(part) }
    }

    /// The sum of several totals.
    pub fn sum(all: impl IntoIterator<Item = Self>) -> Self {
        let add = |sum: Self, one: Self| Self {
            commits: sum.commits + one.commits,
            seconds: std::array::from_fn(|at| sum.seconds[at] + one.seconds[at]),
        };
        all.into_iter().fold(Self::default(), add)
    }

    /// The mean of each part per commit, in milliseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let [commit, refdb, pack, moved] = self.seconds.map(|seconds| round(seconds * 1000.0 / self.commits.max(1.0)));
        json!({"commit": commit, "refdb": refdb, "pack": pack, "move_refs": moved})
    }
}
