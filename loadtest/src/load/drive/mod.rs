//! Carries out a plan: begins each operation at its time, whether or not earlier ones have ended.
//!
//! | file | idea |
//! |---|---|
//! | `context` | the parts that all operations share |
//! | `pace` | begins each operation at its time |
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
mod pace;
mod progress;
mod push;
mod read;
mod verdict;

use std::sync::Arc;

pub use api::{commit_or_fail, look_up};
pub use context::Context;
pub use faults::{FaultMark, inject};
pub use pace::{Pace, open_loop};
pub use progress::progress;
pub use read::{Reading, read};

use crate::load::plan::Arrival;

/// Carries out every arrival at its time, and waits until all have ended.
pub async fn drive(context: &Arc<Context>, arrivals: Vec<Arrival>) {
    let operation = |arrival: Arrival| {
        let context = context.clone();
        async move { operation::carry_out(&context, &arrival).await }
    };
    open_loop(&context.pace, arrivals, operation).await;
}
