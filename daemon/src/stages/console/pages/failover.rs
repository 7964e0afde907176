//! The failover that goes on, with its steps as they are taken, and the form that begins a plan.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use lockstep_proto::failover::{
    ActRequest, Failover, FailoverAct, FailoverOutcome, FailoverStep, Role, SiteStatus, SitesStatus, StepRecord,
};

use crate::base::time_text::{seconds, utc};
use crate::stages::console::context::{Context, change, look};
use crate::stages::console::denied::Denied;
use crate::stages::console::frame::Frame;
use crate::stages::console::outcome;
use crate::stages::console::render::html;
use crate::stages::console::submitted::{Approval, Submitted};
use crate::stages::console::unknown::why;
use crate::stages::console::visitor::Visitor;
use crate::stages::ports::OperatorRole;

pub(super) const PATH: &str = "/console/failover";

#[derive(askama::Template)]
#[template(path = "console/failover.html")]
pub(in crate::stages::console) struct FailoverPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    answer: String,
    tone: &'static str,
    problem: String,
    /// Facts about the failover, one sentence each.
    facts: Vec<String>,
    steps: Vec<Step>,
    /// The number of the failover, and the step before which it is paused, if there is one.
    number: u64,
    step: &'static str,
    is_in_progress: bool,
    is_paused: bool,
    /// Whether the execution asked for an approval before that step.
    waits_for_approval: bool,
    may_abort: bool,
    sites: Vec<Site>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    state: &'static str,
    mark: &'static str,
    tone: &'static str,
    began: String,
    took: String,
    by: String,
    note: String,
}

