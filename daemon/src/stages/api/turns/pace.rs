//! How long a turn takes, to tell a caller when to come again.

use std::num::NonZeroUsize;
use std::time::Duration;

/// The weight of the last turn in the moving mean.
const LAST: f64 = 1.0 / 16.0;
/// The shortest and the longest time after which a caller is told to come again, in seconds.
const SECONDS: (f64, f64) = (1.0, 60.0);

/// The moving mean of the times for which turns were held. Times without work do not count.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In seconds. None before the first turn has ended.
    mean: Option<f64>,
}

impl Pace {
    /// A turn was held for this time.
    pub(super) fn held(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.mean = Some(self.mean.map_or(time, |mean| mean + (time - mean) * LAST));
    }

    /// After how many seconds `ahead` batches will have had their turns, if `running` of them run at the same time and
    /// they get this share of the turns.
    pub(super) fn seconds(&self, ahead: usize, share: f64, running: NonZeroUsize) -> u32 {
        let mean = self.mean.unwrap_or_default();
        let seconds = (ahead as f64 + 1.0) * mean / (running.get() as f64 * share);
        seconds.ceil().clamp(SECONDS.0, SECONDS.1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_the_line_and_with_the_length_of_turns() {
        let running = NonZeroUsize::new(10).unwrap();
        let mut pace = Pace::default();
        assert_eq!(pace.seconds(1_000, 1.0, running), 1, "nothing is known yet");
        for _ in 0..100 {
            pace.held(Duration::from_secs(1));
        }
        assert_eq!([0, 9, 99, 9_999].map(|ahead| pace.seconds(ahead, 1.0, running)), [1, 1, 10, 60]);
        assert_eq!(pace.seconds(99, 0.5, running), 20, "half of the turns");
        for _ in 0..100 {
            pace.held(Duration::from_secs(3));
        }
        assert!((29..=30).contains(&pace.seconds(99, 1.0, running)), "turns take longer now");
    }
}
