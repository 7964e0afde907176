//! The command line, with one file per subcommand. Subcommands that show or change the state of a node are clients of
//! the sidecar's socket.
//!
//! Exit codes: 0 success, 1 failure or unknown outcome, 2 something is out of order, 3 refused by the sidecar or the
//! guard, 64 wrong usage.
//!
//! | file | content |
//! |---|---|
//! | `config` | `config check`, `config example` |
//! | `hook`, `import`, `seed` | bring repositories in: hooks, refs, whole sites |
//! | `project`, `update`, `stray` | change state: projects and `HEAD`, one ref, strays |
//! | `status`, `verify` | `status` of this node and of all sites, `topology`; whether the refs are those of the refdb |
//! | `await_txn` | waits until a site shows a transaction |
//! | `resync`, `replay` | take the refdb's state again; read streams again |
//! | `inspect` | show state: `parked`, `refresh`, and the node as text |
//! | `doctor`, `support_bundle` | the checks of a node; an archive of its state for those who help, without secrets |
//! | `quarantine`, `explain` | what this node has set aside, and the ways out; one ref at every site |
//! | `operators` | all sites, for operators: roles, failover, drills, keys, locks, a lost refdb, tokens |
//! | `certs` | makes a private authority, and certificates of nodes and operators |
//! | `aws` | compares tables, streams and bucket with the needs of a site; prints its IAM policy |
//! | `cost` | units of AWS per month and their price, from the load model or from running nodes |
//! | `bridge` | puts the bridge's jar into Gerrit's `lib` |
//! | `inject` | the webhook that adds the sidecar to pods of an operator |
//! | `shadow` | watches what another replication does, and compares sites with each other |
//! | `handover_agent`, `agents` | runs the program that is told about roles; a standby on a copy, programs on a leash |
//! | `peers` | the peers of this node, and whether they answer |
//! | `walk` | finds the repositories of a volume as Gerrit lists them |
//! | `existing`, `old_sins` | shared: refs of a repository, and the objects in it that break rules of git |
//! | `overview_text` | shared: the overview of all sites as text |
//! | `background_text` | shared: the verification in the background as text |
//! | `reach_text` | shared: how a node reaches AWS, as text |
//! | `table`, `view`, `new_file` | shared: text tables and titled lines, the terminal view, new files with secrets |
//! | `follow` | shared: follows a job of the sidecar to its end |
//! | `target`, `remote` | shared: the sidecar to call, on this machine or over the network |

mod agents;
mod await_txn;
mod aws;
mod background_text;
mod bridge;
mod certs;
pub mod config;
mod cost;
mod doctor;
mod existing;
mod explain;
mod follow;
mod handover_agent;
mod hook;
mod import;
mod inject;
mod inspect;
mod new_file;
mod old_sins;
mod operators;
mod overview_text;
mod peers;
mod project;
mod quarantine;
mod reach_text;
mod remote;
mod replay;
mod resync;
mod seed;
mod shadow;
mod status;
mod stray;
mod support_bundle;
mod table;
mod target;
mod update;
mod verify;
mod view;
mod walk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::out::{self, OutError};
use operators::{drill, failback, failover, history, keys, locks, refdb, sites, tokens};

/// Keeps the Gerrit sites of one company in lockstep.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// Read again where a subcommand selects its sidecar.
    #[command(flatten)]
    _remote: remote::Remote,
    #[command(subcommand)]
    command: Command,
}

/// The exit code of wrong usage, as in `sysexits.h`. It is none of those that scripts of operators look at.
const USAGE: u8 = 64;

