//! Reads the refs of an existing repository with git.

use lockstep_proto::bridge::{Expected, RefCommand};
use lockstep_proto::{Oid, RefName};

use super::CliError;
use crate::clients::git_hooks::git::GitDir;
use crate::clients::git_hooks::guard;

/// The commands that would create every replicated ref, sorted by name, and one line per ref that Lockstep cannot
/// replicate, with the reason and the remedy.
pub(super) fn refs(git: &GitDir) -> Result<(Vec<RefCommand>, Vec<String>), CliError> {
    let text = git.run(&["for-each-ref", "--format=%(objectname) %(refname) %(symref)"]).map_err(CliError::failed)?;
    let (mut commands, mut strange) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut parts = line.splitn(3, ' ');
        let (oid, name, symref) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        if guard::is_local(name.as_bytes()) {
            continue;
        }
        let oid: Oid = oid.parse().map_err(CliError::failed)?;
        match name.parse::<RefName>() {
            Ok(_) if !symref.is_empty() => {
                strange.push(format!("{name}: is a symbolic ref; delete it with `git symbolic-ref --delete {name}`"))
            }
            Ok(name) => commands.push(RefCommand { name, old: Expected::Absent, new: Some(oid), force: true }),
            Err(error) => strange.push(format!("{name}: {error}; rename or delete it")),
        }
    }
    Ok((commands, strange))
}
