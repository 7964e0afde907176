//! Strays: values that refs had on the disk of this node, that nobody committed, and that gave way to committed ones.

use axum::extract::{Query, State};
use axum::response::Response;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{Outcome, ProjectResponse};
use lockstep_proto::gerrit::{Stray, StrayEnd, StrayRequest};
use lockstep_proto::status::UncommittedUpdate;
use serde::Deserialize;

use crate::base::time_text::utc;
use crate::stages::console::context::{Context, change, look};
use crate::stages::console::denied::Denied;
use crate::stages::console::frame::Frame;
use crate::stages::console::outcome::{self, Ended};
use crate::stages::console::render::html;
use crate::stages::console::submitted::{Change, Submitted};
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::{address, count};

const PATH: &str = "/console/strays";

#[derive(askama::Template)]
#[template(path = "console/strays.html")]
pub(in crate::stages::console) struct StraysPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The project whose strays the visitor wants to see.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::stages::console) struct Wish {
    #[serde(default)]
    project: String,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    project: String,
    answer: String,
    tone: &'static str,
    problem: String,
    strays: Vec<Row>,
    uncommitted: Vec<UncommittedRow>,
}

#[derive(Debug)]
struct Row {
    name: String,
    value: String,
}

#[derive(Debug)]
struct UncommittedRow {
    project: String,
    href: String,
    name: String,
    new: String,
    actor: String,
    at: String,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(
    State(context): State<Context>,
    visitor: Visitor,
    Query(wish): Query<Wish>,
) -> Response {
    let name = wish.project.trim();
    let view = match name.parse::<ProjectName>() {
        _ if name.is_empty() => of(None, &context.inspection.status().await.uncommitted),
        Ok(project) => match look(context.handshake.strays(&project)).await {
            Ok(strays) => of(Some((&project, strays.as_slice())), &[]),
            Err(error) => {
                let answer = format!("It is not known which strays {project} has: its repository cannot be read now.");
                View { answer, tone: "unknown", problem: error.message, ..View::default() }
            }
        },
        Err(error) => {
            View { answer: format!("This is no name of a project: {error}"), tone: "unknown", ..View::default() }
        }
    };
    html(&StraysPage { frame: Frame::new(&context, &visitor, PATH), view: View { project: name.to_owned(), ..view } })
}

/// Adopts or discards a stray.
pub(in crate::stages::console) async fn end(
    State(context): State<Context>,
    Change(Submitted { visitor, fields }): Change,
) -> Result<Response, Denied> {
    let project: ProjectName = fields.value("project")?;
    let stray = Stray { name: fields.value("ref")?, value: fields.value("value")? };
    let end = match fields.text("end") {
        "adopt" => StrayEnd::Adopt,
        "discard" if fields.is_ticked("sure") => StrayEnd::Discard,
        "discard" => return Err(Denied::Malformed("the box that confirms the discarding is not ticked".to_owned())),
        other => return Err(Denied::Malformed(format!("field end {other:?} is none of adopt, discard"))),
    };
    tracing::warn!(actor = visitor.actor, %project, ?stray, ?end, "an operator ends a stray");
    let request = StrayRequest { request_id: format!("console-{}", context.secret()), stray, end };
    let back = address(PATH, &[("project", project.as_str())]);
    let handshake = context.handshake.clone();
    let ended = match change(async move { handshake.end_stray(&project, request).await }).await {
        Ok(answer) => verdict(answer),
        Err(error) => error.into(),
    };
    Ok(outcome::page(Frame::new(&context, &visitor, PATH), ended, &back))
}

fn verdict(answer: ProjectResponse) -> Ended {
    let why = answer.refusal.map(|refusal| refusal.message).unwrap_or_default();
    match answer.outcome {
        Outcome::Committed => Ended::Done(why),
        Outcome::CommittedNotYetVisible => Ended::Done(format!("The repository will show it soon. {why}")),
        Outcome::Refused => Ended::Refused(why),
        Outcome::Unknown => Ended::Unknown(why),
    }
}

/// The view of the strays of a project, or of the updates that nobody committed.
pub(in crate::stages::console) fn of(
    of_project: Option<(&ProjectName, &[Stray])>,
    uncommitted: &[UncommittedUpdate],
) -> View {
    let (answer, tone) = match (of_project, uncommitted.len() as u64) {
        (Some((project, [])), _) => (format!("{project} has no stray at this node."), "ok"),
        (Some((project, strays)), _) => {
            let strays = count(strays.len() as u64, "stray", "strays");
            (format!("{project} has {strays} at this node: adopt or discard each of them."), "bad")
        }
        (None, 0) => {
            ("No update was begun here and left uncommitted. Name a project to see its strays.".to_owned(), "ok")
        }
        (None, number) => {
            let updates = count(number, "update was", "updates were");
            (format!("{updates} begun here, and nobody committed them: their values are strays."), "bad")
        }
    };
    let strays = of_project.map(|(_, strays)| strays).unwrap_or_default();
    View {
        project: String::new(),
        answer,
        tone,
        problem: String::new(),
        strays: strays.iter().map(|one| Row { name: one.name.to_string(), value: one.value.to_string() }).collect(),
        uncommitted: uncommitted.iter().map(uncommitted_row).collect(),
    }
}

fn uncommitted_row(one: &UncommittedUpdate) -> UncommittedRow {
    UncommittedRow {
        project: one.project.to_string(),
        href: address(PATH, &[("project", one.project.as_str())]),
        name: one.name.to_string(),
        new: one.new.map_or("deleted".to_owned(), |new| new.to_string()),
        actor: one.actor.clone(),
        at: utc(one.at_ms),
    }
}
