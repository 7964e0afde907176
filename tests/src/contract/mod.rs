//! The contract suites: one a seam, run over every implementation from `tests/tests/contract_*.rs`.

pub mod blob;
pub mod eventlog;
pub mod refdb;
pub mod repositories;
pub mod store;
