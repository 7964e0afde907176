//! Invariant 5: without faults and after a bounded time, all nodes equal the refdb. Refs and version maps are equal,
//! nothing is parked, checkpoints are at the ends of the streams, and every commit is in the event log.

use std::collections::BTreeMap;

use lockstep::seams::eventlog::{Position, StreamInfo};
use lockstep::seams::refdb::RefItem;
use lockstep::seams::volume::ShardId;
use lockstep_proto::{ProjectKey, ProjectName, RefKey, SiteId, TxnId, Version};

use super::checkpoints::Logged;
use crate::sim::backend::Volume;
use crate::sim::facts::{Facts, is_rotten, is_rotten_key};

/// The first difference between a node's volume and the refdb. None if they are equal.
#[must_use]
pub fn volume_differs(facts: &Facts, volume: &dyn Volume) -> Option<String> {
    let store = volume.store();
    for (name, project) in &facts.projects {
        if let Some(what) = super::projects::volume_differs(facts, volume, project) {
            return Some(what);
        }
        let (mut shown, mut live) = (volume.refs(name), facts.live(project));
        shown.retain(|name, _| !is_rotten(name));
        live.retain(|name, _| !is_rotten(name));
        if shown != live {
            return Some(format!("{project} shows {shown:?}, the refdb has {live:?}"));
        }
        for (name, oid) in &shown {
            if !volume.closure_is_complete(&project.name, oid) {
                return Some(format!("{project} {name} at {oid} lacks objects"));
            }
        }
        for key in facts.keys(project).into_iter().filter(|key| !is_rotten_key(key)) {
            let last = facts.chain(project, &key).last().map_or(Version::NONE, |step| step.version);
            let known = store.reference(project, &key).ok().flatten().map_or(Version::NONE, |known| known.version);
            if known != last {
                return Some(format!("the version map has {project} {key}@{known}, the refdb has {last}"));
            }
        }
    }
    if let Some(what) = super::marks::lane_behind(facts, store.as_ref()) {
        return Some(what);
    }
    let is_rotten = |name: &ProjectName| facts.bad.iter().any(|txn| is_of(facts, txn, name));
    if let Some((name, debt)) = store.debts().unwrap_or_default().into_iter().find(|(name, _)| !is_rotten(name)) {
        return Some(format!("{name} is still owed: {}", debt.why));
    }
    let parked = super::parked(store.as_ref()).unwrap_or_default();
    let waits_for_ever = |id: &str| id.parse().is_ok_and(|txn| is_all_rotten(facts, &txn));
    let mut parked = parked.into_iter().filter(|(id, _)| !waits_for_ever(id));
    parked.next().map(|(id, held)| format!("{id} is still parked: {}", held.reason))
}

/// Whether a transaction moves nothing but refs that bad content was committed to.
fn is_all_rotten(facts: &Facts, txn: &TxnId) -> bool {
    let transaction = facts.transactions.get(txn);
    transaction.is_some_and(|transaction| transaction.commands.iter().all(|command| is_rotten_key(&command.key)))
}

fn is_of(facts: &Facts, txn: &TxnId, name: &ProjectName) -> bool {
    facts.transactions.get(txn).is_some_and(|transaction| transaction.project.name == *name)
}

/// The first ref whose strong read is not the last step of its chain. None if all are.
#[must_use]
pub fn refdb_differs(
    facts: &Facts,
    project: &ProjectKey,
    keys: &[RefKey],
    items: &[Option<RefItem>],
) -> Option<String> {
    keys.iter().zip(items).find_map(|(key, item)| {
        let last = facts.chain(project, key).last().map(|step| (step.version, step.value.clone()));
        let read = item.as_ref().filter(|item| item.version != Version::NONE);
        let read = read.map(|item| (item.version, item.value.clone()));
        (last != read).then(|| format!("{project} {key} is read as {read:?}, the chain ends with {last:?}"))
    })
}

/// A shard of a stream that a node has not read to its end. None if it has read all.
#[must_use]
pub fn stream_differs(
    volume: &dyn Volume,
    site: &SiteId,
    stream: &StreamInfo,
    records: &BTreeMap<(SiteId, String), Vec<Logged>>,
    trimmed: u64,
) -> Option<String> {
    let checkpoints = volume.store().checkpoints().unwrap_or_default();
    stream.shards.iter().find_map(|info| {
        let id = ShardId { site: site.clone(), created: stream.created.clone(), shard: info.id.clone() };
        let last = records.get(&(site.clone(), info.id.clone())).and_then(|records| records.last());
        let last = last.filter(|(number, _)| number.parse().is_ok_and(|number: u64| number >= trimmed));
        let at = checkpoints.get(&id);
        let reached = match (last, at) {
            (None, _) | (_, Some(Position::End)) => true,
            (Some((last, _)), Some(Position::After(at))) => last == at,
            (Some(_), Some(Position::Start) | None) => false,
        };
        (!reached).then(|| format!("shard {site}/{} is read to {at:?}, its last record is {last:?}", info.id))
    })
}

/// A committed transaction that the event log lacks. None if it has all.
#[must_use]
pub fn unpublished(facts: &Facts, logged: &std::collections::BTreeSet<lockstep_proto::TxnId>) -> Option<String> {
    let missing = facts.transactions.keys().find(|txn| !logged.contains(*txn));
    missing.map(|txn| format!("{txn} is committed, but was never published"))
}
