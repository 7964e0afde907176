//! From measurements to the report.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::Value;

use super::cost::{Sizes, committed, cost, growth};
use super::goals::judge;
use super::notes::notes;
use super::people::{RECOVERED_MS, caught_up, goodput, people};
use super::types::{ClassReport, Course, Quantiles, Report, SiteReport, StageReport, Verdict};
use crate::load::drive::FaultMark;
use crate::load::measure::{ClassStats, OwnCheck, ProcessCourse, Recording, Scraped, Watched};
use crate::load::model::Day;
use crate::load::oracle::Judgement;
use crate::load::profile::Profile;
use crate::report::round;

/// Everything that a run has measured.
pub struct Gathered {
    /// The command that repeats it.
    pub command: String,
    /// The time of the start, in milliseconds since 1970.
    pub started_ms: u64,
    /// The machine.
    pub host: Value,
    /// The versions of the programs.
    pub versions: BTreeMap<String, String>,
    /// The estate.
    pub estate: String,
    /// Whether it is on this machine.
    pub is_local: bool,
    /// The profile.
    pub profile: Profile,
    /// The day of the model.
    pub day: Day,
    /// The generator's check.
    pub own: OwnCheck,
    /// The recorded operations.
    pub recording: Recording,
    /// The measured time in seconds.
    pub measured_s: f64,
    /// From the start until the last operation had ended, in seconds.
    pub ended_s: f64,
    /// From the last end of an operation until all is applied.
    pub settled_after_s: Option<f64>,
    /// The watched sites.
    pub watched: Watched,
    /// The growth of the metrics of all sidecars.
    pub metrics: Scraped,
    /// The mean sizes of a transaction of the plan.
    pub sizes: Sizes,
    /// The processes.
    pub processes: Vec<ProcessCourse>,
    /// The faults.
    pub faults: Vec<FaultMark>,
    /// The oracle's judgement.
    pub oracle: Judgement,
}

/// Makes the report.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
pub fn gather(from: Gathered) -> Report {
    let (mut total, mut updates) = (ClassStats::default(), ClassStats::default());
    let mut classes = BTreeMap::new();
    for (class, stats) in &from.recording.classes {
        add(&mut total, stats);
        if !class.is_read() {
            add(&mut updates, stats);
        }
        classes.insert(class.name().to_owned(), class_report(stats));
    }
    let verdict = if !from.oracle.is_clean() || from.settled_after_s.is_none() {
        Verdict::Failed
    } else if from.own.is_valid() {
        Verdict::Passed
    } else {
        Verdict::Void
    };
    let site = |site: &crate::load::measure::SiteWatch| SiteReport {
        name: site.name.clone(),
        lag: Quantiles::of(&site.lag),
        applied: site.applied,
    };
    let course = course(&from.recording, &from.watched);
    let mut faults = from.faults;
    for fault in &mut faults {
        // Users who were led to another site have recovered when their probes say so.
        let seen = fault.users_recovered_after_s;
        fault.recovered_after_s = seen.or_else(|| recovered(fault, &from.recording, &from.watched));
    }
    faults.sort_by(|one, other| one.from_s.total_cmp(&other.from_s));
    let people = people(&from.profile, &from.recording);
    let goodput = goodput(&from.profile, &from.recording);
    let settled_s = from.settled_after_s.map(|settled| from.ended_s + settled);
    let caught_up_after_s = caught_up(&from.profile, &from.recording, &from.watched, from.ended_s, settled_s);
    let (sites, seconds) = (from.watched.sites.len(), course.offered.len() as f64);
    let cost = cost(&from.metrics, from.sizes, &from.profile.prices, seconds, sites);
    let mut report = Report {
        form: 1,
        verdict,
        command: from.command,
        started_ms: from.started_ms,
        host: from.host,
        versions: from.versions,
        estate: from.estate,
        notes: notes(&from.profile, from.is_local),
        profile: from.profile,
        day: from.day,
        own: from.own,
        total: class_report(&total),
        updates: Quantiles::of(&updates.latency),
        people,
        goodput,
        goals: Vec::new(),
        classes,
        measured_s: round(from.measured_s),
        settled_after_s: from.settled_after_s.map(round),
        caught_up_after_s,
        sites: from.watched.sites.iter().map(site).collect(),
        stages: stages(&from.metrics),
        calls: calls(&from.metrics),
        cost,
        growth: Vec::new(),
        processes: from.processes,
        faults,
        oracle: from.oracle,
        course,
    };
    report.goals = judge(&report);
    report.growth = growth(&report);
    report
}

