//! Remembers the damaged objects that operations have met, until the verification in the background takes them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{Oid, ProjectName};
use parking_lot::Mutex;

use super::GitError;

/// The most projects, and the most objects of each. The verification finds all others by itself.
const MOST: usize = 100;

/// The damaged objects that were met since they were taken last.
#[derive(Default)]
pub(super) struct SeenDamage(Mutex<BTreeMap<ProjectName, BTreeSet<Oid>>>);

impl SeenDamage {
    /// Notes the damage that has ended an operation.
    pub(super) fn note<T>(&self, ended: &Result<T, GitError>) {
        let Err(GitError::Damaged { project, object, why }) = ended else { return };
        let mut seen = self.0.lock();
        if seen.len() >= MOST && !seen.contains_key(project) {
            return;
        }
        let objects = seen.entry(project.clone()).or_default();
        if objects.len() < MOST && objects.insert(*object) {
            tracing::error!(%project, %object, why, "an object is damaged");
        }
    }

    /// Takes everything that was noted.
    pub(super) fn take(&self) -> BTreeMap<ProjectName, BTreeSet<Oid>> {
        std::mem::take(&mut *self.0.lock())
    }
}
