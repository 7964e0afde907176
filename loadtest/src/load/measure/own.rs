//! Whether the generator kept up. If it did not, its own delays are in the latencies, or load is missing; then the run
//! says nothing about the sites, and is void.

use serde::{Deserialize, Serialize};

use super::processes::processor_seconds;
use super::recorder::Recording;
use crate::load::profile::Limits;

/// The generator's judgement of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnCheck {
    /// Its share of the machine's processor time, from 0 to 1, its git processes left out.
    pub processor_share: f64,
    /// The delay of starts in milliseconds: median, 99th percentile, longest.
    pub slip_ms: [f64; 3],
    /// The share of operations that began later than the limit.
    pub late_share: f64,
    /// The share of arrivals that were dropped.
    pub dropped_share: f64,
    /// Every limit that was not kept. Empty if the run is valid.
    pub faults: Vec<String>,
}

/// Processor time of this process so far, in seconds, without its children.
#[must_use]
pub fn own_seconds() -> f64 {
    processor_seconds(std::process::id(), false).unwrap_or(0.0)
}

impl OwnCheck {
    /// Judges a run in which the generator took this many seconds of processor time, of this many in all.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a run")]
    pub fn of(recording: &Recording, limits: &Limits, own_seconds: f64, all_seconds: f64) -> Self {
        let sum = |field: fn(&super::ClassStats) -> u64| recording.classes.values().map(field).sum::<u64>() as f64;
        let offered = sum(|stats| stats.offered).max(1.0);
        let slip = |quantile: f64| recording.slip.value_at_quantile(quantile) as f64 / 1_000.0;
        let mut check = Self {
            processor_share: own_seconds / all_seconds.max(0.001),
            slip_ms: [slip(0.5), slip(0.99), slip(1.0)],
            late_share: sum(|stats| stats.late) / offered,
            dropped_share: sum(|stats| stats.dropped) / offered,
            faults: Vec::new(),
        };
        for (name, value, most) in [
            ("processor_share", check.processor_share, limits.processor_share),
            ("late_share", check.late_share, limits.late_share),
            ("dropped_share", check.dropped_share, limits.dropped_share),
        ] {
            if value > most {
                check.faults.push(format!("limits.{name}: {value:.3} is above {most:.3}"));
            }
        }
        if recording.classes.is_empty() {
            check.faults.push("nothing was offered after the warm-up".to_owned());
        }
        check
    }

    /// Whether the run says something about the sites.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::recorder::Recorder;
    use super::*;
    use crate::load::model::Class;

    #[test]
    fn a_generator_that_did_not_keep_up_voids_its_run() {
        let recorder = Recorder::new(Duration::ZERO, Duration::from_secs(10), Duration::from_millis(100));
        for at in 0..100 {
            recorder.started(Class::Draft, at * 10_000, Duration::from_millis(if at < 3 { 500 } else { 1 }));
        }
        let limits = Limits::default();
        let check = |recorder: &Recorder, own| OwnCheck::of(&recorder.take(), &limits, own, 10.0);
        assert_eq!(check(&recorder, 1.0).faults, ["limits.late_share: 0.030 is above 0.010"]);
        assert!(check(&recorder, 6.0).faults[0].starts_with("limits.processor_share"));
        recorder.dropped(Class::Draft, 5);
        assert_eq!(check(&recorder, 1.0).faults.len(), 2);
        let good = Recorder::new(Duration::ZERO, Duration::from_secs(10), Duration::from_millis(100));
        assert!(!check(&good, 1.0).is_valid());
        good.started(Class::Draft, 0, Duration::ZERO);
        assert!(check(&good, 1.0).is_valid());
    }
}
