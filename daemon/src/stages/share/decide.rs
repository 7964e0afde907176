//! Decides over the leases of shards: a pure function of the document, of the looks at it, and of this node's progress.
//!
//! Nobody compares clocks. A node counts its own looks at a lease whose counter does not move. A node that has leases
//! already waits for more looks than one that has none, so the shards of a site spread over its nodes.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::NodeId;
use lockstep_proto::sharing::{ReaderLease, ReaderLeases};

/// A lease that has not moved between this many looks in a row is held by a node that is dead or stuck. Two of the
/// shortest intervals between looks are as long as the longest one.
const STILL: u32 = 5;
/// A lease that has not moved between this many looks, and that this node does not want, is removed.
const FORGOTTEN: u32 = 100;

/// The looks of this node at the leases.
#[derive(Debug, Default)]
pub(super) struct Looks(BTreeMap<String, Look>);

/// The looks at one lease in its present state.
#[derive(Debug)]
struct Look {
    lease: Option<ReaderLease>,
    times: u32,
}

impl Looks {
    /// Notes one look at the document. It counts for every lease, and for every wanted shard without one.
    pub(super) fn look(&mut self, leases: &ReaderLeases, wanted: &BTreeSet<String>) {
        self.0.retain(|key, _| leases.leases.contains_key(key) || wanted.contains(key));
        let keys: BTreeSet<&String> = leases.leases.keys().chain(wanted).collect();
        for key in keys {
            let lease = leases.leases.get(key);
            match self.0.get_mut(key) {
                Some(look) if look.lease.as_ref() == lease => look.times = look.times.saturating_add(1),
                _ => drop(self.0.insert(key.clone(), Look { lease: lease.cloned(), times: 1 })),
            }
        }
    }

    /// Whether the holder of a lease has shown no progress for long.
    pub(super) fn is_still(&self, key: &str) -> bool {
        self.times(key) >= STILL
    }

    fn times(&self, key: &str) -> u32 {
        self.0.get(key).map_or(0, |look| look.times)
    }
}

/// This node, as far as its leases are concerned.
pub(super) struct Me<'a> {
    /// The name of the node.
    pub node: &'a NodeId,
    /// The leases of the shards that it reads.
    pub wanted: &'a BTreeSet<String>,
    /// Those of the shards that it has read from the stream since its last look.
    pub progressed: &'a BTreeSet<String>,
}

/// A change of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This node goes on.
    Renewed,
    /// This node has taken a free lease.
    Taken,
    /// This node has taken the lease of a node that is dead or stuck.
    TakenOver,
    /// This node has given up its lease.
    HandedOver,
    /// A lease that nobody keeps was removed.
    Forgotten,
}

/// Changes the document as far as this node may and should, and tells the changes. At most one lease is taken.
pub(super) fn decide(leases: &mut ReaderLeases, looks: &Looks, me: &Me<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for key in of(me.node, leases) {
        if !me.wanted.contains(&key) {
            leases.give(&key, None);
            changes.push(Change::HandedOver);
        } else if me.progressed.contains(&key) {
            leases.give(&key, Some(me.node.clone()));
            changes.push(Change::Renewed);
        }
    }
    let held = u32::try_from(of(me.node, leases).len()).unwrap_or(u32::MAX);
    let is_due = |key: &&String| match leases.leases.get(*key).and_then(|lease| lease.holder.as_ref()) {
        None => looks.times(key) > held,
        Some(holder) => holder != me.node && looks.times(key) >= STILL.saturating_add(held),
    };
    if let Some(key) = me.wanted.iter().find(is_due) {
        let is_held = leases.leases.get(key).is_some_and(|lease| lease.holder.is_some());
        changes.push(if is_held { Change::TakenOver } else { Change::Taken });
        leases.give(key, Some(me.node.clone()));
    }
    let before = leases.leases.len();
    leases.leases.retain(|key, lease| {
        let is_mine = lease.holder.as_ref() == Some(me.node);
        is_mine || me.wanted.contains(key) || looks.times(key) < FORGOTTEN
    });
    changes.extend((leases.leases.len()..before).map(|_| Change::Forgotten));
    changes
}

