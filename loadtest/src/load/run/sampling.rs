//! Samples the processes once per second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::load::drive::Context;
use crate::load::measure::{ProcessCourse, sample_processes};

/// The courses of all processes, by name.
pub(super) type Courses = Arc<Mutex<BTreeMap<String, ProcessCourse>>>;

/// Samples until it is dropped.
pub(super) async fn sample(context: Arc<Context>, courses: Courses) {
    let mut last = Instant::now();
    loop {
        // A sampler that comes late leaves seconds out. Two samples at once would divide by no time.
        let second = context.start().elapsed().as_secs();
        sleep_until(context.start() + Duration::from_secs(second + 1)).await;
        let mut processes = vec![("generator".to_owned(), std::process::id())];
        processes.extend(context.estate.local.iter().flat_map(|local| local.processes()));
        let (now, at) = (Instant::now(), usize::try_from(second).unwrap_or(usize::MAX));
        sample_processes(&mut courses.lock(), &processes, at, now - last);
        last = now;
        context.recorder.in_flight(second * 1_000_000, context.in_flight.load(Ordering::Relaxed) as u64);
    }
}
