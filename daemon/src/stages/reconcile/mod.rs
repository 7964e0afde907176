//! Reconcilers: jobs without input that make true again what must be true, on a timer, in one code path.
//!
//! | file | idea |
//! |---|---|
//! | `sweep` | nothing that is published stays unseen here |
//! | `collect` | the journal is collected below every node's low-water mark |
//! | `release` | kept values go when their journal entries have gone |
//! | `restore_repository` | a project that lives has a repository |

mod collect;
mod release;
mod restore_repository;
mod sweep;

pub use collect::Collector;
pub use release::Releaser;
pub use restore_repository::RepositoryRestorer;
pub use sweep::Sweeper;
