//! The goals of a profile, held against the report. A goal whose value was not measured is missed: a run that says
//! nothing about it does not prove it.

use super::types::{GoalReport, Report};
use crate::report::round;

/// The beginning of the names of the sidecars' processes.
const SIDECAR: &str = "sidecar";
/// The fewest samples of memory that tell a growth.
const FEWEST: usize = 8;

/// Every goal that the profile of a report sets.
pub(super) fn judge(report: &Report) -> Vec<GoalReport> {
    let goals = &report.profile.goals;
    let all = [
        ("commit p99 (ms)", goals.commit_p99_ms, commits(report)),
        ("lag p99 of the slowest site (ms)", goals.lag_p99_ms, lag(report)),
        ("from the end of the load until all is applied (s)", goals.caught_up_s, report.caught_up_after_s),
        ("operations that were not done (share)", goals.failed_share, failed(report)),
        ("commit p99 of people in the burst, as a multiple of before", goals.people_p99_ratio, people(report)),
        ("goodput that the burst costs (share)", goals.goodput_loss, loss(report)),
        ("growth of a sidecar's memory (share)", goals.memory_growth, growth(report)),
    ];
    let set = all.into_iter().filter_map(|(name, most, measured)| {
        let (name, measured) = (name.to_owned(), measured.map(round));
        most.map(|most| GoalReport { name, most, measured })
    });
    set.collect()
}

fn commits(report: &Report) -> Option<f64> {
    (report.updates.count > 0).then_some(report.updates.p99)
}

fn lag(report: &Report) -> Option<f64> {
    let measured = report.sites.iter().filter(|site| site.lag.count > 0).map(|site| site.lag.p99);
    measured.max_by(f64::total_cmp)
}

#[expect(clippy::cast_precision_loss, reason = "operations of a run")]
fn failed(report: &Report) -> Option<f64> {
    let total = &report.total;
    (total.offered > 0).then(|| total.offered.saturating_sub(total.done) as f64 / total.offered as f64)
}

fn people(report: &Report) -> Option<f64> {
    let [before, within] = report.people?;
    (before.count > 0 && within.count > 0 && before.p99 > 0.0).then(|| within.p99 / before.p99)
}

/// The share by which fewer operations are done per second in the burst than before it. Zero if more are.
fn loss(report: &Report) -> Option<f64> {
    let [before, within] = report.goodput?;
    (before > 0.0).then(|| (1.0 - within / before).max(0.0))
}

/// The largest growth of a sidecar's memory, from the second quarter of the run to its last one. The first quarter is
/// left out: caches fill in it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of warm-up")]
fn growth(report: &Report) -> Option<f64> {
    let warm_up = report.profile.run.warm_up_s.ceil() as usize;
    let sidecars = report.processes.iter().filter(|one| one.name.starts_with(SIDECAR));
    let growths = sidecars.filter_map(|one| {
        let samples: Vec<f64> = one.memory_mib.iter().skip(warm_up).flatten().copied().collect();
        let quarter = samples.len() / 4;
        let second = median(samples.get(quarter..2 * quarter)?)?;
        let last = median(samples.get(samples.len() - quarter..)?)?;
        (samples.len() >= FEWEST && second > 0.0).then(|| last / second - 1.0)
    });
    growths.max_by(f64::total_cmp)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::gather::tests::report;
    use super::super::types::Quantiles;
    use super::*;
    use crate::load::measure::ProcessCourse;
    use crate::load::profile::Goals;

    fn of(p99: f64) -> Quantiles {
        Quantiles { count: 100, p99, ..Quantiles::default() }
    }

    fn missed(report: &Report) -> Vec<String> {
        judge(report).into_iter().filter(|goal| !goal.is_met()).map(|goal| goal.name).collect()
    }

    #[test]
    fn a_goal_is_missed_above_its_value_and_without_a_measurement() {
        let mut report = report();
        assert!(judge(&report).is_empty(), "a profile without goals");
        report.profile.goals = Goals {
            commit_p99_ms: Some(50.0),
            people_p99_ratio: Some(2.0),
            caught_up_s: Some(40.0),
            ..Goals::default()
        };
        (report.updates, report.caught_up_after_s) = (of(49.0), Some(12.0));
        report.people = Some([of(10.0), of(20.0)]);
        assert_eq!(missed(&report), [""; 0]);
        report.people = Some([of(10.0), of(21.0)]);
        assert_eq!(missed(&report), ["commit p99 of people in the burst, as a multiple of before"]);
        (report.updates, report.people, report.caught_up_after_s) = (of(51.0), None, None);
        assert_eq!(missed(&report).len(), 3);
    }

    #[test]
    fn a_burst_in_which_less_is_done_misses_its_goal_and_one_in_which_more_is_done_does_not() {
        let mut report = report();
        report.profile.goals.goodput_loss = Some(0.1);
        assert_eq!(missed(&report).len(), 1, "no burst");
        for (within, is_missed) in [(300.0, false), (91.0, false), (89.0, true), (0.0, true)] {
            report.goodput = Some([100.0, within]);
            assert_eq!(missed(&report).len(), usize::from(is_missed), "{within}");
        }
    }

    #[test]
    fn an_operation_that_was_not_done_misses_a_goal_of_zero() {
        let mut report = report();
        report.profile.goals.failed_share = Some(0.0);
        (report.total.offered, report.total.done) = (100, 100);
        assert_eq!(missed(&report), [""; 0]);
        report.total.done = 99;
        assert_eq!(missed(&report), ["operations that were not done (share)"]);
    }

    #[test]
    fn memory_that_only_grows_is_found_and_caches_that_fill_are_not() {
        let course = |name: &str, last: u32| -> ProcessCourse {
            let memory: Vec<f64> = (0..400).map(|second: u32| f64::from(second.min(last)) + 100.0).collect();
            let course = serde_json::json!({"name": name, "cores": [], "memory_mib": memory, "files": []});
            serde_json::from_value(course).unwrap()
        };
        let (filled, leaking, emulator) = (course("sidecar a", 90), course("sidecar b", 400), course("kinesis", 400));
        let mut report = report();
        (report.profile.run.warm_up_s, report.profile.goals.memory_growth) = (0.0, Some(0.1));
        report.processes = vec![filled.clone(), emulator.clone()];
        assert_eq!(missed(&report), [""; 0]);
        report.processes = vec![filled, leaking, emulator];
        assert_eq!(missed(&report), ["growth of a sidecar's memory (share)"]);
        report.processes.clear();
        assert_eq!(missed(&report).len(), 1, "nothing was measured");
    }
}
