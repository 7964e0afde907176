//! Lockstep: a sidecar that keeps the Gerrit sites of one company in lockstep.
//!
//! The modules stand in the order of the data flow. `docs/ARCHITECTURE.md` has the picture.

pub mod backoff;
pub mod clock;
pub mod durability;
pub mod failpoint;
pub mod gates;
pub mod journal;
pub mod links;
pub mod low_water;
pub mod names;
pub mod observe;
pub mod place;
pub mod plant;
pub mod refs;
pub mod roots;
pub mod sessions;
pub mod tasks;

pub mod api;
pub mod app;
pub mod apply;
pub mod blob;
pub mod commit;
pub mod consume;
#[cfg(feature = "embedded")]
pub mod demo;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod eventlog;
pub mod events;
pub mod gerrit;
pub mod git;
pub mod hello;
pub mod peers;
pub mod publish;
pub mod reconcile;
pub mod refdb;
pub mod refresh;
pub mod seed;
pub mod site;
pub mod status;
pub mod telemetry;
pub mod volume;

pub mod cli;
pub mod client;
pub mod config;
pub mod hook;
