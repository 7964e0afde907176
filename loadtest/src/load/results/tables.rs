//! The tables of the report, for Markdown and for the page.

use super::types::{ClassReport, Quantiles, Report};

/// A table: its title, its head, and its rows. All columns but the first hold numbers.
pub(super) struct Table {
    pub title: &'static str,
    pub about: &'static str,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// A number with three digits.
pub(super) fn short(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Milliseconds with a precision that people need.
fn ms(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn quantiles(of: &Quantiles) -> Vec<String> {
    if of.count == 0 {
        return vec!["–".to_owned(); 5];
    }
    [of.p50, of.p90, of.p99, of.p999, of.max].map(ms).to_vec()
}

/// Every table of the report.
pub(super) fn all(report: &Report) -> Vec<Table> {
    let goals = (!report.goals.is_empty()).then(|| goals(report));
    let others = [classes, latencies, lag, processes, stages, calls].map(|table| table(report));
    let cost = report.cost.as_ref().map(cost);
    let growth = (!report.growth.is_empty()).then(|| growth(report));
    goals.into_iter().chain(others).chain(cost).chain(growth).collect()
}

fn dollars(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.4}"))
}

fn cost(cost: &super::types::CostReport) -> Table {
    let row = |line: &super::types::CostLine| {
        let (count, each) = (short(line.count), short(line.per_transaction));
        vec![line.name.clone(), count, each, dollars(line.dollars)]
    };
    let sum = vec!["all".to_owned(), "–".to_owned(), "–".to_owned(), dollars(cost.dollars)];
    Table {
        title: "Cost",
        about: "For the run, warm-up included. Units of DynamoDB are those that it told; units that it did not tell, \
                and those of Kinesis, are counted from calls and planned sizes, and are the least that AWS charges. \
                Blobs in S3, backups and traffic between regions are left out. Dollars need the prices of the profile.",
        head: vec!["unit", "count", "per transaction", "dollars"],
        rows: cost.lines.iter().map(row).chain([sum]).collect(),
    }
}

fn growth(report: &Report) -> Table {
    let row = |one: &super::types::Growth| {
        vec![one.name.clone(), short(one.per_second), short(one.cores_per_site), dollars(one.dollars_per_hour)]
    };
    Table {
        title: "Growth",
        about: "Extrapolated, not measured: the processors and the cost per transaction of this run, at other rates. \
                Each site applies all transactions, so its processors grow with the sum of all sites.",
        head: vec!["load", "transactions per second", "cores per site", "dollars per hour"],
        rows: report.growth.iter().map(row).collect(),
    }
}

fn goals(report: &Report) -> Table {
    let row = |goal: &super::types::GoalReport| {
        let measured = goal.measured.map_or("–".to_owned(), short);
        let is_met = if goal.is_met() { "yes" } else { "MISSED" };
        vec![goal.name.clone(), short(goal.most), measured, is_met.to_owned()]
    };
    Table {
        title: "Goals",
        about: "The highest value that the profile allows, and the value of this run.",
        head: vec!["goal", "at most", "measured", "met"],
        rows: report.goals.iter().map(row).collect(),
    }
}

fn rows_of(report: &Report, row: impl Fn(&str, &ClassReport) -> Vec<String>) -> Vec<Vec<String>> {
    let classes = report.classes.iter().map(|(name, class)| row(name, class));
    classes.chain([row("all", &report.total)]).collect()
}

fn classes(report: &Report) -> Table {
    let row = |name: &str, class: &ClassReport| {
        let refused: u64 = class.refused.values().sum();
        let mut row = vec![name.to_owned()];
        let counts =
            [class.offered, class.done, refused, class.unknown, class.dropped, class.late, class.retries, class.told];
        row.extend(counts.map(|count| count.to_string()));
        row.push(class.refs.to_string());
        row
    };
    Table {
        title: "Operations",
        about: "Counts without warm-up. Dropped and late ones are the generator's own fault.",
        head: vec![
            "class",
            "offered",
            "done",
            "refused",
            "unknown",
            "dropped",
            "late",
            "retries",
            "told to wait",
            "refs moved",
        ],
        rows: rows_of(report, row),
    }
}

fn latencies(report: &Report) -> Table {
    let row = |name: &str, class: &ClassReport| {
        let mut row = vec![name.to_owned()];
        row.extend(quantiles(&class.latency));
        // A read has neither objects to make nor a request of its own.
        let part = |value: f64| if value > 0.0 { ms(value) } else { "–".to_owned() };
        row.extend([part(class.prepare.p50), part(class.answer.p50), part(class.answer.p99)]);
        row
    };
    Table {
        title: "Latency",
        about: "Milliseconds from the intended start to the answer. Then the client's own work, and the answer alone.",
        head: vec!["class", "p50", "p90", "p99", "p99.9", "max", "client p50", "answer p50", "answer p99"],
        rows: rows_of(report, row),
    }
}

fn lag(report: &Report) -> Table {
    let row = |site: &super::types::SiteReport| {
        let mut row = vec![site.name.clone()];
        row.extend(quantiles(&site.lag));
        row.push(site.lag.count.to_string());
        row
    };
    Table {
        title: "Lag",
        about: "Milliseconds from a commit at another site until it could be read here.",
        head: vec!["site", "p50", "p90", "p99", "p99.9", "max", "measured"],
        rows: report.sites.iter().map(row).collect(),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of warm-up")]
fn processes(report: &Report) -> Table {
    let warm_up = report.profile.run.warm_up_s as usize;
    let row = |process: &crate::load::measure::ProcessCourse| {
        let cores = format!("{:.2}", process.mean_cores(warm_up));
        let disk = process.disk(warm_up).map_or(["–".to_owned(), "–".to_owned()], |disk| disk.map(short));
        let [read, written] = disk;
        let (memory, files) = (ms(process.most_memory()), process.most_files().to_string());
        vec![process.name.clone(), cores, memory, files, read, written]
    };
    Table {
        title: "Processes",
        about: "With their git children. Memory and disk in MiB; the disk of the generator is not told from that of \
                its sites.",
        head: vec!["process", "cores (mean)", "memory (most)", "files (most)", "read", "written"],
        rows: report.processes.iter().map(row).collect(),
    }
}

fn stages(report: &Report) -> Table {
    let row = |stage: &super::types::StageReport| {
        let bound = stage.p99_at_most_ms.map_or("above the last bucket".to_owned(), |bound| format!("≤ {}", ms(bound)));
        vec![stage.name.clone(), short(stage.count), ms(stage.mean_ms), bound]
    };
    Table {
        title: "Stages",
        about: "From the metrics of all sidecars. With real Gerrits also the way of a change to another site: from the \
                answer to its client until the event there, which follows the refresh of that Gerrit, and until the \
                fetch that the event sets off has ended. Milliseconds.",
        head: vec!["stage", "calls", "mean", "p99"],
        rows: report.stages.iter().map(row).collect(),
    }
}

fn calls(report: &Report) -> Table {
    let row = |(name, count): (&String, &f64)| vec![name.clone(), short(*count)];
    Table {
        title: "Calls",
        about: "Calls to DynamoDB and Kinesis, and records, from the metrics of all sidecars, preparation left out.",
        head: vec!["call", "count"],
        rows: report.calls.iter().map(row).collect(),
    }
}
