//! Plans and failovers as text.

use lockstep_proto::failover::{
    AtRisk, Failover, FailoverEnd, FailoverKind, FailoverOutcome, FailoverPlan, FailoverStep, StepRecord,
};

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
    let mut outside = Table::new(&["data", "fate", "note"]);
    for one in &plan.outside_refs {
        outside.row(vec![one.name.clone(), one.fate.clone(), one.note.clone()]);
    }
    format!(
        "{} failover from {} to {}\nsites\n{}steps\n{}{}{}at risk\n  lost: nothing. Every acknowledged transaction is \
         in the refdb\n{}  {}\noutside of refs\n{}plan hash {}\n",
        kind(plan.kind),
        plan.from,
        plan.to,
        site_table(&plan.sites),
        steps.render(),
        list("BLOCKERS", &plan.blockers),
        list("warnings", &plan.warnings),
        at_risk(plan),
        plan.exposure,
        outside.render(),
        plan.hash
    )
}

/// The transactions that the target lacks, with the names of their refs.
fn at_risk(plan: &FailoverPlan) -> String {
    let FailoverPlan { from, to, at_risk: AtRisk { transactions, at_most, unknown, ref_count, refs }, .. } = plan;
    let head = match transactions {
        None => {
            let why = unknown.as_deref().unwrap_or("its nodes are being repaired");
            format!("  it is not known which transactions of {from} {to} lacks: {why}\n")
        }
        Some(0) => return format!("  {to} lacks none of the settled transactions of {from}\n"),
        Some(count) => {
            let bound = if *at_most { "at most " } else { "" };
            format!("  {to} lacks {bound}{count} transactions of {from}, which move {ref_count} refs:\n")
        }
    };
    let named: String = refs.iter().map(|one| format!("    {} {}\n", one.project, one.name)).collect();
    let more = ref_count.saturating_sub(refs.len() as u64);
    let more = if more > 0 { format!("    and {more} more\n") } else { String::new() };
    head + &named + &more
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
    format!("  {:<10} {:>6.1} s  {}\n", step.step.name(), took_ms as f64 / 1_000.0, step.note)
}

/// A failover in one line.
pub(super) fn summary(failover: &Failover) -> String {
    let head = format!("failover {} from {} to {}", failover.number, failover.from, failover.to);
    let Some(end) = &failover.end else {
        let step = failover.current().map_or("its end", |step| step.step.name());
        return match (failover.aborting, failover.paused) {
            (true, _) => format!("{head}: is being aborted"),
            (false, true) => format!(
                "{head}: paused before {step}{}; `lockstep failover resume` goes on, `lockstep failover abort` ends it",
                failover.held.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
            ),
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
            "{head}: done. {} took writes {}{}. Nothing that was acknowledged is lost{}",
            failover.to,
            took_writes(failover, end),
            green(failover, end),
            lacked(failover)
        ),
    }
}

/// When the target took writes.
fn took_writes(failover: &Failover, end: &FailoverEnd) -> String {
    let since = if failover.has(FailoverStep::Verify) { "stop" } else { "request" };
    match failover.to_was_active {
        true => "all the time".to_owned(),
        false => format!("{} after the {since}", seconds(end.recovery_ms)),
    }
}

fn seconds(span_ms: Option<u64>) -> String {
    span_ms.map_or("-".to_owned(), |span_ms| format!("{:.1} s", span_ms as f64 / 1_000.0))
}

/// The findings of the probes of the target.
fn green(failover: &Failover, end: &FailoverEnd) -> String {
    match end.green_ms {
        Some(_) => format!(", and its probes were green after {}", seconds(end.green_ms)),
        None if failover.has(FailoverStep::Probe) => ", BUT ITS PROBES ARE RED".to_owned(),
        None => String::new(),
    }
}

/// The transactions that the target has still to apply.
fn lacked(failover: &Failover) -> String {
    match failover.lacked.as_ref().map(|lacked| lacked.transactions) {
        None | Some(Some(0)) => String::new(),
        Some(Some(count)) => {
            let most = if failover.lacked.as_ref().is_some_and(|lacked| lacked.at_most) { "at most " } else { "" };
            format!(
                "; when it caught up, {} had still to apply {most}{count} transactions, which are in the refdb",
                failover.to
            )
        }
        Some(None) => format!("; it was not known what {} had still to apply: it is in the refdb", failover.to),
    }
}

/// Whether the failover has ended while a probe of the target was red.
pub(super) fn has_red(failover: &Failover) -> bool {
    let is_green = failover.end.as_ref().is_some_and(|end| end.green_ms.is_some());
    failover.has(FailoverStep::Probe) && !is_green
}
