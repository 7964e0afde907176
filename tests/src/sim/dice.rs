//! The simulator's randomness: one seed, and one stream of numbers per label.
//!
//! Each part (faults, nemesis, each client) throws its own dice, so that a change in one part disturbs the others as
//! little as possible. No part may use the machine's randomness.

use lockstep::base::clock::{Entropy, SeededEntropy};

/// The randomness of one part of a run. The same seed and label give the same throws.
#[derive(Debug)]
pub struct Dice(SeededEntropy);

impl Dice {
    /// The dice of one part of the run.
    #[must_use]
    pub fn new(seed: u64, label: &str) -> Self {
        Self(SeededEntropy::new(fnv1a(label.as_bytes()) ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// A number below `bound`, or zero if `bound` is zero.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.next().checked_rem(bound).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `permille` of a thousand throws.
    pub fn chance(&self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// One of the items, or none if there are none.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).unwrap_or(0))
    }

    /// One of the choices, in proportion to their weights. None if all weights are zero.
    pub fn weighted<T: Copy>(&self, choices: &[(T, u64)]) -> Option<T> {
        let total: u64 = choices.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(total);
        choices.iter().filter(|(_, weight)| *weight > 0).find_map(|(choice, weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit.then_some(*choice)
        })
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let with = usize::try_from(self.below(at as u64 + 1)).unwrap_or(0);
            items.swap(at, with);
        }
    }
}

impl Entropy for Dice {
    fn next(&self) -> u64 {
        self.0.next()
    }
}

/// The hash FNV-1a with 64 bits. It is stable over Rust releases, unlike the hash of the standard library.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_label_throw_the_same_numbers() {
        let throw = |seed, label| {
            let dice = Dice::new(seed, label);
            (0..20).map(|_| dice.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7, "faults"), throw(7, "faults"));
        assert_ne!(throw(7, "faults"), throw(8, "faults"));
        assert_ne!(throw(7, "faults"), throw(7, "nemesis"));
    }

    #[test]
    fn a_choice_without_weight_is_never_made() {
        let dice = Dice::new(1, "weights");
        assert!((0..200).all(|_| dice.weighted(&[('a', 0), ('b', 3), ('c', 0)]) == Some('b')));
        assert_eq!(dice.weighted(&[('a', 0)]), None);
    }
}
