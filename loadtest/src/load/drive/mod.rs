//! Carries out a plan: begins each operation at its time, whether or not earlier ones have ended.
//!
//! | file | idea |
//! |---|---|
//! | `context` | the parts that all operations share |
//! | `operation` | one operation, with its tries |
//! | `verdict` | the answer to one request |
//! | `api` | a request through the bridge API |
//! | `push` | a request through `git push` |
//! | `read` | fetch, clone, listing of refs |
//! | `faults` | injects faults at their times |
//! | `progress` | the line that tells how far the run is |

mod api;
mod context;
mod faults;
mod operation;
mod progress;
mod push;
mod read;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

pub use api::{commit_or_fail, look_up};
pub use context::Context;
pub use faults::{FaultMark, inject};
pub use progress::progress;

use crate::load::plan::Arrival;

/// Begins every arrival at its time, and waits until all have ended.
pub async fn drive(context: &Arc<Context>, arrivals: Vec<Arrival>) {
    let most = context.profile.limits.in_flight;
    for arrival in arrivals {
        let intended = context.start() + Duration::from_micros(arrival.at_us);
        if intended > Instant::now() {
            sleep_until(intended).await;
        }
        if context.in_flight.load(Ordering::Relaxed) >= most {
            context.recorder.dropped(arrival.class, arrival.at_us);
            continue;
        }
        context.in_flight.fetch_add(1, Ordering::Relaxed);
        let context = context.clone();
        tokio::spawn(async move {
            // Measured here, so that the time in the queue of the generator's own runtime is slip too.
            context.recorder.started(arrival.class, arrival.at_us, intended.elapsed());
            operation::carry_out(&context, &arrival).await;
            context.in_flight.fetch_sub(1, Ordering::Relaxed);
        });
    }
    while context.in_flight.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