const EXIT_CODES: &str =
    "Exit codes: 0 success, 1 failure or unknown outcome, 2 something is out of order,\n3 refused, 64 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar of one node until SIGTERM or Ctrl-C
    Run(config::ConfigArgs),
    /// Run three sites in one process and replicate pushes between them
    #[cfg(feature = "embedded")]
    Demo(crate::cli::demo::DemoArgs),
    /// Check a configuration, or print an example or the reference
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Install the git hooks in a repository (git itself runs the other subcommands)
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Create, update or delete one ref, as `git update-ref` does
    UpdateRef(update::UpdateRefArgs),
    /// Set the HEAD of a project
    #[command(subcommand)]
    Head(project::HeadCommand),
    /// Create or delete a project
    #[command(subcommand)]
    Project(project::ProjectCommand),
    /// Commit every ref of an existing repository that the refdb does not have
    Import(import::ImportArgs),
    /// Bring existing repositories into the refdb, and open each project when another site holds it
    Seed(seed::SeedArgs),
    /// Watch the refs that another replication moves at a site, and compare sites; moves nothing itself
    #[command(subcommand)]
    Shadow(shadow::ShadowCommand),
    /// List, adopt or discard strays: uncommitted values that gave way to committed ones
    #[command(subcommand)]
    Stray(stray::StrayCommand),
    /// Show the state of this node, or of all sites: readiness, lag, journal, safety of a failover
    Status(status::StatusArgs),
    /// Show sites, nodes, roles, and the streams that each node reads
    Topology(status::TopologyArgs),
    /// Check this node and its surroundings: names, certificates, permissions, clock, disk, settings, traps of Gerrit
    Doctor(doctor::DoctorArgs),
    /// Write an archive with the state of this node for those who help, without secrets
    SupportBundle(support_bundle::BundleArgs),
    /// Compare the refs of this node with the refdb or with peers, and name the side that is right where they differ
    Verify(verify::VerifyArgs),
    /// Bring refs and objects of this node to the refdb's state: one ref, a project, or all
    Resync(resync::ResyncArgs),
    /// Read streams of the event log again, and apply the transactions that are not applied here
    Replay(replay::ReplayArgs),
    /// Wait until a site shows a transaction
    Await(await_txn::AwaitArgs),
    /// List past failovers and changes of role
    History(history::HistoryArgs),
    /// List the transactions that wait for something that has not arrived
    Parked(inspect::ListArgs),
    /// List what this node has set aside, try an entry again, or end it
    Quarantine(quarantine::QuarantineArgs),
    /// Explain one ref: how far it has come at every site, and why it does not go on
    Explain(explain::ExplainArgs),
    /// List the changes, accounts, groups and projects that this node's Gerrit has not refreshed yet
    Refresh(inspect::ListArgs),
    /// Show the peers of this node, and whether each answers
    Peers(peers::PeersArgs),
    /// Make certificates for TLS between sites
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Make tokens for operators over the network
    #[command(subcommand)]
    Operators(tokens::OperatorsCommand),
    /// Make, list, retire or drop the keys by which sites sign their records
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Require that records are signed, or no longer require it
    #[command(subcommand)]
    Signing(keys::SigningCommand),
    /// Show all sites with their roles and nodes, from any site
    Sites(sites::SitesArgs),
    /// Change the role of a site, add a site, or remove one
    #[command(subcommand)]
    Site(sites::SiteCommand),
    /// Remove a node that will not come back
    #[command(subcommand)]
    Node(sites::NodeCommand),
    /// Lock a project or a ref for a long operation
    #[command(subcommand)]
    Lock(locks::LockCommand),
    /// Refuse the writes of a project or a site for a while, with a reason
    #[command(subcommand)]
    Maintenance(locks::MaintenanceCommand),
    /// Move the writes of one site to another
    #[command(subcommand)]
    Failover(failover::FailoverCommand),
    /// Rebuild a lost refdb from all sites, or move the running one to other tables
    #[command(subcommand)]
    Refdb(refdb::RefdbCommand),
    /// Move the writes back: the failover in the other direction of the last one
    #[command(subcommand)]
    Failback(failback::FailbackCommand),
    /// Take the steps of a failover on a canary, while the real sites go on
    Drill(drill::DrillArgs),
    /// Check whether a failover could go well now, or whether this node may be drained or upgraded
    Preflight(drill::PreflightArgs),
    /// Look at the tables, streams and bucket of a site at AWS, add what is missing, print the IAM policy
    #[command(subcommand)]
    Aws(aws::AwsCommand),
    /// Compute the units of AWS and the dollars of a month, from the load model or from running nodes
    Cost(cost::CostArgs),
    /// Install the bridge in a Gerrit
    #[command(subcommand)]
    Bridge(bridge::BridgeCommand),
    /// Add the sidecar to pods of the k8s-gerrit operator, below Kubernetes 1.36
    #[command(subcommand)]
    Inject(inject::InjectCommand),
    /// Run the program that is told about roles (the sidecar starts this)
    #[command(hide = true)]
    HandoverAgent(handover_agent::AgentArgs),
    /// Bring a standby up on a copy of a volume (the sidecar starts this)
    #[command(hide = true)]
    SilentDrill,
    /// Run a program that ends with standard input (the sidecar starts this)
    #[command(hide = true)]
    Leash(agents::LeashArgs),
    /// Print the OpenAPI document of the bridge API
    Openapi,
    /// Print the name, kind and labels of every metric (deploy/observability/metrics.txt)
    Metrics,
}

