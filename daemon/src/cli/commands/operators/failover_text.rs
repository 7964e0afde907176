//! Plans and failovers as text.

use lockstep_proto::SiteId;
use lockstep_proto::failover::{
    AtRisk, COMMIT_PATH_ONLY, COMMIT_PROBE, Estimate, Failover, FailoverEnd, FailoverOutcome, FailoverPlan,
    FailoverStep, FollowUp, ProbeResult, RefAtRisk, StepRecord,
};

use super::super::table::{Table, titled};
use super::site_table::site_table;
use crate::base::time_text::seconds;

/// A plan as text.
pub(in super::super) fn plan(plan: &FailoverPlan) -> String {
    let mut steps = Table::new(&["step", "effect"]);
    for one in &plan.steps {
        steps.row(vec![one.step.name().to_owned(), one.text.clone()]);
    }
    let mut outside = Table::new(&["data", "fate", "note"]);
    for one in &plan.outside_refs {
        outside.row(vec![one.name.clone(), one.fate.clone(), one.note.clone()]);
    }
    format!(
        "{} failover from {} to {}\nsites\n{}steps\n{}estimate\n{}{}at risk\n  lost: nothing. Every acknowledged \
         transaction is in the refdb\n{}  {}\noutside of refs\n{}plan hash {}\n{}",
        plan.kind.name(),
        plan.from,
        plan.to,
        site_table(&plan.sites),
        steps.render(),
        estimate(plan),
        titled("warnings", &plan.warnings),
        at_risk(plan),
        plan.exposure,
        outside.render(),
        plan.hash,
        titled("BLOCKERS", &plan.blockers)
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
    head + &named(refs, *ref_count)
}

/// The names of refs, one line each, and the number of those that are not named.
fn named(refs: &[RefAtRisk], count: u64) -> String {
    let named: String = refs.iter().map(|one| format!("    {} {}\n", one.project, one.name)).collect();
    let more = count.saturating_sub(refs.len() as u64);
    let more = if more > 0 { format!("    and {more} more\n") } else { String::new() };
    named + &more
}

/// The estimated time of a plan, from times that were measured.
fn estimate(plan: &FailoverPlan) -> String {
    let FailoverPlan { to, estimate, .. } = plan;
    let kind = plan.kind.name();
    let Some(Estimate { writes_ms, all_ms, failovers, drills, behind, behind_ms, unmeasured }) = estimate else {
        return format!("  not known yet: no {kind} failover or drill has ended\n");
    };
    let source = match *failovers {
        0 => format!("{drills} {kind} drills, on a canary: real nodes take longer"),
        _ => format!("{failovers} {kind} failovers"),
    };
    let (writes, all) = (seconds(Some(*writes_ms)), seconds(Some(*all_ms)));
    let mut text = format!(
        "  {to} takes writes about {writes} after `stop` begins, and all steps take about {all}: the medians of \
         {source}\n"
    );
    text += &match behind_ms {
        _ if *behind == 0 => String::new(),
        Some(_) => format!("  {} of that is for the {behind} slots that {to} is behind by\n", seconds(*behind_ms)),
        None => format!("  {to} is behind by {behind} slots; the rate at which it applies them is not known yet\n"),
    };
    if !unmeasured.is_empty() {
        let names: Vec<&str> = unmeasured.iter().map(|step| step.name()).collect();
        text += &format!("  not measured yet, and not counted: {}\n", names.join(", "));
    }
    text
}

/// The completed steps, one line each, and the end. A later state begins with the text of an earlier one.
pub(in super::super) fn progress(failover: &Failover) -> String {
    let mut from_ms = failover.requested_ms;
    let mut text = String::new();
    for step in failover.steps.iter().filter(|step| step.ended_ms.is_some()) {
        text += &line(step, from_ms);
        from_ms = step.ended_ms.unwrap_or(from_ms);
    }
    if failover.end.is_some() {
        text += &format!("{}\n{}{}", summary(failover), loss(failover), probed(failover));
    }
    text
}

fn line(step: &StepRecord, from_ms: u64) -> String {
    let took_ms = step.ended_ms.unwrap_or(from_ms).saturating_sub(from_ms);
    format!("  {:<10} {:>6.1} s  {}\n", step.step.name(), took_ms as f64 / 1_000.0, step.note)
}

/// A failover in one line.
pub(in super::super) fn summary(failover: &Failover) -> String {
    let head = format!("failover {} from {} to {}", failover.number, failover.from, failover.to);
    let Some(end) = &failover.end else {
        let step = failover.current().map_or("its end", |step| step.step.name());
        return match (failover.aborting, failover.paused) {
            (true, _) => format!("{head}: is being aborted"),
            (false, true) => format!(
                "{head}: paused before {step}{}; `lockstep failover resume --reason TEXT` goes on, `lockstep failover \
                 abort --reason TEXT` ends it",
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
            "{head}: done. {} took writes {}{}. Nothing that was acknowledged is lost",
            failover.to,
            took_writes(failover, end),
            green(failover, end)
        ),
    }
}

/// The way on for a failover that an operator has paused. None if it is not paused, or holds itself.
pub(in super::super) fn paused(failover: &Failover) -> Option<String> {
    let Failover { from, to, .. } = failover;
    let is_paused = failover.paused && failover.held.is_none() && !failover.aborting;
    let step = failover.current().filter(|_| is_paused)?.step;
    let is_between = failover.has_begun(FailoverStep::Stop) && !failover.has_begun(FailoverStep::Promote);
    let writes = match is_between && !failover.to_was_active {
        true => format!("neither {from} nor {to} takes writes; "),
        false => String::new(),
    };
    Some(format!("paused before {}; {writes}in another shell: `lockstep failover resume --reason TEXT`", step.name()))
}

/// When the target took writes.
fn took_writes(failover: &Failover, end: &FailoverEnd) -> String {
    let since = if failover.has(FailoverStep::Verify) { "stop" } else { "request" };
    match failover.to_was_active {
        true => "all the time".to_owned(),
        false => format!("{} after the {since}", seconds(end.recovery_ms)),
    }
}

/// The findings of the probes of the target.
fn green(failover: &Failover, end: &FailoverEnd) -> String {
    match end.green_ms {
        Some(_) => format!(", and its probes were green after {}", seconds(end.green_ms)),
        None if failover.has(FailoverStep::Probe) => ", BUT ITS PROBES ARE RED".to_owned(),
        None => String::new(),
    }
}

/// The loss of a failover that is done, and the transactions that the target lacked, with the names of their refs.
fn loss(failover: &Failover) -> String {
    let Failover { to, lacked, .. } = failover;
    let Some(end) = failover.end.as_ref().filter(|end| end.outcome == FailoverOutcome::Done) else {
        return String::new();
    };
    let lost = if end.lost == 0 { "none".to_owned() } else { format!("{} transactions", end.lost) };
    let head = format!("  lost: {lost}\n  not yet applied at {to} when it was promoted: ");
    let Some(AtRisk { transactions, at_most, unknown, ref_count, refs }) = lacked else {
        return head + "not counted\n";
    };
    head + &match transactions {
        None => format!("not known: {}\n", unknown.as_deref().unwrap_or("its nodes are being repaired")),
        Some(0) => "none\n".to_owned(),
        Some(count) => {
            let bound = if *at_most { "at most " } else { "" };
            let head = format!("{bound}{count} transactions, which move {ref_count} refs; they are in the refdb\n");
            head + &named(refs, *ref_count)
        }
    }
}

/// The nodes of the target that probed their own commit path alone.
fn probed(failover: &Failover) -> String {
    let is_bare = |probes: &[ProbeResult]| !probes.is_empty() && probes.iter().all(|one| one.probe == COMMIT_PROBE);
    let bare = failover.probed.iter().filter(|(_, probed)| is_bare(&probed.probes));
    let names: Vec<&str> = bare.map(|(node, _)| node.as_str()).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("  probed at {}: {COMMIT_PATH_ONLY}\n", names.join(", ")),
    }
}

/// The work at the target that goes on beside a failover.
pub(in super::super) fn follow_up(to: &SiteId, work: &FollowUp) -> String {
    let FollowUp { refreshes, receivers, told, unknown } = work;
    let mut text = match refreshes {
        None => String::new(),
        Some(0) => format!("  refresh: nothing is due at the Gerrits of {to}\n"),
        Some(due) => format!("  refresh: {due} SUBJECTS ARE STILL DUE at the Gerrits of {to}\n"),
    };
    if *receivers > 0 {
        text += &format!("  handed over: {told} of {receivers} receivers of {to}\n");
    }
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().map(|node| node.as_str()).collect();
        text += &format!(
            "  refresh and hand-over: NOT KNOWN YET at {}; see `lockstep failover status`\n",
            names.join(", ")
        );
    }
    text
}

