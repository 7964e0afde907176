//! The records of one sender that wait for one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Answer, Attempted, Pace};
use crate::base::clock::Entropy;
use crate::seams::eventlog::{EventLogError, Record};

/// Most bytes of waiting records that are held in memory. Beyond it, a record is loaded again when its turn comes.
const HELD_BYTES: usize = 32 * 1024 * 1024;
/// Most bytes of one group's waiting records that are held in memory.
const GROUP_BYTES: usize = 2 * 1024 * 1024;

/// A record that waits.
#[derive(Clone, Debug)]
struct Waiting {
    group: String,
    /// None if the record is to be loaded when its turn comes.
    record: Option<Record>,
    bytes: usize,
}

/// The waiting records of one group.
#[derive(Clone, Debug)]
struct Group<K> {
    keys: BTreeSet<K>,
    held: usize,
}

/// The records that wait, each under a key of type `K`. The keys give the order within a group.
#[derive(Clone)]
pub struct Queue<K> {
    pace: Pace,
    waiting: BTreeMap<K, Waiting>,
    groups: BTreeMap<String, Group<K>>,
    /// The group that was served last. The next request begins behind it, so that every group gets its turn.
    served: Option<String>,
    held: usize,
}

/// The end of one append, record by record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<K> {
    /// The records that need no append any more.
    pub done: Vec<K>,
    /// Those of them that the stream will never take, each with the reason.
    pub given_up: Vec<(K, EventLogError)>,
    /// Number of records that were refused.
    pub refused: usize,
    /// The reason of the first refusal.
    pub why: Option<EventLogError>,
    /// Number of records that were taken, and must be appended again because they overtook a refused one.
    pub repeats: usize,
}

impl<K: Ord + Clone> Queue<K> {
    /// Creates a queue without records.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        let (waiting, groups) = (BTreeMap::new(), BTreeMap::new());
        Self { pace: Pace::new(entropy), waiting, groups, served: None, held: 0 }
    }

    /// Adds a record. Its partition key is its group.
    pub fn push(&mut self, key: K, record: Record) {
        let (group, bytes) = (record.partition_key.clone(), record.data.len());
        let here = self.groups.entry(group.clone()).or_insert_with(|| Group { keys: BTreeSet::new(), held: 0 });
        let holds = self.held + bytes <= HELD_BYTES && (here.held + bytes <= GROUP_BYTES || here.keys.is_empty());
        if holds {
            self.held += bytes;
            here.held += bytes;
        }
        here.keys.insert(key.clone());
        self.waiting.insert(key, Waiting { group, record: holds.then_some(record), bytes });
    }

    /// Whether no record waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The records of the next append, in the order in which they are to be sent. A record that is not in memory is
    /// `None`: load it. Empty if nothing may be sent now.
    pub fn choose(&mut self, now: Instant) -> Vec<(K, Option<Record>)> {
        if self.pace.rests_until(now).is_some() {
            return Vec::new();
        }
        let budget = self.pace.budget();
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        'groups: for group in self.turns() {
            if self.pace.pauses_until(&group, now).is_some() {
                continue;
            }
            let run = self.pace.run(&group);
            for key in self.groups.get(&group).iter().flat_map(|one| &one.keys).take(run) {
                let Some(one) = self.waiting.get(key) else { continue };
                if !chosen.is_empty() && (chosen.len() >= budget.records || bytes + one.bytes > budget.bytes) {
                    break 'groups;
                }
                bytes += one.bytes;
                chosen.push((key.clone(), one.record.clone()));
                self.served = Some(group.clone());
            }
        }
        chosen
    }

    /// The groups, beginning behind the one that was served last.
    fn turns(&self) -> Vec<String> {
        let Some(served) = &self.served else { return self.groups.keys().cloned().collect() };
        let is_behind = |group: &&String| *group > served;
        let behind = self.groups.keys().filter(is_behind);
        behind.chain(self.groups.keys().filter(|group| !is_behind(group))).cloned().collect()
    }

    /// When something may be sent again. None if nothing waits. `now` or earlier if something may be sent at once.
    #[must_use]
    pub fn next_turn(&self, now: Instant) -> Option<Instant> {
        let groups = self.groups.keys().map(|group| self.pace.pauses_until(group, now).unwrap_or(now)).min();
        let rests = self.pace.rests_until(now).unwrap_or(now);
        groups.map(|group| group.max(rests))
    }

    /// Takes the answers to an append of these records, one per record in their order. A missing answer counts as a
    /// refusal.
    pub fn answered(&mut self, now: Instant, sent: &[K], answers: Vec<Answer>) -> Answered<K> {
        let mut result = Answered { done: Vec::new(), given_up: Vec::new(), refused: 0, why: None, repeats: 0 };
        let (mut broken, mut attempted): (BTreeSet<String>, Vec<(String, usize, bool)>) = Default::default();
        let mut answers = answers.into_iter();
        for key in sent {
            let Some(one) = self.waiting.get(key) else { continue };
            let (group, bytes) = (one.group.clone(), one.bytes);
            let answer = answers.next().unwrap_or_else(|| Err(EventLogError::NotNow("no answer".to_owned())));
            let overtook = broken.contains(&group);
            let done = match answer {
                Ok(()) if overtook => {
                    result.repeats += 1;
                    false
                }
                Ok(()) => true,
                Err(error @ EventLogError::TooLarge { .. }) => {
                    result.given_up.push((key.clone(), error));
                    true
                }
                Err(error) => {
                    result.refused += 1;
                    result.why.get_or_insert(error);
                    broken.insert(group.clone());
                    false
                }
            };
            if done {
                result.done.push(key.clone());
            }
            attempted.push((group, bytes, done));
        }
        let view: Vec<Attempted<'_>> =
            attempted.iter().map(|(group, bytes, done)| Attempted { group, bytes: *bytes, done: *done }).collect();
        self.pace.answered(now, &view, result.repeats);
        result.done.iter().for_each(|key| self.remove(key));
        let groups = &self.groups;
        self.pace.retain(|group| groups.contains_key(group));
        result
    }

    /// Records that an append failed as a whole. Its records wait on.
    pub fn failed(&mut self, now: Instant) {
        self.pace.failed(now);
    }

    fn remove(&mut self, key: &K) {
        let Some(one) = self.waiting.remove(key) else { return };
        let held = if one.record.is_some() { one.bytes } else { 0 };
        self.held -= held;
        if let Some(group) = self.groups.get_mut(&one.group) {
            group.held -= held;
            group.keys.remove(key);
            if group.keys.is_empty() {
                self.groups.remove(&one.group);
            }
        }
    }
}

#[cfg(test)]
mod tests;
