//! The audit trail: the failovers and the changes of roles, modes and the list of sites, with the operators who asked
//! for them.

use axum::extract::State;
use axum::response::Response;
use lockstep_proto::failover::{Failover, FailoverOutcome};
use lockstep_proto::history::{History, PastChange, RoleChange};
use lockstep_proto::site_list::ListChange;

use crate::base::time_text::utc;
use crate::stages::console::context::{Context, look};
use crate::stages::console::frame::Frame;
use crate::stages::console::render::html;
use crate::stages::console::unknown::why;
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::count;

#[derive(askama::Template)]
#[template(path = "console/audit.html")]
pub(in crate::stages::console) struct AuditPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    answer: String,
    tone: &'static str,
    problem: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    at: String,
    actor: String,
    change: String,
    outcome: &'static str,
    reason: String,
    /// The acts of operators on a failover, each as a sentence.
    acts: Vec<String>,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(State(context): State<Context>, visitor: Visitor) -> Response {
    let view = match look(context.operators.history()).await {
        Ok(history) => of(&history),
        Err(error) => {
            let answer = format!("It is not known what was changed: {}.", why(&context, &error));
            View { answer, tone: "unknown", problem: error.message, ..View::default() }
        }
    };
    html(&AuditPage { frame: Frame::new(&context, &visitor, "/console/audit"), view })
}

/// The view of the history.
pub(in crate::stages::console) fn of(history: &History) -> View {
    let rows: Vec<Row> = history.past.iter().map(row).collect();
    let answer = match rows.first() {
        None => "No role was changed yet, and there was no failover.".to_owned(),
        Some(last) => {
            let all = count(rows.len() as u64, "change is", "changes are");
            format!("{all} kept. The last one was at {}, by {}.", last.at, last.actor)
        }
    };
    View { answer, tone: "ok", problem: String::new(), rows }
}

fn row(past: &PastChange) -> Row {
    match past {
        PastChange::Failover(failover) => failover_row(failover),
        PastChange::Role(change) => role_row(change),
    }
}

fn failover_row(failover: &Failover) -> Row {
    let outcome = match failover.end.as_ref().map(|end| end.outcome) {
        None => "in progress",
        Some(FailoverOutcome::Done) => "done",
        Some(FailoverOutcome::Aborted) => "aborted",
    };
    let acts =
        failover.audit.iter().map(|one| format!("{} at {} by {}: {}", one.act, utc(one.at_ms), one.actor, one.reason));
    Row {
        at: utc(failover.requested_ms),
        actor: failover.actor.clone(),
        change: format!(
            "failover {}, {}, from {} to {}",
            failover.number,
            failover.kind.name(),
            failover.from,
            failover.to
        ),
        outcome,
        reason: failover.reason.clone(),
        acts: acts.collect(),
    }
}

fn role_row(change: &RoleChange) -> Row {
    let site = &change.site;
    let text = match (&change.list, &change.mode) {
        (Some(ListChange::Added), _) => format!("site {site} is added to the list of sites"),
        (Some(ListChange::Removed), _) => format!("site {site} is removed from the list of sites"),
        (None, Some(mode)) => format!("Lockstep at site {site} is switched to {}", mode.name()),
        (None, None) => format!("site {site} from {} to {}", change.from.name(), change.to.name()),
    };
    let outcome = match change.done {
        Some(true) => "done",
        Some(false) => "not done",
        None => "not known",
    };
    Row {
        at: utc(change.at_ms),
        actor: change.actor.clone(),
        change: text,
        outcome,
        reason: change.reason.clone(),
        acts: Vec::new(),
    }
}
