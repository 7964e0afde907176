//! Decorators of seams that measure each call: its number, its result and its duration.

mod refdb;
mod repositories;

pub use refdb::metered;
pub use repositories::MeteredRepositories;
