//! Compares one project.
//!
//! The first pass reads the refdb in pages, and looks each item up in the version map. It holds the names of the
//! project's refs in memory. Only refs that differ are looked at again, under their locks: first after a pause, and
//! then twice after the node has caught up with them. Every read of the refdb takes its share of the rate. There is one
//! exception: a ref whose journal is collected brings a state transfer, which reads the whole project at full speed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_proto::verify::Mismatch;
use lockstep_proto::{ProjectKey, RefKey, RefValue, Version};

use super::Verifier;
use super::judge::{Look, is_equal, judge, shows, stays};
use super::pace::{PAGE, Pace, item_bytes, units};
use crate::seams::git::GitError;
use crate::seams::refdb::{RefDbError, RefItem};
use crate::seams::volume::StoreError;
use crate::state::materialize::MaterializeError;

/// How often the node catches up with the refs that differ. They are looked at once more than that.
pub(super) const ROUNDS: u32 = 2;
/// The pause before each of these looks.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// The most refs of a project that are looked at again. More than that are counted, and not listed.
pub(super) const MOST_DIFFERENT: usize = 10_000;
/// Refs that are looked at again at once.
pub(super) const BATCH: usize = 100;

/// Why a project could not be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompareError {
    /// A call of the refdb failed.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The repository cannot be compared with the version map.
    #[error(transparent)]
    Disk(#[from] MaterializeError),
    /// A peer did not answer, or its answer cannot be used.
    #[error("{0}")]
    Peer(String),
    /// More refs differ than are looked at again.
    #[error("more than {MOST_DIFFERENT} refs differ: one side has not caught up; try again later")]
    TooMany,
}

/// The result of one project.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) refs: u64,
    /// Refs that differed, and then not any more, or not in the same way.
    pub(super) on_their_way: u64,
    /// Refs that were equal only after a catch-up by this verification.
    pub(super) repaired: u64,
    pub(super) mismatches: Vec<Mismatch>,
}

impl Verifier {
    /// Compares all refs of one project.
    pub(super) async fn compare(&self, project: &ProjectKey, pace: &Pace) -> Result<Compared, CompareError> {
        let (mut differ, refs) = self.first_pass(project, pace).await?;
        let mut compared = Compared { refs, ..Compared::default() };
        let (mut before, mut looks, mut behind) = (BTreeMap::new(), BTreeMap::new(), None);
        for round in 0..=ROUNDS {
            if differ.is_empty() {
                return Ok(compared);
            }
            if self.versions.is_past(project)? {
                compared.on_their_way += differ.len() as u64;
                return Ok(compared);
            }
            if round > 0 {
                behind = self.catch_up(project, &differ, pace).await;
            }
            pace.rest(PAUSE).await;
            before = std::mem::replace(&mut looks, self.look_again(project, &differ, pace).await?);
            let equal = (differ.len() - looks.len()) as u64;
            if round > 0 {
                compared.repaired += equal
            } else {
                compared.on_their_way += equal
            }
            differ = looks.keys().cloned().collect();
        }
        for (key, look) in &looks {
            match before.get(key) {
                Some(before) if stays(before, look) => {
                    compared.mismatches.extend(judge(project, look, behind.as_deref()))
                }
                _ => compared.on_their_way += 1,
            }
        }
        Ok(compared)
    }

    /// Brings refs up to the refdb's state. Returns why some of them could not be brought there.
    pub(super) async fn catch_up(&self, project: &ProjectKey, keys: &BTreeSet<RefKey>, pace: &Pace) -> Option<String> {
        let keys: Vec<RefKey> = keys.iter().filter(|key| **key != RefKey::State).cloned().collect();
        let mut failed = self.catch_up.project(&project.name).await.err();
        for batch in keys.chunks(BATCH) {
            pace.take(batch.len() as u64).await;
            failed = self.catch_up.keys(project, batch).await.err().or(failed);
        }
        failed.map(|error| error.to_string())
    }

