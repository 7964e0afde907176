//! `lockstep aws`: the tables, streams and bucket of a site at AWS, and its IAM policy.
//!
//! | file | content |
//! |---|---|
//! | `history` | `aws history` |
//! | `policy` | `aws policy` |
//! | `text` | comparisons as text |

mod history;
mod policy;
mod text;

use std::collections::BTreeSet;
use std::io::IsTerminal;

use lockstep_proto::SiteId;
use serde::Serialize;

use super::config::ConfigArgs;
use super::{CliError, json};
use crate::cli::out;
use crate::node::assembly::provision::{Wishes, provided, warmed};
use crate::node::config;
use crate::seams::aws::mend::{Looked, look, mend};
use crate::seams::aws::{KeyArn, KmsKeys, Provided, Row, StreamMode, Verdict};

#[derive(Debug, clap::Subcommand)]
pub(super) enum AwsCommand {
    /// Print the differences between the resources that a site needs and those that exist. Changes nothing
    #[command(after_help = "Examples:\n  lockstep aws plan --config lockstep.toml\n  lockstep aws plan --all-sites \
                            --kms-key arn:aws:kms:eu-central-1:123456789012:key/ID --tag team=scm")]
    Plan(LookArgs),
    /// Compare as `plan` does: exit code 2 if something differs, 1 if AWS denied a call or did not answer
    Check(LookArgs),
    /// Create missing resources, and add missing properties. Deletes and loosens nothing
    #[command(
        after_help = "Example:\n  lockstep aws apply --config lockstep.toml --yes\n\nExit code 2 if a difference \
                            is left that only an operator should change."
    )]
    Apply(ApplyArgs),
    /// Prepare the tables for a known peak: raise their warm throughput, if they are on demand. AWS bills it once
    #[command(
        after_help = "Example:\n  lockstep aws warm --throughput 40000/20000 --yes\n\nA stream with an autoscaler is \
                            warmed by eventlog.autoscale.peaks."
    )]
    Warm(WarmArgs),
    /// Show the capacity of this site's stream, and the steps of its autoscaler
    History(history::HistoryArgs),
    /// Print the least IAM policy of a site, made from the calls that the code makes
    #[command(after_help = "Example:\n  lockstep aws policy --site muc-1 --account 123456789012")]
    Policy(policy::PolicyArgs),
}

/// The sites whose streams are meant.
#[derive(Debug, clap::Args)]
struct SiteArgs {
    /// The site whose stream is meant [default: that of the configuration]
    #[arg(long, conflicts_with = "all_sites")]
    site: Option<SiteId>,
    /// The streams of all sites of the configuration
    #[arg(long)]
    all_sites: bool,
}

