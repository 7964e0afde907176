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
    /// they may not be trimmed yet: a node could not tell that it missed one.
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
    /// node has no position in a shard that has such records, or one that is trimmed already.
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
                let read = match local.volume.store().checkpoints().ok()?.remove(&id)? {
                    Position::Start => return None,
                    Position::After(read) => read.parse().ok().filter(|read: &u64| *read >= from)?,
                    Position::End => continue,
                };
                let unread = going.iter().filter(|record| number(record).is_some_and(|at| at > read));
                missed.extend(unread.map(|record| (node.clone(), (*record).clone())));
            }
        }
        Some(missed)
    }
}

/// The sequence number of a record.
fn number((number, _): &Logged) -> Option<u64> {
    number.parse().ok()
}
