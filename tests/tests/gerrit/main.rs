//! Real Gerrits with the bridge, each beside its sidecar, driven as users do. They need a war and a virtual machine, so
//! `make gerrit-e2e` runs them.

mod one_site;
mod two_sites;

use std::path::Path;

use lockstep_tests::e2e::gerrit::{FIRST_PROJECTS, Sites};
use lockstep_tests::e2e::verify::{Truth, converged};

/// The sidecar under test.
fn lockstep() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lockstep-under-test"))
}

/// Every site shows what the refdb says of a project and of Gerrit's own ones; what it says of the project.
async fn in_lockstep(sites: &Sites, project: &str) -> Truth {
    for first in FIRST_PROJECTS {
        converged(&sites.cluster, first).await;
    }
    converged(&sites.cluster, project).await
}