/// An error of a command. It decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command failed, or its outcome is not known.
    #[error("{0}")]
    Failed(String),
    /// The arguments or the configuration are wrong.
    #[error("{0}")]
    Usage(String),
    /// The command was answered, and something is out of order. The output names it.
    #[error("something is out of order")]
    Degraded,
    /// The sidecar or the guard refused the change.
    #[error("{0}")]
    Refused(String),
    /// The reader of standard output has closed it. The command ends with success and prints nothing.
    #[error("standard output was closed")]
    NobodyReads,
}

impl From<OutError> for CliError {
    fn from(error: OutError) -> Self {
        match error {
            OutError::NobodyReads => Self::NobodyReads,
            OutError::Failed(_) => Self::failed(error),
        }
    }
}

impl CliError {
    /// A failure with the text of `error`.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// The same error of a command that only looks: a sidecar or a refdb that does not answer refuses nothing.
    pub(crate) fn unrefused(self) -> Self {
        match self {
            Self::Refused(why) => Self::Failed(why),
            error => error,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => USAGE,
            Self::Degraded => 2,
            Self::Refused(_) => 3,
            Self::NobodyReads => 0,
        }
    }
}

/// A value as indented JSON, ending in a newline.
fn json(value: &impl serde::Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(CliError::failed)
}

