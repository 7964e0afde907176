//! The rate over time, as a multiple of the rate of the peak hour.

use crate::load::model::Curve;
use crate::load::profile::{Profile, Shape};

/// The rate over the time of a run.
#[derive(Clone, Debug)]
pub struct Intensity<'a> {
    profile: &'a Profile,
    curve: Curve,
}

impl<'a> Intensity<'a> {
    /// The rate of a profile.
    #[must_use]
    pub fn of(profile: &'a Profile) -> Self {
        Self { profile, curve: Curve::of(&profile.model) }
    }

    /// The multiple of the peak hour's rate at a time in seconds. Before the start it is the one at the start, except
    /// with a course of the day.
    #[must_use]
    pub fn at(&self, seconds: f64) -> f64 {
        let (run, load) = (&self.profile.run, &self.profile.load);
        let total = run.warm_up_s + run.seconds;
        match load.shape {
            Shape::Constant => load.factor,
            Shape::Day => {
                let hour = load.start_hour + seconds * load.compression / 3_600.0;
                load.factor * load.compression * self.curve.at(hour)
            }
            Shape::Ramp => load.factor + (load.to - load.factor) * (seconds / total).clamp(0.0, 1.0),
            Shape::Steps => self.step(seconds, total),
            Shape::Burst => {
                let within = (load.burst_at_s..load.burst_at_s + load.burst_s).contains(&seconds);
                if within { load.to } else { load.factor }
            }
            Shape::Replay => 0.0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few steps"
    )]
    fn step(&self, seconds: f64, total: f64) -> f64 {
        let steps = &self.profile.load.steps;
        let at = (seconds.max(0.0) / total * steps.len() as f64) as usize;
        steps.get(at).or(steps.last()).copied().unwrap_or(0.0)
    }

    /// A bound of the multiple over all times.
    #[must_use]
    pub fn most(&self) -> f64 {
        let load = &self.profile.load;
        match load.shape {
            Shape::Constant => load.factor,
            // Where the two humps overlap, the sum may be above each of them.
            Shape::Day => 2.0 * load.factor * load.compression,
            Shape::Ramp | Shape::Burst => load.factor.max(load.to),
            Shape::Steps => load.steps.iter().copied().fold(0.0, f64::max),
            Shape::Replay => 0.0,
        }
    }

    /// Seconds of the model per second of the run.
    #[must_use]
    pub fn compression(&self) -> f64 {
        let load = &self.profile.load;
        if matches!(load.shape, Shape::Day | Shape::Replay) { load.compression } else { 1.0 }
    }
}
