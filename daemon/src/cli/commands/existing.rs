//! Reads the refs of an existing repository with git.

use lockstep_proto::RefName;
use lockstep_proto::bridge::{Expected, RefCommand};

use super::CliError;
use crate::clients::git_hooks::git::GitDir;
use crate::clients::git_hooks::guard;
use crate::clients::git_hooks::install;
use crate::seams::git::fitness::{self, Fitness};

/// Checks that Lockstep can take a repository. Returns one line per ref that is left out, with the reason and the
/// remedy.
///
/// # Errors
/// The repository is not fit, with every reason.
pub(super) fn fit(git: &GitDir) -> Result<Vec<String>, CliError> {
    let unreadable = |error| CliError::Failed(format!("{}: {error}", git.path().display()));
    let Fitness { unfit, left_out } = fitness::look(git.path()).map_err(unreadable)?;
    if !unfit.is_empty() {
        return Err(CliError::Usage(install::unfit(git.path(), &unfit)));
    }
    Ok(left_out.iter().map(ToString::to_string).collect())
}

/// The commands that would create every replicated ref, sorted by name. Refs that [`fit`] reports are not among them.
pub(super) fn refs(git: &GitDir) -> Result<Vec<RefCommand>, CliError> {
    let listed = git.bytes(&["for-each-ref", "--format=%(objectname) %(refname) %(symref)"]);
    let listed = listed.map_err(CliError::failed)?;
    let mut commands = Vec::new();
    for line in listed.split(|byte| *byte == b'\n') {
        // A name that is not UTF-8 is left out, as is a symbolic ref.
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut parts = line.splitn(3, ' ');
        let (Some(oid), Some(name), Some("")) = (parts.next(), parts.next(), parts.next()) else { continue };
        if let (false, Ok(name)) = (guard::is_unfit(name.as_bytes()), name.parse::<RefName>()) {
            let new = Some(oid.parse().map_err(CliError::failed)?);
            commands.push(RefCommand { name, old: Expected::Absent, new, force: true });
        }
    }
    Ok(commands)
}
