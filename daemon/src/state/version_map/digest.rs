//! The digest of a project's records as they are applied here: the durable digest of the store, and above it the moves
//! of the overlay.

use lockstep_proto::{ProjectKey, RefKey};

use super::VersionMap;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::volume::{DigestAt, RefRecord, SetDigest, StoreError};

impl VersionMap {
    /// The digest of a project's refs and its `@HEAD`, as [`VersionMap::visit`] shows them. None while the store is
    /// building it.
    ///
    /// # Errors
    /// As [`VersionMap::get`].
    pub fn digest(&self, project: &ProjectKey) -> Result<Option<SetDigest>, StoreError> {
        // The overlay is read first. A move that becomes durable between the two reads is in both, and counts once.
        let (early, forgotten) = self.early(project);
        let early = if self.bugs.has(InjectedBug::DigestMissesOverlay) { Vec::new() } else { early };
        let found = match forgotten {
            true => DigestAt { digest: Some(SetDigest::default()), entries: vec![None; early.len()] },
            false => {
                let keys: Vec<RefKey> = early.iter().map(|(key, _)| key.clone()).collect();
                self.store.digest(project, &keys)?
            }
        };
        let Some(mut digest) = found.digest else { return Ok(None) };
        for ((key, record), durable) in early.iter().zip(&found.entries) {
            if durable.as_ref().is_none_or(|durable| record.version > durable.version) {
                digest.replace(key, durable.as_ref(), record, self.bugs);
            }
        }
        Ok(Some(digest))
    }

    /// The moves of a project that are not durable yet, and whether all earlier ones are forgotten.
    fn early(&self, project: &ProjectKey) -> (Vec<(RefKey, RefRecord)>, bool) {
        let overlay = self.overlay();
        let mine = overlay.refs.range((project.clone(), RefKey::Head)..);
        let mine = mine.take_while(|((key, _), _)| key == project);
        let early = mine.map(|((_, key), (record, _))| (key.clone(), record.clone())).collect();
        (early, overlay.forgotten.contains_key(project))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use lockstep_proto::Version;

    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::volume::memory::MemoryStore;
    use crate::seams::volume::{Changes, NodeStore};
    use crate::state::version_map::Mover;

    fn project() -> ProjectKey {
        "p#1".parse().unwrap()
    }

    fn moved(versions: &VersionMap, name: &str, version: u64, digit: Option<char>) {
        let value: Option<lockstep_proto::Oid> = digit.map(|digit| digit.to_string().repeat(40).parse().unwrap());
        let txn = format!("n.1.0.{version}.00000000000000aa").parse().unwrap();
        let record = RefRecord { version: Version(version), value: value.into(), txn };
        versions.moved(&project(), [(name.parse().unwrap(), record)].into(), Mover::Other).unwrap();
    }

    fn computed(versions: &VersionMap) -> SetDigest {
        let mut all = BTreeMap::new();
        versions.visit(&project(), |key, record| _ = all.insert(key, record)).unwrap();
        SetDigest::of(&all)
    }

    #[track_caller]
    fn agrees(versions: &VersionMap) {
        assert_eq!(versions.digest(&project()), Ok(Some(computed(versions))));
    }

    #[tokio::test]
    async fn moves_count_before_they_are_durable_while_they_become_durable_and_after() {
        let store = Arc::new(MemoryStore::default());
        let versions = VersionMap::new(Arc::clone(&store) as Arc<dyn NodeStore>, InjectedBugs::default());
        agrees(&versions);
        moved(&versions, "refs/heads/a", 1, Some('a'));
        moved(&versions, "refs/heads/b", 1, Some('b'));
        agrees(&versions);
        let empty = SetDigest::default();
        assert_ne!(versions.digest(&project()), Ok(Some(empty)));
        let mut changes = Changes::default();
        let snapshot = versions.collect(&mut changes);
        store.commit(changes).await.unwrap();
        agrees(&versions);
        // These moves come between the step and the end of the overlay's entries.
        moved(&versions, "refs/heads/a", 2, None);
        moved(&versions, "@HEAD", 1, None);
        agrees(&versions);
        versions.durable(&snapshot).unwrap();
        agrees(&versions);
        let before = versions.digest(&project());
        versions.forget(&project());
        agrees(&versions);
        assert_eq!(versions.digest(&project()), Ok(Some(empty)));
        assert_ne!(before, Ok(Some(empty)));
    }
}