fn add(total: &mut ClassStats, one: &ClassStats) {
    total.offered += one.offered;
    total.dropped += one.dropped;
    total.late += one.late;
    total.done += one.done;
    total.unknown += one.unknown;
    total.retries += one.retries;
    total.told += one.told;
    total.refs += one.refs;
    for (code, count) in &one.refused {
        *total.refused.entry(code.clone()).or_default() += count;
    }
    let sum = |into: &mut Histogram<u64>, from: &Histogram<u64>| {
        // Both grow with their values, so the sum always fits.
        let _ = into.add(from);
    };
    sum(&mut total.latency, &one.latency);
    sum(&mut total.prepare, &one.prepare);
    sum(&mut total.answer, &one.answer);
}

fn class_report(stats: &ClassStats) -> ClassReport {
    ClassReport {
        offered: stats.offered,
        done: stats.done,
        refused: stats.refused.clone(),
        unknown: stats.unknown,
        dropped: stats.dropped,
        late: stats.late,
        retries: stats.retries,
        told: stats.told,
        refs: stats.refs,
        latency: Quantiles::of(&stats.latency),
        prepare: Quantiles::of(&stats.prepare),
        answer: Quantiles::of(&stats.answer),
    }
}

fn course(recording: &Recording, watched: &Watched) -> Course {
    let mut course = Course::default();
    for second in &recording.seconds {
        course.offered.push(second.offered);
        course.done.push(second.done);
        course.failed.push(second.refused + second.unknown + second.dropped);
        course.in_flight.push(second.in_flight);
        let mut sorted = second.latencies.clone();
        sorted.sort_unstable();
        let at = |part: f64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index into one second's latencies"
            )]
            let index = (part * sorted.len() as f64) as usize;
            sorted.get(index).or(sorted.last()).map(|us| round(f64::from(*us) / 1_000.0))
        };
        course.p50_ms.push(at(0.5));
        course.p99_ms.push(at(0.99));
    }
    for site in &watched.sites {
        course.lag_ms.insert(site.name.clone(), site.visible_ms.clone());
        course.backlog_ms.insert(site.name.clone(), site.backlog_ms.clone());
    }
    course
}

/// From the beginning of a fault to the first second in which its site commits again, and all sites have caught up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "seconds")]
fn recovered(fault: &FaultMark, recording: &Recording, watched: &Watched) -> Option<f64> {
    let from = fault.to_s as usize;
    let caught_up = |second: usize| {
        let of = |site: &crate::load::measure::SiteWatch| site.backlog_ms.get(second).copied().flatten();
        watched.sites.iter().all(|site| of(site).is_some_and(|backlog| backlog <= RECOVERED_MS))
    };
    let commits = |second: &crate::load::measure::Second| match fault.site {
        Some(site) => second.done_at.get(&site).copied().unwrap_or(0) > 0,
        None => !second.done_at.is_empty(),
    };
    let first = recording.seconds.iter().skip(from + 1).position(commits)? + from + 1;
    let last = (first..recording.seconds.len()).find(|second| caught_up(*second))?;
    Some(round((last as f64 + 1.0 - fault.from_s).max(0.0)))
}

/// The histograms of the sidecars that are stages, with their labels.
const STAGES: [(&str, &str); 4] = [
    ("lockstep_commit_seconds", "outcome"),
    ("lockstep_refdb_seconds", "op"),
    ("lockstep_publish_seconds", ""),
    ("lockstep_git_seconds", "op"),
];

