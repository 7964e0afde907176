//! Compares a project's refs on the disk with the version map.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, RefValue};

use super::{MaterializeError, Materializer};

/// A ref whose value on the disk differs from the version map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The value in the version map; none when the map has no value.
    pub known: Option<Oid>,
    /// The value on the disk; none when the ref is not there.
    pub shown: Option<Oid>,
}

impl Materializer {
    /// The refs that differ, and the number of refs on the disk. The comparison holds no lock, so a ref that moves
    /// meanwhile may be among them.
    ///
    /// # Errors
    /// The disk or the version map cannot be read. Never take this for "equal".
    pub async fn differing(
        &self,
        project: &ProjectKey,
    ) -> Result<(BTreeMap<RefName, Differs>, usize), MaterializeError> {
        let shown = self.repositories.list_refs(&project.name).await?;
        let count = shown.len();
        let beside = |(name, oid)| (name, Differs { known: None, shown: Some(oid) });
        let mut differ: BTreeMap<RefName, Differs> = shown.into_iter().map(beside).collect();
        self.versions.visit(project, |key, record| {
            let (RefKey::Ref(name), Some(known)) = (key, record.value.oid()) else { return };
            match differ.get_mut(&name) {
                Some(found) if found.shown == Some(known) => _ = differ.remove(&name),
                Some(found) => found.known = Some(known),
                None => _ = differ.insert(name, Differs { known: Some(known), shown: None }),
            }
        })?;
        Ok((differ, count))
    }

    /// The refs that differ, each with both values as they were under the ref's lock, and the number of refs on the
    /// disk. A ref that just moves is not among them.
    ///
    /// # Errors
    /// The disk or the version map cannot be read. Never take this for "equal".
    pub async fn differing_for_sure(
        &self,
        project: &ProjectKey,
    ) -> Result<(BTreeMap<RefName, Differs>, usize), MaterializeError> {
        let (differ, count) = self.differing(project).await?;
        let mut sure = BTreeMap::new();
        for name in differ.into_keys() {
            let key = RefKey::Ref(name.clone());
            let _guard = self.versions.locks.lock(&project.name, [key.clone()]).await;
            let shown = self.repositories.read_ref(&project.name, &name).await?;
            let known = self.versions.get(project, &key)?.and_then(|record| record.value.oid());
            if shown != known {
                sure.insert(name, Differs { known, shown });
            }
        }
        Ok((sure, count))
    }

    /// Whether `HEAD` on the disk is not at its committed value.
    ///
    /// # Errors
    /// The disk or the version map cannot be read. Never take this for "equal".
    pub async fn head_differs(&self, project: &ProjectKey) -> Result<bool, MaterializeError> {
        let _guard = self.versions.locks.lock(&project.name, [RefKey::Head]).await;
        let shown = self.repositories.head(&project.name).await?.map(RefValue::Symref);
        let known = self.versions.get(project, &RefKey::Head)?.map(|record| record.value);
        Ok(known.is_some_and(|known| Some(known) != shown))
    }

    /// Whether a ref with a value in the version map is missing on the disk. The check holds the ref's lock, under
    /// which the disk and the map move together, so a ref that is just arriving is not taken for deleted.
    ///
    /// # Errors
    /// The disk or the version map cannot be read. Never take this for "gone".
    pub async fn is_gone(&self, project: &ProjectKey, name: &RefName) -> Result<bool, MaterializeError> {
        let key = RefKey::Ref(name.clone());
        let _guard = self.versions.locks.lock(&project.name, [key.clone()]).await;
        let shown = self.repositories.read_ref(&project.name, name).await?;
        let known = self.versions.get(project, &key)?;
        Ok(shown.is_none() && known.is_some_and(|record| record.value.oid().is_some()))
    }
}

#[cfg(test)]
mod tests {

    use lockstep_proto::Version;

    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::git::{RefMove, Repositories};
    use crate::seams::volume::RefRecord;
    use crate::state::version_map::Mover;

    #[tokio::test]
    async fn a_ref_that_is_moving_is_not_gone() {
        let model = ModelRepositories::new(InjectedBugs::default());
        let project: ProjectKey = "p#1".parse().unwrap();
        let name: RefName = "refs/heads/main".parse().unwrap();
        model.create(&project.name, &name).await.unwrap();
        let value = model.add_object(&project.name, &[], 1);
        let materializer = Materializer::of_model(&model);
        let versions = &materializer.versions;
        let txn = "n.1.0.1.00000000000000aa".parse().unwrap();
        let record = RefRecord { version: Version(1), value: RefValue::Oid(value), txn };

        let moving = versions.locks.lock(&project.name, [RefKey::Ref(name.clone())]).await;
        versions.moved(&project, [(RefKey::Ref(name.clone()), record)].into(), Mover::Other).unwrap();
        let look = materializer.is_gone(&project, &name);
        let arrives = async {
            tokio::task::yield_now().await;
            let arrived = RefMove { name: name.clone(), old: None, new: Some(value), message: String::new() };
            model.move_refs(&project.name, &[arrived], &[]).await.unwrap();
            drop(moving);
        };
        let (is_gone, ()) = tokio::join!(look, arrives);
        assert!(!is_gone.unwrap());
        assert!(materializer.differing_for_sure(&project).await.unwrap().0.is_empty());

        let deleted = RefMove { name: name.clone(), old: Some(value), new: None, message: String::new() };
        model.move_refs(&project.name, &[deleted], &[]).await.unwrap();
        assert!(materializer.is_gone(&project, &name).await.unwrap());
        let (differ, count) = materializer.differing_for_sure(&project).await.unwrap();
        assert_eq!((differ.get(&name), count), (Some(&Differs { known: Some(value), shown: None }), 0));
    }
}
