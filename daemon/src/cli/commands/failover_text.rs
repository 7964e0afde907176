//! Plans and failovers as text.

use lockstep_proto::failover::{Failover, FailoverKind, FailoverOutcome, FailoverPlan, StepRecord};

use super::site_table::site_table;
use super::table::Table;

/// A plan as text.
pub(super) fn plan(plan: &FailoverPlan) -> String {
    let list = |title: &str, lines: &[String]| match lines.is_empty() {
        true => String::new(),
        false => format!("{title}\n{}", lines.iter().map(|line| format!("  {line}\n")).collect::<String>()),
    };
    let mut steps = Table::new(&["step", "what happens"]);
    for one in &plan.steps {
        steps.row(vec![one.step.name().to_owned(), one.text.clone()]);
    }
    format!(
        "{} failover from {} to {}\nsites\n{}steps\n{}{}{}at risk\n  nothing that was \
         acknowledged: it is in the refdb. {} has still to apply {} slots of {}\nplan hash {}\n",
        kind(plan.kind),
        plan.from,
        plan.to,
        site_table(&plan.sites),
        steps.render(),
        list("BLOCKERS", &plan.blockers),
        list("warnings", &plan.warnings),
        plan.to,
        plan.behind,
        plan.from,
        plan.hash
    )
}

fn kind(kind: FailoverKind) -> &'static str {
    match kind {
        FailoverKind::Planned => "planned",
        FailoverKind::Forced => "forced",
    }
}

/// The completed steps, one line each, and the end. A later state begins with the text of an earlier one.
pub(super) fn progress(failover: &Failover) -> String {
    let mut from_ms = failover.requested_ms;
    let mut text = String::new();
    for step in failover.steps.iter().filter(|step| step.ended_ms.is_some()) {
        text += &line(step, from_ms);
        from_ms = step.ended_ms.unwrap_or(from_ms);
    }
    if failover.end.is_some() {
        text += &format!("{}\n", summary(failover));
    }
    text
}

fn line(step: &StepRecord, from_ms: u64) -> String {
    let took_ms = step.ended_ms.unwrap_or(from_ms).saturating_sub(from_ms);
    format!("  {:<9} {:>6.1} s  {}\n", step.step.name(), took_ms as f64 / 1_000.0, step.note)
}

/// A failover in one line.
pub(super) fn summary(failover: &Failover) -> String {
    let head = format!("failover {} from {} to {}", failover.number, failover.from, failover.to);
    let Some(end) = &failover.end else {
        let step = failover.current().map_or("its end", |step| step.step.name());
        return match (failover.aborting, failover.paused) {
            (true, _) => format!("{head}: is being aborted"),
            (false, true) => format!("{head}: paused before {step}; `lockstep failover resume` goes on"),
            (false, false) => format!("{head}: in progress, at {step}"),
        };
    };
    match end.outcome {
        FailoverOutcome::Aborted => format!("{head}: aborted; `lockstep sites` shows the roles"),
        FailoverOutcome::Done if failover.unserved => format!(
            "{head}: {} is active, but none of its nodes took writes in time; look at them, or plan a forced failover \
             from {}",
            failover.to, failover.to
        ),
        FailoverOutcome::Done => format!(
            "{head}: done. {} took writes {:.1} s after the request. Nothing that was acknowledged is lost",
            failover.to,
            end.recovery_ms.unwrap_or_default() as f64 / 1_000.0
        ),
    }
}
