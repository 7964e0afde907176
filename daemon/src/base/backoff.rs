//! Delays between tries that grow after each failure, with jitter, within a deadline. The only backoff of the program.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::base::clock::Entropy;

/// The delays between tries: doubling from `first` to `longest`, each one shortened by up to a half at random.
#[derive(Clone)]
pub struct Backoff {
    entropy: Arc<dyn Entropy>,
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// A backoff whose first delay is at most `first`, and none of whose delays is above `longest`.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>, first: Duration, longest: Duration) -> Self {
        Self { entropy, next: first, first, longest }
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self) {
        let wait = self.next_wait();
        sleep(wait).await;
    }

    /// Waits for the next delay. If it would not end before `deadline`, returns `false` at once.
    pub async fn wait_until(&mut self, deadline: Instant) -> bool {
        let wait = self.next_wait();
        if Instant::now() + wait >= deadline {
            return false;
        }
        sleep(wait).await;
        true
    }

    /// Makes a call at most `tries` times, as long as it fails and `helps` says that a retry may help.
    ///
    /// # Errors
    /// The error of the last try.
    pub async fn retry<T, E, F>(&mut self, tries: u32, helps: fn(&E) -> bool, call: impl Fn() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        for _ in 1..tries {
            match call().await {
                Err(error) if helps(&error) => self.wait().await,
                answer => return answer,
            }
        }
        call().await
    }

    /// Goes back to the first delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The delay after the `failures`th failure, for a caller that keeps no backoff.
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

/// A delay that is shortened by up to a half at random.
fn jitter(entropy: &dyn Entropy, ceiling: Duration) -> Duration {
    let half = ceiling / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(entropy.next() % spread)
}
