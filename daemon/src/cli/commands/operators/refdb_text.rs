//! The report of a rebuild, or of a move, as text.

use lockstep_proto::SiteId;
use lockstep_proto::rebuild::{Contradiction, Rebuild, RebuildPhase};
use lockstep_proto::refdb_move::MoveStep;

use super::super::table::{Table, titled};
use crate::seams::refdb::check::{Checked, Finding};

/// One line about how far a rebuild or a move is.
pub(in super::super) fn progress(rebuild: &Rebuild) -> String {
    match (rebuild.step, rebuild.waits.split_first()) {
        (None | Some(MoveStep::Copy), _) => counts(rebuild),
        (Some(step), None) => step.told().to_owned(),
        (Some(step), Some((first, []))) => format!("{}: {first}", step.told()),
        (Some(step), Some((first, rest))) => format!("{}: {first}, and {} more", step.told(), rest.len()),
    }
}

fn counts(rebuild: &Rebuild) -> String {
    format!("{} projects, {} refs, {} deleted ones", rebuild.projects, rebuild.refs, rebuild.tombstones)
}

/// The report of a rebuild, or of a move.
pub(in super::super) fn report(rebuild: &Rebuild) -> String {
    if let Some(step) = rebuild.step {
        return move_report(rebuild, step);
    }
    let parts = [head(rebuild), nodes(rebuild), sites(rebuild), contradictions(rebuild), not_known(rebuild)];
    parts.concat() + &next(rebuild)
}

/// The report of a check.
pub(in super::super) fn check_report(checked: &Checked) -> String {
    let Checked { projects, refs, others, incarnations, slots, found, findings } = checked;
    let read = format!(
        "read\n  {projects} projects, {refs} refs, {others} deleted refs and directories, {incarnations} incarnations, \
         {slots} unpublished slots\n"
    );
    let line = |one: &Finding| format!("  {}: {}\n    {}\n", one.place, one.fault, one.remedy);
    let lines: String = findings.iter().map(line).collect();
    let more = found - findings.len() as u64;
    let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
    match found {
        0 => format!("{read}no findings\n"),
        _ => format!("{read}FINDINGS\n{lines}{more}"),
    }
}

fn move_report(rebuild: &Rebuild, step: MoveStep) -> String {
    let Rebuild { into, .. } = rebuild;
    let state = match (rebuild.phase, rebuild.dry_run) {
        (RebuildPhase::Running, _) => "in progress",
        (RebuildPhase::Done, true) => "possible now",
        (RebuildPhase::Done, false) if step == MoveStep::Aborted => "aborted",
        (RebuildPhase::Done, false) => "complete",
        (RebuildPhase::Refused, _) => "REFUSED",
        (RebuildPhase::Failed, _) => "FAILED half-way",
    };
    let next = match (rebuild.phase, rebuild.dry_run, step) {
        (RebuildPhase::Done, true, _) => {
            format!("nothing was written; `lockstep refdb rebuild --into {into} --move` moves it")
        }
        (RebuildPhase::Done, false, MoveStep::Aborted) => {
            format!("delete the tables {into}-refs and {into}-journal; the next move needs another prefix")
        }
        (RebuildPhase::Done, false, _) => format!(
            "every node follows by itself; set refdb.prefix = {into:?} in the configuration of every node before you \
             delete the old tables"
        ),
        (RebuildPhase::Failed, _, MoveStep::Look) => "repeat the command".to_owned(),
        (RebuildPhase::Failed, _, _) => {
            "repeat the command at any node, which goes on, or give --abort; nobody can push until then".to_owned()
        }
        (RebuildPhase::Running | RebuildPhase::Refused, _, _) => String::new(),
    };
    let copied = if rebuild.refs > 0 { format!("copied\n  {}\n", counts(rebuild)) } else { String::new() };
    let waits = titled("waits for", &rebuild.waits);
    let next = titled("next", Some(next).filter(|next| !next.is_empty()));
    format!("move into {into}: {state}\nstep\n  {}\n{waits}{copied}{next}", step.told())
}

fn head(rebuild: &Rebuild) -> String {
    let what = if rebuild.dry_run { "dry run" } else { "rebuild" };
    let state = match rebuild.phase {
        RebuildPhase::Running => "in progress",
        RebuildPhase::Done => "complete",
        RebuildPhase::Refused => "REFUSED",
        RebuildPhase::Failed => "FAILED half-way; no node uses the new tables",
    };
    format!("{what} into {}: {state}\nfound\n  {}\n", rebuild.into, counts(rebuild))
}

fn nodes(rebuild: &Rebuild) -> String {
    let mut table =
        Table::new(&["node", "site", "refs", "behind others", "only this site has", "not applied", "state"]);
    for source in &rebuild.sources {
        table.row(vec![
            source.node.to_string(),
            source.site.to_string(),
            source.refs.to_string(),
            source.behind.to_string(),
            source.alone.to_string(),
            source.unapplied.to_string(),
            if source.reconciles { "RECONCILES: its refs may be incomplete" } else { "whole" }.to_owned(),
        ]);
    }
    let silent = titled("SILENT PEERS", &rebuild.silent);
    let title = "NODES OF AN EARLIER REFDB: not read; they keep their own values as strays";
    let earlier = titled(title, &rebuild.earlier);
    format!("nodes that were read\n{}{silent}{earlier}", table.render())
}

