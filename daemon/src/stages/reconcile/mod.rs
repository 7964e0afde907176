//! Reconcilers: periodic jobs without input. Each compares the actual state with the required one and repairs the
//! difference, in one code path for normal operation and for the time after a failure.
//!
//! | file | idea |
//! |---|---|
//! | `sweep` | finds published slots that this node has not seen |
//! | `collect` | collects the journal below every node's low-water mark |
//! | `release` | releases kept values once their journal entries are collected |
//! | `repay` | brings degraded projects up to date, with growing pauses |
//! | `restore_repository` | restores the missing repository of a living project |

mod collect;
mod release;
mod repay;
mod restore_repository;
mod sweep;

pub use collect::Collector;
pub use release::Releaser;
pub use repay::Repayer;
pub use restore_repository::RepositoryRestorer;
pub use sweep::Sweeper;
