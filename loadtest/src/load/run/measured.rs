//! Measures the time in which operations are in progress: lag, processes, the sidecars' own metrics, and the generator
//! itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lockstep::base::clock::{Clock, SystemClock};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::sampling::{Courses, sample};
use crate::Fallible;
use crate::load::drive::{Pace, progress};
use crate::load::estate::Site;
use crate::load::measure::{OwnCheck, ProcessCourse, Recording, Scraped, Watched, own_seconds, scrape, watch};
use crate::load::profile::{Limits, Run};

/// The measurements.
pub struct Measured {
    /// The beginning, as a time since 1970.
    pub wall_start: Duration,
    /// The time until the last operation had ended.
    pub took: Duration,
    /// The processor time of the generator, in seconds.
    pub own_seconds: f64,
    /// The lag of every site.
    pub watched: Watched,
    /// The growth of the metrics of all sidecars.
    pub metrics: Scraped,
    /// The processes.
    pub processes: Vec<ProcessCourse>,
}

impl Measured {
    /// Judges whether the generator kept up.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a few cores")]
    pub fn own(&self, recording: &Recording, limits: &Limits) -> OwnCheck {
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        OwnCheck::of(recording, limits, self.own_seconds, self.took.as_secs_f64() * cores)
    }
}

/// A background task that ends with this value.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins the run, does the work, and measures meanwhile. `others` lists the processes beside this one.
///
/// # Errors
/// Those of the work.
pub async fn measure(
    pace: &Arc<Pace>,
    sites: &[Site],
    run: &Run,
    others: impl Fn() -> Vec<(String, u32)> + Send + 'static,
    work: impl Future<Output = Fallible<()>>,
) -> Fallible<Measured> {
    // The plan's time begins now, not when the preparation began.
    pace.begin();
    let wall_ms = SystemClock.now_ms();
    let before = metrics(sites).await;
    let own_before = own_seconds();
    let watched = Arc::new(Mutex::new(Watched::new(sites, pace.recorder.otlp().cloned())));
    let courses = Courses::default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of warm-up")]
    let measured_from = wall_ms + (run.warm_up_s * 1_000.0) as u64;
    let pause = Duration::from_millis(run.watch_ms);
    let (start, into) = (pace.start(), watched.clone());
    let watching = Task(tokio::spawn(watch(sites.to_vec(), pause, start, measured_from, into)));
    let sampling = Task(tokio::spawn(sample(pace.clone(), others, courses.clone())));
    let telling = Task(tokio::spawn(progress(pace.clone(), run.warm_up_s + run.seconds)));
    work.await?;
    let (took, own) = (pace.start().elapsed(), own_seconds() - own_before);
    // The last transactions become visible a little later, and belong to the lag.
    tokio::time::sleep(pause * 3 + Duration::from_secs(1)).await;
    drop((watching, sampling, telling));
    let mut grown = Scraped::default();
    for (after, before) in metrics(sites).await.iter().zip(&before) {
        grown.add(&after.since(before));
    }
    let watched = watched.lock().clone();
    let processes: BTreeMap<String, ProcessCourse> = courses.lock().clone();
    Ok(Measured {
        wall_start: Duration::from_millis(wall_ms),
        took,
        own_seconds: own,
        watched,
        metrics: grown,
        processes: processes.into_values().collect(),
    })
}

async fn metrics(sites: &[Site]) -> Vec<Scraped> {
    let one = async |site: &Site| match &site.health {
        Some(address) => scrape(address).await,
        None => Scraped::default(),
    };
    join_all(sites.iter().map(one)).await
}
