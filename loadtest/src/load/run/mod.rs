//! One run, from the profile to the report.
//!
//! | file | idea |
//! |---|---|
//! | `order` | the steps of a run in their order |
//! | `measured` | measures while operations are in progress |
//! | `prepare` | creates the projects of a run at every site |
//! | `sampling` | samples the processes once per second |
//! | `steps` | ends a growing load after the first step beyond its limit |
//! | `settle` | waits until every site has applied everything, and collects the evidence |

mod measured;
mod order;
mod prepare;
mod sampling;
mod settle;
mod steps;

pub use measured::{Measured, measure};
pub(crate) use order::judge_folder;
pub use order::{Ordered, run};
pub use settle::{Final, settle, store};
