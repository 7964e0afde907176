//! A repository of another day becomes what the version map says: not only what it lacks, also what it should not have.

use lockstep_proto::{ProjectKey, RefKey, RefName, RefValue};

use super::{PlaceError, Placer, steps, stray};
use crate::git::RefMove;

impl Placer {
    /// Deletes the refs on the disk that the version map says are deleted.
    ///
    /// # Errors
    /// As [`Placer::place`].
    pub async fn clear_deleted(&self, project: &ProjectKey) -> Result<(), PlaceError> {
        let (differ, _) = self.differing(project).await?;
        let mut deleted = Vec::new();
        for name in differ.into_iter().filter(|(_, one)| one.known.is_none()).map(|(name, _)| name) {
            if self.table.get(project, &RefKey::Ref(name.clone()))?.is_some() {
                deleted.push(name);
            }
        }
        self.delete(project, deleted).await
    }

    /// Makes every ref, and `HEAD`, what the version map says. What it never heard of is kept as a stray.
    ///
    /// # Errors
    /// As [`Placer::place`].
    pub async fn make_known(&self, project: &ProjectKey) -> Result<(), PlaceError> {
        let (differ, _) = self.differing(project).await?;
        let (known, foreign): (Vec<_>, Vec<_>) = differ.into_iter().partition(|(_, one)| one.known.is_some());
        self.delete(project, foreign.into_iter().map(|(name, _)| name).collect()).await?;
        let keys: Vec<RefKey> = known.into_iter().map(|(name, _)| RefKey::Ref(name)).collect();
        let _guard = self.table.locks.lock(&project.name, keys.iter().cloned().chain([RefKey::Head])).await;
        self.restore(project, &keys).await?;
        let head = self.table.get(project, &RefKey::Head)?.map(|record| record.value);
        if let Some(RefValue::Symref(target)) = head
            && self.repositories.head(&project.name).await?.as_ref() != Some(&target)
        {
            tracing::warn!(%project, %target, "HEAD on the disk is not what it must be: mended");
            self.repositories.set_head(&project.name, &target).await?;
        }
        Ok(())
    }

    /// Deletes refs that the disk shows and that have no value by the version map. What was committed once is kept like any
    /// value that stops being reachable, and anything else as a stray.
    async fn delete(&self, project: &ProjectKey, names: Vec<RefName>) -> Result<(), PlaceError> {
        let keys: Vec<RefKey> = names.iter().cloned().map(RefKey::Ref).collect();
        let _guard = self.table.locks.lock(&project.name, keys).await;
        let (mut moves, mut keep) = (Vec::new(), Vec::new());
        for name in names {
            let record = self.table.get(project, &RefKey::Ref(name.clone()))?;
            let Some(old) = self.repositories.read_ref(&project.name, &name).await? else { continue };
            let label = match record {
                Some(record) if record.value.oid().is_some() => continue,
                Some(record) => format!("{}-j{}", record.txn, moves.len()),
                None => stray::label(&name, old),
            };
            tracing::warn!(%project, %name, %old, %label, "a ref is on the disk that should not be there: deleted, its value is kept");
            keep.push((label, old));
            moves.push(RefMove { name, old: Some(old), new: None });
        }
        for step in steps(moves) {
            let shown = step.clone();
            self.move_refs(&project.name, step, &keep).await?;
            for one in shown {
                self.table.restored(project, &RefKey::Ref(one.name), one.old)?;
            }
        }
        Ok(())
    }
}
