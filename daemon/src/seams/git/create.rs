//! Creates and deletes repositories. A repository is created in a temporary folder and renamed into place; a deleted
//! one is renamed away and then removed. So nobody ever sees half of one.

use std::io::ErrorKind;
use std::path::Path;

use git2::{Repository, RepositoryInitOptions};
use lockstep_proto::{ProjectName, RefName};

use super::layout::{Layout, failed};
use super::settings::OnCreate;
use super::{GitError, Settings, child, misplaced};

/// Creates a bare repository. An existing one keeps its content and is prepared too. Blocks.
pub(super) fn create(
    settings: &Settings,
    layout: &Layout,
    project: &ProjectName,
    head: &RefName,
) -> Result<(), GitError> {
    const OP: &str = "create the repository";
    let target = layout.git_dir(project);
    match layout.locate(project) {
        Err(GitError::NoRepository(_)) => misplaced::refuse(layout, project)?,
        found => return found.map(|(git_dir, _)| adopt(settings, &git_dir, project)),
    }
    layout.confine(project, &target)?;
    let aside = tempfile::tempdir_in(layout.own(project).tmp()).map_err(|error| failed(project, OP, error))?;
    let fresh = aside.path().join("repository.git");
    init(&fresh, head).map_err(|error| failed(project, OP, error))?;
    if let Some(OnCreate(prepare)) = &settings.on_create {
        prepare(&fresh, project).map_err(|why| failed(project, OP, why))?;
    }
    let parent = target.parent().unwrap_or(layout.base_paths().of(project));
    std::fs::create_dir_all(parent).map_err(|error| failed(project, OP, error))?;
    match std::fs::rename(&fresh, &target) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(failed(project, OP, error)),
    }
}

/// Prepares a repository that existed before its project. A failure (such as a foreign hook) does not stop the project:
/// it is logged for an operator.
fn adopt(settings: &Settings, git_dir: &Path, project: &ProjectName) {
    if let Some(OnCreate(prepare)) = &settings.on_create
        && let Err(why) = prepare(git_dir, project)
    {
        tracing::error!(
            %project,
            %why,
            "the hooks of an existing repository could not be installed, so pushes to it bypass Lockstep; \
             run `lockstep hook install`"
        );
    }
}

fn init(path: &Path, head: &RefName) -> Result<(), Box<dyn std::error::Error>> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkdir(true).external_template(false).initial_head(head.as_str());
    let repository = Repository::init_opts(path, &options)?;
    let mut config = repository.config()?.open_level(git2::ConfigLevel::Local)?;
    config.set_str("transfer.hideRefs", "refs/lockstep")?;
    config.set_bool("receive.autogc", false)?;
    config.set_i32("gc.auto", 0)?;
    config.set_bool("core.logAllRefUpdates", false)?;
    std::fs::create_dir_all(path.join("logs/refs/meta"))?;
    // Gerrit keeps a reflog for `refs/meta/config` only. Git appends to a reflog that exists.
    std::fs::write(path.join("logs/refs/meta/config"), b"")?;
    Ok(())
}

/// Renames the repository away and removes it. Blocks.
pub(super) fn delete(layout: &Layout, project: &ProjectName) -> Result<(), GitError> {
    const OP: &str = "delete the repository";
    let path = layout.git_dir(project);
    if let Some(parent) = path.parent() {
        layout.confine(project, parent)?;
    }
    let trash = tempfile::tempdir_in(layout.own(project).trash()).map_err(|error| failed(project, OP, error))?;
    match std::fs::rename(&path, trash.path().join("repository.git")) {
        Ok(()) => trash.close().map_err(|error| failed(project, OP, error)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(failed(project, OP, error)),
    }
}

/// Points `HEAD` to a branch. Blocks.
pub(super) fn set_head(
    settings: &Settings,
    layout: &Layout,
    project: &ProjectName,
    target: &RefName,
) -> Result<(), GitError> {
    const OP: &str = "set HEAD";
    let (git_dir, _) = layout.locate(project)?;
    let mut command = child::git(settings, &git_dir);
    command.args(["symbolic-ref", "HEAD", target.as_str()]);
    let output = command.output().map_err(|error| failed(project, OP, error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(project, OP, String::from_utf8_lossy(&output.stderr).trim()))
}

/// Returns the branch to which `HEAD` points; `None` when it is detached. Blocks.
pub(super) fn head(layout: &Layout, project: &ProjectName) -> Result<Option<RefName>, GitError> {
    const OP: &str = "read HEAD";
    let (git_dir, _) = layout.locate(project)?;
    let text = std::fs::read_to_string(git_dir.join("HEAD")).map_err(|error| failed(project, OP, error))?;
    match text.trim_end().strip_prefix("ref:") {
        Some(name) => name.trim_start().parse().map(Some).map_err(|error| failed(project, OP, error)),
        None if text.trim_end().len() == 40 => Ok(None),
        None => Err(failed(project, OP, format!("the file HEAD is garbled: {text:?}"))),
    }
}
