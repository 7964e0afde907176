//! How often, and after which pauses, a write is repeated that met another writer at the same moment.

use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::clock::SeededEntropy;

/// Most repetitions of one write.
const MOST: u32 = 5;
/// The pause before the first repetition, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(80));

/// The repetitions of one write.
#[derive(Debug, Default)]
pub(super) struct Again(u32);

impl Again {
    /// Waits until the write may be repeated. Returns false at once if it was repeated often enough.
    pub(super) async fn wait(&mut self) -> bool {
        if self.0 == MOST {
            return false;
        }
        self.0 += 1;
        let pause = Backoff::nth(&SeededEntropy::from_machine(), PAUSES.0, PAUSES.1, self.0);
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_is_repeated_a_few_times_after_pauses_that_grow() {
        let (mut again, mut pauses) = (Again::default(), Vec::new());
        loop {
            let began = Instant::now();
            if !again.wait().await {
                break;
            }
            pauses.push(began.elapsed());
        }
        assert_eq!(pauses.len(), 5);
        assert!(pauses[0] < PAUSES.0 * 2 && pauses[4] >= PAUSES.1 / 2, "{pauses:?}");
    }
}
