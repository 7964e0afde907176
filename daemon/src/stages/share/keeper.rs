//! Keeps the leases: a periodic turn that renews those of this node, takes a free one or that of a dead node, and
//! learns the others. An error changes nothing: the node goes on as before, and the next turn tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_proto::NodeId;
use lockstep_proto::sharing::ReaderLeases;
use tokio::time::sleep;

use super::Share;
use super::decide::{self, Change, Looks, Me, decide};
use crate::base::backoff::Backoff;
use crate::seams::refdb::{Document, RefDbError, StoredDocument};

/// The document of the leases.
const LEASES: StoredDocument<ReaderLeases> = StoredDocument::json(Document::Readers);
/// The number of tries of a turn while other nodes change the document at the same time.
const TRIES: usize = 4;
/// A node that misses a sibling asks its peers for their names once in so many turns.
const ASKS_OFTEN: u32 = 3;
/// A node that knows its siblings asks once in so many turns.
const ASKS_RARELY: u32 = 60;

/// The leases as this node knows them.
#[derive(Default)]
pub(super) struct Leases {
    /// The other nodes of the site, each with the name of its peer.
    pub siblings: BTreeMap<NodeId, String>,
    /// The readers of the shards that this node reads, by lease.
    pub readers: BTreeMap<String, Reader>,
    /// The leases of this node.
    pub held: BTreeSet<String>,
    looks: Looks,
    turns: u32,
    /// Whether this node stops, and takes no lease any more.
    is_over: bool,
}

/// The node that has a lease.
pub(super) struct Reader {
    /// The name of the node.
    pub node: NodeId,
    /// Whether it has shown no progress for long.
    pub is_still: bool,
}

impl Share {
    /// Keeps the leases until the task is aborted.
    pub async fn run(self: Arc<Self>) {
        let Some(settings) = self.settings else { return };
        loop {
            self.turn().await;
            sleep(Backoff::nth(self.entropy.as_ref(), settings.beat, settings.beat, 1)).await;
        }
    }

    pub(super) async fn turn(&self) {
        self.find_siblings().await;
        let (wanted, progressed) = self.shards.turn();
        if self.leases.lock().siblings.is_empty() {
            return;
        }
        for number in 0..TRIES {
            match self.try_turn(&wanted, &progressed, number == 0).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => return self.observer.failed("share", &error),
            }
        }
    }

    /// One try of a turn. Returns whether nobody else has changed the document meanwhile.
    async fn try_turn(
        &self,
        wanted: &BTreeSet<String>,
        progressed: &BTreeSet<String>,
        is_first: bool,
    ) -> Result<bool, RefDbError> {
        let (before, mut document) = LEASES.read(self.documents.as_ref()).await?.unwrap_or_default();
        let changes = {
            let mut leases = self.leases.lock();
            if leases.is_over {
                return Ok(true);
            }
            if is_first {
                leases.looks.look(&document, wanted);
            }
            decide(&mut document, &leases.looks, &Me { node: &self.node, wanted, progressed })
        };
        if !changes.is_empty() && !LEASES.replace(self.documents.as_ref(), before, &document).await? {
            return Ok(false);
        }
        self.learn(&document, wanted, &changes);
        Ok(true)
    }

    /// Takes over the document as it is stored.
    fn learn(&self, document: &ReaderLeases, wanted: &BTreeSet<String>, changes: &[Change]) {
        let held = decide::of(&self.node, document);
        {
            let mut leases = self.leases.lock();
            if leases.is_over {
                return;
            }
            let lost = leases.held.iter().filter(|key| wanted.contains(*key) && !held.contains(*key)).count();
            (0..lost).for_each(|_| self.observer.reader_lease("lost"));
            let reader =
                |(key, node): (&String, NodeId)| (key.clone(), Reader { node, is_still: leases.looks.is_still(key) });
            let known = document.leases.iter().filter(|(key, _)| wanted.contains(*key));
            let readers = known.filter_map(|(key, lease)| Some(reader((key, lease.holder.clone()?)))).collect();
            leases.readers = readers;
            leases.held.clone_from(&held);
        }
        changes.iter().filter_map(|change| word(*change)).for_each(|change| self.observer.reader_lease(change));
        self.shards.hold(&held);
    }

    /// Hands the leases of this node over to its siblings, because it stops.
    pub async fn hand_over(&self) {
        let held = {
            let mut leases = self.leases.lock();
            leases.is_over = true;
            std::mem::take(&mut leases.held)
        };
        if held.is_empty() {
            return;
        }
        self.shards.hold(&BTreeSet::new());
        let give_up = |document: &mut ReaderLeases| -> Result<bool, RefDbError> {
            let mine = decide::of(&self.node, document);
            mine.iter().for_each(|key| document.give(key, None));
            Ok(!mine.is_empty())
        };
        match LEASES.change(self.documents.as_ref(), TRIES, give_up).await {
            Ok(_) => held.iter().for_each(|_| self.observer.reader_lease("handed_over")),
            // The siblings take them over when they see no progress.
            Err(error) => self.observer.failed("share", &error),
        }
    }

    /// Asks the peers for their names, if it is time, and notes those of this site.
    async fn find_siblings(&self) {
        let is_due = {
            let mut leases = self.leases.lock();
            let turns = leases.turns;
            leases.turns = turns.wrapping_add(1);
            let is_missing = |reader: &Reader| reader.node != self.node && !leases.siblings.contains_key(&reader.node);
            let misses = leases.siblings.is_empty() || leases.readers.values().any(is_missing);
            turns.is_multiple_of(if misses { ASKS_OFTEN } else { ASKS_RARELY })
        };
        if !is_due {
            return;
        }
        let statuses = self.peers.statuses().await;
        let mut leases = self.leases.lock();
        // A node that is not among the peers any more has left the site.
        leases.siblings.retain(|_, peer| statuses.iter().any(|status| status.name == *peer));
        for status in statuses {
            let Some(answer) = status.answer else { continue };
            leases.siblings.retain(|node, peer| *peer != status.name || *node == answer.node);
            if answer.site == self.site && answer.node != self.node {
                leases.siblings.insert(answer.node, status.name);
            }
        }
    }
}

/// The word for a change of a lease in metrics. None: it is no news.
fn word(change: Change) -> Option<&'static str> {
    match change {
        Change::Renewed | Change::Forgotten => None,
        Change::Taken => Some("taken"),
        Change::TakenOver => Some("taken_over"),
        Change::HandedOver => Some("handed_over"),
    }
}
