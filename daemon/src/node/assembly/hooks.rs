//! Installs the git hooks in new repositories of plain git servers. The hooks are in place before the repository is
//! visible, so the first push already goes through the sidecar. Gerrit's repositories need no hooks, because the bridge
//! runs inside Gerrit.

use crate::clients::git_hooks::install::{Installation, install};
use crate::node::config::Settings;
use crate::seams::git;

/// The operating system did not tell the path of the running program.
#[derive(Debug, thiserror::Error)]
#[error("cannot find the path of this program: {0}")]
pub struct NoProgramPath(std::io::Error);

/// The settings of the repositories. If `git.install_hooks` is set, each new repository gets the hooks.
///
/// # Errors
/// The path of the running program cannot be determined. The hooks need it to call the program.
pub fn git_settings(settings: &Settings) -> Result<git::Settings, NoProgramPath> {
    let plain = git::Settings { fsck_objects: settings.fsck_objects, ..git::Settings::default() };
    if !settings.install_hooks {
        return Ok(plain);
    }
    let binary = std::env::current_exe().map_err(NoProgramPath)?;
    let (socket, base_paths) = (settings.api.socket.clone(), settings.base_paths.clone());
    let on_create = git::OnCreate::new(move |repository, project| {
        let place = base_paths.seen().git_dir(project);
        let (repository, project) = (repository.to_owned(), project.clone());
        let (socket, binary) = (socket.clone(), binary.clone());
        let what = Installation { repository, place: Some(place), project, socket, binary };
        Ok(install(&what)?)
    });
    Ok(git::Settings { on_create: Some(on_create), ..plain })
}
