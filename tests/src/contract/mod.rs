//! The contract suites: one suite a seam, run over every implementation.

pub mod blob;
pub mod eventlog;
