//! IncarnationOpener and end of a repository: made aside and renamed in, renamed out and then removed, so that nobody ever
//! sees half of one.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use git2::{Repository, RepositoryInitOptions};
use lockstep_proto::{ProjectName, RefName};

use super::layout::{Layout, failed};
use super::{GitError, Settings, child, misplaced};

/// What is done to a new repository before anybody can see it: installing the hooks of plain git servers.
#[derive(Clone)]
pub struct OnCreate(Arc<Prepare>);

type Prepare = dyn Fn(&Path, &ProjectName) -> Result<(), String> + Send + Sync;

impl OnCreate {
    /// Calls this with the repository's folder, which is still aside.
    pub fn new(prepare: impl Fn(&Path, &ProjectName) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(prepare))
    }
}

impl fmt::Debug for OnCreate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("OnCreate")
    }
}

/// Makes a bare repository; one that is there keeps all that it has, and gets the hooks. Blocks.
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
    let parent = target.parent().unwrap_or(layout.roots().of(project));
    std::fs::create_dir_all(parent).map_err(|error| failed(project, OP, error))?;
    match std::fs::rename(&fresh, &target) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(failed(project, OP, error)),
    }
}

/// A repository that was there before its project gets what a new one gets. What hinders that (somebody else's hook) does
/// not hinder the project: an operator must look.
fn adopt(settings: &Settings, git_dir: &Path, project: &ProjectName) {
    if let Some(OnCreate(prepare)) = &settings.on_create
        && let Err(why) = prepare(git_dir, project)
    {
        tracing::error!(%project, %why, "an existing repository has no hooks: pushes to it bypass Lockstep; run `lockstep hook install`");
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
    // Gerrit logs the moves of `refs/meta/config` alone; git appends to a log that is there.
    std::fs::write(path.join("logs/refs/meta/config"), b"")?;
    Ok(())
}

/// Renames the repository out of the way and removes it. Blocks.
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

/// What `HEAD` points to; none when it is detached. Blocks.
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