fn stages(metrics: &Scraped) -> Vec<StageReport> {
    let mut stages = Vec::new();
    for (metric, label) in STAGES {
        let label = if label.is_empty() { "none" } else { label };
        let sums = metrics.by(&format!("{metric}_sum"), label);
        for (kind, count) in metrics.by(&format!("{metric}_count"), label) {
            if count < 1.0 {
                continue;
            }
            let name = if kind.is_empty() { metric.to_owned() } else { format!("{metric} {kind}") };
            let mean_ms = round(sums.get(&kind).copied().unwrap_or(0.0) / count * 1_000.0);
            stages.push(StageReport { name, count, mean_ms, p99_at_most_ms: bound(metrics, metric, label, &kind) });
        }
    }
    stages
}

/// The bound of the bucket that holds the 99th percentile, in milliseconds.
fn bound(metrics: &Scraped, metric: &str, label: &str, kind: &str) -> Option<f64> {
    let (bucket, wanted) = (format!("{metric}_bucket"), format!("{label}=\"{kind}\""));
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (name, value) in &metrics.0 {
        if name.split('{').next() != Some(bucket.as_str()) || !(kind.is_empty() || name.contains(&wanted)) {
            continue;
        }
        let text = name.split_once("le=\"").and_then(|(_, rest)| rest.split('"').next())?;
        buckets.push((text.parse().unwrap_or(f64::INFINITY), *value));
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let all = buckets.last()?.1;
    let found = buckets.iter().find(|(_, count)| *count >= all * 0.99)?.0;
    found.is_finite().then(|| round(found * 1_000.0))
}

fn calls(metrics: &Scraped) -> BTreeMap<String, f64> {
    let mut calls = BTreeMap::new();
    for (op, count) in metrics.by("lockstep_refdb_round_trips_total", "op") {
        calls.insert(format!("refdb {op}"), count);
    }
    calls.insert("transactions committed".to_owned(), committed(metrics));
    for (name, metric) in [
        ("refs committed", "lockstep_commit_refs_total"),
        ("appends to streams", "lockstep_publish_seconds_count"),
        ("records appended", "lockstep_publish_slots_total"),
        ("records appended twice", "lockstep_publish_repeated_total"),
        ("records not taken at once", "lockstep_publish_refused_total"),
        ("records read from streams", "lockstep_consume_records_total"),
        ("refs refused", "lockstep_commit_refusals_total"),
        ("errors of git", "lockstep_git_errors_total"),
        ("failures of tasks", "lockstep_task_failures_total"),
    ] {
        calls.insert(name.to_owned(), metrics.by(metric, "none").values().fold(0.0, |sum, one| sum + one));
    }
    calls
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::measure::Recorder;
    use crate::load::profile::Limits;

    /// The report of a run in which nothing was measured.
    pub(in crate::load) fn report() -> Report {
        let profile = Profile::default();
        let recorder = Recorder::new(Duration::ZERO, Duration::from_secs(10), Duration::from_millis(100));
        let recording = recorder.take();
        gather(Gathered {
            command: "lockstep-loadtest run test".to_owned(),
            started_ms: 0,
            host: Value::Null,
            versions: BTreeMap::new(),
            estate: "no site".to_owned(),
            is_local: true,
            day: Day::of(&profile.model),
            own: OwnCheck::of(&recording, &Limits::default(), 0.0, 1.0),
            profile,
            recording,
            measured_s: 10.0,
            ended_s: 10.0,
            settled_after_s: Some(1.0),
            watched: Watched::new(&[], None),
            metrics: Scraped::default(),
            sizes: Sizes::default(),
            processes: Vec::new(),
            faults: Vec::new(),
            oracle: Judgement::default(),
        })
    }

    #[test]
    fn only_batches_that_were_committed_count_as_transactions() {
        let series = [("committed", 3.0), ("committed_not_yet_visible", 1.0), ("refused", 2.0), ("unknown", 5.0)];
        let named = series.map(|(outcome, count)| (format!("lockstep_commit_total{{outcome=\"{outcome}\"}}"), count));
        assert_eq!(calls(&Scraped(named.into()))["transactions committed"], 4.0);
    }
}
