//! Keeps values that a ref move makes unreachable from garbage collection, until nobody can need them.

use std::sync::Arc;

use lockstep_proto::{Oid, ProjectName, RefKey, Transaction};

use super::{MaterializeError, Materializer};
use crate::seams::git::{GitError, RefMove, Relation};

impl Materializer {
    /// The values that these moves make unreachable. The label of each names the transaction that ended it.
    pub(super) async fn keep(
        &self,
        project: &ProjectName,
        transactions: &[Arc<Transaction>],
        moves: &[RefMove],
    ) -> Result<Vec<(String, Oid)>, MaterializeError> {
        let lost = self.lost(project, moves).await?;
        let mut keep = Vec::new();
        for (step, lost) in moves.iter().zip(lost) {
            let Some(old) = step.old else { continue };
            let key = RefKey::Ref(step.name.clone());
            let by = transactions.iter().rev().find_map(|by| {
                let at = by.commands.iter().position(|command| command.key == key)?;
                Some(format!("{}-{at}", by.id))
            });
            if let (true, Some(label)) = (lost, by) {
                keep.push((label, old));
            }
        }
        Ok(keep)
    }

    /// For each move, whether it makes its old value unreachable.
    pub(super) async fn lost(&self, project: &ProjectName, moves: &[RefMove]) -> Result<Vec<bool>, GitError> {
        let pairs: Vec<(Oid, Oid)> = moves.iter().filter_map(|step| step.old.zip(step.new)).collect();
        let related = match pairs.is_empty() {
            true => Ok(Vec::new()),
            false => self.repositories.relations(project, &pairs).await,
        };
        let mut related = match related {
            Ok(related) => related.into_iter(),
            Err(GitError::Missing { .. }) => return self.lost_each(project, moves).await,
            Err(error) => return Err(error),
        };
        let is_lost = |step: &RefMove| match (step.old, step.new) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(_), Some(_)) => related.next() == Some(Relation::Diverged),
        };
        Ok(moves.iter().map(is_lost).collect())
    }

    async fn lost_each(&self, project: &ProjectName, moves: &[RefMove]) -> Result<Vec<bool>, GitError> {
        let mut lost = Vec::with_capacity(moves.len());
        for step in moves {
            lost.push(match step.old {
                Some(old) => self.is_lost(project, old, step.new).await?,
                None => false,
            });
        }
        Ok(lost)
    }

    /// Whether a move makes its old value unreachable. False when the old value's object is missing: it is lost
    /// already, and nothing can keep it.
    async fn is_lost(&self, project: &ProjectName, old: Oid, new: Option<Oid>) -> Result<bool, GitError> {
        let Some(new) = new else { return Ok(true) };
        match self.repositories.relation(project, old, new).await {
            Ok(relation) => Ok(relation == Relation::Diverged),
            Err(GitError::Missing { oids, .. }) if oids.contains(&old) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
