//! The set of received announcements of one origin: each is delivered once, however often it is read.
//!
//! An origin numbers its announcements densely, and their copies arrive in any order: an append is repeated, a stream
//! is read again from its start, or the reader of one shard is days behind the reader of another. So the set is exact.
//! A number does not tell which shard it comes from, so a high-water mark, or a bound on the gaps, would lose the
//! announcements of a slow reader.
//!
//! A *block* of [`BLOCK`] numbers is one bit per number while some of them are missing. Full blocks become a few
//! ranges. A skew of ten million announcements takes 1.2 MiB.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Count of numbers per block.
pub const BLOCK: u64 = 4_096;
/// Count of 64-bit words per block.
const WORDS: usize = 64;
/// How far the stored time of the last arrival may be behind, in milliseconds.
const STALE_MS: u64 = 60_000;

/// The exact set of the sequence numbers that were received from one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// First and last block of each range of full blocks, ascending, with gaps between the ranges.
    full: Vec<(u64, u64)>,
    /// Blocks with some of their numbers, one bit per number.
    parts: BTreeMap<u64, Box<[u64; WORDS]>>,
    last_ms: u64,
    unsaved: Unsaved,
}

/// The changes that the store does not have yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unsaved {
    /// The time of the last arrival that the store has.
    last_ms: Option<u64>,
    full: bool,
    blocks: BTreeSet<u64>,
}

/// An origin's row in the store, JSON. A release that knew no blocks wrote ranges with any bounds, and can read this
/// row.
#[derive(Serialize, Deserialize)]
struct Row {
    /// First and last number of each range.
    ranges: Vec<(u64, u64)>,
    last_ms: u64,
}

/// Changes to store. A row or a block that is left out keeps its stored value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The origin's row; none when it has not changed.
    pub row: Option<String>,
    /// The changed blocks. Without bits, the block is removed, because the row covers it now.
    pub blocks: Vec<(u64, Option<Bytes>)>,
}

/// A block in the store has the wrong length.
#[derive(Debug, thiserror::Error)]
#[error("block {block} has {bytes} bytes")]
pub struct BlockError {
    block: u64,
    bytes: usize,
}

impl Received {
    /// Reads an origin's row. Blocks that are added later may repeat numbers of the row.
    ///
    /// # Errors
    /// The row cannot be read.
    pub fn load(row: &str) -> Result<Self, serde_json::Error> {
        let row: Row = serde_json::from_str(row)?;
        let mut received = Self { last_ms: row.last_ms, ..Self::default() };
        for (first, last) in row.ranges {
            received.take_range(first, last);
        }
        received.unsaved.full = !received.unsaved.blocks.is_empty();
        received.unsaved.last_ms = Some(row.last_ms);
        Ok(received)
    }

    /// Adds a block from the store.
    ///
    /// # Errors
    /// The bytes are not a block.
    pub fn load_block(&mut self, block: u64, bits: &[u8]) -> Result<(), BlockError> {
        let (words, rest) = bits.as_chunks::<8>();
        if words.len() != WORDS || !rest.is_empty() {
            return Err(BlockError { block, bytes: bits.len() });
        }
        if self.is_full(block) {
            return Ok(());
        }
        let part = self.parts.entry(block).or_insert_with(|| Box::new([0; WORDS]));
        part.iter_mut().zip(words).for_each(|(into, word)| *into |= u64::from_le_bytes(*word));
        self.close(block);
        Ok(())
    }

    /// Adds a number that arrived at `now_ms` (milliseconds since 1970). Answers whether it is new.
    pub fn take(&mut self, seq: u64, now_ms: u64) -> bool {
        let (block, bit) = (seq / BLOCK, seq % BLOCK);
        if self.is_full(block) {
            return false;
        }
        let part = self.parts.entry(block).or_insert_with(|| Box::new([0; WORDS]));
        let (word, mask) = (&mut part[(bit / 64) as usize], 1 << (bit % 64));
        if *word & mask != 0 {
            return false;
        }
        *word |= mask;
        self.unsaved.blocks.insert(block);
        self.last_ms = now_ms;
        self.close(block);
        true
    }

