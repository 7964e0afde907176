//! End-to-end tests: real sidecars, real git, and emulators of the cloud in this process.

mod base_paths;
mod command;
mod crash;
mod demo;
mod events;
mod failover;
mod foreign_lock;
mod guards;
mod handshake;
mod large;
mod life;
mod odd_objects;
mod power_cut;
mod push;
mod receive;
mod refresh;
mod reused_packs;
mod seed;
mod symbolic;
mod throttled;
mod trace;
mod went_back;

use std::path::Path;

/// The command under test.
pub fn lockstep() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lockstep-under-test"))
}
