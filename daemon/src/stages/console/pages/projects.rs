//! All projects of this node: sorted, searched and paged here, so that the page works without a script, whatever their
//! number.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Query, State};
use axum::response::Response;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::debt::{ProjectHealth, ProjectStatus};
use lockstep_proto::status::{HeldStatus, NodeStatus};
use lockstep_proto::verify::Verification;
use serde::Deserialize;

use crate::base::time_text::{short, utc};
use crate::stages::console::context::{Context, look};
use crate::stages::console::frame::Frame;
use crate::stages::console::render::html;
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::{address, count, project};

/// The projects of one page.
const PER_PAGE: usize = 100;
const PATH: &str = "/console/projects";
/// The other side of a comparison with the refdb, as the status names it.
const REFDB: &str = "refdb";

#[derive(askama::Template)]
#[template(path = "console/projects.html")]
pub(in crate::stages::console) struct ProjectsPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The wishes of the visitor.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::stages::console) struct Wishes {
    /// A part of the names.
    #[serde(default)]
    q: String,
    /// `all` or `bad`.
    #[serde(default)]
    show: String,
    /// `name`, `state`, `lag` or `verified`.
    #[serde(default)]
    sort: String,
    /// `up` or `down`.
    #[serde(default)]
    order: String,
    /// The page, from 1. A text that is no number counts as 1.
    #[serde(default)]
    page: String,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    answer: String,
    tone: &'static str,
    problem: String,
    q: String,
    only_bad: bool,
    sort: &'static str,
    order: &'static str,
    columns: Vec<Column>,
    rows: Vec<Row>,
    shown: String,
    before: String,
    after: String,
}

/// The head of a column that sorts.
#[derive(Debug)]
struct Column {
    title: &'static str,
    href: String,
    /// `ascending`, `descending` or `none`.
    sorted: &'static str,
    mark: &'static str,
}

#[derive(Debug)]
struct Row {
    project: String,
    state: &'static str,
    tone: &'static str,
    reason: String,
    lag: String,
    verified: String,
    strays: String,
    time_line: String,
}

/// A project with all that this node knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stages::console) struct Known {
    pub(in crate::stages::console) status: ProjectStatus,
    /// Since when something of it waits or lacks here, in milliseconds since 1970.
    pub(in crate::stages::console) since_ms: Option<u64>,
    /// When its refs were compared with the refdb last, in milliseconds since 1970.
    pub(in crate::stages::console) verified_ms: Option<u64>,
    /// Whether that comparison found a difference, or could not be made.
    pub(in crate::stages::console) differs: bool,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(
    State(context): State<Context>,
    visitor: Visitor,
    Query(wishes): Query<Wishes>,
) -> Response {
    let view = match look(known(&context)).await {
        Ok(all) => of(&all, &wishes, context.clock.now_ms()),
        Err(error) => {
            let answer = "It is not known which projects are in order: this node's store does not answer.".to_owned();
            View { answer, tone: "unknown", problem: error.message, ..View::default() }
        }
    };
    html(&ProjectsPage { frame: Frame::new(&context, &visitor, PATH), view })
}

async fn known(context: &Context) -> Result<Vec<Known>, ApiError> {
    let inspection = &context.inspection;
    let all = inspection.every_project().await?;
    let set_aside = [inspection.parked().await?, inspection.quarantined().await?].concat();
    let (status, verification) = (inspection.status().await, inspection.verification().await);
    Ok(join(all, &set_aside, &status, verification.as_ref()))
}

/// Joins the state of each project with its debts and its last verification.
pub(in crate::stages::console) fn join(
    all: Vec<ProjectStatus>,
    set_aside: &[HeldStatus],
    status: &NodeStatus,
    verification: Option<&Verification>,
) -> Vec<Known> {
    let mut since: BTreeMap<&str, u64> = BTreeMap::new();
    let held = set_aside.iter().map(|held| (held.project.as_str(), held.since_ms));
    let debts = status.degraded.iter().map(|debt| (debt.project.as_str(), debt.since_ms));
    for (name, since_ms) in held.chain(debts) {
        let oldest = since.entry(project(name)).or_insert(since_ms);
        *oldest = since_ms.min(*oldest);
    }
    let whole = status.verified.iter().filter(|one| one.against == REFDB && one.whole).map(|one| one.at_ms).max();
    let last = verification.filter(|last| last.request.against.is_none());
    let found = last.iter().flat_map(|last| last.found.iter().map(|one| project(&one.project)));
    let failed = last.iter().flat_map(|last| last.failed.iter().map(|one| project(&one.project)));
    let differing: BTreeSet<&str> = found.chain(failed).collect();
    let one = last.and_then(|last| Some((last.request.project.as_ref()?.as_str(), last.ended_ms?)));
    let known = |status: ProjectStatus| {
        let name = status.project.as_str();
        let alone = one.filter(|(of, _)| *of == name).map(|(_, at_ms)| at_ms);
        let (since_ms, differs) = (since.get(name).copied(), differing.contains(name));
        Known { since_ms, verified_ms: whole.max(alone), differs, status }
    };
    all.into_iter().map(known).collect()
}

