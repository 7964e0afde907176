//! Quarantine: the transactions and records that this node has set aside, and the ways out.

use axum::extract::State;
use axum::response::Response;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::debt::Repair;
use lockstep_proto::status::HeldStatus;

use crate::base::time_text::{short, utc};
use crate::stages::console::context::{Context, change, look};
use crate::stages::console::denied::Denied;
use crate::stages::console::frame::Frame;
use crate::stages::console::outcome::{self, Ended};
use crate::stages::console::render::html;
use crate::stages::console::submitted::{Change, Fields, Submitted};
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::count;

const PATH: &str = "/console/quarantine";
/// The most entries of one list. All are counted.
const MOST: usize = 200;

#[derive(askama::Template)]
#[template(path = "console/quarantine.html")]
pub(in crate::stages::console) struct QuarantinePage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    answer: String,
    tone: &'static str,
    problem: String,
    quarantined: Vec<Row>,
    quarantined_shown: String,
    parked: Vec<Row>,
    parked_shown: String,
}

#[derive(Debug)]
struct Row {
    entry: String,
    txn: String,
    project: String,
    since: String,
    age: String,
    reason: String,
    waits_for: String,
    bytes: u64,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(State(context): State<Context>, visitor: Visitor) -> Response {
    let both = look(async {
        let quarantined = context.inspection.quarantined().await?;
        Ok::<_, ApiError>((quarantined, context.inspection.parked().await?))
    });
    let view = match both.await {
        Ok((quarantined, parked)) => of(&quarantined, &parked, context.clock.now_ms()),
        Err(error) => {
            let answer = "It is not known what this node has set aside: its store does not answer.".to_owned();
            View { answer, tone: "unknown", problem: error.message, ..View::default() }
        }
    };
    html(&QuarantinePage { frame: Frame::new(&context, &visitor, PATH), view })
}

/// Ends a debt of this node.
pub(in crate::stages::console) async fn repair(
    State(context): State<Context>,
    Change(Submitted { visitor, fields }): Change,
) -> Result<Response, Denied> {
    let repair = asked(&fields)?;
    tracing::warn!(actor = visitor.actor, ?repair, "an operator ends a debt");
    let inspection = context.inspection.clone();
    let ended = match change(async move { inspection.repair(repair).await }).await {
        Ok(answer) if answer.done => Ended::Done(answer.message),
        Ok(answer) => Ended::Refused(format!("The debt stays: {}", answer.message)),
        Err(error) => error.into(),
    };
    Ok(outcome::page(Frame::new(&context, &visitor, PATH), ended, PATH))
}

/// The repair that a form asks for.
fn asked(fields: &Fields) -> Result<Repair, Denied> {
    let entry = || match fields.text("entry") {
        "" => Err(Denied::Malformed("field entry is empty: name the entry".to_owned())),
        entry => Ok(entry.to_owned()),
    };
    match fields.text("repair") {
        "retry" => Ok(Repair::Retry { entry: entry()? }),
        "accept" => Ok(Repair::Accept { entry: entry()? }),
        "drop" if fields.is_ticked("sure") => Ok(Repair::Drop { entry: entry()? }),
        "drop" => Err(Denied::Malformed("the box that confirms the discarding is not ticked".to_owned())),
        "retry_project" => Ok(Repair::RetryProject { project: fields.value("project")? }),
        other => {
            Err(Denied::Malformed(format!("field repair {other:?} is none of retry, accept, drop, retry_project")))
        }
    }
}

/// The view of everything that was set aside.
pub(in crate::stages::console) fn of(quarantined: &[HeldStatus], parked: &[HeldStatus], now_ms: u64) -> View {
    let number = |all: &[HeldStatus]| all.len() as u64;
    let (answer, tone) = match (number(quarantined), number(parked)) {
        (0, 0) => ("This node has set nothing aside.".to_owned(), "ok"),
        (0, parked) => {
            let parked = count(parked, "transaction waits", "transactions wait");
            (format!("Nothing is in quarantine. {parked} for something that has not arrived."), "unknown")
        }
        (quarantined, parked) => {
            let quarantined = count(quarantined, "record is", "records are");
            let parked = count(parked, "transaction waits", "transactions wait");
            (format!("{quarantined} in QUARANTINE, with bad content. {parked} for something."), "bad")
        }
    };
    let rows = |all: &[HeldStatus]| all.iter().take(MOST).map(|held| row(held, now_ms)).collect::<Vec<_>>();
    let shown = |all: &[HeldStatus]| match all.len() {
        all if all > MOST => format!("The first {MOST} of {all}."),
        _ => String::new(),
    };
    View {
        answer,
        tone,
        problem: String::new(),
        quarantined: rows(quarantined),
        quarantined_shown: shown(quarantined),
        parked: rows(parked),
        parked_shown: shown(parked),
    }
}

fn row(held: &HeldStatus, now_ms: u64) -> Row {
    Row {
        entry: held.entry.clone(),
        txn: held.txn.clone(),
        project: held.project.clone(),
        since: utc(held.since_ms),
        age: short(now_ms.saturating_sub(held.since_ms)),
        reason: held.reason.clone(),
        waits_for: held.waits_for.join(", "),
        bytes: held.bytes,
    }
}
