//! How a project's refs on the disk differ from the version map.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName};

use super::{PlaceError, Placer};

/// What is known of a ref that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs {
    /// What the version map says.
    pub known: Option<Oid>,
    /// What the disk shows.
    pub shown: Option<Oid>,
}

impl Placer {
    /// The refs that differ, and how many refs the disk shows. No lock is held: what is moved meanwhile may be among them.
    ///
    /// # Errors
    /// The disk or the version map cannot be read: that is not "equal".
    pub async fn differing(&self, project: &ProjectKey) -> Result<(BTreeMap<RefName, Differs>, usize), PlaceError> {
        let shown = self.repositories.list_refs(&project.name).await?;
        let count = shown.len();
        let beside = |(name, oid)| (name, Differs { known: None, shown: Some(oid) });
        let mut differ: BTreeMap<RefName, Differs> = shown.into_iter().map(beside).collect();
        self.table.visit(project, |key, record| {
            let (RefKey::Ref(name), Some(known)) = (key, record.value.oid()) else { return };
            match differ.get_mut(&name) {
                Some(found) if found.shown == Some(known) => _ = differ.remove(&name),
                Some(found) => found.known = Some(known),
                None => _ = differ.insert(name, Differs { known: Some(known), shown: None }),
            }
        })?;
        Ok((differ, count))
    }
}