impl SiteArgs {
    fn of(&self, settings: &config::Settings) -> BTreeSet<SiteId> {
        match &self.site {
            _ if self.all_sites => settings.sites.clone(),
            Some(site) => [site.clone()].into(),
            None => [settings.site.clone()].into(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct LookArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    sites: SiteArgs,
    /// ARN of the KMS key that encrypts everything in its Region; once per Region [default: any key]
    #[arg(long = "kms-key", value_name = "ARN")]
    keys: Vec<KeyArn>,
    /// A tag that every resource must have; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Mode of the streams: provisioned or on-demand [default: as it is; new ones are provisioned]
    #[arg(long, value_name = "MODE")]
    stream_mode: Option<StreamMode>,
    /// Print all properties as JSON instead of the differences as text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    look: LookArgs,
    /// Do not ask for a confirmation
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct WarmArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Reads and writes per second that each table should take at once: 40000/20000
    #[arg(long, value_name = "READS/WRITES", value_parser = throughput)]
    throughput: (u64, u64),
    /// Do not ask for a confirmation
    #[arg(long)]
    yes: bool,
    /// Print all properties as JSON instead of the differences as text
    #[arg(long)]
    json: bool,
}

fn throughput(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(reads, writes)| Some((reads.parse().ok()?, writes.parse().ok()?)));
    parts.ok_or_else(|| "write READS/WRITES per second, such as 40000/20000".to_owned())
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// The output with `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    differs: bool,
    properties: &'a [Row],
    failures: Vec<String>,
    /// The steps that `apply` took.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<&'a [Row]>,
}

pub(super) async fn run(command: AwsCommand) -> Result<(), CliError> {
    match command {
        AwsCommand::Plan(args) => {
            let looked = look(&resources(&args).await?).await;
            show(&looked, None, args.json)
        }
        AwsCommand::Check(args) => {
            let looked = look(&resources(&args).await?).await;
            show(&looked, None, args.json)?;
            verdict(&looked)
        }
        AwsCommand::Apply(args) => change(&resources(&args.look).await?, args.yes, args.look.json).await,
        AwsCommand::Warm(args) => {
            let usage = |error: String| CliError::Usage(error);
            let settings = config::load(&args.config.config).map_err(|error| usage(error.to_string()))?;
            let tables = warmed(&settings, args.throughput).await.map_err(|error| usage(error.to_string()))?;
            change(&tables, args.yes, args.json).await
        }
        AwsCommand::History(args) => history::run(args).await,
        AwsCommand::Policy(args) => policy::run(&args),
    }
}

async fn resources(args: &LookArgs) -> Result<Vec<Box<dyn Provided>>, CliError> {
    let usage = |error: String| CliError::Usage(error);
    let settings = config::load(&args.config.config).map_err(|error| usage(error.to_string()))?;
    let wishes = Wishes {
        sites: args.sites.of(&settings),
        keys: KmsKeys::new(args.keys.clone()).map_err(|error| usage(error.to_string()))?,
        tags: args.tags.iter().cloned().collect(),
        mode: args.stream_mode,
    };
    provided(&settings, &wishes).await.map_err(|error| usage(error.to_string()))
}

/// Adds missing properties, after a confirmation.
async fn change(all: &[Box<dyn Provided>], yes: bool, as_json: bool) -> Result<(), CliError> {
    let before = look(all).await;
    let is_due = before.rows.iter().any(|row| row.verdict == Verdict::Missing);
    if !before.failures.is_empty() || !is_due {
        show(&before, Some(&[]), as_json)?;
        return verdict(&before);
    }
    if !yes {
        confirm(&before)?;
    }
    let mut applied: Vec<Row> = Vec::new();
    let mut told = |row: &Row| {
        eprintln!("  ... {}", text::step(row));
        applied.push(row.clone());
    };
    let ended = mend(all, &mut told).await;
    let mut after = look(all).await;
    after.failures.extend(ended.err());
    show(&after, Some(&applied), as_json)?;
    verdict(&after)
}

/// Prints a comparison. Resources that could not be compared fail the command.
fn show(looked: &Looked, applied: Option<&[Row]>, as_json: bool) -> Result<(), CliError> {
    let failures: Vec<String> = looked.failures.iter().map(ToString::to_string).collect();
    let why = failures.join("\n");
    let report = Report { differs: looked.differs(), properties: &looked.rows, failures, applied };
    out::put(&if as_json { json(&report)? } else { text::compared(&looked.rows) })?;
    if looked.failures.is_empty() { Ok(()) } else { Err(CliError::Failed(why)) }
}

fn verdict(looked: &Looked) -> Result<(), CliError> {
    if looked.differs() { Err(CliError::Degraded) } else { Ok(()) }
}

/// Shows what is missing, and asks the operator to go on.
fn confirm(before: &Looked) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage("this is no terminal; look with `lockstep aws plan`, then give --yes".to_owned()));
    }
    out::put(&format!("{}\nType yes to add what is missing: ", text::compared(&before.rows)))?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).map_err(CliError::failed)?;
    match typed.trim() {
        "yes" => Ok(()),
        _ => Err(CliError::Refused("not confirmed; nothing was changed".to_owned())),
    }
}