/// The view of the projects that the visitor wants to see.
pub(in crate::stages::console) fn of(all: &[Known], wishes: &Wishes, now_ms: u64) -> View {
    let q = wishes.q.trim();
    let only_bad = wishes.show == "bad";
    let sort = ["name", "state", "lag", "verified"].into_iter().find(|one| *one == wishes.sort).unwrap_or("name");
    let order = if wishes.order == "down" { "down" } else { "up" };
    let wanted = q.to_lowercase();
    let fits = |one: &&Known| one.status.project.to_lowercase().contains(&wanted) && (!only_bad || is_bad(one));
    let mut found: Vec<&Known> = all.iter().filter(fits).collect();
    found.sort_by(|one, other| {
        let ordering = compare(one, other, sort);
        let ordering = if order == "down" { ordering.reverse() } else { ordering };
        ordering.then_with(|| one.status.project.cmp(&other.status.project))
    });
    let pages = found.len().div_ceil(PER_PAGE).max(1);
    let page = wishes.page.parse().unwrap_or(1_usize).clamp(1, pages);
    let from = (page - 1) * PER_PAGE;
    let rows: Vec<Row> = found.iter().skip(from).take(PER_PAGE).map(|one| row(one, now_ms)).collect();
    let at = |sort: &str, order: &str, page: usize| {
        let (show, page) = (if only_bad { "bad" } else { "" }, if page > 1 { page.to_string() } else { String::new() });
        address(PATH, &[("q", q), ("show", show), ("sort", sort), ("order", order), ("page", &page)])
    };
    let column = |(key, title): (&str, &'static str)| {
        let (sorted, mark, next) = match (key == sort, order) {
            (false, _) => ("none", "", "up"),
            (true, "up") => ("ascending", "▲", "down"),
            (true, _) => ("descending", "▼", "up"),
        };
        Column { title, href: at(key, next, 1), sorted, mark }
    };
    let columns = [("name", "project"), ("state", "state"), ("lag", "lag"), ("verified", "last verification")];
    let (answer, tone) = answer(all);
    View {
        answer,
        tone,
        problem: String::new(),
        only_bad,
        sort,
        order,
        columns: columns.into_iter().map(column).collect(),
        shown: shown(from, rows.len(), found.len(), all.len()),
        rows,
        before: if page > 1 { at(sort, order, page - 1) } else { String::new() },
        after: if page < pages { at(sort, order, page + 1) } else { String::new() },
        q: q.to_owned(),
    }
}

fn is_bad(one: &Known) -> bool {
    one.status.state != ProjectHealth::Ok || one.since_ms.is_some() || one.differs
}

fn answer(all: &[Known]) -> (String, &'static str) {
    let bad = all.iter().filter(|one| is_bad(one)).count();
    match (all.len(), bad) {
        (0, _) => ("This node knows no project yet.".to_owned(), "unknown"),
        (all, 0) => (format!("All of {} are in order at this node.", projects(all)), "ok"),
        (all, bad) => (format!("{bad} of {} are not in order at this node.", projects(all)), "bad"),
    }
}

fn projects(number: usize) -> String {
    count(number as u64, "project", "projects")
}

fn shown(from: usize, rows: usize, found: usize, all: usize) -> String {
    match rows {
        0 => format!("None of {} fits.", projects(all)),
        rows => format!("{} to {} of {found} that fit, of {all} in all.", from + 1, from + rows),
    }
}

