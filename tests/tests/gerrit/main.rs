//! Real Gerrits with the bridge, each beside its sidecar, driven as users do. They need a war and a virtual machine, so
//! `make gerrit-e2e` runs them, and `make test` the one that goes through everything once.

mod administration;
mod base_paths;
mod crash;
mod cut_off;
mod deletion;
mod full_speed;
mod late;
mod lost;
mod one_site;
mod queue;
mod review;
mod rolling;
mod start;
mod stock;
mod two_sites;

use std::path::Path;

/// The sidecar under test.
fn lockstep() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lockstep-under-test"))
}
