//! The plan of a failover: its preflight, its steps and its blockers, and the form that executes it.
//!
//! The form carries the hash of the plan that the visitor has seen. A plan that has changed since is refused.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use futures::future::join;
use lockstep_proto::SiteId;
use lockstep_proto::drill::{Preflight, PreflightRequest};
use lockstep_proto::failover::{
    AtRisk, Estimate, ExecuteRequest, FailoverKind, FailoverPlan, FailoverStep, PlanRequest,
};
use serde::Deserialize;

use super::failover::PATH;
use crate::base::time_text::seconds;
use crate::stages::console::context::{Context, change, look};
use crate::stages::console::denied::Denied;
use crate::stages::console::frame::Frame;
use crate::stages::console::outcome::{self, Ended};
use crate::stages::console::render::html;
use crate::stages::console::submitted::{Change, Fields, Submitted};
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::{count, list, sentence};

#[derive(askama::Template)]
#[template(path = "console/plan.html")]
pub(in crate::stages::console) struct PlanPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The failover that the visitor thinks of.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::stages::console) struct Wish {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    max_loss: String,
    #[serde(default)]
    no_verify: String,
    #[serde(default)]
    no_probe: String,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    answer: String,
    tone: &'static str,
    problem: String,
    plan: Option<Plan>,
    checks: Vec<CheckRow>,
    preflight: String,
}

#[derive(Debug)]
struct Plan {
    kind: &'static str,
    from: String,
    to: String,
    max_loss: String,
    no_verify: bool,
    no_probe: bool,
    hash: String,
    steps: Vec<StepRow>,
    blockers: Vec<String>,
    warnings: Vec<String>,
    at_risk: String,
    refs: Vec<String>,
    estimate: String,
    exposure: String,
    outside: Vec<OutsideRow>,
}

#[derive(Debug)]
struct StepRow {
    name: &'static str,
    text: String,
}

#[derive(Debug)]
struct OutsideRow {
    name: String,
    fate: String,
    note: String,
}

#[derive(Debug)]
struct CheckRow {
    check: String,
    verdict: &'static str,
    tone: &'static str,
    note: String,
}

/// Shows the plan, and changes nothing.
pub(in crate::stages::console) async fn show(
    State(context): State<Context>,
    visitor: Visitor,
    Query(wish): Query<Wish>,
) -> Result<Response, Denied> {
    let request = request(&[
        ("kind", wish.kind.as_str()),
        ("from", wish.from.as_str()),
        ("to", wish.to.as_str()),
        ("max_loss", wish.max_loss.as_str()),
        ("no_verify", wish.no_verify.as_str()),
        ("no_probe", wish.no_probe.as_str()),
    ])?;
    let preflight_request = PreflightRequest { to: request.to.clone() };
    let planned = look(context.operators.plan(&request));
    let (planned, preflight) = join(planned, look(context.operators.preflight(&preflight_request))).await;
    let mut view = match planned {
        Ok(plan) => of(&request, plan),
        Err(error) => {
            View { answer: "There is no plan.".to_owned(), tone: "unknown", problem: error.message, ..View::default() }
        }
    };
    match preflight {
        Ok(preflight) => check(&mut view, &preflight),
        Err(error) => view.preflight = format!("It was not checked: {}", error.message),
    }
    Ok(html(&PlanPage { frame: Frame::new(&context, &visitor, PATH), view }))
}

/// Begins the failover, if its plan still has the hash that the visitor has seen.
pub(in crate::stages::console) async fn execute(
    State(context): State<Context>,
    Change(Submitted { visitor, fields }): Change,
) -> Result<Response, Denied> {
    let plan =
        request(&["kind", "from", "to", "max_loss", "no_verify", "no_probe"].map(|name| (name, fields.text(name))))?;
    let frame = Frame::new(&context, &visitor, PATH);
    if fields.text("confirm") != plan.to.as_str() {
        let why =
            format!("To confirm, write the name of the target, {}, and not {:?}.", plan.to, fields.text("confirm"));
        return Ok(outcome::page(frame, Ended::Refused(why), PATH));
    }
    let (plan_hash, reason, pause_before) = (fields.text("hash").to_owned(), fields.reason()?, pauses(&fields)?);
    let request = ExecuteRequest { plan, plan_hash, reason, pause_before };
    let (operators, actor) = (context.operators.clone(), visitor.actor.clone());
    match change(async move { operators.execute(&actor, request).await }).await {
        Ok(_) => Ok(Redirect::to(PATH).into_response()),
        Err(error) => Ok(outcome::page(frame, error.into(), PATH)),
    }
}

fn pauses(fields: &Fields) -> Result<Vec<FailoverStep>, Denied> {
    Ok(fields.optional("pause_before")?.into_iter().collect())
}

