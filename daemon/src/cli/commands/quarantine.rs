//! `lockstep quarantine`: lists the transactions that this node has set aside, and ends an entry.
//!
//! A committed record is never discarded. `discard` takes out a record that was never committed, after the operator
//! has typed its name.

use std::io::IsTerminal;

use http::Method;
use lockstep_proto::debt::{Repair, RepairAnswer};
use lockstep_proto::status::{HeldStatus, NodeStatus};
use lockstep_proto::{NodeId, TxnId};

use super::inspect::{self, ListArgs, ago};
use super::table::Table;
use super::target::{OperatorTarget, conclude};
use super::{CliError, json};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct QuarantineArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    command: Option<QuarantineCommand>,
}

/// The list of both kinds, and the ways out. Without one of them, the entries of the quarantine alone are listed.
#[derive(Debug, clap::Subcommand)]
pub(super) enum QuarantineCommand {
    /// List all that this node has set aside: quarantined and parked transactions
    List(ListArgs),
    /// Try a committed transaction again now: a quarantined one after a new release or a repair, or a parked one
    #[command(after_help = "Example:\n  lockstep quarantine retry eu-aws-0.7.3.1234.00c0ffee00c0ffee")]
    Retry(EntryArgs),
    /// Take the refdb's values of the transaction's project, with objects from peers, in its place
    #[command(after_help = "Example:\n  lockstep quarantine accept eu-aws-0.7.3.1234.00c0ffee00c0ffee")]
    Accept(EntryArgs),
    /// Take out a record that was never committed, for good; a committed one is refused
    #[command(
        after_help = "Examples:\n  lockstep quarantine discard eu-aws/shardId-000000000000/4956\n  lockstep quarantine \
                      discard eu-aws/shardId-000000000000/4956 --yes"
    )]
    Discard {
        #[command(flatten)]
        which: EntryArgs,
        /// Do not ask for a confirmation
        #[arg(long)]
        yes: bool,
    },
    /// The same as `discard --yes`, as earlier releases have it
    #[command(hide = true)]
    Drop(EntryArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct EntryArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// The entry, as `lockstep quarantine list` lists it
    entry: String,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: QuarantineArgs) -> Result<(), CliError> {
    match args.command {
        None => inspect::list(args.list, "/v1/quarantine").await,
        Some(QuarantineCommand::List(args)) => list(args).await,
        Some(QuarantineCommand::Retry(EntryArgs { target, entry, json })) => {
            end(&target, json, Repair::Retry { entry }).await
        }
        Some(QuarantineCommand::Accept(EntryArgs { target, entry, json })) => {
            end(&target, json, Repair::Accept { entry }).await
        }
        Some(QuarantineCommand::Drop(EntryArgs { target, entry, json })) => {
            end(&target, json, Repair::Drop { entry }).await
        }
        Some(QuarantineCommand::Discard { which: EntryArgs { target, entry, json }, yes }) => {
            if !yes {
                confirm(&entry)?;
            }
            end(&target, json, Repair::Drop { entry }).await
        }
    }
}

/// Asks the sidecar to end a debt, and prints the answer. A debt that stays is a failure of the command.
pub(super) async fn end(target: &OperatorTarget, json: bool, repair: Repair) -> Result<(), CliError> {
    let answer: RepairAnswer = target.change(Method::POST, "/v1/repairs".to_owned(), &repair).await?;
    let said = answer.message.clone();
    conclude(json, &answer, if answer.done { Ok(said) } else { Err(CliError::Failed(said)) })
}

/// All that a node has set aside.
#[derive(Debug, serde::Serialize)]
struct SetAside {
    quarantined: Vec<HeldStatus>,
    parked: Vec<HeldStatus>,
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let quarantined = args.target.get("/v1/quarantine").await?;
    let all = SetAside { quarantined, parked: args.target.get("/v1/parked").await? };
    if !args.json && all.quarantined.is_empty() && all.parked.is_empty() {
        let NodeStatus { node, .. } = args.target.get("/v1/status").await?;
        return Ok(out::put(&nothing(&node))?);
    }
    Ok(out::put(&if args.json { json(&all)? } else { render(&all) })?)
}

/// The answer of a node that has set nothing aside. Other nodes may have.
fn nothing(node: &NodeId) -> String {
    format!("nothing is parked or quarantined at this node ({node}); other nodes: `lockstep status --all`\n")
}

fn render(all: &SetAside) -> String {
    let mut table = Table::new(&["state", "entry", "slot", "project", "since", "reason"]);
    for (state, list) in [("quarantined", &all.quarantined), ("parked", &all.parked)] {
        for one in list {
            let slot = one.txn.parse().map_or("-".to_owned(), |txn: TxnId| txn.slot.to_string());
            let entry = if one.entry.is_empty() { one.txn.clone() } else { one.entry.clone() };
            let (project, reason) = (one.project.clone(), one.reason.clone());
            table.row(vec![state.to_owned(), entry, slot, project, ago(one.since_ms), reason]);
        }
    }
    table.render()
}

/// Asks the operator to type the name of the entry. Standard output is for the answer alone.
fn confirm(entry: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "this is no terminal; look with `lockstep quarantine list`, then give --yes".to_owned(),
        ));
    }
    eprint!(
        "The record {entry} is removed for good, and with it the evidence of its writer. It is refused if it was \
         committed.\nType {entry} to go on: "
    );
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).map_err(CliError::failed)?;
    match typed.trim() == entry {
        true => Ok(()),
        false => Err(CliError::Refused("not confirmed; nothing was changed".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(txn: &str, entry: &str) -> HeldStatus {
        let (txn, entry, reason) = (txn.to_owned(), entry.to_owned(), "why".to_owned());
        HeldStatus { txn, project: "p#1".to_owned(), reason, waits_for: Vec::new(), since_ms: 1, bytes: 9, entry }
    }

    #[test]
    fn both_kinds_are_listed_with_their_slots_and_a_record_without_one_has_none() {
        let id = "a-0.7.3.1234.00c0ffee00c0ffee";
        let quarantined = vec![held("a/shard/4956", "a/shard/4956")];
        let text = render(&SetAside { quarantined, parked: vec![held(id, id)] });
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1][..4], ["quarantined", "a/shard/4956", "-", "p#1"]);
        assert_eq!(rows[2][..4], ["parked", id, "a-0.7.3.1234", "p#1"]);
    }
}
