//! How fast batches end, to tell a caller when to come again.

use std::collections::VecDeque;

use tokio::time::Instant;

/// The number of the last ends that count.
const LAST: usize = 64;
/// The shortest and the longest time after which a caller is told to come again, in seconds.
const SECONDS: (f64, f64) = (1.0, 60.0);

/// The ends of the last batches.
#[derive(Debug, Default)]
pub(super) struct Pace {
    ends: VecDeque<Instant>,
}

impl Pace {
    /// A batch has ended.
    pub(super) fn ended(&mut self, now: Instant) {
        if self.ends.len() == LAST {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
    }

    /// After how many seconds `ahead` batches will have had their turns, if they get this share of them.
    pub(super) fn seconds(&self, ahead: usize, share: f64, now: Instant) -> u32 {
        let Some(first) = self.ends.front().filter(|_| self.ends.len() > 1) else { return SECONDS.0 as u32 };
        let per_second = self.ends.len() as f64 / (now - *first).as_secs_f64().max(0.001);
        let seconds = (ahead as f64 + 1.0) / (per_second * share).max(0.001);
        seconds.ceil().clamp(SECONDS.0, SECONDS.1) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_grows_with_the_line_and_shrinks_with_the_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds(1_000, 1.0, Instant::now()), 1, "nothing is known yet");
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(100)).await;
            pace.ended(Instant::now());
        }
        let now = Instant::now();
        assert_eq!(pace.ends.len(), LAST);
        assert_eq!(pace.seconds(0, 1.0, now), 1);
        assert_eq!(pace.seconds(99, 1.0, now), 10);
        assert_eq!(pace.seconds(99, 0.5, now), 20);
        assert_eq!(pace.seconds(9_999, 1.0, now), 60);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(pace.seconds(9, 1.0, Instant::now()), 60, "nothing ends any more");
    }
}
