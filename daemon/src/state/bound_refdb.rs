//! The refdb that this node's volume belongs to, and whether the refdb of the configuration is that one.
//!
//! The name of a table says nothing about its content: a table can be lost and made anew, restored, or rebuilt. So each
//! refdb has an identity, and each volume keeps the identity of the refdb that its version map speaks of. A node
//! commits into that refdb alone. It moves to another one only if that one was rebuilt from its own, and gives up its
//! version map then (`node/assembly`).

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{KnownSite, RefdbIdentity, RefdbState};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::seams::refdb::{Document, RefDb, RefDbError, SiteRecord, StoredDocument};
use crate::seams::volume::{BoundTo, Changes, NodeStore, StoreError};
use crate::state::went_back::Evidence;

const IDENTITY: StoredDocument<RefdbIdentity> = StoredDocument::json(Document::Identity);

/// The consequence of an identity for the node that found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the refdb of this volume.
    Same,
    /// The refdb has no identity, and the volume belongs to none: the node proposes one.
    Propose,
    /// The volume belongs to none yet, and will belong to this one.
    Bind(RefdbIdentity),
    /// This refdb was rebuilt from that of the volume: the volume moves to it.
    Move(RefdbIdentity),
    /// The node must not use this refdb.
    Refuse(Evidence),
}

/// A volume, as it stands to refdbs.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// The refdb that it belongs to.
    pub refdb: Option<&'a RefdbIdentity>,
    /// The id of the volume.
    pub id: &'a str,
    /// Whether it knows anything of a refdb.
    pub has_memory: bool,
}

/// Judges the refdb that a node found.
#[must_use]
pub fn judge(volume: Volume<'_>, found: Option<&RefdbIdentity>) -> Verdict {
    match (volume.refdb, found) {
        (_, Some(found)) if found.state == RefdbState::Building => {
            Verdict::Refuse(Evidence::Building { table: found.table.clone(), refdb: found.id.clone() })
        }
        (None, None) => Verdict::Propose,
        (Some(volume), Some(found)) if volume.id == found.id => Verdict::Same,
        (Some(volume), Some(found)) if found.covers(&volume.id) => Verdict::Move(found.clone()),
        (None, Some(found)) if found.is_rebuilt() && volume.has_memory && found.has_read(volume.id) => {
            Verdict::Move(found.clone())
        }
        // It may be the refdb of another installation. The move would take all refs away.
        (None, Some(found)) if found.is_rebuilt() && volume.has_memory => {
            Verdict::Refuse(Evidence::NotRead { refdb: found.id.clone() })
        }
        (None, Some(found)) => Verdict::Bind(found.clone()),
        (Some(volume), found) => Verdict::Refuse(Evidence::OtherRefdb {
            volume: volume.id.clone(),
            found: found.map(|found| found.id.clone()),
        }),
    }
}

/// Reads the identity of a refdb, with the revision of its document.
///
/// # Errors
/// The refdb did not answer, or the document cannot be read. Never take this for "no identity".
pub async fn read(refdb: &RefDb) -> Result<Option<(u64, RefdbIdentity)>, RefDbError> {
    IDENTITY.read(refdb.documents.as_ref()).await
}

/// Writes the identity of a refdb over the document with the revision `before` (zero for none). Returns the stored one
/// with its revision, which is another one if somebody else was faster.
///
/// # Errors
/// The refdb did not answer. The identity may be written.
pub async fn write(refdb: &RefDb, before: u64, identity: &RefdbIdentity) -> Result<(u64, RefdbIdentity), RefDbError> {
    let record = IDENTITY.record(before, identity)?;
    IDENTITY.content(&refdb.documents.put_document(Document::Identity, &record).await?)
}

/// Whether the volume knows anything of a refdb.
///
/// # Errors
/// The store failed.
pub fn has_memory(store: &dyn NodeStore) -> Result<bool, StoreError> {
    Ok(store.registered()?.beat > 0 || !store.projects()?.is_empty())
}

/// The refdb of this node's volume, and the sites as they were read last. Both are durable.
#[derive(Debug)]
pub struct BoundRefdb {
    bound: Mutex<BoundTo>,
    /// When the refdb took a heartbeat of this node last.
    beat: Mutex<Option<Instant>>,
}

