//! `lockstep failback`: the failover in the other direction of the last one that was completed.

use lockstep_proto::SiteId;
use lockstep_proto::failover::FailoverOutcome;
use lockstep_proto::history::{History, PastChange};

use super::CliError;
use super::failover::{ExecuteOptions, PlanOptions, execute, show_plan};
use super::target::Target;

#[derive(Debug, clap::Subcommand)]
pub(super) enum FailbackCommand {
    /// Show the steps, the blockers and the hash of the failover back; change nothing
    #[command(after_help = "Example:\n  lockstep failback plan")]
    Plan {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        options: PlanOptions,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Execute the plan and follow it until its end
    #[command(after_help = "Example:\n  lockstep failback execute --reason 'the maintenance is over'")]
    Execute(ExecuteOptions),
}

pub(super) async fn run(command: FailbackCommand) -> Result<(), CliError> {
    match command {
        FailbackCommand::Plan { target, options, json } => {
            let (from, to) = back(&target).await?;
            show_plan(&target, &options.request(from, to), json).await
        }
        FailbackCommand::Execute(options) => {
            let (from, to) = back(&options.target.target).await?;
            execute(options.plan.request(from, to), options).await
        }
    }
}

/// The source and the target of the failover back: the target and the source of the last one that was completed.
async fn back(target: &Target) -> Result<(SiteId, SiteId), CliError> {
    let history: History = target.get("/v1/history").await?;
    of_history(&history).ok_or_else(|| {
        let why = "no failover was completed within the history, so there is no way back; name both sites with \
                   `lockstep failover`; nothing was changed";
        CliError::Refused(why.to_owned())
    })
}

fn of_history(history: &History) -> Option<(SiteId, SiteId)> {
    history.past.iter().find_map(|past| match past {
        PastChange::Failover(one) if one.end.as_ref().is_some_and(|end| end.outcome == FailoverOutcome::Done) => {
            Some((one.to.clone(), one.from.clone()))
        }
        PastChange::Failover(_) | PastChange::Role(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failover(number: u64, from: &str, to: &str, outcome: &str) -> PastChange {
        let text = format!(
            r#"{{"change": "failover", "number": {number}, "kind": "planned", "from": "{from}", "to": "{to}",
                "from_epoch": 1, "to_epoch": 2, "actor": "uid 0", "reason": "r", "requested_ms": 1, "steps": [],
                "end": {{"outcome": "{outcome}", "at_ms": 2}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// The record is one of an earlier release, without the fields that came later.
    #[test]
    fn the_way_back_is_that_of_the_last_failover_that_was_completed() {
        let past = vec![failover(2, "b", "c", "aborted"), failover(1, "a", "b", "done")];
        let way = of_history(&History { past });
        assert_eq!(way.map(|(from, to)| (from.to_string(), to.to_string())), Some(("b".to_owned(), "a".to_owned())));
        assert_eq!(of_history(&History { past: vec![failover(2, "b", "c", "aborted")] }), None);
    }
}