/// Parses the arguments, runs the command, and returns the exit code of the process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let ended = match crate::base::tasks::runtime() {
        Ok(runtime) => runtime.block_on(run(cli.command)),
        Err(error) => Err(CliError::failed(error)),
    };
    match ended {
        Ok(()) | Err(CliError::NobodyReads) => ExitCode::SUCCESS,
        Err(CliError::Degraded) => ExitCode::from(CliError::Degraded.exit_code()),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Run(args) => {
            let settings =
                crate::node::config::load(&args.config).map_err(|error| CliError::Usage(error.to_string()))?;
            crate::node::assembly::run(settings).await.map_err(CliError::failed)
        }
        #[cfg(feature = "embedded")]
        Command::Demo(args) => crate::cli::demo::run(args).await.map_err(CliError::failed),
        Command::Config(command) => config::run(command),
        Command::Hook(command) => hook::run(command).await,
        Command::UpdateRef(args) => update::run(args).await,
        Command::Head(command) => project::head(command).await,
        Command::Project(command) => project::run(command).await,
        Command::Import(args) => import::run(args).await,
        Command::Seed(args) => seed::run(args).await,
        Command::Shadow(command) => shadow::run(command).await,
        Command::Stray(command) => stray::run(command).await,
        Command::Keys(command) => keys::keys(command).await,
        Command::Signing(command) => keys::signing(command).await,
        Command::Status(args) => status::status(args).await,
        Command::Topology(args) => status::topology(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::SupportBundle(args) => support_bundle::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Resync(args) => resync::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Await(args) => await_txn::run(args).await,
        Command::History(args) => history::run(args).await,
        Command::Parked(args) => inspect::list(args, "/v1/parked").await,
        Command::Quarantine(args) => quarantine::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Refresh(args) => inspect::due(args).await,
        Command::Peers(args) => peers::run(args).await,
        Command::Certs(command) => certs::run(command),
        Command::Operators(command) => tokens::run(command),
        Command::Sites(args) => sites::show(args).await,
        Command::Site(command) => sites::run(command).await,
        Command::Node(command) => sites::node(command).await,
        Command::Lock(command) => locks::lock(command).await,
        Command::Maintenance(command) => locks::maintenance(command).await,
        Command::Failover(command) => failover::run(command).await,
        Command::Refdb(command) => refdb::run(command).await,
        Command::Failback(command) => failback::run(command).await,
        Command::Drill(args) => drill::run(args).await,
        Command::Preflight(args) => drill::preflight(args).await,
        Command::Aws(command) => aws::run(command).await,
        Command::Cost(args) => cost::run(args).await,
        Command::Bridge(command) => bridge::run(command),
        Command::Inject(command) => inject::run(command).await,
        Command::HandoverAgent(args) => handover_agent::run(args).await,
        Command::SilentDrill => crate::node::assembly::run_child().await.map_err(CliError::failed),
        Command::Leash(args) => agents::leash(args).await,
        Command::Openapi => Ok(out::put(&crate::stages::api::openapi::document())?),
        Command::Metrics => Ok(out::put(&crate::telemetry::metrics::list())?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// The commands without `--json`, with the reasons.
    const WITHOUT_JSON: [(&str, &str); 14] = [
        ("run", "the sidecar itself"),
        ("config check", "its exit code is the answer"),
        ("config example", "prints a file"),
        ("config reference", "prints a page"),
        ("hook proc-receive", "git runs it"),
        ("hook reference-transaction", "git runs it"),
        ("shadow watch", "runs until it is stopped"),
        ("inject serve", "runs until it is stopped"),
        ("aws policy", "prints JSON always"),
        ("handover-agent", "the sidecar runs it"),
        ("silent-drill", "the sidecar runs it"),
        ("leash", "the sidecar runs it"),
        ("openapi", "prints JSON always"),
        ("metrics", "prints a file"),
    ];

    /// The commands below `command` that do something without a further subcommand, and have no `--json`.
    fn without_json(command: &clap::Command, name: &str) -> Vec<String> {
        let below = command.get_subcommands().flat_map(|one| {
            let name = format!("{name} {}", one.get_name());
            without_json(one, name.trim_start())
        });
        let is_whole = !command.has_subcommands() || !command.is_subcommand_required_set();
        let has_json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        let own = (is_whole && !has_json).then(|| name.to_owned());
        own.into_iter().chain(below).collect()
    }

    #[test]
    fn every_command_prints_json_if_it_is_asked_to() {
        let mut expected = WITHOUT_JSON.map(|(name, _)| name.to_owned()).to_vec();
        let mut found = without_json(&Cli::command(), "");
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "the list has the reasons");
    }

    #[test]
    fn an_operator_may_name_the_sidecar_before_and_behind_the_command() {
        let network = ["--operator-url", "https://h:1", "--token-file", "/t", "--ca", "/c"];
        for command in [&["sites"][..], &["failover", "pause", "--reason", "r"], &["status", "--all"]] {
            let before = [&["lockstep"], &network[..], command].concat();
            let behind = [&["lockstep"], command, &network[..]].concat();
            for line in [before, behind] {
                let cli = Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
                let text = format!("{:?}", cli.command);
                assert!(text.contains("https://h:1") && text.contains("\"/c\""), "{line:?}: {text}");
            }
        }
    }

    #[test]
    fn a_deletion_and_a_new_value_exclude_each_other() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).is_ok();
        assert!(parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a", "--delete"]));
        assert!(parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a", &"1".repeat(40)]));
        assert!(!parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a"]));
        assert!(!parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a", &"1".repeat(40), "--delete"]));
    }
}
