//! Brings a repository from another point in time to the state of the version map: refs that it lacks are restored, and
//! refs that it should not have are deleted.

use lockstep_proto::{ProjectKey, ProjectPhase, RefKey, RefName, RefValue};

use super::{MaterializeError, Materializer, steps, stray};
use crate::seams::git::RefMove;

impl Materializer {
    /// Deletes the refs on the disk that are deleted in the version map.
    ///
    /// # Errors
    /// As [`Materializer::materialize`].
    pub async fn clear_deleted(&self, project: &ProjectKey) -> Result<(), MaterializeError> {
        let (differ, _) = self.differing(project).await?;
        let mut deleted = Vec::new();
        for name in differ.into_iter().filter(|(_, one)| one.known.is_none()).map(|(name, _)| name) {
            if self.versions.get(project, &RefKey::Ref(name.clone()))?.is_some() {
                deleted.push(name);
            }
        }
        self.delete(project, deleted).await
    }

    /// Sets every ref and `HEAD` to the version map's value. A ref that the map does not know is deleted, and its value
    /// is kept as a stray. While the project is being seeded such a ref stays, because it is still to be committed.
    ///
    /// # Errors
    /// As [`Materializer::materialize`].
    pub async fn make_known(&self, project: &ProjectKey) -> Result<(), MaterializeError> {
        let (differ, _) = self.differing(project).await?;
        let keys: Vec<RefKey> = differ.into_keys().map(RefKey::Ref).chain([RefKey::Head]).collect();
        self.make_some_known(project, &keys).await
    }

    /// Does for some refs what [`Materializer::make_known`] does for all.
    ///
    /// # Errors
    /// As [`Materializer::materialize`].
    pub async fn make_some_known(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), MaterializeError> {
        let (mut known, mut foreign) = (Vec::new(), Vec::new());
        for key in keys {
            let RefKey::Ref(name) = key else { continue };
            match self.versions.get(project, key)?.and_then(|record| record.value.oid()) {
                Some(_) => known.push(key.clone()),
                None => foreign.push(name.clone()),
            }
        }
        if self.versions.project(&project.name)?.is_some_and(|state| state.phase == ProjectPhase::Active) {
            self.delete(project, foreign).await?;
        }
        let _guard = self.versions.locks.lock(&project.name, known.iter().cloned().chain([RefKey::Head])).await;
        self.restore(project, &known).await?;
        if !keys.contains(&RefKey::Head) {
            return Ok(());
        }
        self.restore_head(project).await.map(drop)
    }

    /// Sets `HEAD` on the disk to the version map's value. Returns whether it was another one. The caller holds the
    /// lock of `HEAD`.
    ///
    /// # Errors
    /// As [`Materializer::materialize`].
    pub async fn restore_head(&self, project: &ProjectKey) -> Result<bool, MaterializeError> {
        let head = self.versions.get(project, &RefKey::Head)?.map(|record| record.value);
        let Some(RefValue::Symref(target)) = head else { return Ok(false) };
        if self.repositories.head(&project.name).await?.as_ref() == Some(&target) {
            return Ok(false);
        }
        self.may_move(&project.name)?;
        tracing::warn!(%project, %target, "HEAD on disk is not at its committed value: repaired");
        self.repositories.set_head(&project.name, &target).await?;
        Ok(true)
    }

    /// Deletes refs that are on the disk and have no value in the version map. The value of a ref that was committed
    /// once is kept like any value that becomes unreachable. Any other value is kept as a stray.
    async fn delete(&self, project: &ProjectKey, names: Vec<RefName>) -> Result<(), MaterializeError> {
        let keys: Vec<RefKey> = names.iter().cloned().map(RefKey::Ref).collect();
        let _guard = self.versions.locks.lock(&project.name, keys).await;
        let (mut moves, mut keep) = (Vec::new(), Vec::new());
        for name in names {
            let record = self.versions.get(project, &RefKey::Ref(name.clone()))?;
            let Some(old) = self.repositories.read_ref(&project.name, &name).await? else { continue };
            let label = match record {
                Some(record) if record.value.oid().is_some() => continue,
                Some(record) => format!("{}-j{}", record.txn, moves.len()),
                None => stray::stray_label(&name, old),
            };
            tracing::warn!(%project, %name, %old, %label, "a ref without a committed value: deleted, its value kept");
            keep.push((label, old));
            moves.push(RefMove { name, old: Some(old), new: None, message: String::new() });
        }
        for step in steps(moves) {
            let shown = step.clone();
            self.move_refs(&project.name, step, &keep).await?;
            for one in shown {
                self.versions.restored(project, &RefKey::Ref(one.name), one.old)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {

    use lockstep_proto::{ProjectState, Version};

    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::volume::RefRecord;
    use crate::state::version_map::Mover;

    const MAIN: &str = "refs/heads/main";

    #[tokio::test]
    async fn refs_that_are_still_to_be_seeded_stay() {
        let model = ModelRepositories::new(InjectedBugs::default());
        let project: ProjectKey = "p#1".parse().unwrap();
        let name = |text: &str| -> RefName { text.parse().unwrap() };
        model.create(&project.name, &name(MAIN)).await.unwrap();
        let value = model.add_object(&project.name, &[], 1);
        let materializer = Materializer::of_model(&model);
        let versions = &materializer.versions;
        let know = |version: u64, key: RefKey, value: RefValue| {
            let record =
                RefRecord { version: Version(version), value, txn: "n.1.0.1.00000000000000aa".parse().unwrap() };
            versions.moved(&project, [(key, record)].into(), Mover::Other).unwrap();
        };
        let state = |phase| RefValue::State(ProjectState { phase, incarnation: 1 });
        let [gone, unheard] = ["refs/heads/gone", "refs/heads/unheard"].map(name);
        know(1, RefKey::State, state(ProjectPhase::ReadOnly));
        know(2, RefKey::Ref(gone.clone()), RefValue::Absent);
        know(1, RefKey::Head, RefValue::Symref(unheard.clone()));
        let moves = [&gone, &unheard].map(|name| RefMove {
            name: name.clone(),
            old: None,
            new: Some(value),
            message: String::new(),
        });
        model.move_refs(&project.name, &moves, &[]).await.unwrap();

        materializer.clear_deleted(&project).await.unwrap();
        materializer.make_known(&project).await.unwrap();
        assert_eq!(model.list_refs(&project.name).await.unwrap(), [(unheard.clone(), value)]);
        assert_eq!(model.head(&project.name).await.unwrap(), Some(unheard));
        assert_eq!(materializer.strays(&project.name).await.unwrap().len(), 0);

        know(2, RefKey::State, state(ProjectPhase::Active));
        materializer.make_known(&project).await.unwrap();
        assert_eq!(model.list_refs(&project.name).await.unwrap(), []);
        assert_eq!(materializer.strays(&project.name).await.unwrap().len(), 1);
    }
}
