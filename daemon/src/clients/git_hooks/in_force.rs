//! Tells whether git runs Lockstep's hooks in a repository.
//!
//! The hooks are easily put out of force without a message: somebody removes them, a backup comes back without them, a
//! repository is copied or moved, a setting sends git to another folder. Then `git push` fails, or other commands move
//! refs behind Lockstep's back. The check reads the settings as git does, with those of the user and of the host.

use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::hook_files::{HOOKS, MARK};
use super::hooks_folder::{self, is_executable};
use super::install::HANDED_OVER;
use crate::base::base_paths::is_same;
use crate::seams::git::settings_seen::{SettingsSeen, Unreadable};

/// The reason why git does not run the hooks as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The hooks were never installed, or were taken out.
    #[error("the hooks are not installed")]
    NotInstalled,
    /// The repository names another project.
    #[error("lockstep.project is {0:?}")]
    OtherProject(String),
    /// git looks in another folder.
    #[error("git looks for hooks in {0:?}, because of core.hooksPath")]
    OtherFolder(PathBuf),
    /// A hook is missing, is another program, or cannot be executed.
    #[error("{0:?} is not Lockstep's hook, or cannot be executed")]
    NoHook(PathBuf),
    /// The binary that the hooks call is gone.
    #[error("the hooks call {0:?}, which cannot be executed")]
    NoBinary(PathBuf),
    /// git moves refs of a push itself.
    #[error("receive.procReceiveRefs is {0:?}, so that git itself moves refs of a push")]
    NotHandedOver(Vec<String>),
    /// The settings or a hook cannot be read.
    #[error("it is not known whether the hooks are in force: {0}")]
    Unknown(String),
}

impl From<Unreadable> for Fault {
    fn from(error: Unreadable) -> Self {
        Self::Unknown(error.to_string())
    }
}

/// Looks at the hooks of a repository. `must` says that the repository must have them; otherwise one without hooks is
/// left alone, because its server is not plain git.
///
/// # Errors
/// The first [`Fault`].
pub fn check(git_dir: &Path, project: &ProjectName, must: bool) -> Result<(), Fault> {
    let settings = SettingsSeen::of(git_dir)?;
    match settings.last("lockstep.project")? {
        None if must => return Err(Fault::NotInstalled),
        None => return Ok(()),
        Some(other) if other != project.as_str() => return Err(Fault::OtherProject(other)),
        Some(_) => {}
    }
    let own = git_dir.join("hooks");
    if let Some(path) = settings.path(hooks_folder::KEY)?
        && !is_same(&git_dir.join(&path), &own)
    {
        return Err(Fault::OtherFolder(path));
    }
    for name in HOOKS {
        look_at(&own.join(name))?;
    }
    let handed_over = settings.all(HANDED_OVER.0)?;
    if handed_over.iter().any(|value| value == HANDED_OVER.1) && !handed_over.iter().any(|one| one.starts_with('!')) {
        return Ok(());
    }
    Err(Fault::NotHandedOver(handed_over))
}

fn look_at(hook: &Path) -> Result<(), Fault> {
    let text = std::fs::read_to_string(hook).unwrap_or_default();
    if !text.contains(MARK) || !is_executable(hook) {
        return Err(Fault::NoHook(hook.to_owned()));
    }
    let binary = text.lines().find_map(|line| line.strip_prefix("exec '")?.split_once('\'')).map(|(path, _)| path);
    match binary.map(PathBuf::from) {
        Some(binary) if is_executable(&binary) => Ok(()),
        binary => Err(Fault::NoBinary(binary.unwrap_or_default())),
    }
}
