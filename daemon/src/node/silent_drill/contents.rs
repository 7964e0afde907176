//! The refs of a volume, in few bytes: per project a count and a hash of names and values.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, ProjectName, ProjectPhase, RefKey, RefName, RefValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::seams::volume::{NodeStore, StoreError};

/// The entries of a page of the version map.
const PAGE: usize = 1_000;

/// The refs of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::node) struct Refs {
    pub(in crate::node) count: u64,
    /// The exclusive or of the hashes of all names with their values: the order does not count, and nothing is kept.
    hash: [u8; 32],
}

impl Refs {
    /// Adds a ref. Each name comes once.
    pub(in crate::node) fn add(&mut self, name: &RefName, value: &Oid) {
        self.count += 1;
        let one = Sha256::digest(format!("{name} {value}").as_bytes());
        self.hash.iter_mut().zip(one).for_each(|(all, one)| *all ^= one);
    }
}

impl FromIterator<(RefName, Oid)> for Refs {
    fn from_iter<T: IntoIterator<Item = (RefName, Oid)>>(refs: T) -> Self {
        let mut all = Self::default();
        refs.into_iter().for_each(|(name, value)| all.add(&name, &value));
        all
    }
}

/// The refs of all projects that take commits. The refs of other projects may not be committed.
pub(in crate::node) type Contents = BTreeMap<ProjectName, Refs>;

/// The contents that a version map tells.
///
/// # Errors
/// The store failed.
pub(in crate::node) fn of_map(store: &dyn NodeStore) -> Result<Contents, StoreError> {
    let mut contents = Contents::new();
    for (name, record) in store.projects()? {
        let RefValue::State(state) = &record.value else { continue };
        if state.phase != ProjectPhase::Active {
            continue;
        }
        let (project, mut after, mut refs) = (ProjectKey::new(&name, state.incarnation), None, Refs::default());
        loop {
            let page = store.references(&project, after.as_ref(), PAGE)?;
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            for (key, record) in page {
                if let (RefKey::Ref(name), Some(value)) = (key, record.value.oid()) {
                    refs.add(&name, &value);
                }
            }
            if is_last {
                break;
            }
        }
        contents.insert(name, refs);
    }
    Ok(contents)
}

/// The projects whose refs differ, for people. `gone` are not compared.
pub(in crate::node) fn differences(expected: &Contents, found: &Contents, gone: &[ProjectName]) -> Vec<String> {
    let is_compared = |name: &&ProjectName| !gone.contains(name);
    let differs = |(name, refs): (&ProjectName, &Refs)| match found.get(name) {
        Some(found) if found == refs => None,
        Some(found) => Some(format!("{name} has {} refs and should have {}, or other values", found.count, refs.count)),
        None => Some(format!("{name} is not there")),
    };
    expected.iter().filter(|(name, _)| is_compared(name)).filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{ProjectState, Version};

    use super::*;
    use crate::seams::volume::disk::DiskStore;
    use crate::seams::volume::{Changes, RefRecord};

    fn oid(value: u64) -> Oid {
        format!("{value:040x}").parse().unwrap()
    }

    fn refs(all: &[(&str, u64)]) -> Refs {
        all.iter().map(|(name, value)| (name.parse().unwrap(), oid(*value))).collect()
    }

    #[test]
    fn the_refs_count_and_not_their_order() {
        let (a, b) = (("refs/heads/a", 1), ("refs/heads/b", 2));
        assert_eq!(refs(&[a, b]), refs(&[b, a]));
        for other in [refs(&[a]), refs(&[]), refs(&[a, ("refs/heads/b", 1)]), refs(&[a, ("refs/heads/c", 2)])] {
            assert_ne!(other, refs(&[a, b]));
        }
        assert_ne!(refs(&[("refs/heads/a", 2), ("refs/heads/b", 1)]), refs(&[a, b]), "values that were exchanged");
    }

    #[tokio::test]
    async fn a_version_map_tells_the_refs_of_the_projects_that_take_commits() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(&folder.path().join("node.redb")).unwrap();
        let put = |project: &str, name: RefKey, value: RefValue| {
            let record = RefRecord { version: Version(1), value, txn: "n.1.0.0.00000000000000aa".parse().unwrap() };
            (project.parse().unwrap(), name, record)
        };
        let state = |phase| RefValue::State(ProjectState { phase, incarnation: 1 });
        let mut all = vec![
            put("p#1", RefKey::State, state(ProjectPhase::Active)),
            put("p#1", RefKey::Head, RefValue::Symref("refs/heads/main".parse().unwrap())),
            put("p#1", "refs/heads/gone".parse().unwrap(), RefValue::Absent),
            put("read#1", RefKey::State, state(ProjectPhase::ReadOnly)),
            put("read#1", "refs/heads/a".parse().unwrap(), RefValue::Oid(oid(1))),
        ];
        let names: Vec<String> = (0..PAGE + 1).map(|number| format!("refs/heads/b{number}")).collect();
        all.extend(names.iter().map(|name| put("p#1", name.parse().unwrap(), RefValue::Oid(oid(7)))));
        store.commit(Changes { refs: all, ..Changes::default() }).await.unwrap();
        let expected = refs(&names.iter().map(|name| (name.as_str(), 7)).collect::<Vec<_>>());
        assert_eq!(of_map(&store).unwrap(), Contents::from([("p".parse().unwrap(), expected)]));
    }

    #[test]
    fn a_project_that_differs_or_is_not_there_is_named() {
        let name = |text: &str| -> ProjectName { text.parse().unwrap() };
        let expected =
            Contents::from(["same", "other", "away", "gone"].map(|one| (name(one), refs(&[("refs/heads/x", 1)]))));
        let found = Contents::from([
            (name("same"), refs(&[("refs/heads/x", 1)])),
            (name("other"), refs(&[("refs/heads/x", 2)])),
            (name("canary"), refs(&[])),
        ]);
        let differ = differences(&expected, &found, &[name("gone")]);
        assert_eq!(differ, ["away is not there", "other has 1 refs and should have 1, or other values"]);
    }
}
