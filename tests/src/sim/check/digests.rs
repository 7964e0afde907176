//! The digests of projects: each is the digest of the records that it stands for, after each durable step and between
//! two of them. Two nodes that compare digests rest on this.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use lockstep::seams::volume::{Changes, NodeStore, RefRecord, SetDigest};
use lockstep::stages::ports::{PeerRefs, Rebuilds};
use lockstep_proto::digests::DigestsRequest;
use lockstep_proto::rebuild::{VersionsEntry, VersionsRequest};
use lockstep_proto::{ProjectKey, ProjectName, RefKey};

use super::Verdict;

/// Judges the stored digests of the projects that a durable step wrote.
///
/// # Errors
/// A digest is not that of the stored records.
pub fn stored(store: &dyn NodeStore, changes: &Changes) -> Verdict {
    let written = changes.refs.iter().filter(|(_, key, _)| *key != RefKey::State).map(|(project, ..)| project);
    let projects: BTreeSet<&ProjectKey> = written.chain(&changes.forget_projects).collect();
    for project in projects {
        let failed = |error: lockstep::seams::volume::StoreError| error.to_string();
        let records = store.references(project, None, usize::MAX).map_err(failed)?;
        let found = store.digest(project, &[]).map_err(failed)?.digest;
        let computed = SetDigest::of(records.iter().map(|(key, record)| (key, record)));
        if found != Some(computed) {
            return Err(format!(
                "the digest of {project} is {found:?}, that of its {} records is {computed:?}",
                records.len()
            ));
        }
    }
    Ok(())
}

/// Judges the digests that a node tells peers: they are those of the records that it tells them at the same moment.
///
/// # Errors
/// A digest is another one, or the node cannot tell.
pub fn told(peer_refs: &dyn PeerRefs, rebuilds: &dyn Rebuilds) -> Verdict {
    let mut records: BTreeMap<ProjectName, SetDigest> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = rebuilds.versions(&VersionsRequest { after, only: None }).map_err(|error| error.message)?;
        for VersionsEntry { project, key, version, value, txn } in page.entries {
            let digest = records.entry(project.name).or_default();
            if key != RefKey::State {
                digest.add(&key, &RefRecord { version, value, txn });
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // It has nothing to wait for, so no move comes between the two answers.
    let digests = peer_refs.digests(DigestsRequest::default()).now_or_never();
    let page = digests.ok_or("the digests are not told at once")?.map_err(|error| error.message)?;
    for told in page.projects.iter().filter(|told| told.digest.is_some()) {
        let name = &told.state.project.name;
        let computed = records.get(name).copied().unwrap_or_default();
        if (told.digest.as_ref(), told.refs) != (Some(&computed.to_string()), computed.count()) {
            return Err(format!("the digest of {name} is told as {told:?}, that of its records is {computed:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};
    use lockstep::seams::volume::memory::MemoryStore;

    use super::*;

    fn step(version: u64, value: &str) -> Changes {
        let txn = format!("n.1.0.{version}.00000000000000aa").parse().unwrap();
        let record = RefRecord { version: lockstep_proto::Version(version), value: value.parse().unwrap(), txn };
        let key = RefKey::Ref("refs/heads/a".parse().unwrap());
        Changes { refs: vec![("p#1".parse().unwrap(), key, record)], ..Changes::default() }
    }

    #[tokio::test]
    async fn a_digest_that_is_not_kept_with_a_deletion_is_found() {
        let (created, deleted) = (step(1, &"a".repeat(40)), step(2, "absent"));
        for bug in [None, Some(InjectedBug::DigestMissesDeletion)] {
            let store = MemoryStore::injected(bug.map_or_else(InjectedBugs::default, InjectedBugs::only));
            store.commit(created.clone()).await.unwrap();
            assert_eq!(stored(&store, &created), Ok(()));
            store.commit(deleted.clone()).await.unwrap();
            assert_eq!(stored(&store, &deleted).is_ok(), bug.is_none());
        }
    }
}