    /// When the last new number arrived, in milliseconds since 1970.
    #[must_use]
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Number of blocks and ranges in the set. Each takes at most 512 bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parts.len() + self.full.len()
    }

    /// Gives up the missing numbers of the oldest incomplete block: they count as received from now on. Answers how
    /// many they are, and the number below which they lie.
    pub fn give_up_oldest(&mut self) -> (u64, u64) {
        let gap = self.full.windows(2).next().map(|pair| (pair[0].1 + 1, pair[1].0));
        let part = self.parts.first_key_value().map(|(block, part)| (*block, ones(part)));
        let (first, end, here) = match (part, gap) {
            (Some((block, here)), gap) if gap.is_none_or(|(first, _)| block <= first) => (block, block + 1, here),
            (part, Some((first, end))) => (first, part.map_or(end, |(block, _)| block.min(end)), 0),
            (_, None) => return (0, 0),
        };
        if self.parts.remove(&first).is_some() {
            self.unsaved.blocks.insert(first);
        }
        self.fill(first, end - 1);
        ((end - first).saturating_mul(BLOCK) - here, end.saturating_mul(BLOCK))
    }

    /// Takes the changes that the store does not have yet.
    pub fn save(&mut self) -> Saved {
        let last_ms = self.unsaved.last_ms.replace(self.last_ms);
        let is_old = last_ms.is_none_or(|saved| saved.saturating_add(STALE_MS) <= self.last_ms);
        let row = (std::mem::take(&mut self.unsaved.full) || is_old).then(|| self.row());
        if row.is_none() {
            self.unsaved.last_ms = last_ms;
        }
        let bits =
            |block: &u64| self.parts.get(block).map(|part| part.iter().flat_map(|it| it.to_le_bytes()).collect());
        let blocks = std::mem::take(&mut self.unsaved.blocks);
        Saved { row, blocks: blocks.into_iter().map(|block| (block, bits(&block))).collect() }
    }

    fn row(&self) -> String {
        let numbers = |(first, last): &(u64, u64)| (first * BLOCK, last * BLOCK + (BLOCK - 1));
        let row = Row { ranges: self.full.iter().map(numbers).collect(), last_ms: self.last_ms };
        serde_json::to_string(&row).expect("a row of numbers can always be serialised")
    }

    fn is_full(&self, block: u64) -> bool {
        let at = self.full.partition_point(|(_, last)| *last < block);
        self.full.get(at).is_some_and(|(first, _)| *first <= block)
    }

    /// Adds a range of numbers with any bounds, as an earlier release stored it.
    fn take_range(&mut self, first: u64, last: u64) {
        let (mut from, end) = (first / BLOCK, last / BLOCK);
        if !first.is_multiple_of(BLOCK) {
            for seq in first..=last.min(from * BLOCK + (BLOCK - 1)) {
                self.take(seq, self.last_ms);
            }
            from += 1;
        }
        let is_whole = last % BLOCK == BLOCK - 1;
        if from < end || (from == end && is_whole) {
            self.fill(from, if is_whole { end } else { end - 1 });
        }
        if from <= end && !is_whole {
            for seq in end * BLOCK..=last {
                self.take(seq, self.last_ms);
            }
        }
    }

    /// Moves a block that has become full to the ranges. It needs no bits any more.
    fn close(&mut self, block: u64) {
        if self.parts.get(&block).is_some_and(|part| part.iter().all(|word| *word == u64::MAX)) {
            self.parts.remove(&block);
            self.unsaved.blocks.insert(block);
            self.fill(block, block);
        }
    }

    /// Makes blocks full that were neither full nor partly filled before.
    fn fill(&mut self, first: u64, last: u64) {
        self.unsaved.full = true;
        let at = self.full.partition_point(|(_, end)| *end < first);
        let end = self.full.get(at).filter(|(begin, _)| last.checked_add(1) == Some(*begin)).map(|(_, end)| *end);
        if end.is_some() {
            self.full.remove(at);
        }
        let end = end.unwrap_or(last);
        match at.checked_sub(1).map(|before| &mut self.full[before]) {
            Some((_, before)) if *before + 1 == first => *before = end,
            _ => self.full.insert(at, (first, end)),
        }
    }
}

