//! Finds the knee of runs whose load grows in steps: the highest step at which every objective holds, the objective
//! that broke at the next one, and the process that was the busiest there.
//!
//! A step is judged by its seconds: an objective holds if at most a share of them is beyond it. The first seconds of a
//! step are left out, because queues of the step before it are still there.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::Fallible;
use crate::load::measure::ProcessCourse;
use crate::load::profile::{Profile, Shape};
use crate::load::results::{Course, Report, Verdict};
use crate::report::round;

/// The part of a step that is left out at its beginning.
const LEFT_OUT: f64 = 0.2;
/// An overload is so many times the knee.
const OVERLOAD: f64 = 3.0;
/// The name of the generator among the processes of a report. It is no part of the estate.
const GENERATOR: &str = "generator";

/// The objectives, as `slo.toml` has them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slo {
    /// The 99th percentile of the latencies of a second, in milliseconds.
    pub p99_ms: f64,
    /// The longest lag of a transaction that became visible in a second, at any site, in milliseconds.
    pub lag_ms: u64,
    /// The share of the seconds of a step that may be beyond one of these two.
    pub seconds_share: f64,
    /// The share of the arrivals of a step that may be refused, unknown or dropped.
    pub failed_share: f64,
}

impl Default for Slo {
    fn default() -> Self {
        Self { p99_ms: 50.0, lag_ms: 2_000, seconds_share: 0.05, failed_share: 0.001 }
    }
}

impl Slo {
    /// Reads a file. Objectives that it does not name keep their defaults.
    ///
    /// # Errors
    /// The file cannot be read, or has an unknown name or a value of another kind.
    pub fn read(path: &Path) -> Fallible<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The rate as a multiple of the peak hour of the model.
    pub factor: f64,
    /// Arrivals per second.
    pub offered: f64,
    /// Operations per second that were done.
    pub done: f64,
    /// The share of seconds beyond `p99_ms`.
    pub slow: f64,
    /// The share of seconds beyond `lag_ms`.
    pub late: f64,
    /// The share of arrivals that failed.
    pub failed: f64,
    /// The busiest process of the estate, and its mean number of cores.
    pub busiest: Option<(String, f64)>,
    /// The objectives that do not hold.
    pub broken: Vec<&'static str>,
}

/// The knee of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Knee {
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// The number of steps before the first one at which an objective does not hold.
    pub held: usize,
}

impl Knee {
    /// The highest rate at which every objective holds, as a multiple of the peak hour. None if the first step broke.
    #[must_use]
    pub fn factor(&self) -> Option<f64> {
        self.held.checked_sub(1).map(|last| self.steps[last].factor)
    }
}

/// Finds the knee of a run.
///
/// # Errors
/// The load has no steps, or the run was void or failed the oracle.
pub fn knee(report: &Report, slo: &Slo) -> Fallible<Knee> {
    if report.verdict != Verdict::Passed {
        return Err(format!("the run is {:?}: its figures say nothing about a knee", report.verdict).into());
    }
    if report.profile.load.shape != Shape::Steps {
        return Err("the load of this run has no steps: run the profile `step`".into());
    }
    Ok(of(&report.profile, &report.course, &report.processes, slo))
}

