//! The part of this node in an explanation: its record, its disk, what it has set aside, and what its Gerrit has seen.

use std::time::Duration;

use lockstep_proto::bridge::ApiError;
use lockstep_proto::debt::DebtStatus;
use lockstep_proto::digests::{RefLook, RefsRequest};
use lockstep_proto::explain::{
    MOST_SET_ASIDE, MOST_SHARDS, RefAtNode, RefAtNodeRequest, RefreshOfRef, SetAsideKind, SetAsideRef,
};
use lockstep_proto::status::{AppliedStatus, CheckpointStatus};
use lockstep_proto::verify::Side;
use lockstep_proto::{ProjectKey, RefKey, RefValue, Transaction, TxnId, Version};
use tokio::time::timeout;

use super::{Explainer, text};
use crate::seams::eventlog::Position;
use crate::seams::volume::{Held, ShardId, StoreError, parked_pages};
use crate::stages::ports::PeerRefs;

/// The most pages of parked records that are looked through, so that an answer stays cheap.
const MOST_PAGES: usize = 64;
/// How long the look at the disk may wait for the lock of the ref.
const LOOK: Duration = Duration::from_secs(3);

impl Explainer<'_> {
    /// The part of this node.
    pub(in crate::node::assembly) async fn here(&self, request: &RefAtNodeRequest) -> Result<RefAtNode, ApiError> {
        let RefAtNodeRequest { project, key, txn, .. } = request;
        let (settings, state) = (&self.stages.deps.settings, &self.stages.state);
        let (record, disk, problem) = match self.look(project, key).await {
            Ok(RefLook { record, disk, .. }) => (record.map(|it| side(it.version, &it.value, &it.txn)), disk, None),
            Err(why) => {
                let record = state.versions.get(project, key).map_err(ApiError::unavailable)?;
                (record.map(|it| side(it.version, &it.value, &it.txn)), None, Some(why))
            }
        };
        let known = state.versions.project(&project.name).map_err(ApiError::unavailable)?;
        let refresh = self.stages.refresh.as_ref().and_then(|refresh| refresh.of_ref(&project.name, key));
        Ok(RefAtNode {
            site: settings.site.clone(),
            node: settings.node.clone(),
            waits_for: self.closed.clone(),
            project: known.map(|known| known.to_string()),
            record,
            disk: disk.map(|disk| text(&disk)),
            problem,
            slots_behind: self.slots_behind(txn).map_err(ApiError::unavailable)?,
            set_aside: self.set_aside(project, key).await.map_err(ApiError::unavailable)?,
            debts: self.debts(project, key),
            refresh: refresh.map(|(subject, due)| RefreshOfRef { subject: subject.to_string(), due }),
            events_waiting: self.stages.events.waiting_for(&project.name, key),
            events_unsent: self.stages.events.status().unsent,
            applied: self.applied(txn),
            read: self.read(request).map_err(ApiError::unavailable)?,
        })
    }

    /// A ref as the version map and the disk have it at one moment, or why it cannot be told.
    pub(super) async fn look(&self, project: &ProjectKey, key: &RefKey) -> Result<RefLook, String> {
        let request = RefsRequest { project: project.clone(), keys: vec![key.clone()], catch_up: false };
        match timeout(LOOK, PeerRefs::refs(&self.stages.verifier, request)).await {
            Ok(Ok(answer)) => answer.refs.into_iter().next().ok_or_else(|| "the ref was not looked at".to_owned()),
            Ok(Err(error)) => Err(error.message),
            Err(_) => Err(format!("the ref is being moved here for more than {} s", LOOK.as_secs())),
        }
    }

    /// The slots of a transaction's lane, up to its own, that are not durably applied. None if there are none, or if
    /// the lane is not known here.
    fn slots_behind(&self, txn: &TxnId) -> Result<Option<u64>, StoreError> {
        let mark = self.stages.deps.store.low_water()?.get(&txn.slot.lane).copied();
        let behind = mark.map(|mark| txn.slot.seq.next().0.saturating_sub(mark.0));
        Ok(behind.filter(|behind| *behind > 0))
    }

    /// The committed transactions of a ref that are quarantined or parked here: the quarantined ones first, each kind
    /// in the order of the versions. Those whose versions are not known are the last of their kind.
    async fn set_aside(&self, project: &ProjectKey, key: &RefKey) -> Result<Vec<SetAsideRef>, StoreError> {
        let (store, project) = (self.stages.deps.store.as_ref(), project.to_string());
        let of_ref = |kind, id: &str, held: &Held| {
            if held.project == project { set_aside(kind, id, held, key) } else { None }
        };
        let quarantined = store.quarantined()?;
        let committed = quarantined.iter().filter(|(_, held)| held.is_committed());
        let mut found: Vec<SetAsideRef> =
            committed.filter_map(|(id, held)| of_ref(SetAsideKind::Quarantined, id, held)).collect();
        for page in parked_pages(store).take(MOST_PAGES) {
            found.extend(page?.iter().filter_map(|(id, held)| of_ref(SetAsideKind::Parked, id, held)));
            tokio::task::yield_now().await;
        }
        found.sort_by_key(|one| (one.kind == SetAsideKind::Parked, one.version.unwrap_or(u64::MAX)));
        found.truncate(MOST_SET_ASIDE);
        Ok(found)
    }

    /// The debts of a ref, and of its whole project.
    fn debts(&self, project: &ProjectKey, key: &RefKey) -> Vec<DebtStatus> {
        let (name, project, key) = (project.name.to_string(), project.to_string(), key.to_string());
        let is_of_ref = |debt: &DebtStatus| {
            (debt.project == name || debt.project == project) && (debt.refs.is_empty() || debt.refs.contains(&key))
        };
        self.stages.state.debts.show().into_iter().filter(is_of_ref).collect()
    }

    /// The transaction, if it is one of the last that this node has applied.
    fn applied(&self, txn: &TxnId) -> Option<AppliedStatus> {
        let mut recent = self.board.snapshot().origins.into_iter().flat_map(|origin| origin.recent);
        recent.find(|one| one.txn == *txn)
    }

    /// How far the stream of the transaction's site is durably applied here.
    fn read(&self, request: &RefAtNodeRequest) -> Result<Vec<CheckpointStatus>, StoreError> {
        let checkpoints = self.stages.deps.store.checkpoints()?.into_iter();
        let of_origin = checkpoints.filter(|(shard, _)| request.origin.as_ref() == Some(&shard.site));
        Ok(of_origin.map(checkpoint_status).take(MOST_SHARDS).collect())
    }
}

