//! The command line: one subcommand a file, all of them clients of the sidecar's socket but `config` and `hook`.
//!
//! Exit codes: 0 done, 1 failed or not known, 2 wrong usage, 3 refused by the sidecar or the guard.

pub mod config;
mod existing;
mod hook;
mod import;
mod inspect;
mod project;
mod seed;
mod stray;
mod table;
mod target;
mod update;

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

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed or not known, 2 wrong usage, 3 refused.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar
    Run(config::ConfigArgs),
    /// See it happen: three sites in one process, a real push replicated to all of them
    #[cfg(feature = "embedded")]
    Demo(crate::cli::demo::DemoArgs),
    /// Check a configuration, or print an example of one
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// The git hooks, and their installation
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Create, update or delete one ref, as `git update-ref` does
    UpdateRef(update::UpdateRefArgs),
    /// Point a project's HEAD elsewhere
    #[command(subcommand)]
    Head(project::HeadCommand),
    /// Create or delete a project
    #[command(subcommand)]
    Project(project::ProjectCommand),
    /// Commit every ref of an existing repository
    Import(import::ImportArgs),
    /// Bring existing repositories into the refdb, and open them when another site holds them
    Seed(seed::SeedArgs),
    /// What `init` wrote behind the bridge's back and contradicts what was committed
    #[command(subcommand)]
    Stray(stray::StrayCommand),
    /// Show this node: readiness, lag, journal, checkpoints
    Status(inspect::StatusArgs),
    /// List what waits for something that has not arrived
    Parked(inspect::ListArgs),
    /// List what was set aside because its content is bad
    Quarantine(inspect::ListArgs),
    /// List what this node's Gerrit has to look at again
    Refresh(inspect::ListArgs),
    /// Print the OpenAPI document of the bridge API
    Openapi,
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It failed, or its outcome is not known.
    #[error("{0}")]
    Failed(String),
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// The sidecar or the guard refused.
    #[error("{0}")]
    Refused(String),
    /// Whoever read the output has read enough.
    #[error("nobody reads the output any more")]
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
    /// Some error that ended the command.
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

/// Parses the arguments, runs the command, and gives the exit code of the process.
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
        Command::Quarantine(args) => inspect::list(args, "/v1/quarantine").await,
        Command::Refresh(args) => inspect::due(args).await,
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
