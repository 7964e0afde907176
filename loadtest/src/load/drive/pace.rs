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
}

impl Pace {
    /// A run that begins now, with at most this many operations in progress. [`Pace::begin`] moves its start.
    #[must_use]
    pub fn new(recorder: Recorder, most: usize) -> Self {
        Self { recorder, begun: Mutex::new(Instant::now()), in_flight: AtomicUsize::new(0), most }
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

/// Begins every arrival at its time, and waits until all have ended.
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
