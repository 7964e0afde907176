//! Finds the refs that a state transfer must leave out, because bad content was committed to them.
//!
//! Objects may be missing for a while, for example because a peer has not caught up. Then nothing is left out, and the
//! transfer is tried again. A ref is left out only if a committed transaction of its chain is held as bad, here or at
//! another node, or if its objects themselves are bad. All refs of one transaction are left out together.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{Oid, ProjectKey, RefKey, TxnId};

use super::atomic_apply::UnitError;
use super::catch_up::{Catcher, Stop};
use super::refdb_items::{distinct, rank};
use crate::seams::peers::{MOST_OIDS, PeerError};
use crate::seams::volume::RefRecord;
use crate::stages::ports::CatchUpError;

/// The most values that may fail. With more of them, the whole project is behind.
const MOST_FAILED: usize = 100;
/// The most transactions of one chain that are read.
const MOST_STEPS: usize = 1_000;

/// Whether objects are missing or bad, as opposed to a failure of the disk or of every peer.
pub(super) fn is_of_content(error: &UnitError) -> bool {
    matches!(error, UnitError::Missing(_) | UnitError::Bad(_) | UnitError::Peer(PeerError::Missing(_)))
}

impl Catcher {
    /// The refs of these records that bad content holds back. None if another cause may be behind a failure.
    pub(super) async fn held_back(
        &self,
        project: &ProjectKey,
        records: &BTreeMap<RefKey, RefRecord>,
    ) -> Result<Option<BTreeSet<RefKey>>, CatchUpError> {
        let Some(failing) = self.failing(project, records).await? else { return Ok(None) };
        let (mut txns, mut held_back) = (BTreeSet::new(), BTreeSet::new());
        for (key, record) in records {
            let Some(bad) = record.value.oid().and_then(|oid| failing.get(&oid)) else { continue };
            if !bad && !self.descends_from_held(&record.txn).await? {
                return Ok(None);
            }
            txns.insert(&record.txn);
            held_back.insert(key.clone());
        }
        let together = records.iter().filter(|(key, record)| **key != RefKey::State && txns.contains(&record.txn));
        held_back.extend(together.map(|(key, _)| key.clone()));
        Ok((!held_back.is_empty()).then_some(held_back))
    }

    /// The values whose objects cannot be fetched, found by halving the list, each with whether its objects are bad.
    /// None if too many fail.
    async fn failing(
        &self,
        project: &ProjectKey,
        records: &BTreeMap<RefKey, RefRecord>,
    ) -> Result<Option<BTreeMap<Oid, bool>>, CatchUpError> {
        let mut wants = Vec::new();
        for (key, record) in records {
            let here = self.units.versions.get(project, key)?;
            let is_newer = here.is_none_or(|here| here.version < record.version);
            if let Some(oid) = record.value.oid().filter(|_| is_newer)
                && !self.units.versions.is_committed(project, &oid)?
            {
                wants.push((rank(key), oid));
            }
        }
        let mut parts: Vec<Vec<Oid>> = distinct(wants).chunks(MOST_OIDS).map(<[Oid]>::to_vec).collect();
        parts.reverse();
        let mut failing = BTreeMap::new();
        while let Some(part) = parts.pop() {
            match self.units.fetch_from_peers(project, &part, &[], self.peers.as_ref()).await {
                Ok(()) => {}
                Err(error) if is_of_content(&error) && part.len() == 1 => {
                    failing.insert(part[0], matches!(error, UnitError::Bad(_)));
                    if failing.len() > MOST_FAILED {
                        return Ok(None);
                    }
                }
                Err(error) if is_of_content(&error) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right.to_vec(), left.to_vec()]);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(failing))
    }

    /// Whether a transaction, or one before it in the chains of its refs, is held as bad here or at another node.
    async fn descends_from_held(&self, txn: &TxnId) -> Result<bool, CatchUpError> {
        let (mut wanted, mut seen) = (vec![txn.clone()], BTreeSet::new());
        while let Some(txn) = wanted.pop() {
            if self.debts.is_held_anywhere(&txn) {
                return Ok(true);
            }
            if !seen.insert(txn.clone()) || seen.len() > MOST_STEPS {
                continue;
            }
            match self.load(&txn).await {
                Ok(transaction) => {
                    wanted.extend(transaction.commands.into_iter().filter_map(|command| command.predecessor));
                }
                Err(Stop::Failed(error @ CatchUpError::RefDb(_))) => return Err(error),
                // The journal does not lead further.
                Err(_) => {}
            }
        }
        Ok(false)
    }
}
