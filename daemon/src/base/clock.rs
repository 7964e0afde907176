//! Time and randomness as parameters, so that the simulator controls both.
//!
//! Durations (timeouts, ticks) go through `tokio::time`, which the simulator pauses. Wall-clock time is only shown to
//! people or measured as lag. It is never compared for safety.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The wall clock, as a parameter. It may be wrong and may jump, so no safety rests on it.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 (UTC).
    fn now_ms(&self) -> u64;
}

/// A source of random numbers.
pub trait Entropy: Send + Sync {
    /// 64 random bits, independent of all earlier ones.
    fn next(&self) -> u64;
}

/// The machine's clock, for production. The simulator has its own.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A seeded generator. In production the seed comes from the machine's own randomness.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// A generator that gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A generator that the machine seeds.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for randomness")]
    pub fn from_machine() -> Self {
        Self(Mutex::new(StdRng::from_rng(&mut rand::rng())))
    }
}

impl Entropy for SeededEntropy {
    fn next(&self) -> u64 {
        self.0.lock().next_u64()
    }
}
