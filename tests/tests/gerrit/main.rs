//! Real Gerrits with the bridge, each beside its sidecar, used as users do. They need Gerrit's war and a Java virtual
//! machine, so `make gerrit-e2e` runs them. `make test` runs only the one that covers everything once.

mod administration;
mod any_size;
mod base_paths;
mod crash;
mod cut_off;
mod deletion;
mod failover;
mod full_speed;
mod kills;
mod late;
mod left_lock;
mod lost;
mod odd_objects;
mod offline;
mod one_site;
mod queue;
mod review;
mod rolling;
mod seeding;
mod silent;
mod standby;
mod start;
mod stock;
mod switched_off;
mod two_sites;
mod warm;

use std::path::Path;

/// The sidecar under test.
fn lockstep() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lockstep-under-test"))
}
