//! Compares the reports of two sets of runs, and decides whether the second set is worse.
//!
//! The values of neighbouring seconds depend on each other, so the runs are cut into blocks of some seconds, and blocks
//! are drawn again and again (block bootstrap). Of repeats (`run --repeat`), runs are drawn first, and then blocks of
//! each drawn run: the blocks of one run are more alike than those of two, so the differences between runs are in the
//! interval too. A figure is worse if even the lower end of the 95 % interval of the ratio is above the tolerance. One
//! run of each side gives an interval for these two runs alone.
//!
//! A load that grows in steps may end early. Its runs are compared up to the end of the shortest one: the later steps
//! of the others have another load. How far each side got is the knee.

use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Fallible;
use crate::load::profile::Shape;
use crate::load::results::{self, Report, Verdict};
use crate::report::round;

/// The length of a block, in seconds.
const BLOCK: usize = 5;
/// How often blocks are drawn.
const DRAWS: usize = 2_000;
/// The fewest blocks per side that say anything.
const FEWEST: usize = 3;

/// One figure of both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Its name.
    pub name: &'static str,
    /// The mean of both sides.
    pub means: [f64; 2],
    /// The ratio of the means, new to base, with its 95 % interval: ratio, lower end, upper end. None if there are too
    /// few blocks.
    pub ratio: Option<[f64; 3]>,
    /// Whether the new side is worse.
    pub is_worse: bool,
}

/// Reads a side: a `report.json`, or a folder with the reports of repeats in it or below it.
///
/// # Errors
/// There is no report, or one whose run was void or failed the oracle: it cannot be compared.
pub fn side(path: &Path) -> Fallible<Vec<Report>> {
    let mut files = Vec::new();
    find(path, 0, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: there is no report.json", path.display()).into());
    }
    let mut reports = Vec::new();
    for file in files {
        let report = results::read(&file)?;
        if report.verdict != Verdict::Passed {
            return Err(format!("{}: the run is {:?} and cannot be compared", file.display(), report.verdict).into());
        }
        reports.push(report);
    }
    Ok(reports)
}

fn find(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Fallible<()> {
    /// A folder of a profile, with a folder per repeat.
    const DEEPEST: usize = 2;
    if path.is_file() {
        files.push(path.to_owned());
    } else if path.join("report.json").is_file() {
        files.push(path.join("report.json"));
    } else if path.is_dir() && depth < DEEPEST {
        for entry in std::fs::read_dir(path)? {
            let below = entry?.path();
            if below.is_dir() {
                find(&below, depth + 1, files)?;
            }
        }
    }
    Ok(())
}

/// Checks that runs can be put beside each other.
///
/// # Errors
/// There is none, the profiles differ in more than their seeds, or the machines have different numbers of cores.
pub fn alike<'a>(mut reports: impl Iterator<Item = &'a Report>) -> Fallible<()> {
    let first = reports.next().ok_or("there is no run")?;
    for other in reports {
        let mut profile = other.profile.clone();
        profile.run.seed = first.profile.run.seed;
        // Goals and prices change no figure.
        profile.goals = first.profile.goals.clone();
        profile.prices = first.profile.prices.clone();
        if profile != first.profile {
            return Err("the profiles differ in more than their seeds: such runs cannot be compared".into());
        }
        if other.host["cores"] != first.host["cores"] || other.versions.get("build") != first.versions.get("build") {
            return Err("the machines or the kinds of build differ: such runs cannot be compared".into());
        }
    }
    Ok(())
}

/// Compares two sides. A figure may grow by `tolerance` (0.1 for 10 %) without being worse.
///
/// # Errors
/// The profiles differ in more than their seeds, or the machines have different numbers of cores.
pub fn compare(base: &[Report], new: &[Report], tolerance: f64) -> Fallible<Vec<Compared>> {
    alike(base.iter().chain(new))?;
    type Series = fn(&Report) -> Vec<Option<f64>>;
    let figures: [(&str, Series); 6] = [
        ("latency, median (ms)", |report| report.course.p50_ms.clone()),
        ("latency, p99 per second (ms)", |report| report.course.p99_ms.clone()),
        ("lag, longest per second (ms)", lag),
        ("refused, unknown, dropped (share)", failed),
        ("processors without the generator (cores)", |report| sum(report, |one| &one.cores)),
        ("memory without the generator (MiB)", |report| sum(report, |one| &one.memory_mib)),
    ];
    let end = shortest(base.iter().chain(new));
    let compared = figures.into_iter().map(|(name, series)| {
        let side = |reports: &[Report]| {
            let run = |report: &Report| {
                let mut values = series(report);
                values.truncate(end);
                blocks(&values, report.profile.run.warm_up_s)
            };
            reports.iter().map(run).filter(|blocks| !blocks.is_empty()).collect::<Vec<_>>()
        };
        one(name, &side(base), &side(new), tolerance)
    });
    Ok(compared.collect())
}

