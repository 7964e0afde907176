//! Lockstep: a sidecar that keeps the Gerrit sites of one company in lockstep.
//!
//! The modules stand in the order of the data flow. `docs/ARCHITECTURE.md` has the picture.

pub mod clock;
pub mod failpoint;
pub mod plant;

pub mod api;
pub mod blob;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod eventlog;
pub mod git;
pub mod refdb;
pub mod volume;
