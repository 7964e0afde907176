//! Waiting longer after each failure, with jitter, within a deadline. The one backoff of the whole program.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::base::clock::Entropy;

/// Waits between tries: doubling from `first` to `longest`, each wait shortened by up to a half at random.
#[derive(Clone)]
pub struct Backoff {
    entropy: Arc<dyn Entropy>,
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// The first wait is at most `first`, no wait is above `longest`.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>, first: Duration, longest: Duration) -> Self {
        Self { entropy, next: first, first, longest }
    }

    /// Waits.
    pub async fn wait(&mut self) {
        let wait = self.next_wait();
        sleep(wait).await;
    }

    /// Waits, unless the wait would end after `deadline`: then answers `false` at once.
    pub async fn wait_until(&mut self, deadline: Instant) -> bool {
        let wait = self.next_wait();
        if Instant::now() + wait >= deadline {
            return false;
        }
        sleep(wait).await;
        true
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The wait after the `failures`th failure, for whoever keeps no backoff.
    #[must_use]
    pub fn nth(entropy: &dyn Entropy, first: Duration, longest: Duration, failures: u32) -> Duration {
        let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        jitter(entropy, doubled.min(longest))
    }

    fn next_wait(&mut self) -> Duration {
        let ceiling = self.next;
        self.next = (self.next * 2).min(self.longest);
        jitter(self.entropy.as_ref(), ceiling)
    }
}

/// A wait that is shortened by up to a half at random.
fn jitter(entropy: &dyn Entropy, ceiling: Duration) -> Duration {
    let half = ceiling / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(entropy.next() % spread)
}
