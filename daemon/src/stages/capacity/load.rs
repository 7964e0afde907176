//! The load of a stream, from the digests that the nodes of its site leave in the refdb.

use std::collections::BTreeMap;

use lockstep_proto::overview::{NodeDigest, Written};
use lockstep_proto::{NodeId, SiteId};

use super::decide::Load;
use crate::seams::refdb::DigestRecord;

/// The writes of each node, as its last digest told them.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: BTreeMap<NodeId, Told>,
}

/// The part of a digest that tells the writes of its node.
#[derive(Debug)]
struct Told {
    at_ms: u64,
    starts: Option<u64>,
    written: Option<Written>,
}

impl Rates {
    /// The load of a site's stream since the last look. None: it is not known, because this is the first look, or a
    /// living node does not tell its writes, or its clock went back. A digest that stands still counts as a node that
    /// writes nothing: a node that is cut off from the refdb commits nothing either. Neither does the first digest of a
    /// new start count.
    pub(super) fn look(&mut self, site: &SiteId, digests: &[DigestRecord]) -> Option<Load> {
        let is_first = self.last.is_empty();
        let (mut load, mut is_known) = (Load::default(), true);
        // A digest that cannot be read is of a later release.
        for digest in digests.iter().filter_map(|one| serde_json::from_str::<NodeDigest>(&one.body).ok()) {
            if digest.site != *site {
                continue;
            }
            let told = Told { at_ms: digest.at_ms, starts: digest.starts, written: digest.written };
            let Some(last) = self.last.get(&digest.node) else {
                self.last.insert(digest.node, told);
                continue;
            };
            if told.at_ms == last.at_ms {
                continue;
            }
            // A clock that went back is no node that stands still.
            is_known &= told.written.is_some() && told.at_ms > last.at_ms;
            load = plus(load, &between(last, &told));
            self.last.insert(digest.node, told);
        }
        (is_known && !is_first).then_some(load)
    }
}

/// The writes between two digests of a node.
fn between(last: &Told, told: &Told) -> Load {
    let (Some(before), Some(now)) = (last.written, told.written) else { return Load::default() };
    let is_of_one_start = last.starts == told.starts && now.bytes >= before.bytes && now.records >= before.records;
    let took_ms = told.at_ms.saturating_sub(last.at_ms);
    if !is_of_one_start || took_ms == 0 {
        return Load::default();
    }
    let rate = |count: u64| count.saturating_mul(1_000).div_ceil(took_ms);
    Load {
        bytes: rate(now.bytes - before.bytes),
        records: rate(now.records - before.records),
        refused: now.refused.saturating_sub(before.refused),
    }
}

fn plus(one: Load, other: &Load) -> Load {
    Load {
        bytes: one.bytes.saturating_add(other.bytes),
        records: one.records.saturating_add(other.records),
        refused: one.refused.saturating_add(other.refused),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(node: &str, site: &str, at_ms: u64, starts: u64, written: Value) -> DigestRecord {
        let body = json!({"format": 1, "site": site, "node": node, "at_ms": at_ms, "starts": starts,
            "written": written});
        DigestRecord { node: node.parse().unwrap(), body: body.to_string() }
    }

    fn written(bytes: u64, records: u64, refused: u64) -> Value {
        json!({"bytes": bytes, "records": records, "refused": refused})
    }

    #[test]
    fn the_writes_of_all_nodes_of_the_site_are_added_up_per_second() {
        let mut rates = Rates::default();
        let mut look = |digests: &[DigestRecord]| rates.look(&"a".parse().unwrap(), digests);
        let at = |ms: u64, first: Value, second: Value| {
            let other = digest("b-0", "b", ms, 1, written(ms * 1_000_000, 9, 9));
            [digest("a-0", "a", ms, 1, first), digest("a-1", "a", ms + 7, 4, second), other]
        };
        assert_eq!(look(&at(1_000, written(5, 5, 5), written(0, 0, 0))), None, "the first look knows no time before");
        let second = at(11_000, written(20_005, 15, 6), written(10_000, 100, 0));
        assert_eq!(look(&second), Some(Load { bytes: 3_000, records: 11, refused: 1 }));
        assert_eq!(look(&second), Some(Load::default()), "digests that stand still");
    }

    #[test]
    fn a_new_start_begins_anew_and_a_living_node_that_tells_nothing_makes_the_load_unknown() {
        let mut rates = Rates::default();
        let mut look = |at_ms, starts, written: Value| {
            rates.look(&"a".parse().unwrap(), &[digest("a-0", "a", at_ms, starts, written)])
        };
        assert_eq!(look(1_000, 1, written(500, 5, 0)), None);
        assert_eq!(look(2_000, 2, written(900, 9, 0)), Some(Load::default()), "a restart counts from zero");
        assert_eq!(look(3_000, 2, written(1_900, 9, 0)), Some(Load { bytes: 1_000, ..Load::default() }));
        assert_eq!(look(4_000, 2, Value::Null), None, "a node of an earlier release writes, too");
        assert_eq!(look(5_000, 2, written(2_000, 9, 0)), Some(Load::default()), "it tells its writes again");
        assert_eq!(look(1_000, 2, written(9_000, 9, 0)), None, "its clock went back, and it writes on");
        let on = Some(Load { bytes: 4_000, ..Load::default() });
        assert_eq!(look(2_000, 2, written(13_000, 9, 0)), on, "the next look knows the load again");
    }
}
