//! Relates values: whether one contains another, and whether two have anything in common. The values of many refs are
//! related in a few calls for all of them, because each call is a job on the repository.

use std::cmp::Ordering;

use lockstep_proto::{Oid, ProjectName};

use super::{MaterializeError, Materializer};
use crate::seams::git::{GitError, Relation, compare_counters};

impl Materializer {
    /// Whether `value` contains `other`: it has `other` in its history, or it is a number that is not smaller.
    ///
    /// # Errors
    /// The repository cannot be read, or one of the objects is missing.
    pub async fn contains(&self, project: &ProjectName, value: Oid, other: Oid) -> Result<bool, GitError> {
        if self.repositories.relation(project, other, value).await? == Relation::FastForward {
            return Ok(true);
        }
        let compared = compare_counters(&*self.repositories, project, other, value).await?;
        Ok(compared.is_some_and(Ordering::is_le))
    }

    /// Whether two commits have no history in common. False when one of the objects is missing or not a commit.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub async fn is_apart(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, MaterializeError> {
        for oid in [one, other] {
            // Only a commit contains itself.
            let is_commit = |relation| relation == Relation::FastForward;
            if !is_there(self.repositories.relation(project, oid, oid).await, is_commit)? {
                return Ok(false);
            }
        }
        Ok(!self.repositories.share_history(project, one, other).await?)
    }

    /// Whether the first value of each pair contains the second one, as [`Materializer::contains`] tells for one pair.
    /// None for a pair of which an object is missing.
    pub(super) async fn contain(
        &self,
        project: &ProjectName,
        pairs: &[(Oid, Oid)],
    ) -> Result<Vec<Option<bool>>, GitError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        match self.all_contain(project, pairs).await {
            Ok(all) => return Ok(all.into_iter().map(Some).collect()),
            Err(GitError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut each = Vec::with_capacity(pairs.len());
        for (value, other) in pairs {
            each.push(match self.contains(project, *value, *other).await {
                Err(GitError::Missing { .. }) => None,
                found => Some(found?),
            });
        }
        Ok(each)
    }

    async fn all_contain(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError> {
        let steps: Vec<(Oid, Oid)> = pairs.iter().map(|(value, other)| (*other, *value)).collect();
        let related = self.repositories.relations(project, &steps).await?;
        let diverged = steps.iter().zip(&related).filter(|(_, relation)| **relation == Relation::Diverged);
        let numbers: Vec<Oid> = diverged.flat_map(|((other, value), _)| [*other, *value]).collect();
        let numbers = match numbers.is_empty() {
            true => Vec::new(),
            false => self.repositories.counters(project, &numbers).await?,
        };
        let mut numbers = numbers.chunks_exact(2);
        let contains = |relation: &Relation| match relation {
            Relation::FastForward => true,
            Relation::Diverged => matches!(numbers.next(), Some([Some(other), Some(value)]) if other <= value),
        };
        Ok(related.iter().map(contains).collect())
    }

    /// Whether the two values of each pair have no history in common, as [`Materializer::is_apart`] tells for one pair.
    pub(super) async fn apart(
        &self,
        project: &ProjectName,
        pairs: &[(Oid, Oid)],
    ) -> Result<Vec<bool>, MaterializeError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        match self.all_apart(project, pairs).await {
            Err(GitError::Missing { .. }) => {}
            found => return Ok(found?),
        }
        let mut each = Vec::with_capacity(pairs.len());
        for (one, other) in pairs {
            each.push(self.is_apart(project, *one, *other).await?);
        }
        Ok(each)
    }

    async fn all_apart(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError> {
        // Only a commit contains itself.
        let own: Vec<(Oid, Oid)> = pairs.iter().flat_map(|(one, other)| [(*one, *one), (*other, *other)]).collect();
        let related = self.repositories.relations(project, &own).await?;
        let are_commits = |two: &[Relation]| two.iter().all(|relation| *relation == Relation::FastForward);
        let are_commits: Vec<bool> = related.chunks_exact(2).map(are_commits).collect();
        let commits = pairs.iter().zip(&are_commits).filter(|(_, are_commits)| **are_commits);
        let commits: Vec<(Oid, Oid)> = commits.map(|(pair, _)| *pair).collect();
        let shared = match commits.is_empty() {
            true => Vec::new(),
            false => self.repositories.share_histories(project, &commits).await?,
        };
        let mut shared = shared.into_iter();
        Ok(are_commits.into_iter().map(|are_commits| are_commits && shared.next() == Some(false)).collect())
    }
}

/// Tests the answer of the repository. A missing object gives false: a power cut took it, so it cannot be kept, and it
/// must not block anything.
pub(super) fn is_there<T>(found: Result<T, GitError>, is_so: impl FnOnce(T) -> bool) -> Result<bool, MaterializeError> {
    match found {
        Ok(found) => Ok(is_so(found)),
        Err(GitError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
