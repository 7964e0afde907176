//! `lockstep hook`: the hooks that git runs, and their installation.

use std::io::Read;
use std::path::PathBuf;

use lockstep_proto::ProjectName;

use super::CliError;
use super::target::{self, Target};
use crate::base::clock::SeededEntropy;
use crate::clients::git_hooks::git::GitDir;
use crate::clients::git_hooks::install::{Installation, install};
use crate::clients::git_hooks::{guard, proc_receive};

#[derive(Debug, clap::Subcommand)]
pub(super) enum HookCommand {
    /// Install the hooks and their settings in a bare repository
    #[command(after_help = "Example:\n  lockstep hook install /srv/git/tools/build.git --project tools/build")]
    Install {
        /// Folder of the repository
        repository: PathBuf,
        /// Project of the repository (default: given by its path on the sidecar's git volume)
        #[arg(long)]
        project: Option<ProjectName>,
        #[command(flatten)]
        target: Target,
    },
    /// Run by git on a push: commits the push as one ref transaction
    ProcReceive,
    /// Run by git on each ref transaction: refuses changes that bypass Lockstep
    ReferenceTransaction {
        /// State of the transaction: prepared, committed or aborted
        state: String,
    },
}

pub(super) async fn run(command: HookCommand) -> Result<(), CliError> {
    match command {
        HookCommand::Install { repository, project, target } => installed(repository, project, target).await,
        HookCommand::ProcReceive => {
            let entropy = SeededEntropy::from_machine();
            let done = proc_receive::run(&GitDir::of_hook(), &entropy, std::io::stdin(), std::io::stdout()).await;
            done.map_err(CliError::failed)
        }
        HookCommand::ReferenceTransaction { state } => guarded(&state).await,
    }
}

async fn installed(repository: PathBuf, project: Option<ProjectName>, target: Target) -> Result<(), CliError> {
    let git = GitDir::at(&repository).map_err(|error| CliError::Usage(error.to_string()))?;
    let found = target.project_of(git.path()).await?;
    let is_checked = found.is_some();
    let project = match target::same_project(&repository, project, found)? {
        Some(project) => project,
        None => named_by(&repository)?,
    };
    let binary = std::env::current_exe().map_err(CliError::failed)?;
    let what = Installation { repository, project, socket: target.socket.clone(), binary };
    install(&what).map_err(CliError::failed)?;
    println!("{}: pushes now go through Lockstep as project {}", what.repository.display(), what.project);
    if !is_checked {
        eprintln!(
            "warning: no sidecar answers at {}, so it was not checked that this is the repository of {} on its volume",
            target.socket.display(),
            what.project
        );
    }
    println!("to commit the refs that it has already, run `lockstep import {}`", what.repository.display());
    Ok(())
}

fn named_by(repository: &std::path::Path) -> Result<ProjectName, CliError> {
    let name = repository.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".git").unwrap_or(name);
    name.parse().map_err(|error| CliError::Usage(format!("{}: {error}; give --project", repository.display())))
}

async fn guarded(state: &str) -> Result<(), CliError> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).map_err(CliError::failed)?;
    let git = GitDir::of_hook();
    let project = || git.project().map_or_else(|_| "PROJECT".to_owned(), |project| project.to_string());
    guard::decide(git.path(), project, state, &input).await.map_err(|error| CliError::Refused(error.to_string()))
}
