//! The pace of a run: each operation begins at its planned time, whether or not earlier ones have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::load::measure::Recorder;
use crate::load::plan::Arrival;

/// The start of a run, its operations in progress, and their recorder.
pub struct Pace {
    /// The recorder.
    pub recorder: Recorder,
    begun: Mutex<Instant>,
    in_flight: AtomicUsize,
    most: usize,
    stopped: Mutex<Option<Duration>>,
}

impl Pace {
    /// A run that begins now, with at most this many operations in progress. [`Pace::begin`] moves its start.
    #[must_use]
    pub fn new(recorder: Recorder, most: usize) -> Self {
        let (begun, stopped) = (Mutex::new(Instant::now()), Mutex::new(None));
        Self { recorder, begun, in_flight: AtomicUsize::new(0), most, stopped }
    }

    /// No further operation begins.
    pub fn stop(&self) {
        let at = self.start().elapsed();
        let _ = self.stopped.lock().get_or_insert(at);
    }

    /// The time from the start until the pace was stopped, in seconds. None if it was not.
    #[must_use]
    pub fn stopped_s(&self) -> Option<f64> {
        self.stopped.lock().map(|at| at.as_secs_f64())
    }

    /// The run begins now.
    pub fn begin(&self) {
        *self.begun.lock() = Instant::now();
    }

    /// The start of the run. Before it, the beginning of the preparation.
    #[must_use]
    pub fn start(&self) -> Instant {
        *self.begun.lock()
    }

    /// The time since the start, in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start().elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The operations in progress.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Begins every arrival at its time, until the pace is stopped, and waits until all that began have ended.
pub async fn open_loop<F: Future<Output = ()> + Send + 'static>(
    pace: &Arc<Pace>,
    arrivals: Vec<Arrival>,
    operation: impl Fn(Arrival) -> F,
) {
    for arrival in arrivals {
        let intended = pace.start() + Duration::from_micros(arrival.at_us);
        if intended > Instant::now() {
            sleep_until(intended).await;
        }
        if pace.stopped_s().is_some() {
            break;
        }
        if pace.in_flight() >= pace.most {
            pace.recorder.dropped(arrival.class, arrival.at_us);
            continue;
        }
        pace.in_flight.fetch_add(1, Ordering::Relaxed);
        let (class, at_us) = (arrival.class, arrival.at_us);
        let (pace, work) = (pace.clone(), operation(arrival));
        tokio::spawn(async move {
            // Measured here, so that the time in the queue of the generator's own runtime is slip too.
            pace.recorder.started(class, at_us, intended.elapsed());
            work.await;
            pace.in_flight.fetch_sub(1, Ordering::Relaxed);
        });
    }
    while pace.in_flight() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::model::Class;

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_after_the_pace_was_stopped() {
        let recorder = Recorder::new(Duration::ZERO, Duration::from_secs(1), Duration::from_millis(100));
        let pace = Arc::new(Pace::new(recorder, 10));
        let arrival = |at_us: u64| Arrival {
            at_us,
            class: Class::Draft,
            project: 0,
            site: 0,
            pick: 0,
            count: 1,
            bytes: 1,
            git: false,
            at_home: true,
        };
        let operation = |_: Arrival| {
            let pace = pace.clone();
            async move { pace.stop() }
        };
        open_loop(&pace, vec![arrival(0), arrival(300_000), arrival(400_000)], operation).await;
        assert_eq!(pace.recorder.totals()[0], 1, "the others did not begin");
        assert!(pace.stopped_s().is_some());
    }
}