    /// The refs that differ at first sight, and the number of refs that were compared.
    async fn first_pass(&self, project: &ProjectKey, pace: &Pace) -> Result<(BTreeSet<RefKey>, u64), CompareError> {
        let (mut differ, mut after) = (BTreeSet::new(), None);
        // Refs that are created later need no counterpart: the transaction is on its way, or applied already.
        let mut unmatched = BTreeSet::new();
        self.versions.visit(project, |key, _| _ = unmatched.insert(key))?;
        let mut refs = unmatched.len() as u64;
        loop {
            let page = self.refdb.refs.scan(project, after.as_ref(), PAGE).await?;
            let bytes = page.iter().map(|item| item_bytes(project, &item.key)).sum();
            pace.take(units(bytes, 0)).await;
            for item in page.iter().filter(|item| item.version != Version::NONE) {
                refs += u64::from(!unmatched.remove(&item.key));
                if !is_equal(Some(item), self.versions.get(project, &item.key)?.as_ref()) {
                    differ.insert(item.key.clone());
                }
            }
            if differ.len() > MOST_DIFFERENT {
                return Err(CompareError::TooMany);
            }
            let is_last = page.len() < PAGE;
            after = page.last().map(|item| item.key.clone()).or(after);
            if is_last {
                break;
            }
        }
        differ.extend(self.unknown_to_refdb(project, unmatched, pace).await?);
        let (on_disk, _) = self.materializer.differing(project).await?;
        differ.extend(on_disk.into_keys().map(RefKey::Ref));
        if !shows(&self.look(project, &RefKey::Head).await?) {
            differ.insert(RefKey::Head);
        }
        match differ.len() > MOST_DIFFERENT {
            true => Err(CompareError::TooMany),
            false => Ok((differ, refs)),
        }
    }

    /// Of the refs that the first pass did not find in the refdb, those that the refdb does not have indeed.
    async fn unknown_to_refdb(
        &self,
        project: &ProjectKey,
        unmatched: BTreeSet<RefKey>,
        pace: &Pace,
    ) -> Result<Vec<RefKey>, CompareError> {
        let (keys, mut unknown) = (Vec::from_iter(unmatched), Vec::new());
        for batch in keys.chunks(BATCH) {
            let items = self.refdb.refs.read(project, batch).await?;
            pace.take(batch.len() as u64).await;
            let is_absent = |item: &Option<RefItem>| item.as_ref().is_none_or(|it| it.version == Version::NONE);
            let absent = batch.iter().zip(&items).filter(|(_, item)| is_absent(item));
            unknown.extend(absent.map(|(key, _)| key.clone()));
            if unknown.len() > MOST_DIFFERENT {
                return Err(CompareError::TooMany);
            }
        }
        Ok(unknown)
    }

    /// Looks at refs again, and returns those that differ. Each is looked at under its lock, under which disk and map
    /// move together.
    pub(super) async fn look_again(
        &self,
        project: &ProjectKey,
        differ: &BTreeSet<RefKey>,
        pace: &Pace,
    ) -> Result<BTreeMap<RefKey, Look>, CompareError> {
        let keys: Vec<RefKey> = differ.iter().cloned().collect();
        let mut found = BTreeMap::new();
        for batch in keys.chunks(BATCH) {
            let mut looks = Vec::new();
            for key in batch {
                looks.push(self.look(project, key).await?);
            }
            // The refdb is read last: a commit in between then looks like a ref that is behind, which the next round
            // finds equal.
            let items = self.refdb.refs.read(project, batch).await?;
            pace.take(batch.len() as u64).await;
            let looks = looks.into_iter().zip(items).map(|(look, refdb)| Look { refdb, ..look });
            let differ = looks.filter(|look| !is_equal(look.refdb.as_ref(), look.here.as_ref()) || !shows(look));
            found.extend(differ.map(|look| (look.key.clone(), look)));
        }
        Ok(found)
    }

    /// A ref as this node has it, also of a project that it does not have.
    pub(super) async fn own_look(&self, project: &ProjectKey, key: &RefKey) -> Result<Look, CompareError> {
        let has_it = *key != RefKey::State && self.versions.project_key(&project.name)?.as_ref() == Some(project);
        if has_it {
            return self.look(project, key).await;
        }
        let here = self.versions.get(project, key)?;
        Ok(Look { key: key.clone(), refdb: None, here, disk: None })
    }

    /// A ref as this node has it.
    pub(super) async fn look(&self, project: &ProjectKey, key: &RefKey) -> Result<Look, CompareError> {
        let _guard = self.versions.locks.lock(&project.name, [key.clone()]).await;
        let here = self.versions.get(project, key)?;
        let repositories = &self.materializer.repositories;
        let disk = match key {
            RefKey::Ref(name) => repositories.read_ref(&project.name, name).await?.map(RefValue::Oid),
            RefKey::Head => repositories.head(&project.name).await?.map(RefValue::Symref),
            RefKey::State => None,
        };
        Ok(Look { key: key.clone(), refdb: None, here, disk })
    }
}