/// The leases of a node.
pub(super) fn of(node: &NodeId, leases: &ReaderLeases) -> BTreeSet<String> {
    let held = leases.leases.iter().filter(|(_, lease)| lease.holder.as_ref() == Some(node));
    held.map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    /// A node of the test with its looks.
    struct Node {
        name: NodeId,
        looks: Looks,
    }

    impl Node {
        fn new(name: &str) -> Self {
            Self { name: node(name), looks: Looks::default() }
        }

        /// One turn of the node.
        fn turn(&mut self, leases: &mut ReaderLeases, wanted: &[&str], progressed: &[&str]) -> Vec<Change> {
            let (wanted, progressed) = (keys(wanted), keys(progressed));
            self.looks.look(leases, &wanted);
            decide(leases, &self.looks, &Me { node: &self.name, wanted: &wanted, progressed: &progressed })
        }
    }

    fn held_by<'a>(leases: &'a ReaderLeases, name: &str) -> Vec<&'a str> {
        let held = leases.leases.iter().filter(|(_, lease)| lease.holder == Some(node(name)));
        held.map(|(key, _)| key.as_str()).collect()
    }

    #[test]
    fn the_shards_of_a_site_spread_over_its_nodes() {
        let (mut leases, mut one, mut two) = (ReaderLeases::default(), Node::new("a-0"), Node::new("a-1"));
        let all = ["0", "1", "2", "3"];
        for _ in 0..6 {
            one.turn(&mut leases, &all, &all);
            two.turn(&mut leases, &all, &all);
        }
        assert_eq!((held_by(&leases, "a-0").len(), held_by(&leases, "a-1").len()), (2, 2), "{leases:?}");
        let mut alone = Node::new("b-0");
        let mut others = ReaderLeases::default();
        (0..12).for_each(|_| drop(alone.turn(&mut others, &all, &all)));
        assert_eq!(held_by(&others, "b-0").len(), 4, "no shard stays without a reader");
    }

    #[test]
    fn a_lease_without_progress_is_taken_over_and_one_with_progress_is_not() {
        let (mut leases, mut holder, mut other) = (ReaderLeases::default(), Node::new("a-0"), Node::new("a-1"));
        assert_eq!(holder.turn(&mut leases, &["0"], &[]), [Change::Taken]);
        for _ in 0..20 {
            assert_eq!(holder.turn(&mut leases, &["0"], &["0"]), [Change::Renewed]);
            assert_eq!(other.turn(&mut leases, &["0"], &["0"]), []);
        }
        let mut last = leases.leases["0"].counter;
        for look in 1..STILL - 1 {
            assert_eq!(holder.turn(&mut leases, &["0"], &[]), [], "the holder lives, and reads nothing");
            assert_eq!(other.turn(&mut leases, &["0"], &[]), [], "{look}");
            assert_eq!(leases.leases["0"].counter, last);
        }
        // The first look was the one that saw the last renewal.
        let changes: Vec<Change> = (0..2).flat_map(|_| other.turn(&mut leases, &["0"], &[])).collect();
        assert_eq!((changes.as_slice(), held_by(&leases, "a-1")), (&[Change::TakenOver][..], vec!["0"]));
        last += 1;
        assert_eq!(leases.leases["0"].counter, last, "the counter goes on");
        assert_eq!(holder.turn(&mut leases, &["0"], &["0"]), [], "the earlier holder reads through the new one");
    }

    #[test]
    fn a_shard_that_is_no_longer_read_is_handed_over_and_later_forgotten() {
        let (mut leases, mut holder, mut other) = (ReaderLeases::default(), Node::new("a-0"), Node::new("a-1"));
        holder.turn(&mut leases, &["0"], &[]);
        assert_eq!(holder.turn(&mut leases, &[], &[]), [Change::HandedOver]);
        let before = leases.leases["0"].counter;
        assert_eq!(other.turn(&mut leases, &["0"], &[]), [Change::Taken]);
        assert!(leases.leases["0"].counter > before);
        let mut last = Node::new("b-0");
        let changes: Vec<Change> = (0..FORGOTTEN).flat_map(|_| last.turn(&mut leases, &[], &[])).collect();
        assert_eq!((changes, leases.leases.len(), leases.last), (vec![Change::Forgotten], 0, 3));
    }
}
