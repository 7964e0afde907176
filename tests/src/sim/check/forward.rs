//! Invariant 4: a site's ref only moves forward along the committed chain, and never shows what is not committed. All refs of
//! a repository are of one incarnation of its project: nothing of a deleted one is in its successor.

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

/// Which incarnation of each project a volume's repository is of.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<ProjectName, Life>);

#[derive(Clone, Copy, Debug)]
struct Life {
    /// The incarnation, or the lowest that it can be.
    incarnation: u32,
    /// Whether it has shown a value, so that it can be no other.
    is_known: bool,
}

impl Shown {
    /// The repository was removed: the next one is of a later incarnation.
    pub fn removed(&mut self, project: &ProjectName) {
        if let Some(life) = self.0.get_mut(project).filter(|life| life.is_known) {
            *life = Life { incarnation: life.incarnation + 1, is_known: false };
        }
    }

    /// Nothing is known any more: a disk was damaged.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The incarnations that the repository can be of, as far as there are such.
    #[must_use]
    pub fn candidates(&self, facts: &Facts, project: &ProjectName) -> Vec<ProjectKey> {
        let life = self.0.get(project).copied().unwrap_or(Life { incarnation: 1, is_known: false });
        let fits = |key: &ProjectKey| match life.is_known {
            true => key.incarnation == life.incarnation,
            false => key.incarnation >= life.incarnation,
        };
        facts.lives(project).into_iter().filter(fits).collect()
    }

    /// It is of this one.
    pub fn is_of(&mut self, project: &ProjectKey) {
        self.0.insert(project.name.clone(), Life { incarnation: project.incarnation, is_known: true });
    }
}
