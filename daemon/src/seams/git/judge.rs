//! Holds objects against the rules of this server, as its `receive-pack` would: git's `fsck`, with the severities that
//! the repository's configuration sets.
//!
//! The configuration is the one that git reads for the sidecar's user: of the system, of the user and of the
//! repository.

use std::collections::BTreeMap;

use git2::Config;

use super::index_pack::Quarantine;
use super::layout::failed;
use super::objects::Objects;
use super::{FsckObjects, GitError, Judged, Settings};
use crate::seams::blob::Payload;

const OP: &str = "read git's configuration";
/// The severities that git knows. It passes over any other value with a warning.
const SEVERITIES: [&str; 3] = ["error", "warn", "ignore"];

/// Judges a pack that was made here. Blocks.
pub(super) fn judge(
    settings: &Settings,
    objects: &Objects<'_>,
    quarantine: &Quarantine<'_>,
    pack: &Payload,
    judged: Judged,
) -> Result<(), GitError> {
    let config = || objects.repository.config().map_err(|error| failed(objects.project, OP, error));
    match (judged, settings.fsck_objects) {
        (Judged::TakenAsItIs, _) | (Judged::ByServer, FsckObjects::AsConfigured) => Ok(()),
        (Judged::No, FsckObjects::AsConfigured) if !asks(&config()?) => Ok(()),
        (Judged::No | Judged::ByServer, _) => {
            let rules = rules(&config()?).map_err(|error| failed(objects.project, OP, error))?;
            hold(quarantine, pack, rules).map_err(forbidden)
        }
    }
}

/// Adds the remedy to the error of a rule.
fn forbidden(error: GitError) -> GitError {
    let GitError::Flawed { project, mut flaw } = error else { return error };
    let id = flaw.why.split(':').next().unwrap_or_default();
    flaw.why = format!(
        "{} (receive.fsckObjects; an administrator may allow it with receive.fsck.{id} or receive.fsck.skipList)",
        flaw.why
    );
    GitError::Flawed { project, flaw }
}

/// Returns whether the configuration asks for the check: `receive.fsckObjects`, or else `transfer.fsckObjects`.
fn asks(config: &Config) -> bool {
    let flag = |key| config.get_bool(key).ok();
    flag("receive.fsckobjects").or_else(|| flag("transfer.fsckobjects")).unwrap_or(false)
}

/// Reads `receive.fsck.*`: the severity of each message id, and the list of objects to skip.
fn rules(config: &Config) -> Result<BTreeMap<String, String>, git2::Error> {
    let mut rules = BTreeMap::new();
    let mut entries = config.entries(Some("^receive\\.fsck\\."))?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let (Ok(name), Ok(value)) = (entry.name(), entry.value()) else { continue };
        let Some(id) = name.strip_prefix("receive.fsck.") else { continue };
        if id == "skiplist" {
            let path = config.get_path("receive.fsck.skiplist")?;
            rules.insert(id.to_owned(), path.display().to_string());
        } else if SEVERITIES.contains(&value.to_ascii_lowercase().as_str()) {
            rules.insert(id.to_owned(), value.to_ascii_lowercase());
        }
    }
    Ok(rules)
}

/// Runs the check. A message id that this git does not know is left out, as receive-pack leaves it out.
fn hold(quarantine: &Quarantine<'_>, pack: &Payload, mut rules: BTreeMap<String, String>) -> Result<(), GitError> {
    loop {
        let ended = quarantine.judge(pack, &option(&rules));
        let Err(GitError::Failed { why, .. }) = &ended else { return ended };
        let unknown = why.split("Unhandled message id: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let id = unknown.map(str::to_ascii_lowercase);
        if id.is_none_or(|id| rules.remove(&id).is_none()) {
            return ended;
        }
    }
}

fn option(rules: &BTreeMap<String, String>) -> String {
    let rules: Vec<String> = rules.iter().map(|(id, value)| format!("{id}={value}")).collect();
    if rules.is_empty() { "--strict".to_owned() } else { format!("--strict={}", rules.join(",")) }
}
