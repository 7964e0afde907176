//! Contract suites: one suite for each seam, run against every implementation of it.

pub mod refdb;
pub mod store;
