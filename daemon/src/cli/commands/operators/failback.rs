//! `lockstep failback`: the failover in the other direction of the last one that was completed.

use lockstep_proto::SiteId;
use lockstep_proto::failover::FailoverOutcome;
use lockstep_proto::history::{History, PastChange};

use super::super::CliError;
use super::super::target::Target;
use super::failover::{ExecuteOptions, PlanOptions, execute, show_plan};

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum FailbackCommand {
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

pub(in super::super) async fn run(command: FailbackCommand) -> Result<(), CliError> {
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
    of_history(&history).map_err(CliError::Refused)
}

/// The way back. If the target was active before the failover, there is none: it would take the writes of its own users
/// away.
fn of_history(history: &History) -> Result<(SiteId, SiteId), String> {
    let last = history.past.iter().find_map(|past| match past {
        PastChange::Failover(one) if one.end.as_ref().is_some_and(|end| end.outcome == FailoverOutcome::Done) => {
            Some(one)
        }
        PastChange::Failover(_) | PastChange::Role(_) => None,
    });
    match last {
        Some(one) if one.to_was_active => Err(format!(
            "{} was active before failover {}, so it keeps its writes; make {} active again with `lockstep site role`; \
             nothing was changed",
            one.to, one.number, one.from
        )),
        Some(one) => Ok((one.to.clone(), one.from.clone())),
        None => Err("no failover was completed within the history, so there is no way back; name both sites with \
                     `lockstep failover`; nothing was changed"
            .to_owned()),
    }
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
        assert_eq!(way.map(|(from, to)| (from.to_string(), to.to_string())), Ok(("b".to_owned(), "a".to_owned())));
        assert!(of_history(&History { past: vec![failover(2, "b", "c", "aborted")] }).is_err());
    }

    #[test]
    fn a_target_that_was_active_before_keeps_its_writes() {
        let PastChange::Failover(mut last) = failover(1, "a", "b", "done") else { panic!("a failover") };
        last.to_was_active = true;
        let refused = of_history(&History { past: vec![PastChange::Failover(last)] }).unwrap_err();
        assert!(refused.contains("make a active again with `lockstep site role`"), "{refused}");
    }
}
