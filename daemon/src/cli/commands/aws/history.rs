//! `lockstep aws history`: the capacity of a site's stream, and the steps of its autoscaler.

use lockstep_proto::capacity::StreamCapacity;
use lockstep_proto::status::NodeStatus;

use crate::base::time_text::utc;
use crate::cli::commands::table::Table;
use crate::cli::commands::target::Target;
use crate::cli::commands::{CliError, inspect, json};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep aws history\n  lockstep aws history --json | jq '.history[-1]'\n\n\
                        Exit code 2 if the stream needs more shards and the autoscaler may not add any.")]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    target: Target,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: HistoryArgs) -> Result<(), CliError> {
    let status: NodeStatus = args.target.get("/v1/status").await?;
    let capacity = status.capacity;
    out::put(&if args.json { json(&capacity)? } else { render(capacity.as_ref()) })?;
    if capacity.is_some_and(|capacity| capacity.stuck) { Err(CliError::Degraded) } else { Ok(()) }
}

/// The state and the steps, the newest one first.
fn render(capacity: Option<&StreamCapacity>) -> String {
    let Some(capacity) = capacity else {
        return "no look at the stream yet: eventlog.autoscale.mode is off, or this node has just started\n".to_owned();
    };
    let head = inspect::capacity(capacity);
    let mut table = Table::new(&["when", "by", "shards", "why", "outcome"]);
    for one in capacity.history.iter().rev() {
        table.row(vec![
            utc(one.at_ms),
            one.by.to_string(),
            format!("{} -> {}", one.from, one.to),
            one.why.clone(),
            one.outcome.clone().unwrap_or_else(|| "not known".to_owned()),
        ]);
    }
    format!("{head}{}", table.render())
}

#[cfg(test)]
mod tests {
    use lockstep_proto::capacity::Scaling;

    use super::*;

    #[test]
    fn the_newest_step_comes_first_and_one_without_an_outcome_is_not_known() {
        let mut capacity = StreamCapacity { shards: 4, told: "it fits".to_owned(), ..StreamCapacity::default() };
        for (from, to) in [(1, 2), (2, 4)] {
            let by = "a-0".parse().unwrap();
            let why = format!("because of {from}");
            capacity.note(Scaling { at_ms: 0, by, from, to, why, dry_run: false, outcome: None });
        }
        capacity.ended("taken");
        let text = render(Some(&capacity));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("4 shards") && lines[0].contains("it fits"), "{text}");
        assert!(lines[2].contains("2 -> 4") && lines[2].contains("taken"), "{text}");
        assert!(lines[3].contains("1 -> 2") && lines[3].contains("not known"), "{text}");
        assert!(render(None).contains("eventlog.autoscale.mode is off"));
    }
}