fn of(profile: &Profile, course: &Course, processes: &[ProcessCourse], slo: &Slo) -> Knee {
    let factors = &profile.load.steps;
    // The steps begin with the warm-up, as the plan draws them.
    let length = (profile.run.warm_up_s + profile.run.seconds) / factors.len().max(1) as f64;
    let steps: Vec<Step> = factors
        .iter()
        .enumerate()
        .map(|(at, factor)| {
            let from = ((at as f64 + LEFT_OUT) * length).max(profile.run.warm_up_s);
            let to = (at as f64 + 1.0) * length;
            step(*factor, seconds(from, to, course.offered.len()), course, processes, slo)
        })
        // A run may end before its last steps.
        .filter(|step| step.offered > 0.0)
        .collect();
    let held = steps.iter().position(|step| !step.broken.is_empty()).unwrap_or(steps.len());
    Knee { steps, held }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run")]
fn seconds(from: f64, to: f64, all: usize) -> std::ops::Range<usize> {
    let to = (to.ceil() as usize).min(all);
    (from.ceil() as usize).min(to)..to
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run")]
fn step(factor: f64, seconds: std::ops::Range<usize>, course: &Course, processes: &[ProcessCourse], slo: &Slo) -> Step {
    let count = seconds.len().max(1) as f64;
    let sum = |series: &[u64]| seconds.clone().filter_map(|at| series.get(at)).sum::<u64>() as f64;
    let share = |is: &dyn Fn(usize) -> bool| seconds.clone().filter(|at| is(*at)).count() as f64 / count;
    // A second in which nothing ends although something is in progress is a stall, and has no latency.
    let is_slow = |at: usize| match course.p99_ms.get(at).copied().flatten() {
        Some(ms) => ms > slo.p99_ms,
        None => course.in_flight.get(at).is_some_and(|count| *count > 0),
    };
    let is_late = |at: usize| {
        let lags = course.lag_ms.values().chain(course.backlog_ms.values());
        lags.filter_map(|site| site.get(at).copied().flatten()).any(|ms| ms > slo.lag_ms)
    };
    let offered = sum(&course.offered);
    let (slow, late, failed) = (share(&is_slow), share(&is_late), sum(&course.failed) / offered.max(1.0));
    let found = [
        ("latency", slow > slo.seconds_share),
        ("lag", late > slo.seconds_share),
        ("failures", failed > slo.failed_share),
    ];
    let mean = |one: &ProcessCourse| {
        let cores: Vec<f64> = seconds.clone().filter_map(|at| one.cores.get(at).copied().flatten()).collect();
        cores.iter().sum::<f64>() / cores.len().max(1) as f64
    };
    let estate = processes.iter().filter(|one| one.name != GENERATOR);
    let busiest = estate.map(|one| (one.name.clone(), round(mean(one)))).max_by(|one, other| one.1.total_cmp(&other.1));
    Step {
        factor,
        offered: round(offered / count),
        done: round(sum(&course.done) / count),
        slow: round(slow),
        late: round(late),
        failed: round(failed),
        busiest,
        broken: found.into_iter().filter(|(_, is_broken)| *is_broken).map(|(name, _)| name).collect(),
    }
}

/// The values of a profile whose usual load is the knee of these runs, and whose burst is a fixed multiple of that. Of
/// several knees the middle one counts.
///
/// # Errors
/// As [`knee`]. Or a run has no knee.
pub fn overload(reports: &[Report], slo: &Slo) -> Fallible<Vec<String>> {
    let knees = reports.iter().map(|report| knee(report, slo)).collect::<Fallible<Vec<_>>>()?;
    let found: Option<Vec<f64>> = knees.iter().map(Knee::factor).collect();
    let mut factors = found.ok_or("a run broke an objective at its first step: begin `step` with a smaller load")?;
    factors.sort_by(f64::total_cmp);
    let middle = middle(&factors).ok_or("there is no run")?;
    // Multiples are those of the peak hour of this many builds.
    let builds = reports.first().map_or(0.0, |report| report.profile.model.builds_per_day);
    Ok(vec![
        format!("model.builds_per_day={builds}"),
        format!("load.factor={middle}"),
        format!("load.to={}", middle * OVERLOAD),
    ])
}

/// The middle one of sorted factors, the lower one of two.
fn middle(factors: &[f64]) -> Option<f64> {
    factors.get(factors.len().saturating_sub(1) / 2).copied()
}

/// The knees of repeats as Markdown: the steps of the first run, the spread over all, and the headroom.
#[must_use]
pub fn text(knees: &[Knee], builds_per_day: f64) -> String {
    let Some(first) = knees.first() else { return "no run\n".to_owned() };
    let mut text =
        "| multiple | offered/s | done/s | slow seconds | late seconds | failed | busiest (cores) | broken |\n\
                    |---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for step in &first.steps {
        let busiest = step.busiest.as_ref().map_or("-".to_owned(), |(name, cores)| format!("{name} {cores}"));
        let broken = if step.broken.is_empty() { "-".to_owned() } else { step.broken.join(", ") };
        let Step { factor, offered, done, slow, late, failed, .. } = step;
        // Writing to a text does not fail.
        let _ = writeln!(text, "| {factor} | {offered} | {done} | {slow} | {late} | {failed} | {busiest} | {broken} |");
    }
    // A run without a knee counts as none of the load.
    let mut factors: Vec<f64> = knees.iter().map(|knee| knee.factor().unwrap_or(0.0)).collect();
    factors.sort_by(f64::total_cmp);
    if knees.iter().any(|knee| knee.factor().is_none()) {
        text.push_str("\nAt least one run broke an objective at its first step: it has no knee.\n");
    }
    if let (Some(least), Some(middle), Some(most)) = (factors.first(), middle(&factors), factors.last()) {
        let headroom = |builds: f64| round(middle * builds_per_day / builds);
        let _ = writeln!(
            text,
            "\nThe objectives hold up to {middle} times the peak hour of {builds_per_day} builds per day ({least} to \
             {most} in {} runs): {} times that of 100,000 builds, {} times that of 300,000.",
            factors.len(),
            headroom(100_000.0),
            headroom(300_000.0)
        );
        if knees.iter().all(|knee| knee.held == knee.steps.len()) {
            text.push_str("No objective broke: the knee is higher than the last step.\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::profile::{builtin, parse};
    use crate::load::results::unmeasured;

    /// Three steps of ten seconds. At the second one, `slow` seconds are beyond the latency.
    fn run(slow: usize, failed: u64) -> Knee {
        let set = ["run.seconds=27", "run.warm_up_s=3", "load.shape=\"steps\"", "load.steps=[1.0, 2.0, 4.0]"];
        let profile = parse("test", "", &set.map(str::to_owned)).unwrap();
        let latency = |at: usize| Some(if (20 - slow..20).contains(&at) { 80.0 } else { 20.0 });
        let course = Course {
            offered: vec![10; 30],
            done: vec![9; 30],
            failed: (0..30).map(|at| if at == 28 { failed } else { 0 }).collect(),
            p99_ms: (0..30).map(latency).collect(),
            lag_ms: [("a".to_owned(), vec![Some(100); 30])].into(),
            ..Course::default()
        };
        let process = |name: &str, cores: f64| -> ProcessCourse {
            let course = serde_json::json!({"name": name, "cores": vec![cores; 30], "memory_mib": [], "files": []});
            serde_json::from_value(course).unwrap()
        };
        let processes = [process("generator", 1.9), process("a", 0.4), process("emulators", 0.7)];
        of(&profile, &course, &processes, &Slo::default())
    }

    #[test]
    fn the_knee_is_the_last_step_before_the_first_that_broke() {
        let knee = run(5, 0);
        assert_eq!((knee.held, knee.factor()), (1, Some(1.0)));
        let step = &knee.steps[1];
        assert_eq!((step.factor, step.offered, step.done, step.slow), (2.0, 10.0, 9.0, 0.625));
        assert_eq!(step.broken, ["latency"]);
        assert_eq!(step.busiest, Some(("emulators".to_owned(), 0.7)), "the generator does not count");
        let text = text(&[knee, run(0, 5), run(0, 0)], 300_000.0);
        assert!(
            text.contains("up to 2 times the peak hour of 300000 builds per day (1 to 4 in 3 runs): 6 times"),
            "{text}"
        );
        assert!(text.contains("| 2 | 10 | 9 | 0.625 | 0 | 0 | emulators 0.7 | latency |"), "{text}");
    }

    #[test]
    fn a_step_that_did_not_begin_is_none() {
        let set = ["run.seconds=27", "run.warm_up_s=3", "load.shape=\"steps\"", "load.steps=[1.0, 2.0, 4.0]"];
        let profile = parse("test", "", &set.map(str::to_owned)).unwrap();
        // The run ended after its second step, and took two more seconds for the operations in progress.
        let offered = [vec![10; 20], vec![0; 2]].concat();
        let course = Course { offered, p99_ms: vec![Some(20.0); 22], ..Course::default() };
        let knee = of(&profile, &course, &[], &Slo::default());
        assert_eq!((knee.steps.len(), knee.factor()), (2, Some(2.0)));
    }

    #[test]
    fn an_overload_is_three_times_the_middle_knee() {
        let report = |slow_from: usize| {
            let set = ["run.seconds=30", "run.warm_up_s=0", "load.shape=\"steps\"", "load.steps=[1.0, 2.0, 4.0]"];
            let p99_ms = (0..30).map(|at| Some(if at >= slow_from { 90.0 } else { 20.0 })).collect();
            let profile = parse("step", "", &set.map(str::to_owned)).unwrap();
            Report {
                profile,
                verdict: Verdict::Passed,
                course: Course { offered: vec![10; 30], done: vec![10; 30], p99_ms, ..Course::default() },
                ..unmeasured()
            }
        };
        let set = overload(&[report(30), report(20), report(10)], &Slo::default()).unwrap();
        assert_eq!(set, ["model.builds_per_day=100000", "load.factor=2", "load.to=6"]);
        let overloaded = parse("overload", builtin("overload").unwrap(), &set).unwrap();
        assert_eq!((overloaded.load.factor, overloaded.load.to), (2.0, 6.0));
        assert!(overload(&[report(0)], &Slo::default()).unwrap_err().to_string().contains("with a smaller load"));
    }

    #[test]
    fn failures_and_lag_break_a_step_and_a_run_may_have_no_knee() {
        assert_eq!(run(0, 5).steps[2].broken, ["failures"]);
        assert_eq!(run(0, 0).held, 3);
        assert!(text(&[run(0, 0)], 100_000.0).contains("the knee is higher than the last step"));
        let all_slow = run(20, 0);
        assert_eq!(all_slow.factor(), None);
        assert!(text(&[all_slow], 100_000.0).contains("it has no knee"));
    }

    #[test]
    fn a_second_in_which_nothing_ends_is_slow() {
        let slo = Slo::default();
        let course =
            |in_flight: u64| Course { in_flight: vec![in_flight; 10], p99_ms: vec![None; 10], ..Course::default() };
        assert_eq!(step(1.0, 0..10, &course(3), &[], &slo).broken, ["latency"]);
        assert!(step(1.0, 0..10, &course(0), &[], &slo).broken.is_empty());
    }

    #[test]
    fn objectives_are_read_with_defaults_and_unknown_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("slo.toml");
        std::fs::write(&file, "p99_ms = 80\n").unwrap();
        let slo = Slo::read(&file).unwrap();
        assert_eq!((slo.p99_ms, slo.lag_ms), (80.0, 2_000));
        std::fs::write(&file, "p90_ms = 80\n").unwrap();
        assert!(Slo::read(&file).unwrap_err().to_string().contains("p90_ms"));
    }
}
