//! The course of a week: two humps per working day, over a base that is the same at every hour.

use super::Model;

const DAY_HOURS: f64 = 24.0;
/// The length of a week in hours. It begins on Monday at midnight.
const WEEK_HOURS: f64 = 168.0;
/// The hour of the week at which the weekend begins.
const WEEKEND: f64 = 120.0;

/// The rate over time, as a share of the rate of the peak hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    humps: [f64; 2],
    /// The width of each hump in hours: the sigma of a normal distribution.
    width: f64,
    /// The share of a day per hour at the peak, and at the base.
    peak: f64,
    base: f64,
    weekend: f64,
}

impl Curve {
    /// The curve whose day has the shares of the coefficients, and whose highest rate is that of the peak hour.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let peak = model.work_share / model.work_hours * model.peak_factor;
        // A base above the peak leaves no room for humps; the curve is then flat.
        let base = ((1.0 - model.work_share) / DAY_HOURS).min(peak);
        let each = model.work_share / 2.0;
        let width = each / ((peak - base).max(1e-9) * (2.0 * std::f64::consts::PI).sqrt());
        Self { humps: [model.morning_hour, model.afternoon_hour], width, peak, base, weekend: model.weekend_share }
    }

    /// The rate at an hour of the week, as a share of the rate of the peak hour.
    #[must_use]
    pub fn at(&self, hour_of_week: f64) -> f64 {
        let hour = hour_of_week.rem_euclid(WEEK_HOURS);
        let of_day = hour % DAY_HOURS;
        let hump = |centre: f64| {
            let apart = (of_day - centre).abs();
            let apart = apart.min(DAY_HOURS - apart) / self.width;
            (-apart * apart / 2.0).exp()
        };
        let humps: f64 = self.humps.into_iter().map(hump).sum();
        let rate = (self.base + (self.peak - self.base) * humps) / self.peak;
        if hour < WEEKEND { rate } else { rate * self.weekend }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean over some hours of the week.
    fn mean(curve: &Curve, from: f64, to: f64) -> f64 {
        let steps = 10_000;
        (0..steps).map(|at| curve.at(from + (to - from) * f64::from(at) / f64::from(steps))).sum::<f64>()
            / f64::from(steps)
    }

    #[test]
    fn a_working_day_has_its_volume_and_its_peak() {
        let model = Model::default();
        let curve = Curve::of(&model);
        // The rate of the peak hour per second, times the curve, must add up to the day.
        let per_second = model.work_share / (model.work_hours * 3_600.0) * model.peak_factor;
        assert!((mean(&curve, 0.0, 24.0) * per_second * 86_400.0 - 1.0).abs() < 0.01);
        let highest = (0..2_400).map(|at| curve.at(f64::from(at) / 100.0)).fold(0.0, f64::max);
        assert!((highest - 1.0).abs() < 0.01, "{highest}");
        assert!(curve.at(10.0) > 0.99 && curve.at(15.0) > 0.99 && curve.at(12.5) < 0.2 && curve.at(3.0) < 0.1);
    }

    #[test]
    fn a_day_of_the_weekend_has_its_share() {
        let curve = Curve::of(&Model::default());
        assert!((mean(&curve, 120.0, 144.0) / mean(&curve, 0.0, 24.0) - 0.08).abs() < 1e-6);
        assert!((curve.at(-14.0) - curve.at(154.0)).abs() < 1e-9);
    }
}
