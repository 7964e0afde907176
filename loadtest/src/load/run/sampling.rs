//! Samples the processes once per second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::load::drive::Pace;
use crate::load::measure::{ProcessCourse, sample_processes};

/// The courses of all processes, by name.
pub(super) type Courses = Arc<Mutex<BTreeMap<String, ProcessCourse>>>;

/// Samples this process and those that `others` lists, until it is dropped.
pub(super) async fn sample(pace: Arc<Pace>, others: impl Fn() -> Vec<(String, u32)>, courses: Courses) {
    let mut last = Instant::now();
    loop {
        // A sampler that comes late leaves seconds out. Two samples at once would divide by no time.
        let second = pace.start().elapsed().as_secs();
        sleep_until(pace.start() + Duration::from_secs(second + 1)).await;
        let mut processes = vec![("generator".to_owned(), std::process::id())];
        processes.extend(others());
        let (now, at) = (Instant::now(), usize::try_from(second).unwrap_or(usize::MAX));
        sample_processes(&mut courses.lock(), &processes, at, now - last);
        last = now;
        pace.recorder.in_flight(second * 1_000_000, pace.in_flight() as u64);
    }
}
