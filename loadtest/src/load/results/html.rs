//! The report as one page of HTML: no script, no font and no picture from elsewhere. It can be read by keyboard, in
//! print, and on a light or a dark screen.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::markdown;
use super::markup::{escape, inline};
use super::plot::{Line, Plot, Span};
use super::tables::{self, Table};
use super::types::{Report, Verdict};

/// The style of the page. The colours follow those of Okabe and Ito, which people with colour blindness can tell apart.
const STYLE: &str = include_str!("report.css");

/// The rows of the table of a plot at most.
const ROWS: usize = 120;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let name = escape(&report.profile.name);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Load test {name}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>Load test: {name}</h1>\n"
    );
    let class = match report.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Void => "void",
    };
    let _ = writeln!(out, "<p class=\"verdict {class}\">{}</p>", inline(&markdown::verdict(report)));
    list(&mut out, &markdown::facts(report));
    if !report.oracle.violations.is_empty() {
        out.push_str("<h2 id=\"violations\">Violations</h2>\n");
        let text = |one: &crate::load::oracle::Violation| format!("{:?}: {}", one.kind, one.text);
        list(&mut out, &report.oracle.violations.iter().map(text).collect::<Vec<_>>());
    }
    out.push_str("<nav aria-label=\"Parts of the report\"><a href=\"#course\">Course</a> ");
    let tables = tables::all(report);
    for table in &tables {
        let _ = write!(out, "<a href=\"#{}\">{}</a> ", table.title.to_lowercase(), table.title);
    }
    out.push_str("<a href=\"#notes\">Differences from a real day</a></nav>\n");
    course(&mut out, report);
    for table in &tables {
        out.push_str(&text(table));
    }
    out.push_str("<h2 id=\"notes\">Differences from a real day</h2>\n");
    list(&mut out, &report.notes);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// The plots, one below the other, on one time axis.
#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
fn course(out: &mut String, report: &Report) {
    out.push_str("<h2 id=\"course\">Course</h2>\n<p>All plots have the same time axis. ");
    out.push_str("Grey is the warm-up, which is not measured. Coloured spans are faults.</p>\n");
    list(out, &markdown::faults(report));
    let seconds = report.course.offered.len() as f64;
    let spans = spans(report);
    for plot in plots(report) {
        let _ = writeln!(
            out,
            "<figure tabindex=\"0\">\n<figcaption><strong>{}</strong> ({})<ul class=\"legend\">{}</ul></figcaption>\n\
             {}<details><summary>Values of “{}”</summary>{}</details>\n</figure>",
            plot.title,
            plot.unit,
            plot.legend(),
            plot.svg(seconds, &spans),
            plot.title,
            values(&plot)
        );
    }
}

fn spans(report: &Report) -> Vec<Span> {
    let warm_up = report.profile.run.warm_up_s;
    let mut spans = vec![Span {
        name: "warm-up".to_owned(),
        label: "warm-up".to_owned(),
        from: 0.0,
        to: warm_up,
        class: "warm-up",
    }];
    for (fault, label) in report.faults.iter().zip(markdown::faults(report)) {
        let name = escape(&fault.kind);
        spans.push(Span { name, label: escape(&label), from: fault.from_s, to: fault.to_s, class: "fault" });
    }
    spans
}

#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds of a run")]
fn plots(report: &Report) -> Vec<Plot> {
    let course = &report.course;
    let counts = |name: &str, values: &[u64]| Line {
        name: name.to_owned(),
        values: values.iter().map(|value| Some(*value as f64)).collect(),
    };
    let times = |name: &str, values: &[Option<f64>]| Line { name: name.to_owned(), values: values.to_vec() };
    let sites = |all: &BTreeMap<String, Vec<Option<u64>>>| {
        let line = |(name, values): (&String, &Vec<Option<u64>>)| Line {
            name: name.clone(),
            values: values.iter().map(|value| value.map(|value| value as f64)).collect(),
        };
        all.iter().map(line).collect::<Vec<_>>()
    };
    let per_process = |values: fn(&crate::load::measure::ProcessCourse) -> &Vec<Option<f64>>| {
        report.processes.iter().map(|one| times(&one.name, values(one))).collect::<Vec<_>>()
    };
    let plot = |id, title, unit, lines| Plot { id, title, unit, lines };
    vec![
        plot(
            "load",
            "Load",
            "operations per second",
            vec![
                counts("offered", &course.offered),
                counts("done", &course.done),
                counts("refused, unknown or dropped", &course.failed),
            ],
        ),
        plot("flight", "In progress", "operations", vec![counts("in progress", &course.in_flight)]),
        plot(
            "latency",
            "Latency from the intended start",
            "milliseconds",
            vec![times("median", &course.p50_ms), times("99th percentile", &course.p99_ms)],
        ),
        plot("lag", "Lag until visible", "milliseconds, longest of the second", sites(&course.lag_ms)),
        plot("backlog", "Oldest transaction not applied", "milliseconds", sites(&course.backlog_ms)),
        plot("cores", "Processors", "cores", per_process(|one| &one.cores)),
        plot("memory", "Memory", "MiB", per_process(|one| &one.memory_mib)),
        plot("disk", "Written to the disk", "MiB per second", per_process(|one| &one.written_mib)),
    ]
}

/// The values of a plot as a table. A long run shows every n-th second.
fn values(plot: &Plot) -> String {
    let longest = plot.lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
    let step = longest.div_ceil(ROWS).max(1);
    let mut out = String::from("<table><thead><tr><th scope=\"col\">second</th>");
    for line in &plot.lines {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(&line.name));
    }
    out.push_str("</tr></thead><tbody>");
    for second in (0..longest).step_by(step) {
        let _ = write!(out, "<tr><th scope=\"row\">{second}</th>");
        for line in &plot.lines {
            let value = line.values.get(second).copied().flatten();
            let _ = write!(out, "<td>{}</td>", value.map_or("–".to_owned(), tables::short));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    out
}

fn text(table: &Table) -> String {
    let id = table.title.to_lowercase();
    let mut out = format!("<h2 id=\"{id}\">{}</h2>\n<p>{}</p>\n", table.title, escape(table.about));
    let _ = write!(
        out,
        "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table><thead><tr>",
        table.title
    );
    for head in &table.head {
        let _ = write!(out, "<th scope=\"col\">{head}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>");
    for row in &table.rows {
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match column {
                0 => write!(out, "<tr><th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn list(out: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    out.push_str("<ul>\n");
    for line in lines {
        let _ = writeln!(out, "<li>{}</li>", inline(line));
    }
    out.push_str("</ul>\n");
}