/// The request of the fields with these names.
fn request(fields: &[(&str, &str)]) -> Result<PlanRequest, Denied> {
    let text = |name: &str| fields.iter().find(|(one, _)| *one == name).map_or("", |(_, text)| text.trim());
    let site = |name: &str| {
        let wrong = |error| Denied::Malformed(format!("field {name} {:?}: {error}", text(name)));
        text(name).parse::<SiteId>().map_err(wrong)
    };
    let kind = match text("kind") {
        "planned" => FailoverKind::Planned,
        "forced" => FailoverKind::Forced,
        other => return Err(Denied::Malformed(format!("field kind {other:?} is none of planned, forced"))),
    };
    let max_loss = match text("max_loss") {
        "" => None,
        number => {
            let wrong = |_| Denied::Malformed(format!("field max_loss {number:?}: write a whole number, or nothing"));
            Some(number.parse().map_err(wrong)?)
        }
    };
    let skipped = [("no_verify", FailoverStep::Verify), ("no_probe", FailoverStep::Probe)];
    let without = skipped.into_iter().filter(|skipped| !text(skipped.0).is_empty()).map(|(_, step)| step).collect();
    Ok(PlanRequest { max_loss, without, ..PlanRequest::new(kind, site("from")?, site("to")?) })
}

/// The view of a plan.
pub(in crate::stages::console) fn of(request: &PlanRequest, plan: FailoverPlan) -> View {
    let (kind, from, to) = (plan.kind.name(), plan.from.to_string(), plan.to.to_string());
    let (answer, tone) = match plan.blockers.len() {
        0 => (format!("This {kind} failover from {from} to {to} can be executed. Nothing has changed yet."), "ok"),
        number => {
            let blockers = count(number as u64, "blocker", "blockers");
            (format!("This {kind} failover from {from} to {to} can NOT be executed: it has {blockers}."), "bad")
        }
    };
    let at_risk = at_risk(&plan);
    let plan = Plan {
        kind,
        from,
        to,
        max_loss: request.max_loss.map(|most| most.to_string()).unwrap_or_default(),
        no_verify: request.without.contains(&FailoverStep::Verify),
        no_probe: request.without.contains(&FailoverStep::Probe),
        hash: plan.hash,
        steps: plan.steps.into_iter().map(|one| StepRow { name: one.step.name(), text: one.text }).collect(),
        blockers: plan.blockers,
        warnings: plan.warnings,
        at_risk,
        refs: plan.at_risk.refs.iter().map(|one| format!("{} {}", one.project, one.name)).collect(),
        estimate: estimate(plan.estimate.as_ref()),
        exposure: sentence(&plan.exposure),
        outside: plan
            .outside_refs
            .into_iter()
            .map(|one| OutsideRow { name: one.name, fate: one.fate, note: one.note })
            .collect(),
    };
    View { answer, tone, plan: Some(plan), ..View::default() }
}

fn at_risk(plan: &FailoverPlan) -> String {
    let FailoverPlan { from, to, at_risk: AtRisk { transactions, unknown, at_most, ref_count, .. }, .. } = plan;
    let lacks = match transactions {
        None => {
            let why = unknown.as_deref().unwrap_or("its nodes are being repaired");
            format!("It is not known which transactions of {from} {to} lacks: {why}.")
        }
        Some(0) => format!("{to} lacks none of the settled transactions of {from}."),
        Some(number) => {
            let bound = if *at_most { "at most " } else { "" };
            let number = count(*number, "transaction", "transactions");
            format!("{to} lacks {bound}{number} of {from}, which move {}.", count(*ref_count, "ref", "refs"))
        }
    };
    format!("Nothing that was acknowledged would be lost: it is in the refdb. {lacks}")
}

fn estimate(estimate: Option<&Estimate>) -> String {
    let Some(one) = estimate else {
        return "It is not known how long it takes: no failover and no drill of this kind was measured.".to_owned();
    };
    let measured = match one.failovers {
        0 => count(one.drills, "drill", "drills"),
        number => count(number, "failover", "failovers"),
    };
    let unmeasured: Vec<String> = one.unmeasured.iter().map(|step| step.name().to_owned()).collect();
    let unmeasured = match unmeasured.is_empty() {
        true => String::new(),
        false => format!(" Not measured yet: {}.", list(&unmeasured)),
    };
    let (writes, all) = (seconds(Some(one.writes_ms)), seconds(Some(one.all_ms)));
    format!("Nobody can write for about {writes}; all steps take about {all}, by {measured}.{unmeasured}")
}

/// Adds the checks of a preflight to a view.
pub(in crate::stages::console) fn check(view: &mut View, preflight: &Preflight) {
    view.preflight = match preflight.is_green() {
        true => format!("Every check of {} is green.", preflight.by),
        false => {
            format!("The preflight of {} is RED. A failover could still begin, and might not go well.", preflight.by)
        }
    };
    view.checks = preflight
        .checks
        .iter()
        .map(|one| {
            let (verdict, tone) = if one.red.is_empty() { ("green", "ok") } else { ("RED", "bad") };
            let note = if one.red.is_empty() { one.note.clone() } else { one.red.join("; ") };
            CheckRow { check: one.check.clone(), verdict, tone, note }
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_form_are_a_request_or_name_the_wrong_one() {
        let all = [("kind", "planned"), ("from", "a"), ("to", "b"), ("max_loss", "0"), ("no_probe", "on")];
        let read = request(&all).unwrap();
        assert_eq!((read.max_loss, read.without.as_slice()), (Some(0), &[FailoverStep::Probe][..]));
        for (name, value) in [("kind", "quick"), ("from", "A B"), ("to", ""), ("max_loss", "-1")] {
            let wrong = all.map(|(one, text)| (one, if one == name { value } else { text }));
            let Err(Denied::Malformed(why)) = request(&wrong) else { panic!("{name} was taken") };
            assert!(why.starts_with(&format!("field {name} {value:?}")), "{why}");
        }
    }
}