#[derive(Debug)]
struct Site {
    name: String,
    role: &'static str,
    /// Whether the form proposes it as the source, and as the target.
    is_source: bool,
    is_target: bool,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(State(context): State<Context>, visitor: Visitor) -> Response {
    let view = match look(context.operators.sites()).await {
        Ok(sites) => of(&sites),
        Err(error) => {
            let answer = format!("It is not known whether a failover goes on: {}.", why(&context, &error));
            View { answer, tone: "unknown", problem: error.message, ..View::default() }
        }
    };
    html(&FailoverPage { frame: Frame::new(&context, &visitor, PATH), view })
}

/// Pauses, resumes or aborts the failover. An approver resumes one that is paused for an approval.
pub(in crate::stages::console) async fn act(
    State(context): State<Context>,
    Approval(Submitted { visitor, fields }): Approval,
) -> Result<Response, Denied> {
    let act = match fields.text("act") {
        "pause" => FailoverAct::Pause,
        "resume" => FailoverAct::Resume,
        "abort" => FailoverAct::Abort,
        other => return Err(Denied::Malformed(format!("field act {other:?} is none of pause, resume, abort"))),
    };
    if act != FailoverAct::Resume {
        visitor.must_be(OperatorRole::Operator)?;
    }
    let step = if act == FailoverAct::Resume { fields.optional("step")? } else { None };
    let request = ActRequest { act, number: fields.value("number")?, step, reason: fields.reason()? };
    let (operators, actor, role) = (context.operators.clone(), visitor.actor.clone(), visitor.role);
    let acting = async move {
        match role {
            OperatorRole::Operator => operators.act(&actor, request).await,
            _ => operators.approve(&actor, request).await,
        }
    };
    match change(acting).await {
        Ok(_) => Ok(Redirect::to(PATH).into_response()),
        Err(error) => Ok(outcome::page(Frame::new(&context, &visitor, PATH), error.into(), PATH)),
    }
}

/// The view of the sites, and of the failover that goes on or was the last one.
pub(in crate::stages::console) fn of(status: &SitesStatus) -> View {
    let is_active = |site: &SiteStatus| site.role == Role::Active && !site.off;
    let source = status.sites.iter().find(|site| is_active(site)).map(|site| &site.site);
    let may_take = |site: &&SiteStatus| site.role == Role::Standby && !site.off;
    let target = status.sites.iter().find(may_take).map(|site| &site.site);
    let sites = status.sites.iter().map(|site| Site {
        name: site.site.to_string(),
        role: if site.off { "off" } else { site.role.name() },
        is_source: Some(&site.site) == source,
        is_target: Some(&site.site) == target,
    });
    let view = match &status.failover {
        None => View { answer: "There was no failover yet.".to_owned(), tone: "unknown", ..View::default() },
        Some(failover) => of_failover(failover, status),
    };
    View { sites: sites.collect(), ..view }
}

fn of_failover(failover: &Failover, status: &SitesStatus) -> View {
    let Failover { number, from, to, .. } = failover;
    let kind = failover.kind.name();
    let (answer, tone) = match &failover.end {
        None if failover.paused => {
            (format!("Failover {number} from {from} to {to} ({kind}) is PAUSED. It waits for you."), "bad")
        }
        None => (format!("Failover {number} from {from} to {to} ({kind}) is in progress."), "unknown"),
        Some(end) if end.outcome == FailoverOutcome::Done => {
            let took = end.recovery_ms.map(|took| format!(" {to} took writes after {}.", seconds(Some(took))));
            let took = took.unwrap_or_default();
            (
                format!(
                    "No failover is in progress. The last one, {number} from {from} to {to} ({kind}), is done.{took}"
                ),
                "ok",
            )
        }
        Some(_) => {
            let answer = format!(
                "No failover is in progress. The last one, {number} from {from} to {to} ({kind}), was aborted: {from} \
                 is active again."
            );
            (answer, "unknown")
        }
    };
    let current = failover.current().filter(|_| failover.is_in_progress());
    View {
        answer,
        tone,
        facts: facts(failover, status),
        steps: failover.steps.iter().map(|step| step_row(step, current, failover.paused)).collect(),
        number: *number,
        step: current.map_or("", |step| step.step.name()),
        is_in_progress: failover.is_in_progress(),
        is_paused: failover.paused,
        waits_for_approval: failover.waits_for_approval().is_some(),
        may_abort: failover.is_in_progress() && !failover.has_begun(FailoverStep::Promote),
        ..View::default()
    }
}

fn facts(failover: &Failover, status: &SitesStatus) -> Vec<String> {
    let requested = format!("Requested at {} by {}: {}", utc(failover.requested_ms), failover.actor, failover.reason);
    let lost = failover.end.as_ref().map(|end| match end.lost {
        0 => "Nothing that was acknowledged is lost.".to_owned(),
        lost => format!("{lost} acknowledged transactions are LOST."),
    });
    let probed = failover.probed.iter().flat_map(|(node, probed)| {
        let red = probed.probes.iter().filter_map(|one| Some((one, one.red.as_ref()?)));
        red.map(move |(one, why)| format!("The probe {} of {node} is RED: {why}", one.probe))
    });
    let refreshes = status.follow_up.as_ref().and_then(|follow_up| follow_up.refreshes).filter(|due| *due > 0);
    let refreshes = refreshes.map(|due| format!("{due} subjects are still due at the Gerrits of {}.", failover.to));
    let held = failover.held.iter().map(|why| format!("It holds itself: {why}"));
    let waits = status.waits_for.iter().map(|why| format!("It waits: {why}"));
    let acts =
        failover.audit.iter().map(|one| format!("{} at {} by {}: {}", one.act, utc(one.at_ms), one.actor, one.reason));
    std::iter::once(requested).chain(held).chain(waits).chain(lost).chain(refreshes).chain(probed).chain(acts).collect()
}

fn step_row(step: &StepRecord, current: Option<&StepRecord>, is_paused: bool) -> Step {
    let is_current = current.is_some_and(|current| current.step == step.step);
    let (state, mark, tone) = match (step.ended_ms, step.began_ms, is_current) {
        (Some(_), ..) => ("done", "✓", "ok"),
        (None, _, true) if is_paused => ("paused", "‖", "bad"),
        (None, Some(_), true) => ("in progress", "…", "unknown"),
        (None, None, true) => ("next", "→", "unknown"),
        (None, _, false) => ("not begun", "·", "unknown"),
    };
    let took = step.began_ms.zip(step.ended_ms).map(|(began, ended)| ended.saturating_sub(began));
    Step {
        name: step.step.name(),
        state,
        mark,
        tone,
        began: step.began_ms.map(utc).unwrap_or_default(),
        took: took.map(|took| seconds(Some(took))).unwrap_or_default(),
        by: step.by.as_ref().map(ToString::to_string).unwrap_or_default(),
        note: step.note.clone(),
    }
}
