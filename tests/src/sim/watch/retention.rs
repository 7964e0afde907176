//! Trimmed streams in the watch: whether a stream may forget records now, and what its readers miss.

use lockstep::seams::eventlog::Position;
use lockstep::seams::volume::ShardId;
use lockstep_proto::{NodeId, SiteId};

use super::{Known, Watch};
use crate::sim::check::checkpoints::Logged;

impl Watch {
    /// The number that the next record of a site's stream gets, or a lower one.
    #[must_use]
    pub fn next_record(&self, site: &SiteId) -> u64 {
        let mut known = self.known();
        known.mirror.refresh(site);
        let of_site = known.mirror.records.iter().filter(|((of, _), _)| of == site);
        let last = of_site.filter_map(|(_, records)| number(records.last()?)).max();
        last.map_or(0, |last| last + 1)
    }

    /// Notes that the records of a stream before this number are about to be trimmed. False if there are none, or if
    /// they may not be trimmed yet: nothing would tell a node that it missed one.
    #[must_use]
    pub fn trims(&self, site: &SiteId, before: u64) -> bool {
        let mut known = self.known();
        known.mirror.refresh(site);
        let from = known.mirror.trimmed.get(site).copied().unwrap_or(0);
        let Some(missed) = known.missed(site, from, before).filter(|_| before > from) else { return false };
        let Known { mirror, events, locals, .. } = &mut *known;
        mirror.trimmed.insert(site.clone(), before);
        for ((of, _), records) in &mirror.records {
            let gone = records.iter().filter(|record| of == site && number(record).is_some_and(|at| at < before));
            gone.filter_map(|(_, txn)| mirror.announced.get(txn.as_ref()?)).for_each(|id| events.trimmed(id));
        }
        for (node, (_, txn)) in missed {
            if let Some(local) = locals.get_mut(&node) {
                local.missed = true;
            }
            if let Some(id) = txn.as_ref().and_then(|txn| mirror.announced.get(txn)) {
                events.missed(&node, id);
            }
        }
        true
    }
}

impl Known {
    /// The records from `from` to `before` that nodes have not read, by the durable positions of the nodes. None if a
    /// node has no position, or one that is trimmed already, and lacks a record whose slot is not below its published
    /// mark yet. Only that mark tells such a node what it missed. In production a mark is stored within seconds, and
    /// records are kept for a day at least.
    fn missed(&self, site: &SiteId, from: u64, before: u64) -> Option<Vec<(NodeId, Logged)>> {
        let stream = self.mirror.stream(site)?;
        let mut missed = Vec::new();
        for info in &stream.shards {
            let records = self.mirror.records.get(&(site.clone(), info.id.clone()));
            let records: &[Logged] = records.map_or(&[], Vec::as_slice);
            let going = |record: &&Logged| number(record).is_some_and(|at| (from..before).contains(&at));
            let going: Vec<&Logged> = records.iter().filter(going).collect();
            if going.is_empty() {
                continue;
            }
            let id = ShardId { site: site.clone(), created: stream.created.clone(), shard: info.id.clone() };
            for (node, local) in &self.locals {
                let read: Option<u64> = match local.volume.store().checkpoints().ok()?.remove(&id) {
                    None | Some(Position::Start) => None,
                    Some(Position::After(read)) => read.parse().ok(),
                    Some(Position::End) => continue,
                };
                let is_told = read.is_some_and(|read| read >= from);
                let is_unread = |record: &&&Logged| number(record).is_some_and(|at| read.is_none_or(|read| at > read));
                let unread: Vec<&Logged> = going.iter().filter(is_unread).copied().collect();
                if !is_told && unread.iter().any(|record| !self.is_published(record)) {
                    return None;
                }
                missed.extend(unread.into_iter().map(|record| (node.clone(), record.clone())));
            }
        }
        Some(missed)
    }

    /// Whether the slot of a record is below the published mark of its lane, as the refdb has it. A record without a
    /// slot counts as published.
    fn is_published(&self, (_, txn): &Logged) -> bool {
        let Some(slot) = txn.as_ref().map(|txn| &txn.slot) else { return true };
        let incarnation = self.facts.incarnations.get(&slot.lane.incarnation);
        let mark = incarnation.and_then(|record| record.published.get(slot.lane.lane.index()));
        mark.is_none_or(|mark| slot.seq < *mark)
    }
}

/// The sequence number of a record.
fn number((number, _): &Logged) -> Option<u64> {
    number.parse().ok()
}