/// The checkpoint of a shard.
pub(in crate::node::assembly) fn checkpoint_status((id, position): (ShardId, Position)) -> CheckpointStatus {
    CheckpointStatus {
        stream: id.site,
        shard: id.shard,
        position: match position {
            Position::Start => "start".to_owned(),
            Position::After(sequence) => sequence,
            Position::End => "end".to_owned(),
        },
    }
}

fn side(version: Version, value: &RefValue, txn: &TxnId) -> Side {
    Side { version: version.0, value: text(value), txn: txn.to_string() }
}

/// A record that is set aside, if it moves the ref, or may move it.
fn set_aside(kind: SetAsideKind, id: &str, held: &Held, key: &RefKey) -> Option<SetAsideRef> {
    let version = match Transaction::outlined(&held.bytes) {
        Ok(transaction) if transaction.is_whole() => Some(transaction.command(key)?.version.0),
        // Its long form alone tells its refs.
        Ok(_) | Err(_) => None,
    };
    let (entry, reason) = (id.to_owned(), held.reason.clone());
    Some(SetAsideRef { kind, entry, version, reason, since_ms: held.since_ms })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lockstep_proto::Command;

    use super::*;
    use crate::base::transaction_builder::TransactionBuilder;
    use crate::seams::volume::HeldKind;

    const TXN: &str = "a-0.1.0.3.00000000000000aa";

    fn held(bytes: Bytes) -> Held {
        let (project, reason) = ("p#1".to_owned(), "objects x".to_owned());
        Held { bytes, kind: HeldKind::Committed, project, reason, waits_for: Vec::new(), since_ms: 7 }
    }

    #[test]
    fn a_record_is_of_the_refs_that_it_moves_and_an_unreadable_one_may_be_of_any() {
        let key = |name: &str| RefKey::Ref(format!("refs/heads/{name}").parse().unwrap());
        let transaction = Transaction {
            commands: vec![Command {
                key: key("main"),
                old: RefValue::Oid("1".repeat(40).parse().unwrap()),
                new: RefValue::Absent,
                version: Version(2),
                predecessor: Some("a-0.1.0.2.00000000000000aa".parse().unwrap()),
            }],
            ..TransactionBuilder::of(TXN.parse().unwrap()).build()
        };
        let (whole, other) = (held(transaction.encode()), held(Bytes::from_static(b"\xff")));
        let found = |held: &Held, name: &str| set_aside(SetAsideKind::Parked, TXN, held, &key(name));
        let main = found(&whole, "main").unwrap();
        assert_eq!((main.entry.as_str(), main.version, main.since_ms), (TXN, Some(2), 7));
        assert_eq!(found(&whole, "other"), None);
        assert_eq!(found(&other, "other").map(|one| one.version), Some(None));
    }
}
