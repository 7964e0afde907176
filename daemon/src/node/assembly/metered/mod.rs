//! Seams that are measured: how often each call is made, how it ends, how long it takes.

mod refdb;
mod repositories;

pub use refdb::MeteredRefDb;
pub use repositories::MeteredRepositories;
