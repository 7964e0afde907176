//! The simulator: whole sites in one process on virtual time, with faults from a seed.
//!
//! One run has two phases. *Safety*: clients push, the nemesis breaks things, and every property is judged at the
//! moment at which something happens (`watch`, `check`). *Liveness*: everything is healed, and all nodes must
//! equal the refdb within a bounded virtual time; then one site's volumes are lost, and it must come back.
//!
//! The same seed gives the same trace, byte by byte. So: one thread, paused time, `biased` selects, no real I/O,
//! nothing in the order of a hash table, no clock and no randomness but the run's own.
//!
//! | module | idea |
//! |---|---|
//! | [`dice`], [`trace`], [`scenario`] | randomness, the record, the knobs |
//! | [`faults`], [`link`] and one file a seam | what can happen to a call |
//! | [`backend`], [`memory`] | what lies below the seams |
//! | [`node`], [`world`], [`nemesis`], [`forgery`] | the real node, the sites, and what is done to them |
//! | [`gerrit`] | the Gerrit beside each node |
//! | [`clients`], [`workload`], [`history`] | who pushes what, and what they hear |
//! | [`listeners`] | who hears stream events |
//! | [`bugs`] | which property finds which injected bug |
//! | [`story`] | the world without random faults, in which a test does one thing after the other |
//! | [`witness`], [`facts`], [`mirror`], [`watch`], [`check`] | what truly happened, and whether it may |

pub mod backend;
pub mod blobs;
pub mod bugs;
pub mod check;
pub mod clients;
pub mod dice;
pub mod eventlog;
pub mod facts;
#[cfg(test)]
mod fake;
pub mod faults;
pub mod forgery;
pub mod gerrit;
pub mod history;
pub mod link;
pub mod listeners;
pub mod memory;
pub mod mirror;
pub mod nemesis;
pub mod node;
pub mod peers;
pub mod refdb;
pub mod repositories;
pub mod run;
pub mod scenario;
pub mod store;
pub mod story;
pub mod trace;
pub mod watch;
pub mod witness;
pub mod workload;
pub mod world;

pub use check::Violation;
pub use node::simulate;
pub use run::{Failure, Report};
pub use scenario::Scenario;
