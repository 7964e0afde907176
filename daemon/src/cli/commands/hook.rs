//! `lockstep hook`: the hooks that git runs, and their installation.

use std::io::Read;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::CliError;
use super::existing;
use super::target::{self, Target};
use crate::base::clock::SeededEntropy;
use crate::cli::out;
use crate::clients::git_hooks::git::GitDir;
use crate::clients::git_hooks::install::{Installation, install, uninstall};
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
        target: Box<Target>,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Remove the hooks and their settings from a repository, and restore those that they replaced
    #[command(after_help = "Example:\n  lockstep hook uninstall /srv/git/tools/build.git")]
    Uninstall {
        /// Folder of the repository
        repository: PathBuf,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
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
        HookCommand::Install { repository, project, target, json } => {
            installed(repository, project, *target, json).await
        }
        HookCommand::Uninstall { repository, json } => uninstalled(&repository, json),
        HookCommand::ProcReceive => {
            let entropy = SeededEntropy::from_machine();
            let done = proc_receive::run(&GitDir::of_hook(), &entropy, std::io::stdin(), std::io::stdout()).await;
            done.map_err(CliError::failed)
        }
        HookCommand::ReferenceTransaction { state } => guarded(&state).await,
    }
}

/// The repository, for `--json`.
#[derive(serde::Serialize)]
struct Hooked<'a> {
    repository: &'a Path,
    /// Whether pushes go through Lockstep.
    hooks: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a ProjectName>,
}

async fn installed(
    repository: PathBuf,
    project: Option<ProjectName>,
    target: Target,
    json: bool,
) -> Result<(), CliError> {
    let git = GitDir::at(&repository).map_err(|error| CliError::Usage(error.to_string()))?;
    let found = target.project_of(git.path()).await?;
    let is_checked = found.is_some();
    let project = match target::same_project(&repository, project, found)? {
        Some(project) => project,
        None => named_by(&repository)?,
    };
    let binary = std::env::current_exe().map_err(CliError::failed)?;
    let what = Installation { repository, place: None, project, socket: target.socket.clone(), binary };
    install(&what).map_err(CliError::failed)?;
    for left_out in existing::fit(&git)? {
        eprintln!("warning: this ref is not replicated: {left_out}");
    }
    let (repository, project) = (&what.repository, &what.project);
    if json {
        out::put(&super::json(&Hooked { repository, hooks: true, project: Some(project) })?)?;
    } else {
        println!("{}: pushes now go through Lockstep as project {project}", repository.display());
    }
    if !is_checked {
        eprintln!(
            "warning: no sidecar answers at {}, so it was not checked that this is the repository of {} on its volume",
            target.socket.display(),
            project
        );
    }
    if !json {
        println!("to commit the refs that it has already, run `lockstep import {}`", repository.display());
    }
    Ok(())
}

fn uninstalled(repository: &Path, json: bool) -> Result<(), CliError> {
    uninstall(repository).map_err(CliError::failed)?;
    if json {
        out::put(&super::json(&Hooked { repository, hooks: false, project: None })?)?;
    } else {
        println!("{}: git moves the refs of pushes itself again", repository.display());
    }
    eprintln!(
        "warning: pushes to it do not reach other sites any more; if its project lives on, run `lockstep hook install \
         {}` before anybody pushes",
        repository.display()
    );
    Ok(())
}

fn named_by(repository: &Path) -> Result<ProjectName, CliError> {
    let name = repository.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".git").unwrap_or(name);
    name.parse().map_err(|error| CliError::Usage(format!("{}: {error}; give --project", repository.display())))
}

async fn guarded(state: &str) -> Result<(), CliError> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).map_err(CliError::failed)?;
    let git = GitDir::of_hook();
    let project = || match git.is_ours() {
        Ok(false) => None,
        Ok(true) | Err(_) => Some(git.project().map_or_else(|_| "PROJECT".to_owned(), |name| name.to_string())),
    };
    guard::decide(git.path(), project, state, &input).await.map_err(|error| CliError::Refused(error.to_string()))
}
