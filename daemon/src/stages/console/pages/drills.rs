//! Drills and their trend: whether a failover would go well.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use futures::future::join3;
use lockstep_proto::drill::{DrillReport, DrillRequest, Drills};
use lockstep_proto::failover::FailoverKind;
use lockstep_proto::silent::{SilentDrills, SilentReport, SilentRequest};

use crate::base::time_text::{seconds, utc};
use crate::stages::console::context::{Context, change, look};
use crate::stages::console::denied::Denied;
use crate::stages::console::frame::Frame;
use crate::stages::console::outcome;
use crate::stages::console::render::html;
use crate::stages::console::spark::{Spark, spark};
use crate::stages::console::submitted::{Change, Submitted};
use crate::stages::console::unknown::why;
use crate::stages::console::visitor::Visitor;

const PATH: &str = "/console/drills";
/// The time of the highest line in a chart, at least, in seconds.
const LEAST: f64 = 1.0;

#[derive(askama::Template)]
#[template(path = "console/drills.html")]
pub(in crate::stages::console) struct DrillsPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    answer: String,
    tone: &'static str,
    problem: String,
    running: Vec<String>,
    charts: Vec<Chart>,
    rows: Vec<Row>,
    sites: Vec<String>,
}

#[derive(Debug)]
struct Chart {
    title: &'static str,
    chart: Spark,
}