/// The seconds up to the end of the shortest run, if runs may end after any of their steps.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run")]
fn shortest<'a>(reports: impl Iterator<Item = &'a Report>) -> usize {
    let may_end = |report: &&Report| {
        let load = &report.profile.load;
        load.shape == Shape::Steps && load.stop_p99_ms > 0.0
    };
    let seconds = |report: &Report| (report.profile.run.warm_up_s + report.measured_s) as usize;
    reports.filter(may_end).map(seconds).min().unwrap_or(usize::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a run")]
fn lag(report: &Report) -> Vec<Option<f64>> {
    let series: Vec<_> = report.course.lag_ms.values().collect();
    let longest = series.iter().map(|one| one.len()).max().unwrap_or(0);
    let at = |second: usize| series.iter().filter_map(|one| one.get(second).copied().flatten()).max();
    (0..longest).map(|second| at(second).map(|ms| ms as f64)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "operations per second")]
fn failed(report: &Report) -> Vec<Option<f64>> {
    let share = |(failed, done): (&u64, &u64)| (failed + done > 0).then(|| *failed as f64 / (failed + done) as f64);
    report.course.failed.iter().zip(&report.course.done).map(share).collect()
}

fn sum(report: &Report, values: fn(&crate::load::measure::ProcessCourse) -> &Vec<Option<f64>>) -> Vec<Option<f64>> {
    let others: Vec<_> = report.processes.iter().filter(|one| one.name != "generator").map(values).collect();
    let longest = others.iter().map(|one| one.len()).max().unwrap_or(0);
    let at = |second: usize| others.iter().filter_map(|one| one.get(second).copied().flatten()).collect::<Vec<f64>>();
    (0..longest).map(|second| Some(at(second)).filter(|all| !all.is_empty()).map(|all| all.iter().sum())).collect()
}

/// The means of the blocks after the warm-up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "seconds")]
fn blocks(series: &[Option<f64>], warm_up_s: f64) -> Vec<f64> {
    let measured = series.get(warm_up_s.ceil() as usize..).unwrap_or_default();
    let mean = |block: &[Option<f64>]| {
        let values: Vec<f64> = block.iter().flatten().copied().collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    measured.chunks_exact(BLOCK).filter_map(mean).collect()
}

#[expect(clippy::cast_precision_loss, reason = "numbers of blocks")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Compares a figure. Each side has the blocks of its runs.
fn one(name: &'static str, base: &[Vec<f64>], new: &[Vec<f64>], tolerance: f64) -> Compared {
    let means = [mean(&base.concat()), mean(&new.concat())];
    let count = |side: &[Vec<f64>]| side.iter().map(Vec::len).sum::<usize>();
    // A figure that grows from nothing has no ratio. It is worse beyond the tolerance.
    if means[0] <= f64::EPSILON {
        let is_worse = count(new) >= FEWEST && means[1] > tolerance;
        return Compared { name, means, ratio: None, is_worse };
    }
    if count(base) < FEWEST || count(new) < FEWEST {
        return Compared { name, means, ratio: None, is_worse: false };
    }
    // The seed is fixed, so that the same reports give the same answer.
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut draw = |runs: &[Vec<f64>]| {
        let mut drawn = Vec::new();
        for _ in 0..runs.len() {
            let blocks = &runs[rng.random_range(0..runs.len())];
            drawn.extend((0..blocks.len()).map(|_| blocks[rng.random_range(0..blocks.len())]));
        }
        mean(&drawn)
    };
    let mut ratios: Vec<f64> = (0..DRAWS).map(|_| draw(new) / draw(base).max(f64::EPSILON)).collect();
    ratios.sort_by(f64::total_cmp);
    let (lower, upper) = (ratios[DRAWS / 40], ratios[DRAWS - 1 - DRAWS / 40]);
    let ratio = [means[1] / means[0], lower, upper].map(round);
    Compared { name, means, ratio: Some(ratio), is_worse: lower > 1.0 + tolerance }
}

/// The comparison as a table of Markdown.
#[must_use]
pub fn table(compared: &[Compared]) -> String {
    let row = |one: &Compared| {
        let ratio = one.ratio.map_or("–".to_owned(), |[ratio, lower, upper]| format!("{ratio} ({lower} to {upper})"));
        let verdict = if one.is_worse { "WORSE" } else { "ok" };
        format!("| {} | {} | {} | {ratio} | {verdict} |\n", one.name, round(one.means[0]), round(one.means[1]))
    };
    let rows: String = compared.iter().map(row).collect();
    format!("| figure | base | new | ratio (95 % interval) | verdict |\n|---|---:|---:|---:|---|\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::results::unmeasured;

    fn values(mean: f64) -> Vec<f64> {
        (0..20).map(|at| mean + f64::from(at % 5) - 2.0).collect()
    }

    #[test]
    fn a_figure_that_grows_beyond_the_tolerance_is_worse() {
        let worse = |base: Vec<f64>, new: Vec<f64>| one("x", &[base], &[new], 0.1).is_worse;
        assert!(worse(values(50.0), values(60.0)));
        assert!(!worse(values(50.0), values(52.0)));
        assert!(!worse(values(60.0), values(50.0)));
        // A difference within the noise is none.
        let noisy: Vec<f64> = (0..8).map(|at| if at == 3 { 400.0 } else { 40.0 }).collect();
        assert!(!worse(values(50.0), noisy));
        let same = one("x", &[values(50.0)], &[values(50.0)], 0.1).ratio.unwrap();
        assert!(same[1] <= 1.0 && same[2] >= 1.0, "{same:?}");
    }

    #[test]
    fn a_difference_that_repeats_have_among_themselves_is_none() {
        let worse = |base: [f64; 3], new: [f64; 3]| one("x", &base.map(values), &new.map(values), 0.1).is_worse;
        // Within each run the values hardly differ, but one run differs from another as much as the sides do.
        assert!(!worse([40.0, 50.0, 60.0], [48.0, 59.0, 70.0]));
        assert!(worse([49.0, 50.0, 51.0], [58.0, 59.0, 60.0]));
    }

    #[test]
    fn a_figure_that_grows_from_nothing_is_worse() {
        let nothing = [vec![0.0; 5]];
        assert!(one("x", &nothing, &[vec![0.5, 0.5, 0.5]], 0.1).is_worse);
        assert!(!one("x", &nothing, &[vec![0.01, 0.0, 0.0]], 0.1).is_worse);
    }

    #[test]
    fn runs_that_ended_at_different_steps_are_compared_up_to_the_earlier_end() {
        // Steps of twenty seconds: the latencies of the second one are ten times those of the first.
        let run = |seconds: u32, ms: f64| {
            let mut report = unmeasured();
            (report.profile.load.shape, report.profile.load.stop_p99_ms) = (Shape::Steps, 200.0);
            (report.profile.run.warm_up_s, report.measured_s) = (0.0, f64::from(seconds));
            report.course.p99_ms = (0..seconds).map(|at| Some(if at < 20 { ms } else { 10.0 * ms })).collect();
            report
        };
        let compared = compare(&[run(40, 50.0)], &[run(20, 100.0)], 0.1).unwrap();
        let p99 = compared.iter().find(|one| one.name.starts_with("latency, p99")).unwrap();
        assert_eq!((p99.means, p99.is_worse), ([50.0, 100.0], true));
    }

    #[test]
    fn the_warm_up_and_the_last_part_of_a_block_are_left_out() {
        let series: Vec<Option<f64>> = [100.0; 5].into_iter().chain([1.0; 12]).map(Some).collect();
        assert_eq!(blocks(&series, 5.0), [1.0, 1.0]);
    }
}
