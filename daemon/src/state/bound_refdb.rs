//! The refdb that this node's volume belongs to, and whether the refdb of the configuration is that one.
//!
//! The name of a table says nothing about its content: a table can be lost and made anew, restored, or rebuilt. So each
//! refdb has an identity, and each volume keeps the identity of the refdb that its version map speaks of. A node
//! commits into that refdb alone. It moves to another one only if that one was rebuilt from its own, and gives up its
//! version map then (`node/assembly`). A refdb that has moved to other tables names them, and every node follows.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{KnownSite, RefdbIdentity, RefdbState};
use lockstep_proto::refdb_move::RefdbPlace;
use parking_lot::Mutex;
use tokio::sync::watch;
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
    /// This refdb has moved to this place: the node starts again there.
    Follow(RefdbPlace),
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
        (_, Some(found)) if found.state == RefdbState::Moved => {
            Verdict::Follow(found.moves.clone().map(|moves| moves.to).unwrap_or_default())
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

/// Opens the refdb into which another one has moved, if its mover has not done so. The mover ends the copy before it
/// writes into the old refdb that it has moved, so the copy is whole. Answers whether nodes may use it.
///
/// # Errors
/// The refdb did not answer. It may be open.
pub async fn open_moved(refdb: &RefDb, from: &str) -> Result<bool, RefDbError> {
    let Some((revision, found)) = read(refdb).await?.filter(|(_, found)| found.covers(from)) else {
        return Ok(false);
    };
    if found.state != RefdbState::Building {
        return Ok(true);
    }
    let ready = RefdbIdentity { state: RefdbState::Ready, builder: None, ..found };
    let (_, stored) = write(refdb, revision, &ready).await?;
    Ok(stored.state != RefdbState::Building)
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
    /// Whether the refdb moves to other tables, as it was read last.
    moves: watch::Sender<bool>,
}

impl BoundRefdb {
    /// Reads it from the node's store.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(store: &dyn NodeStore) -> Result<Arc<Self>, StoreError> {
        let (beat, moves) = (Mutex::default(), watch::Sender::new(false));
        Ok(Arc::new(Self { bound: Mutex::new(store.bound()?), beat, moves }))
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

    /// Takes in the identity of the refdb, as it was just read.
    pub fn see(&self, found: Option<&RefdbIdentity>) {
        let moves = found.is_some_and(RefdbIdentity::is_closed);
        self.moves.send_if_modified(|known| std::mem::replace(known, moves) != moves);
    }

    /// Whether the refdb moves to other tables, or has moved. Then this node opens no incarnation.
    #[must_use]
    pub fn moves(&self) -> bool {
        *self.moves.borrow()
    }

    /// Waits until the refdb moves, or until it does not move any more.
    pub async fn until_moves(&self, moves: bool) {
        // The sender lives as long as `self`.
        let _ = self.moves.subscribe().wait_for(|now| *now == moves).await;
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
    use lockstep_proto::rebuild::{Builder, RefdbMove, SourceVolume};

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
    fn every_node_follows_a_refdb_that_has_moved_and_uses_one_that_still_moves() {
        let to = RefdbPlace { prefix: "next".to_owned(), ..RefdbPlace::default() };
        let by = Builder { node: "n".parse().unwrap(), run: 1 };
        let moves = Some(RefdbMove { to: to.clone(), by });
        let moving = RefdbIdentity { state: RefdbState::Moving, moves: moves.clone(), ..identity("a", &[]) };
        let moved = RefdbIdentity { state: RefdbState::Moved, ..moving.clone() };
        let (a, b) = (identity("a", &[]), identity("b", &["a"]));
        assert_eq!(judge(volume(Some(&a), true), Some(&moving)), Verdict::Same, "it opens no incarnation there");
        for own in [None, Some(&a), Some(&b)] {
            assert_eq!(judge(volume(own, true), Some(&moved)), Verdict::Follow(to.clone()), "{own:?}");
        }
        let aborted = RefdbIdentity { moves, ..a.clone() };
        assert_eq!(judge(volume(Some(&a), true), Some(&aborted)), Verdict::Same);
    }

    #[tokio::test]
    async fn only_the_refdb_that_succeeds_the_moved_one_is_opened() {
        let refdb = crate::seams::refdb::memory::MemoryRefDb::new().refdb();
        assert_eq!(open_moved(&refdb, "a").await, Ok(false), "there is none");
        let half = RefdbIdentity { state: RefdbState::Building, ..identity("b", &["a"]) };
        write(&refdb, 0, &half).await.unwrap();
        assert_eq!(open_moved(&refdb, "x").await, Ok(false), "of another installation");
        for _ in 0..2 {
            assert_eq!(open_moved(&refdb, "a").await, Ok(true));
            assert_eq!(read(&refdb).await.unwrap().unwrap().1, identity("b", &["a"]));
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
