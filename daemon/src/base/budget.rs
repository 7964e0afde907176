//! A budget of bytes that many holders share. It bounds them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shared budget. Clones share it.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    most: u64,
    taken: Arc<AtomicU64>,
}

impl ByteBudget {
    /// A budget of `most` bytes.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// Takes bytes. Returns whether there was room for them: nothing is taken otherwise.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    /// Gives bytes back that were taken.
    pub fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// The bytes that are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_share_what_is_there() {
        let one = ByteBudget::new(10);
        let other = one.clone();
        assert!(one.take(6) && !other.take(5) && other.take(4));
        assert!(!one.take(u64::MAX), "a sum beyond the largest number does not fit");
        one.give_back(6);
        assert!(other.take(5) && one.taken() == 9);
    }
}