fn sites(rebuild: &Rebuild) -> String {
    let mut table = Table::new(&["site", "role", "epoch", "was it read?"]);
    for site in &rebuild.sites {
        let read = if rebuild.unread_sites.contains(&site.site) { "NO" } else { "yes" };
        table.row(vec![site.site.to_string(), site.role.name().to_owned(), site.epoch.to_string(), read.to_owned()]);
    }
    let unknown = match rebuild.roles_unknown.is_empty() {
        true => String::new(),
        false => format!(
            "  no node knew the role of {}: standby; make one active with `lockstep site role`\n",
            names(&rebuild.roles_unknown)
        ),
    };
    format!("sites of the new refdb\n{}{unknown}", table.render())
}

fn contradictions(rebuild: &Rebuild) -> String {
    if rebuild.contradicted == 0 {
        return String::new();
    }
    let line = |one: &Contradiction| {
        let Contradiction { project, key, version, taken, others } = one;
        format!("  {project} {key} version {version}\n    taken: {taken}\n    stray: {}\n", others.join("; "))
    };
    let lines: String = rebuild.contradictions.iter().map(line).collect();
    let more = rebuild.contradicted - rebuild.contradictions.len() as u64;
    let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
    format!("CONTRADICTIONS: two transactions have one version\n{lines}{more}")
}

/// The facts that only the lost refdb knew, as far as they can be told.
fn not_known(rebuild: &Rebuild) -> String {
    let mut lines = vec![
        "a transaction that was acknowledged, and that no node read here has applied, is lost; how many there are \
         cannot be known"
            .to_owned(),
    ];
    let unapplied: u64 = rebuild.sources.iter().map(|source| source.unapplied).sum();
    if unapplied > 0 {
        let why = "transactions or projects that a node has and has not applied are not taken (lockstep parked, \
                   lockstep quarantine, lockstep status)";
        lines.push(format!("{unapplied} {why}"));
    }
    if !rebuild.unread_sites.is_empty() {
        lines
            .push(format!("values that only {} has become strays there when it returns", names(&rebuild.unread_sites)));
    }
    lines.push("the Gerrit identity, its instance ids, and the history of failovers begin anew".to_owned());
    titled("not in the new refdb", lines)
}

fn next(rebuild: &Rebuild) -> String {
    let into = &rebuild.into;
    match (rebuild.phase, rebuild.dry_run) {
        (RebuildPhase::Done, false) => {
            let id = rebuild.identity.as_deref().unwrap_or_default();
            format!(
                "next\n  set refdb.prefix = {into:?} in the configuration of every node, and restart the sidecars\n  \
                 the id of the new refdb is {id}\n"
            )
        }
        (RebuildPhase::Done, true) => {
            format!("next\n  nothing was written; `lockstep refdb rebuild --into {into}` writes it\n")
        }
        (RebuildPhase::Failed, _) => "next\n  repeat the command: it goes on, and does no harm\n".to_owned(),
        (RebuildPhase::Running | RebuildPhase::Refused, _) => String::new(),
    }
}

fn names(sites: &[SiteId]) -> String {
    sites.iter().map(SiteId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use lockstep_proto::rebuild::RebuildRequest;
    use lockstep_proto::refdb_move::MoveRequest;

    use super::*;

    #[test]
    fn a_move_tells_its_step_the_first_that_it_waits_for_and_the_next_command() {
        let request = RebuildRequest {
            into: "next".to_owned(),
            from_sites: Vec::new(),
            dry_run: false,
            take_over: false,
            lost: false,
            moves: Some(MoveRequest::default()),
        };
        let begun = Rebuild::begun(&request);
        let drains = Rebuild {
            step: Some(MoveStep::Drain),
            waits: vec!["node a".to_owned(), "node b".to_owned()],
            ..begun.clone()
        };
        assert!(progress(&drains).ends_with("applied everything: node a, and 1 more"), "{}", progress(&drains));
        assert!(report(&drains).contains("move into next: in progress") && report(&drains).contains("  node b\n"));
        let done = Rebuild { phase: RebuildPhase::Done, step: Some(MoveStep::Follow), refs: 2, ..begun.clone() };
        assert!(report(&done).contains("set refdb.prefix = \"next\""), "{}", report(&done));
        let failed = Rebuild { phase: RebuildPhase::Failed, step: Some(MoveStep::Copy), ..begun.clone() };
        assert!(report(&failed).contains("--abort"), "{}", report(&failed));
        let aborted = Rebuild { phase: RebuildPhase::Done, step: Some(MoveStep::Aborted), ..begun };
        assert!(report(&aborted).contains("needs another prefix"), "{}", report(&aborted));
    }
}
