//! Invariant 4: a site's ref only moves forward along the committed chain, and never shows what is not committed.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, ProjectName, RefName, Version};

use crate::sim::facts::Facts;

/// How far along its chain each ref of a volume was last seen.
pub type Positions = BTreeMap<(ProjectName, RefName), Version>;

/// Moves the positions of a project on to what its refs show, and gives the refs whose value changed.
///
/// # Errors
/// A value that its chain does not have from the last seen position on.
pub fn advance(
    facts: &Facts,
    project: &ProjectKey,
    shown: &BTreeMap<RefName, Oid>,
    positions: &mut Positions,
) -> Result<Vec<(RefName, Version)>, String> {
    let mut moved = Vec::new();
    let mut names = facts.names(project);
    names.extend(shown.keys().cloned());
    names.sort();
    names.dedup();
    for name in names {
        let at = positions.entry((project.name.clone(), name.clone())).or_default();
        let value = shown.get(&name).copied();
        let Some(now) = facts.position(project, &name, value, *at) else {
            return Err(format!("{project} {name} shows {value:?}, which is not in its chain from version {at} on"));
        };
        if now != *at {
            *at = now;
            moved.push((name, now));
        }
    }
    Ok(moved)
}