/// Whether the failover has ended while a probe of the target was red.
pub(in super::super) fn has_red(failover: &Failover) -> bool {
    let is_green = failover.end.as_ref().is_some_and(|end| end.green_ms.is_some());
    failover.has(FailoverStep::Probe) && !is_green
}

#[cfg(test)]
mod tests {
    use lockstep_proto::failover::ProbedAt;

    use super::*;

    fn planned(estimate: Option<Estimate>) -> FailoverPlan {
        let text = r#"{"kind": "planned", "from": "a", "to": "b", "sites": [], "steps": [], "blockers": [],
                       "warnings": [], "behind": 0, "hash": "5d9b1c0f1c0e4a52"}"#;
        FailoverPlan { estimate, ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn a_plan_shows_the_estimated_time_with_its_source() {
        let says = |estimate: Option<Estimate>| {
            let text = plan(&planned(estimate));
            text.split_once("estimate\n").unwrap().1.split_once("at risk\n").unwrap().0.to_owned()
        };
        assert_eq!(says(None), "  not known yet: no planned failover or drill has ended\n");
        let measured = Estimate { writes_ms: 3_300, all_ms: 9_900, failovers: 2, ..Estimate::default() };
        let head = "  b takes writes about 3.3 s after `stop` begins, and all steps take about 9.9 s: the medians of ";
        assert_eq!(says(Some(measured.clone())), format!("{head}2 planned failovers\n"));
        let behind = Estimate { behind: 478, behind_ms: Some(1_700), ..measured.clone() };
        assert!(says(Some(behind.clone())).ends_with("\n  1.7 s of that is for the 478 slots that b is behind by\n"));
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/failover.md")).unwrap();
        assert!(page.contains(&format!("estimate\n{}", says(Some(behind.clone())))), "the page shows this one");
        let unknown = Estimate { behind_ms: None, unmeasured: vec![FailoverStep::CheckLoss], ..behind };
        let text = says(Some(unknown));
        assert!(
            text.contains("b is behind by 478 slots; the rate at which it applies them is not known yet"),
            "{text}"
        );
        assert!(text.ends_with("\n  not measured yet, and not counted: check_loss\n"), "{text}");
        let drills = Estimate { failovers: 0, drills: 1, ..measured };
        assert_eq!(says(Some(drills)), format!("{head}1 planned drills, on a canary: real nodes take longer\n"));
    }

    #[test]
    fn the_blockers_of_a_plan_are_its_last_lines() {
        let plan_of = FailoverPlan { blockers: vec!["b is fenced".to_owned()], ..planned(None) };
        let text = plan(&plan_of);
        assert!(text.ends_with("plan hash 5d9b1c0f1c0e4a52\nBLOCKERS\n  b is fenced\n"), "{text}");
    }

    #[test]
    fn a_paused_failover_names_the_command_that_goes_on_and_says_that_nobody_takes_writes() {
        let text = r#"{"number": 1, "kind": "planned", "from": "a", "to": "b", "from_epoch": 1, "to_epoch": 2,
                       "actor": "uid 0", "reason": "r", "requested_ms": 1, "paused": true,
                       "steps": [{"step": "stop", "began_ms": 1, "ended_ms": 2}, {"step": "promote"}]}"#;
        let mut failover: Failover = serde_json::from_str(text).unwrap();
        let way = "in another shell: `lockstep failover resume --reason TEXT`";
        let between = format!("paused before promote; neither a nor b takes writes; {way}");
        assert_eq!(paused(&failover), Some(between));
        failover.to_was_active = true;
        assert_eq!(paused(&failover), Some(format!("paused before promote; {way}")));
        failover.held = Some("not caught up".to_owned());
        assert_eq!(paused(&failover), None, "the command ends");
        (failover.held, failover.paused) = (None, false);
        assert_eq!(paused(&failover), None);
    }

