//! The report in Markdown.

use std::fmt::Write;

use super::tables::{self, Table, short};
use super::types::{Report, Verdict};

/// The whole report.
pub(super) fn page(report: &Report) -> String {
    let mut out = format!("# Load test: {}\n\n{}\n\n", report.profile.name, verdict(report));
    for line in facts(report) {
        let _ = writeln!(out, "- {line}");
    }
    if !report.oracle.violations.is_empty() {
        out.push_str("\n## Violations\n\n");
        for violation in &report.oracle.violations {
            let _ = writeln!(out, "- {:?}: {}", violation.kind, violation.text);
        }
    }
    for table in tables::all(report) {
        out.push_str(&text(&table));
    }
    if !report.faults.is_empty() {
        out.push_str("\n## Faults\n\n");
        for line in faults(report) {
            let _ = writeln!(out, "- {line}");
        }
    }
    out.push_str("\n## Differences from a real day\n\n");
    for note in &report.notes {
        let _ = writeln!(out, "- {note}");
    }
    out
}

/// The verdict as a sentence.
pub(super) fn verdict(report: &Report) -> String {
    match report.verdict {
        Verdict::Passed => {
            let missed = report.goals.iter().filter(|goal| !goal.is_met()).count();
            let goals = match (missed, report.goals.len()) {
                (_, 0) => String::new(),
                (0, all) => format!(" All {all} goals were met."),
                (missed, all) => format!(" **{missed} of {all} goals were missed.**"),
            };
            format!("**Passed.** The oracle found no violation, and the generator kept up.{goals}")
        }
        Verdict::Failed if report.settled_after_s.is_none() => {
            "**Failed.** The sites had not applied everything when the time to converge was over.".to_owned()
        }
        Verdict::Failed => format!("**Failed.** The oracle found {} violations.", report.oracle.violations.len()),
        Verdict::Void => {
            format!(
                "**Void.** The generator did not keep up, so the figures say nothing: {}",
                report.own.faults.join("; ")
            )
        }
    }
}

/// The facts at the beginning of the report.
pub(super) fn facts(report: &Report) -> Vec<String> {
    let (total, own) = (&report.total, &report.own);
    let rate = |count: u64| {
        #[expect(clippy::cast_precision_loss, reason = "operations of a run")]
        let count = count as f64;
        short(count / report.measured_s.max(0.001))
    };
    let converged = report.settled_after_s.map_or("not in time".to_owned(), |s| format!("after {} s", short(s)));
    let host = |field: &str| report.host[field].to_string().trim_matches('"').to_owned();
    let versions = report.versions.iter().map(|(name, version)| format!("{name} {version}"));
    let facts = vec![
        format!(
            "Load: {} operations per second were offered for {} s, {} per second were done, which moved {} refs per \
             second.",
            rate(total.offered),
            short(report.measured_s),
            rate(total.done),
            rate(total.refs)
        ),
        format!("All sites had applied everything: {converged}."),
        goals(report),
        format!(
            "Oracle: {} requests, {} moves of {} refs, {} repositories. Of unknown outcome: {} committed, {} not.",
            report.oracle.requests,
            report.oracle.moves,
            report.oracle.refs,
            report.oracle.repositories,
            report.oracle.unknown_committed,
            report.oracle.unknown_absent
        ),
        format!(
            "Generator: {} % of the processors; starts late by {} ms (median), {} ms (p99), {} ms (most).",
            short(own.processor_share * 100.0),
            short(own.slip_ms[0]),
            short(own.slip_ms[1]),
            short(own.slip_ms[2])
        ),
        format!("Estate: {}.", report.estate),
        format!(
            "Machine: {} cores, {}, kernel {}, load {}.",
            host("cores"),
            host("cpu"),
            host("kernel"),
            host("load_1m")
        ),
        format!("Versions: {}.", versions.collect::<Vec<_>>().join(", ")),
        format!("Seed {}. Repeat it: `{}`", report.profile.run.seed, report.command),
    ];
    facts.into_iter().filter(|fact| !fact.is_empty()).collect()
}

/// Every goal with its value, and the burst. Empty if there are neither.
fn goals(report: &Report) -> String {
    let goal = |goal: &super::types::GoalReport| {
        let measured = goal.measured.map_or("not measured".to_owned(), short);
        let is_met = if goal.is_met() { "met" } else { "MISSED" };
        format!("{}: {measured}, at most {} ({is_met}).", goal.name, short(goal.most))
    };
    let people =
        report.people.filter(|[before, within]| before.count > 0 && within.count > 0).map(|[before, within]| {
            format!(
                "People's ref updates, p99: {} ms before the burst, {} ms in it.",
                short(before.p99),
                short(within.p99)
            )
        });
    let goodput = report.goodput.map(|[before, within]| {
        format!("Done per second: {} before the burst, {} in it.", short(before), short(within))
    });
    report.goals.iter().map(goal).chain(people).chain(goodput).collect::<Vec<_>>().join(" ")
}

/// One line per fault.
pub(super) fn faults(report: &Report) -> Vec<String> {
    let line = |fault: &crate::load::drive::FaultMark| {
        let site = fault.site.and_then(|site| report.sites.get(site)).map_or("all sites", |site| site.name.as_str());
        let end = match fault.recovered_after_s {
            Some(after) => format!("recovered {} s after it began", short(after)),
            None => "no recovery was seen within the run".to_owned(),
        };
        format!("{} of {site} from {:.1} s to {:.1} s: {end}.", fault.kind, fault.from_s, fault.to_s)
    };
    report.faults.iter().map(line).collect()
}

fn text(table: &Table) -> String {
    let mut out = format!("\n## {}\n\n{}\n\n", table.title, table.about);
    let _ = writeln!(out, "| {} |", table.head.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(table.head.len() - 1));
    for row in &table.rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}
