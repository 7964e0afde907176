//! The command line, with one file per subcommand. Subcommands that show or change the state of a node are clients of
//! the sidecar's socket.
//!
//! Exit codes: 0 success, 1 failure or unknown outcome, 2 wrong usage, 3 refused by the sidecar or the guard.
//!
//! | file | content |
//! |---|---|
//! | `config` | `config check`, `config example` |
//! | `hook`, `import`, `seed` | bring repositories in: hooks, refs, whole sites |
//! | `project`, `update`, `stray` | change state: projects and `HEAD`, one ref, strays |
//! | `inspect` | show state: `status`, `parked`, `quarantine`, `refresh` |
//! | `sites`, `failover` | all sites: roles, and the move of writes between them |
//! | `walk` | finds the repositories of a volume as Gerrit lists them |
//! | `existing`, `old_sins` | shared: refs of a repository, and the objects in it that break rules of git |
//! | `failover_text`, `site_table` | shared: plans, failovers and sites as text |
//! | `table`, `target` | shared: text tables, the sidecar to call |

pub mod config;
mod existing;
mod failover;
mod failover_text;
mod hook;
mod import;
mod inspect;
mod old_sins;
mod project;
mod seed;
mod site_table;
mod sites;
mod stray;
mod table;
mod target;
mod update;
mod walk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::out::{self, OutError};

/// Keeps the Gerrit sites of one company in lockstep.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure or unknown outcome, 2 wrong usage, 3 refused.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar of one node until SIGTERM or Ctrl-C
    Run(config::ConfigArgs),
    /// Run three sites in one process and replicate pushes between them
    #[cfg(feature = "embedded")]
    Demo(crate::cli::demo::DemoArgs),
    /// Check a configuration, or print an example
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
    /// List, adopt or discard strays: uncommitted values that gave way to committed ones
    #[command(subcommand)]
    Stray(stray::StrayCommand),
    /// Show the state of this node: readiness, lag, journal, checkpoints
    Status(inspect::StatusArgs),
    /// List the transactions that wait for something that has not arrived
    Parked(inspect::ListArgs),
    /// List the records that were set aside because their content is bad, or end an entry
    Quarantine(inspect::QuarantineArgs),
    /// List the changes, accounts, groups and projects that this node's Gerrit has not refreshed yet
    Refresh(inspect::ListArgs),
    /// Show all sites with their roles and nodes, from any site
    Sites(sites::SitesArgs),
    /// Change the role of a site
    #[command(subcommand)]
    Site(sites::SiteCommand),
    /// Move the writes of one site to another
    #[command(subcommand)]
    Failover(failover::FailoverCommand),
    /// Print the OpenAPI document of the bridge API
    Openapi,
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

    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
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
    let cli = Cli::parse();
    let ended = match crate::base::tasks::runtime() {
        Ok(runtime) => runtime.block_on(run(cli.command)),
        Err(error) => Err(CliError::failed(error)),
    };
    match ended {
        Ok(()) | Err(CliError::NobodyReads) => ExitCode::SUCCESS,
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
        Command::Stray(command) => stray::run(command).await,
        Command::Status(args) => inspect::status(args).await,
        Command::Parked(args) => inspect::list(args, "/v1/parked").await,
        Command::Quarantine(args) => inspect::quarantine(args).await,
        Command::Refresh(args) => inspect::due(args).await,
        Command::Sites(args) => sites::show(args).await,
        Command::Site(command) => sites::run(command).await,
        Command::Failover(command) => failover::run(command).await,
        Command::Openapi => Ok(out::put(&crate::stages::api::openapi::document())?),
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

    #[test]
    fn a_deletion_and_a_new_value_exclude_each_other() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).is_ok();
        assert!(parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a", "--delete"]));
        assert!(parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a", &"1".repeat(40)]));
        assert!(!parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a"]));
        assert!(!parse(&["lockstep", "update-ref", "--project", "p", "refs/heads/a", &"1".repeat(40), "--delete"]));
    }
}
