//! `lockstep history`: past failovers and changes of role.

use lockstep_proto::failover::{Failover, FailoverOutcome};
use lockstep_proto::history::{History, PastChange, RoleChange};
use lockstep_proto::site_list::{ListChange, SiteMode};

use super::super::table::Table;
use super::super::target::Target;
use super::super::{CliError, json};
use crate::base::time_text::{seconds, utc};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep history\n  lockstep history --json | jq '.past[] | .reason'")]
pub(in super::super) struct HistoryArgs {
    #[command(flatten)]
    target: Target,
    /// Print all fields as JSON, with the steps and the acts of operators, instead of a table
    #[arg(long)]
    json: bool,
}

pub(in super::super) async fn run(args: HistoryArgs) -> Result<(), CliError> {
    let history: History = args.target.get("/v1/history").await.map_err(CliError::unrefused)?;
    Ok(out::put(&if args.json { json(&history)? } else { render(&history) })?)
}

fn render(history: &History) -> String {
    if history.past.is_empty() {
        return "no failover and no change of role yet\n".to_owned();
    }
    let mut table = Table::new(&["when", "change", "by", "outcome", "took", "took writes", "green", "lost", "reason"]);
    for one in &history.past {
        let cells = match one {
            PastChange::Failover(failover) => of_failover(failover),
            PastChange::Role(change) => of_role(change),
        };
        table.row([vec![utc(one.at_ms())], cells.to_vec()].concat());
    }
    table.render()
}

fn of_failover(failover: &Failover) -> [String; 8] {
    let outcome = match &failover.end {
        None => "in progress",
        Some(end) if end.outcome == FailoverOutcome::Aborted => "aborted",
        Some(_) if failover.unserved => "done, no node took writes in time",
        Some(_) => "done",
    };
    let end = failover.end.as_ref();
    let took = end.map(|end| end.at_ms.saturating_sub(failover.requested_ms));
    [
        format!("failover {} {} -> {} ({})", failover.number, failover.from, failover.to, failover.kind.name()),
        failover.actor.clone(),
        outcome.to_owned(),
        seconds(took),
        seconds(end.and_then(|end| end.recovery_ms)),
        seconds(end.and_then(|end| end.green_ms)),
        end.map_or("-".to_owned(), |end| if end.lost == 0 { "nothing".to_owned() } else { end.lost.to_string() }),
        failover.reason.clone(),
    ]
}

fn of_role(change: &RoleChange) -> [String; 8] {
    let outcome = match change.done {
        Some(true) => "done",
        Some(false) => "not done: somebody else was faster",
        None => "not known",
    };
    let dash = || "-".to_owned();
    let what = match (change.list, change.mode) {
        (Some(ListChange::Added), _) => format!("site {} added as {}", change.site, change.to.name()),
        (Some(ListChange::Removed), _) => format!("site {} removed", change.site),
        (None, Some(SiteMode::Off)) => format!("site {} switched off", change.site),
        (None, Some(SiteMode::Active)) => format!("site {} switched on as {}", change.site, change.to.name()),
        (None, None) => format!("role of {} {} -> {}", change.site, change.from.name(), change.to.name()),
    };
    [what, change.actor.clone(), outcome.to_owned(), dash(), dash(), dash(), dash(), change.reason.clone()]
}
