//! Classifies how the refs on the disk differ from the version map.
//!
//! Transactions of other sites are applied at the same time. So each difference is read again under the ref's lock,
//! under which the disk and the version map move together.

use std::cmp::Ordering;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName};

use super::HandshakeStage;
use crate::seams::git::{GitError, Relation, compare_counters};
use crate::state::materialize::MaterializeError;

/// A ref whose value on the disk differs from the version map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) name: RefName,
    pub(super) kind: Kind,
}

/// The relation of a ref's value on the disk to its committed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The disk is ahead of the committed value: a commit on top of it, a new ref, or a greater number (of a sequence
    /// or a schema version).
    Ahead {
        /// The committed value; none for a new ref.
        from: Option<Oid>,
        /// The value on the disk.
        to: Oid,
    },
    /// The disk is behind the committed value: its value is missing, damaged, an ancestor, or a number that is not
    /// greater.
    Behind,
    /// Each value has something that the other lacks, or the two cannot be compared: the ref was deleted, or a value
    /// has neither a history nor a number.
    Diverged,
    /// The histories of the two values have nothing in common.
    Apart {
        /// The value on the disk.
        shown: Oid,
    },
}

impl HandshakeStage {
    /// All refs of a project that differ, in the order of their names.
    ///
    /// # Errors
    /// The disk or the version map cannot be read. An error never counts as "equal".
    pub(super) async fn differences(&self, project: &ProjectKey) -> Result<Vec<Difference>, MaterializeError> {
        let (differ, _) = self.materializer.differing(project).await?;
        let mut found = Vec::new();
        for name in differ.into_keys() {
            let kind = self.difference(project, &name).await?;
            found.extend(kind.map(|kind| Difference { name, kind }));
        }
        Ok(found)
    }

    /// How one ref differs; none when it does not.
    async fn difference(&self, project: &ProjectKey, name: &RefName) -> Result<Option<Kind>, MaterializeError> {
        let key = RefKey::Ref(name.clone());
        let (versions, repositories) = (&self.materializer.versions, &self.materializer.repositories);
        let _guard = versions.locks.lock(&project.name, [key.clone()]).await;
        let shown = repositories.read_ref(&project.name, name).await?;
        let record = versions.get(project, &key)?;
        let was_deleted = record.as_ref().is_some_and(|record| record.value.oid().is_none());
        let known = record.and_then(|record| record.value.oid());
        Ok(match (known, shown) {
            (known, shown) if known == shown => None,
            (_, None) => Some(Kind::Behind),
            (None, Some(_)) if was_deleted => Some(Kind::Diverged),
            (None, Some(to)) => Some(Kind::Ahead { from: None, to }),
            (Some(from), Some(to)) => Some(self.relate(project, from, to).await?),
        })
    }

    async fn relate(&self, project: &ProjectKey, from: Oid, to: Oid) -> Result<Kind, MaterializeError> {
        let repositories = &self.materializer.repositories;
        let pairs = [(from, to), (to, from), (from, from), (to, to)];
        let relations = match repositories.relations(&project.name, &pairs).await {
            // The object of the ref on the disk is missing. The ref is damaged, and the committed value restores it.
            Err(GitError::Missing { oids, .. }) if oids.contains(&to) => return Ok(Kind::Behind),
            relations => relations?,
        };
        let holds = |at: usize| relations.get(at) == Some(&Relation::FastForward);
        let have_history = holds(2) && holds(3);
        Ok(match (holds(0), holds(1)) {
            (true, _) => Kind::Ahead { from: Some(from), to },
            (_, true) => Kind::Behind,
            _ if !have_history => match compare_counters(&**repositories, &project.name, from, to).await? {
                Some(Ordering::Less) => Kind::Ahead { from: Some(from), to },
                Some(Ordering::Equal | Ordering::Greater) => Kind::Behind,
                None => Kind::Diverged,
            },
            _ if repositories.share_history(&project.name, from, to).await? => Kind::Diverged,
            _ => Kind::Apart { shown: to },
        })
    }
}