/// Compares by a column. The worst ones are last: ordered downwards, they are first.
fn compare(one: &Known, other: &Known, sort: &str) -> Ordering {
    let rank = |state: ProjectHealth| match state {
        ProjectHealth::Ok => 0,
        ProjectHealth::Seeding => 1,
        ProjectHealth::ReadOnly => 2,
        ProjectHealth::Degraded => 3,
    };
    // The earlier the time, the longer the lag.
    let lag = |known: &Known| known.since_ms.map(std::cmp::Reverse);
    match sort {
        "state" => rank(one.status.state).cmp(&rank(other.status.state)),
        "lag" => lag(one).cmp(&lag(other)),
        "verified" => (one.differs, one.verified_ms).cmp(&(other.differs, other.verified_ms)),
        _ => one.status.project.cmp(&other.status.project),
    }
}

fn row(one: &Known, now_ms: u64) -> Row {
    let name = &one.status.project;
    let verified = match (one.differs, one.verified_ms) {
        (true, _) => "DIFFERS, or could not be compared".to_owned(),
        (false, Some(at_ms)) => format!("equal, {}", utc(at_ms)),
        (false, None) => "never".to_owned(),
    };
    Row {
        project: name.clone(),
        state: one.status.state.as_str(),
        tone: if is_bad(one) { "bad" } else { "ok" },
        reason: one.status.reason.clone().unwrap_or_default(),
        lag: one.since_ms.map_or("none".to_owned(), |since_ms| short(now_ms.saturating_sub(since_ms))),
        verified,
        strays: address("/console/strays", &[("project", name)]),
        time_line: address("/console/ref", &[("project", name)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, state: ProjectHealth, since_ms: Option<u64>) -> Known {
        let status = ProjectStatus { project: name.to_owned(), state, reason: None };
        Known { status, since_ms, verified_ms: None, differs: false }
    }

    fn names(view: &View) -> Vec<&str> {
        view.rows.iter().map(|row| row.project.as_str()).collect()
    }

    #[test]
    fn twenty_thousand_projects_are_paged_and_a_page_beyond_the_end_is_the_last() {
        let all: Vec<Known> = (0..20_000).map(|n| known(&format!("p{n:05}"), ProjectHealth::Ok, None)).collect();
        let page = |page: &str| of(&all, &Wishes { page: page.to_owned(), ..Wishes::default() }, 0);
        let view = page("");
        assert_eq!((view.rows.len(), view.before.as_str(), view.tone), (PER_PAGE, "", "ok"));
        assert!(view.after.ends_with("page=2"), "{}", view.after);
        assert_eq!(names(&page("200"))[99], "p19999");
        for beyond in ["999", "18446744073709551615"] {
            assert_eq!((names(&page(beyond))[0], page(beyond).after.as_str()), ("p19900", ""));
        }
        assert_eq!(names(&page("<script>"))[0], "p00000");
    }

    #[test]
    fn projects_are_found_by_a_part_of_their_name_and_sorted_by_their_lag() {
        let all = [
            known("tools/Build", ProjectHealth::Degraded, Some(1_000)),
            known("tools/test", ProjectHealth::Ok, Some(500)),
            known("app", ProjectHealth::Seeding, None),
        ];
        let view = |q: &str, show: &str, sort: &str, order: &str| {
            let [q, show, sort, order] = [q, show, sort, order].map(str::to_owned);
            of(&all, &Wishes { q, show, sort, order, page: String::new() }, 10_500)
        };
        assert_eq!(names(&view("BUILD", "", "", "")), ["tools/Build"]);
        assert_eq!(names(&view("", "", "lag", "down")), ["tools/test", "tools/Build", "app"]);
        assert_eq!(view("", "", "lag", "down").rows[0].lag, "10 s");
        assert_eq!(names(&view("", "", "state", "down")), ["tools/Build", "app", "tools/test"]);
        assert_eq!(names(&view("tools", "bad", "name", "down")), ["tools/test", "tools/Build"]);
        let none = view("nowhere", "", "", "");
        assert_eq!((none.rows.len(), none.shown.as_str()), (0, "None of 3 projects fits."));
        assert_eq!(none.answer, "3 of 3 projects are not in order at this node.");
        let sorted: Vec<&str> = view("", "", "lag", "down").columns.iter().map(|column| column.sorted).collect();
        assert_eq!(sorted, ["none", "none", "descending", "none"]);
    }
}