/// How many numbers of a block were received.
fn ones(part: &[u64; WORDS]) -> u64 {
    part.iter().map(|word| u64::from(word.count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The contents of the store after each save.
    #[derive(Default)]
    struct Stored {
        row: Option<String>,
        blocks: BTreeMap<u64, Bytes>,
    }

    impl Stored {
        fn save(&mut self, received: &mut Received) {
            let saved = received.save();
            self.row = saved.row.or(self.row.take());
            for (block, bits) in saved.blocks {
                match bits {
                    Some(bits) => drop(self.blocks.insert(block, bits)),
                    None => drop(self.blocks.remove(&block)),
                }
            }
        }

        fn load(&self) -> Received {
            let mut received = Received::load(self.row.as_ref().unwrap()).unwrap();
            self.blocks.iter().for_each(|(block, bits)| received.load_block(*block, bits).unwrap());
            received
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn it_is_a_set_in_memory_and_in_the_store(
            numbers in prop::collection::vec((0..6_u64, 0..=2_100_u64, 1..4_u64), 0..9),
            saves in prop::collection::vec(any::<bool>(), 9),
        ) {
            let (mut received, mut set, mut stored) = (Received::default(), BTreeSet::new(), Stored::default());
            for ((block, count, step), saves) in numbers.into_iter().zip(saves) {
                for number in (0..count).map(|it| block * BLOCK + it * step) {
                    prop_assert_eq!(received.take(number, 7), set.insert(number));
                }
                if saves {
                    stored.save(&mut received);
                    received = stored.load();
                }
            }
            prop_assert!(received.full.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", received);
            prop_assert!((0..9 * BLOCK).all(|number| received.take(number, 8) != set.contains(&number)));
            prop_assert_eq!((received.size(), received.full), (1, vec![(0, 8)]));
        }
    }

    #[test]
    fn a_shard_that_is_a_million_announcements_behind_loses_none() {
        let mut received = Received::default();
        assert!((0..1_000_000).step_by(2).all(|seq| received.take(seq, 1)));
        assert!(received.size() <= 245, "{} of 512 bytes", received.size());
        assert!((1..1_000_000).step_by(2).all(|seq| received.take(seq, 2)));
        assert!((0..1_000_000).all(|seq| !received.take(seq, 3)));
        assert_eq!(received.size(), 2, "one range, and the last block, which is incomplete");
    }

    #[test]
    fn a_step_stores_the_blocks_that_changed_and_nothing_else() {
        let mut received = Received::default();
        (0..BLOCK * 9).step_by(2).for_each(|seq| assert!(received.take(seq, 5)));
        let saved = received.save();
        assert_eq!((saved.row.as_deref(), saved.blocks.len()), (Some(r#"{"ranges":[],"last_ms":5}"#), 9));
        assert_eq!(received.save(), Saved::default());
        received.take(BLOCK + 1, STALE_MS);
        let saved = received.save();
        assert_eq!((saved.row, saved.blocks.len(), saved.blocks[0].0), (None, 1, 1));
        received.take(BLOCK + 3, STALE_MS + 5);
        assert!(received.save().row.is_some_and(|row| row.contains("60005")));
        assert!((1..BLOCK).step_by(2).all(|seq| received.take(seq, STALE_MS + 5)));
        let saved = received.save();
        assert_eq!(
            (saved.row.as_deref(), saved.blocks),
            (Some(r#"{"ranges":[[0,4095]],"last_ms":60005}"#), vec![(0, None)])
        );
    }

    #[test]
    fn positions_of_a_release_without_blocks_are_read_and_stored_as_blocks() {
        let mut received = Received::load(r#"{"ranges":[[3,9000],[9002,9002],[12288,20479]],"last_ms":4}"#).unwrap();
        let is_here = |seq: &u64| (3..=9_000).contains(seq) || *seq == 9_002 || (12_288..20_480).contains(seq);
        let mut stored = Stored::default();
        stored.save(&mut received);
        for mut received in [received, stored.load()] {
            assert!((0..30_000).all(|seq| received.take(seq, 5) != is_here(&seq)));
        }
        assert!(Received::load("{}").is_err());
        assert!(Received::default().load_block(1, &[0; 9]).is_err());
        let mut last = Received::default();
        assert!(last.take(u64::MAX, 1) && !last.take(u64::MAX, 1));
    }

    #[test]
    fn the_oldest_is_given_up_until_it_fits_and_is_counted() {
        let mut received = Received::default();
        for seq in [BLOCK, BLOCK * 3, BLOCK * 3 + 1, BLOCK * 9] {
            assert!(received.take(seq, 1));
        }
        assert_eq!(received.give_up_oldest(), (BLOCK - 1, BLOCK * 2));
        assert_eq!(received.give_up_oldest(), (BLOCK - 2, BLOCK * 4));
        assert_eq!((received.give_up_oldest(), received.size()), ((BLOCK, BLOCK * 3), 2));
        assert_eq!(received.full, [(1, 3)]);
        assert!(!received.take(BLOCK * 2, 2) && received.take(BLOCK * 9 + 1, 2), "only the oldest gap was given up");
        received.give_up_oldest();
        received.give_up_oldest();
        assert_eq!((received.give_up_oldest(), received.size()), ((0, 0), 1));
        let saved = received.save();
        assert!(saved.row.is_some() && saved.blocks.iter().all(|(_, bits)| bits.is_none()), "{saved:?}");
    }
}
