//! Invariant 4: a site's ref only moves forward along the committed chain, and never shows an uncommitted value. All
//! refs of a repository are of one incarnation of its project, so nothing of a deleted project is in its successor.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, ProjectName, RefName, Version};

use crate::sim::facts::Facts;

/// The last seen position of each ref of a project in its chain, on one volume.
pub type Positions = BTreeMap<RefName, Version>;

/// Moves the positions of a project on to its present refs. Returns the refs whose value changed.
///
/// # Errors
/// The chain does not have a value at or after its last seen position.
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
        let at = positions.entry(name.clone()).or_default();
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

/// The incarnation of each project that a volume's repository belongs to.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<ProjectName, Life>);

#[derive(Clone, Copy, Debug)]
struct Life {
    /// The incarnation, or the lowest possible one.
    incarnation: u32,
    /// Whether the repository has shown a value, which rules out all other incarnations.
    is_known: bool,
}

impl Shown {
    /// Notes that the repository was removed. The next one belongs to a later incarnation, also than that of the
    /// version map (`mapped`). The repository may have been ahead of the map: a state transfer that fails in the middle
    /// leaves refs of an incarnation whose predecessor is still to be deleted.
    pub fn removed(&mut self, project: &ProjectName, mapped: u32) {
        if let Some(life) = self.0.get_mut(project).filter(|life| life.is_known) {
            *life = Life { incarnation: mapped.min(life.incarnation) + 1, is_known: false };
        }
    }

    /// Forgets everything, because a disk was damaged.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The existing incarnations that the repository can belong to.
    #[must_use]
    pub fn candidates(&self, facts: &Facts, project: &ProjectName) -> Vec<ProjectKey> {
        let life = self.0.get(project).copied().unwrap_or(Life { incarnation: 1, is_known: false });
        let fits = |key: &ProjectKey| match life.is_known {
            true => key.incarnation == life.incarnation,
            false => key.incarnation >= life.incarnation,
        };
        facts.lives(project).into_iter().filter(fits).collect()
    }

    /// Notes that the repository belongs to this incarnation.
    pub fn is_of(&mut self, project: &ProjectKey) {
        self.0.insert(project.name.clone(), Life { incarnation: project.incarnation, is_known: true });
    }
}
