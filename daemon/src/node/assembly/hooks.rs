//! Plain git servers: a new repository gets the git hooks before anybody can see it, so that the first push to it already
//! goes through the sidecar. Gerrit's repositories need none: its bridge is inside of it.

use crate::clients::git_hooks::install::{Installation, install};
use crate::node::config::Settings;
use crate::seams::git;

/// The repositories' settings of a configuration, with the hooks if it asks for them (`git.install_hooks`).
///
/// # Errors
/// The path of the running program, which the hooks call, is not known.
pub fn git_settings(settings: &Settings) -> Result<git::Settings, String> {
    if !settings.install_hooks {
        return Ok(git::Settings::default());
    }
    let binary = std::env::current_exe().map_err(|error| format!("the path of this program is not known: {error}"))?;
    let socket = settings.api.socket.clone();
    let on_create = git::OnCreate::new(move |repository, project| {
        let (repository, project) = (repository.to_owned(), project.clone());
        let what = Installation { repository, project, socket: socket.clone(), binary: binary.clone() };
        install(&what).map_err(|error| error.to_string())
    });
    Ok(git::Settings { on_create: Some(on_create), ..git::Settings::default() })
}
