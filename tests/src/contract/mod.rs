//! The contract suites: one per seam. `tests/tests/contract_*.rs` runs each of them over every implementation.

pub mod blob;
pub mod eventlog;
pub mod refdb;
pub mod repositories;
pub mod store;
pub mod store_digests;
pub mod store_notes;