impl BoundRefdb {
    /// Reads it from the node's store.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(store: &dyn NodeStore) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { bound: Mutex::new(store.bound()?), beat: Mutex::default() }))
    }

    /// The refdb of the volume. None if it belongs to none yet.
    #[must_use]
    pub fn refdb(&self) -> Option<RefdbIdentity> {
        self.bound.lock().refdb.clone()
    }

    /// The sites as they were read last. Empty if they never were.
    #[must_use]
    pub fn sites(&self) -> Vec<KnownSite> {
        self.bound.lock().sites.clone()
    }

    /// Every incarnation below this number is of a refdb of the time before.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.bound.lock().refdb.as_ref().map_or(0, |refdb| refdb.floor)
    }

    /// Notes that the refdb took a heartbeat of this node just now.
    pub fn took_a_beat(&self) {
        *self.beat.lock() = Some(Instant::now());
    }

    /// Whether the refdb took a heartbeat of this node within this time. If not, the node cannot commit either, though
    /// it may try.
    #[must_use]
    pub fn took_a_beat_within(&self, time: Duration) -> bool {
        self.beat.lock().is_some_and(|at| at.elapsed() < time)
    }

    /// Binds the volume to a refdb, durably.
    ///
    /// # Errors
    /// The store failed.
    pub async fn bind(&self, store: &dyn NodeStore, refdb: RefdbIdentity) -> Result<(), StoreError> {
        let bound = BoundTo { refdb: Some(refdb), sites: self.sites() };
        self.keep(store, bound).await
    }

    /// Keeps the sites durably, if one of them has changed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note_sites(&self, store: &dyn NodeStore, sites: &[SiteRecord]) -> Result<(), StoreError> {
        let sites: Vec<KnownSite> = sites.iter().map(KnownSite::from).collect();
        if sites == self.sites() {
            return Ok(());
        }
        let bound = BoundTo { refdb: self.refdb(), sites };
        self.keep(store, bound).await
    }

    async fn keep(&self, store: &dyn NodeStore, bound: BoundTo) -> Result<(), StoreError> {
        store.commit(Changes { bound: Some(bound.clone()), ..Changes::default() }).await?;
        *self.bound.lock() = bound;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::rebuild::SourceVolume;

    use super::*;

    fn identity(id: &str, succeeds: &[&str]) -> RefdbIdentity {
        let floor = if succeeds.is_empty() { 0 } else { lockstep_proto::rebuild::LEAP };
        let succeeds = succeeds.iter().map(|id| (*id).to_owned()).collect();
        RefdbIdentity { succeeds, floor, ..RefdbIdentity::first(id.to_owned()) }
    }

    fn volume(refdb: Option<&RefdbIdentity>, has_memory: bool) -> Volume<'_> {
        Volume { refdb, id: "v", has_memory }
    }

    #[test]
    fn a_node_uses_its_own_refdb_and_one_that_was_rebuilt_from_it() {
        let (a, b) = (identity("a", &[]), identity("b", &["a"]));
        let of = |refdb: Option<&RefdbIdentity>, found: Option<&RefdbIdentity>| judge(volume(refdb, true), found);
        assert_eq!(of(Some(&a), Some(&a)), Verdict::Same);
        assert_eq!(of(Some(&a), Some(&b)), Verdict::Move(b.clone()));
        assert_eq!(of(None, None), Verdict::Propose, "an upgrade, or a new installation");
        assert_eq!(of(None, Some(&a)), Verdict::Bind(a.clone()), "another node was first");
        let source = |volume: &str| SourceVolume { node: "n".parse().unwrap(), volume: volume.to_owned() };
        let read = RefdbIdentity { sources: vec![source("w"), source("v")], ..b.clone() };
        assert_eq!(of(None, Some(&read)), Verdict::Move(read.clone()), "a volume of a release without identities");
        for others in [vec![], vec![source("w")]] {
            let found = RefdbIdentity { sources: others, ..b.clone() };
            assert_eq!(of(None, Some(&found)), Verdict::Refuse(Evidence::NotRead { refdb: "b".to_owned() }));
        }
        assert_eq!(judge(volume(None, false), Some(&b)), Verdict::Bind(b.clone()), "a new volume");
        for (volume, found) in [(&b, Some(&a)), (&a, None), (&a, Some(&identity("c", &["x"])))] {
            assert!(matches!(of(Some(volume), found), Verdict::Refuse(Evidence::OtherRefdb { .. })), "{found:?}");
        }
    }

    #[test]
    fn nobody_uses_a_refdb_that_is_still_being_built() {
        let a = identity("a", &[]);
        let half = RefdbIdentity { state: RefdbState::Building, ..identity("b", &["a"]) };
        for volume in [None, Some(&a), Some(&half)] {
            let verdict = judge(Volume { refdb: volume, id: "v", has_memory: true }, Some(&half));
            assert!(matches!(verdict, Verdict::Refuse(Evidence::Building { .. })), "{verdict:?}");
        }
    }
}
