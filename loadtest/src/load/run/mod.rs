//! One run, from the profile to the report.
//!
//! | file | idea |
//! |---|---|
//! | `order` | the steps of a run in their order |
//! | `measured` | measures while operations are in progress |
//! | `prepare` | creates the projects of a run at every site |
//! | `sampling` | samples the processes once per second |
//! | `converge` | waits until every site has applied everything, and collects the evidence |
//! | `steps` | ends a growing load after the first step beyond its limit |

mod converge;
mod measured;
mod order;
mod prepare;
mod sampling;
mod steps;

pub use converge::{Final, converge, store};
pub use measured::{Measured, measure};
pub(crate) use order::judge_folder;
pub use order::{Ordered, run};
