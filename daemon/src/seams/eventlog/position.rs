//! The order of sequence numbers.

use std::cmp::Ordering;

/// Compares two sequence numbers of a shard. They are decimal numbers without leading zeros, and too long for any
/// integer type, so they stay texts: the longer one is larger, and of two equally long ones the bytes decide.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.as_bytes().cmp(right.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_number_is_larger() {
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("49590338271490256608559692538361571095921575989136588898", "5"), Ordering::Greater);
        assert_eq!(compare("17", "18"), Ordering::Less);
        assert_eq!(compare("17", "17"), Ordering::Equal);
    }
}
