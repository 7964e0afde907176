//! Which announcements of one origin were received: what makes each be heard once, however often it is read.
//!
//! An origin numbers its announcements densely, and copies come in any order (an append is repeated, a stream is read
//! again from its start), so this is a set of numbers. Kept as ranges it is one entry but for what is on its way: a gap that
//! stays is an announcement that is lost, and there are few. Above [`MOST_RANGES`] the oldest gap is given up, and said.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Most ranges of an origin.
pub const MOST_RANGES: usize = 1_024;

/// A set of sequence numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// First and last number of each range; ascending, with gaps between them.
    ranges: Vec<(u64, u64)>,
    /// When the last new one came, in milliseconds since 1970.
    pub last_ms: u64,
}

/// What became of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is here for the first time.
    New,
    /// It was here before.
    Again,
    /// It is here for the first time, and these, which are still not here, count as received from now on.
    GaveUp(RangeInclusive<u64>),
}

impl Received {
    /// Takes a number in.
    pub fn take(&mut self, seq: u64) -> Taken {
        let at = self.ranges.partition_point(|(_, last)| *last < seq);
        if self.ranges.get(at).is_some_and(|(first, _)| *first <= seq) {
            return Taken::Again;
        }
        let follows = at > 0 && self.ranges[at - 1].1 + 1 == seq;
        let precedes = self.ranges.get(at).is_some_and(|(first, _)| seq + 1 == *first);
        match (follows, precedes) {
            (true, true) => {
                let (_, last) = self.ranges.remove(at);
                self.ranges[at - 1].1 = last;
            }
            (true, false) => self.ranges[at - 1].1 = seq,
            (false, true) => self.ranges[at].0 = seq,
            (false, false) => self.ranges.insert(at, (seq, seq)),
        }
        if self.ranges.len() <= MOST_RANGES {
            return Taken::New;
        }
        let (first, last) = self.ranges.remove(0);
        let gap = last + 1..=self.ranges[0].0 - 1;
        self.ranges[0].0 = first;
        Taken::GaveUp(gap)
    }

    /// As the store keeps it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers alone can always be written")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(numbers in prop::collection::vec(0..40_u64, 0..80)) {
            let (mut received, mut set) = (Received::default(), BTreeSet::new());
            for number in numbers {
                let expected = if set.insert(number) { Taken::New } else { Taken::Again };
                prop_assert_eq!(received.take(number), expected);
                prop_assert!(received.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", received);
            }
            let again: Received = serde_json::from_str(&received.to_json()).unwrap();
            prop_assert_eq!(&again, &received);
            prop_assert!((0..42).all(|number| (received.take(number) == Taken::Again) == set.contains(&number)));
        }
    }

    #[test]
    fn in_order_it_stays_one_range() {
        let mut received = Received::default();
        assert!((7..5_000).all(|seq| received.take(seq) == Taken::New));
        assert_eq!(received.ranges, [(7, 4_999)]);
    }

    #[test]
    fn above_its_bound_the_oldest_gap_is_given_up_and_said() {
        let mut received = Received::default();
        let last = 3 * MOST_RANGES as u64;
        assert!((0..last).step_by(3).all(|seq| received.take(seq) == Taken::New));
        assert_eq!(received.take(last), Taken::GaveUp(1..=2));
        assert_eq!(received.take(2), Taken::Again);
        assert_eq!(received.take(4), Taken::New, "only one gap was given up");
    }
}