#[derive(Debug)]
struct Row {
    name: String,
    at: String,
    verdict: &'static str,
    tone: &'static str,
    took_writes: String,
    green: String,
    lost: String,
    actor: String,
    reason: String,
    red: String,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(State(context): State<Context>, visitor: Visitor) -> Response {
    let operators = &context.operators;
    let looks = join3(look(operators.drills()), look(operators.silent_drills()), look(operators.sites()));
    let (drills, silent, sites) = looks.await;
    let mut view = match (drills, silent) {
        (Ok(drills), Ok(silent)) => of(&drills, &silent),
        (Err(error), _) | (_, Err(error)) => {
            let answer = format!("It is not known how the drills went: {}.", why(&context, &error));
            View { answer, tone: "unknown", problem: error.message, ..View::default() }
        }
    };
    view.sites = sites.map(|all| all.sites.iter().map(|one| one.site.to_string()).collect()).unwrap_or_default();
    html(&DrillsPage { frame: Frame::new(&context, &visitor, PATH), view })
}

/// Begins a drill on a canary.
pub(in crate::stages::console) async fn begin(
    State(context): State<Context>,
    Change(Submitted { visitor, fields }): Change,
) -> Result<Response, Denied> {
    let kind = match fields.text("kind") {
        "planned" => FailoverKind::Planned,
        "forced" => FailoverKind::Forced,
        other => return Err(Denied::Malformed(format!("field kind {other:?} is none of planned, forced"))),
    };
    let (from, to, reason) = (fields.value("from")?, fields.value("to")?, fields.reason()?);
    let request = DrillRequest { kind, from, to, fail_in: None, reason };
    let (operators, actor) = (context.operators.clone(), visitor.actor.clone());
    match change(async move { operators.drill(&actor, request).await }).await {
        Ok(_) => Ok(Redirect::to(PATH).into_response()),
        Err(error) => Ok(outcome::page(Frame::new(&context, &visitor, PATH), error.into(), PATH)),
    }
}

/// Begins a silent drill of this node.
pub(in crate::stages::console) async fn begin_silent(
    State(context): State<Context>,
    Change(Submitted { visitor, fields }): Change,
) -> Result<Response, Denied> {
    let request = SilentRequest { reason: fields.reason()? };
    let (operators, actor) = (context.operators.clone(), visitor.actor.clone());
    match change(async move { operators.silent_drill(&actor, request).await }).await {
        Ok(_) => Ok(Redirect::to(PATH).into_response()),
        Err(error) => Ok(outcome::page(Frame::new(&context, &visitor, PATH), error.into(), PATH)),
    }
}

/// The view of all drills.
pub(in crate::stages::console) fn of(drills: &Drills, silent: &SilentDrills) -> View {
    let mut rows: Vec<(u64, Row)> = drills.past.iter().map(|one| (one.at_ms, row(one))).collect();
    rows.extend(silent.past.iter().map(|one| (one.at_ms, silent_row(one))));
    rows.sort_by_key(|(at_ms, _)| std::cmp::Reverse(*at_ms));
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let red = rows.iter().filter(|row| row.tone == "bad").count();
    let (answer, tone) = match (rows.first(), red) {
        (None, _) => {
            ("No drill was taken yet, so it is not known whether a failover would go well.".to_owned(), "unknown")
        }
        (Some(last), 0) => (format!("Every drill so far was green. The last one was at {}.", last.at), "ok"),
        (Some(last), red) if last.tone == "ok" => {
            (format!("The last drill was green, at {}. Of {} drills, {red} were red.", last.at, rows.len()), "ok")
        }
        (Some(last), _) => (format!("The last drill was RED, at {}: {}", last.at, last.red), "bad"),
    };
    let canary = drills.running.as_ref().map(|one| {
        format!("Drill {} is in progress, driven by {}. It told its state at {}.", one.number, one.by, utc(one.at_ms))
    });
    let copy = silent
        .running
        .as_ref()
        .map(|one| format!("A silent drill of {} is in progress since {}: {}.", one.node, utc(one.at_ms), one.doing));
    let times = |kind: FailoverKind| {
        let past = drills.past.iter().rev().filter(|one| one.request.kind == kind && one.number > 0);
        past.map(|one| one.green_ms).collect::<Vec<_>>()
    };
    let of_silent: Vec<Option<u64>> = silent.past.iter().rev().map(|one| one.figures.green_ms).collect();
    let charts = [
        ("planned, on a canary", times(FailoverKind::Planned)),
        ("forced, on a canary", times(FailoverKind::Forced)),
        ("silent, on a copy", of_silent),
    ];
    let charts = charts.into_iter().filter(|(_, times)| !times.is_empty());
    View {
        answer,
        tone,
        running: canary.into_iter().chain(copy).collect(),
        charts: charts.map(|(title, times)| Chart { title, chart: chart(&times) }).collect(),
        rows,
        ..View::default()
    }
}

/// The recovery times of drills, oldest first. A drill that did not become green is a gap.
fn chart(times: &[Option<u64>]) -> Spark {
    let values: Vec<Option<f64>> = times.iter().map(|time| time.map(|time| time as f64 / 1_000.0)).collect();
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    let most = known.iter().copied().fold(0.0, f64::max);
    let last =
        known.last().map_or("none was green".to_owned(), |last| format!("last {last:.1} s, at most {most:.1} s"));
    spark(&values, LEAST, format!("recovery time of {} drills, oldest first: {last}", values.len()))
}

fn row(one: &DrillReport) -> Row {
    let (verdict, tone) = verdict(one.is_green());
    let request = &one.request;
    let number = if one.number == 0 { "not begun".to_owned() } else { format!("drill {}", one.number) };
    Row {
        name: format!("{number}, {} from {} to {}", request.kind.name(), request.from, request.to),
        at: utc(one.at_ms),
        verdict,
        tone,
        took_writes: seconds(one.took_writes_ms),
        green: seconds(one.green_ms),
        lost: format!("{} of {}", one.lost, one.commits),
        actor: one.actor.clone(),
        reason: request.reason.clone(),
        red: one.red.join("; "),
    }
}

fn silent_row(one: &SilentReport) -> Row {
    let (verdict, tone) = verdict(one.is_green());
    Row {
        name: format!("silent, of {}", one.node),
        at: utc(one.at_ms),
        verdict,
        tone,
        took_writes: seconds(one.figures.took_writes_ms),
        green: seconds(one.figures.green_ms),
        lost: one.figures.lacked.map_or("not known".to_owned(), |lacked| format!("{lacked} lacked")),
        actor: one.actor.clone(),
        reason: one.reason.clone(),
        red: one.red.join("; "),
    }
}

fn verdict(is_green: bool) -> (&'static str, &'static str) {
    if is_green { ("green", "ok") } else { ("RED", "bad") }
}
