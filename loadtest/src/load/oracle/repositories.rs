//! Reads repositories with git itself.

use std::collections::BTreeMap;
use std::path::Path;

use crate::load::git::command;

/// The refs of one project, and their values.
pub type Refs = BTreeMap<String, String>;

/// The refs that each site keeps for itself.
const OWN: [&str; 2] = ["refs/lockstep/", "refs/cache-automerge/"];

/// Every ref of a repository that is replicated.
///
/// # Errors
/// Git's error output.
pub fn refs(repository: &Path) -> Result<Refs, String> {
    let output = command(repository).args(["for-each-ref", "--format=%(refname) %(objectname)"]).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let all = text.lines().filter_map(|line| line.split_once(' '));
    let replicated = all.filter(|(name, _)| !OWN.iter().any(|own| name.starts_with(own)));
    Ok(replicated.map(|(name, oid)| (name.to_owned(), oid.to_owned())).collect())
}

/// Gerrit points `HEAD` there in projects that hold only permissions. Git reports it, and continues its check.
const STRANGE_TO_GIT: &str = "error: HEAD points to something strange (refs/meta/config)";

/// The faults that `git fsck` finds: damaged and missing objects, and refs that lead to none.
#[must_use]
pub fn fsck(repository: &Path) -> Vec<String> {
    let args = ["fsck", "--full", "--strict", "--no-dangling", "--no-progress"];
    match command(repository).args(args).output() {
        Err(error) => vec![format!("git fsck: {error}")],
        Ok(output) if output.status.success() => Vec::new(),
        Ok(output) => {
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if text.trim() == STRANGE_TO_GIT {
                return Vec::new();
            }
            let first: Vec<&str> = text.lines().take(5).collect();
            vec![format!("git fsck: {}", first.join("; "))]
        }
    }
}
