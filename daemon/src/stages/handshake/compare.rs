//! How the refs on the disk differ from what the version map says of them.
//!
//! Transactions of other sites are applied meanwhile, so a difference is looked at again under the ref's lock, under which
//! the disk and the map move together.

use std::cmp::Ordering;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName};

use super::HandshakeStage;
use crate::seams::git::{GitError, Relation, compare_counters};
use crate::state::materialize::MaterializeError;

/// A ref that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) name: RefName,
    pub(super) kind: Kind,
}

/// How it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The disk goes on from what was committed: another commit upon it, a ref beside the others, or a greater number (a
    /// sequence, a schema's version).
    Ahead {
        /// What was committed.
        from: Option<Oid>,
        /// What the disk shows.
        to: Oid,
    },
    /// The disk shows less than what was committed, and nothing else.
    Behind,
    /// Each has what the other has not, or it cannot be told: a ref that was deleted, a value without history or number.
    Diverged,
    /// They have nothing in common.
    Apart {
        /// What the disk shows.
        shown: Oid,
    },
}

impl HandshakeStage {
    /// Every ref of a project that differs, in the order of their names.
    ///
    /// # Errors
    /// The disk or the version map cannot be read: that is not "equal".
    pub(super) async fn differences(&self, project: &ProjectKey) -> Result<Vec<Difference>, MaterializeError> {
        let (differ, _) = self.materializer.differing(project).await?;
        let mut found = Vec::new();
        for name in differ.into_keys() {
            let kind = self.difference(project, &name).await?;
            found.extend(kind.map(|kind| Difference { name, kind }));
        }
        Ok(found)
    }

    /// How one ref differs, if it does.
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
            // The object that a ref on the disk shows is not there: the ref is damaged, and the map has better.
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