    fn done(lacked: Option<AtRisk>) -> Failover {
        let text = r#"{"number": 1, "kind": "forced", "from": "a", "to": "b", "from_epoch": 1, "to_epoch": 2,
                       "actor": "uid 0", "reason": "r", "requested_ms": 1, "steps": [],
                       "end": {"outcome": "done", "at_ms": 9, "recovery_ms": 3300}}"#;
        Failover { lacked, ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn the_report_names_the_transactions_and_refs_that_the_target_lacked_or_says_none() {
        let says = |lacked: Option<AtRisk>| {
            let text = progress(&done(lacked));
            text.split_once("is lost\n").unwrap().1.to_owned()
        };
        let head = "  lost: none\n  not yet applied at b when it was promoted: ";
        assert_eq!(says(None), format!("{head}not counted\n"), "a record of an earlier release");
        assert_eq!(says(Some(AtRisk { transactions: Some(0), ..AtRisk::default() })), format!("{head}none\n"));
        let why = AtRisk { unknown: Some("the journal cannot be read".to_owned()), ..AtRisk::default() };
        assert_eq!(says(Some(why)), format!("{head}not known: the journal cannot be read\n"));
        let one = |name: &str| RefAtRisk { project: "p#1".to_owned(), name: name.to_owned() };
        let refs = vec![one("refs/heads/x"), one("refs/heads/y")];
        let lacked = AtRisk { transactions: Some(4), at_most: true, ref_count: 3, refs, unknown: None };
        let named = "    p#1 refs/heads/x\n    p#1 refs/heads/y\n    and 1 more\n";
        let expected = format!("{head}at most 4 transactions, which move 3 refs; they are in the refdb\n{named}");
        assert_eq!(says(Some(lacked)), expected);
    }

    #[test]
    fn the_report_says_which_nodes_probed_their_commit_path_alone() {
        let says = |probes: &[&str]| {
            let result = |probe: &&str| ProbeResult { probe: (*probe).to_owned(), red: None };
            let probed = ProbedAt { green_ms: Some(7), probes: probes.iter().map(result).collect() };
            let failover = Failover { probed: [("b-0".parse().unwrap(), probed)].into(), ..done(None) };
            progress(&failover).lines().last().unwrap_or_default().to_owned()
        };
        let text = "  probed at b-0: the commit path only; set [probes] to probe push, fetch, REST and SSH";
        assert_eq!(says(&["commit"]), text);
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/failover.md")).unwrap();
        assert!(page.contains(&format!("\n{text}\n")), "the page shows this one");
        for probes in [&["commit", "rest"][..], &[]] {
            assert!(says(probes).starts_with("  not yet applied at b"), "{probes:?}");
        }
    }

    #[test]
    fn the_work_beside_a_failover_is_shown_as_far_as_it_is_known() {
        let says = |work: &FollowUp| follow_up(&"b".parse().unwrap(), work);
        assert_eq!(says(&FollowUp::default()), "", "no Gerrit and no receivers");
        let due = FollowUp { refreshes: Some(12), receivers: 2, told: 1, unknown: Vec::new() };
        let text = "  refresh: 12 SUBJECTS ARE STILL DUE at the Gerrits of b\n  handed over: 1 of 2 receivers of b\n";
        assert_eq!(says(&due), text);
        let drained = FollowUp { refreshes: Some(0), ..FollowUp::default() };
        assert_eq!(says(&drained), "  refresh: nothing is due at the Gerrits of b\n");
        let unknown = FollowUp { unknown: vec!["b-1".parse().unwrap()], ..FollowUp::default() };
        assert!(says(&unknown).starts_with("  refresh and hand-over: NOT KNOWN YET at b-1;"), "{}", says(&unknown));
    }
}
