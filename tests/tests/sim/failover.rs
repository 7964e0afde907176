//! Failovers under all faults: one site is active, and operators move its writes, abort, and bring fenced sites back.

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep_tests::sim::{Scenario, simulate};

use super::{GOOD_SEEDS, set};

/// At no moment may two sites commit. Every failover ends, and all sites converge.
#[test]
fn failovers_under_all_faults_never_leave_two_sites_that_commit() {
    let (from, count) = (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(GOOD_SEEDS));
    let (mut done, mut aborted) = (0, 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::standby(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        done += report.trace.matches("the failover ended: Done").count();
        aborted += report.trace.matches("the failover ended: Aborted").count();
    }
    println!("{done} failovers were completed, {aborted} aborted");
    assert!(count == 1 || (done > 3 && aborted > 0), "{done} failovers were completed, {aborted} aborted");
}
