//! End-to-end tests: real sidecars, real git, and emulators of the cloud in this process.

mod against;
mod api_page;
mod await_txn;
mod aws;
mod base_paths;
mod command;
mod console;
mod crash;
mod damaged;
mod demo;
mod doctor;
mod drill;
mod events;
mod explain;
mod failover;
mod failover_acts;
mod failover_all_active;
mod failover_rounds;
mod fan_out;
mod foreign_lock;
mod guards;
mod handover;
mod handshake;
mod inject;
mod large;
mod life;
mod locks;
mod move_refdb;
mod names;
mod odd_objects;
mod operators;
mod pod_label;
mod power_cut;
mod push;
mod rebuild;
mod receive;
mod refdb_check;
mod refresh;
mod resync;
mod reused_packs;
mod seed;
mod seeing;
mod several_regions;
mod shadow;
mod signing;
mod silent;
mod site_list;
mod switched_off;
mod symbolic;
mod throttled;
mod tls;
mod trace;
mod verify;
mod verify_background;
mod went_back;

use std::path::Path;

/// The command under test.
pub fn lockstep() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lockstep-under-test"))
}
