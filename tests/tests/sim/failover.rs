//! Failovers under all faults: one site is active, and operators move its writes, abort, and bring fenced sites back.
//! Drills beside them.

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep_tests::sim::{Scenario, simulate};

use super::{GOOD_SEEDS, set};

/// The first seed, and the number of seeds.
fn seeds() -> (u64, u64) {
    (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(GOOD_SEEDS))
}

/// At no moment may two sites commit. Every failover ends, and all sites converge.
#[test]
fn failovers_under_all_faults_never_leave_two_sites_that_commit() {
    let (from, count) = seeds();
    let (mut done, mut aborted) = (0, 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::standby(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        let of_operators = |line: &&str| line.contains("OPERATOR") || line.contains("the failover ended");
        report.trace.lines().filter(of_operators).for_each(|line| println!("{line}"));
        done += report.trace.matches("the failover ended: Done").count();
        aborted += report.trace.matches("the failover ended: Aborted").count();
    }
    println!("{done} failovers were completed, {aborted} aborted");
    assert!(count == 1 || (done > 3 && aborted > 0), "{done} failovers were completed, {aborted} aborted");
}

/// A drill may be red because of the faults, but never because the fencing did not hold. Failovers go on beside it, and
/// so do commits.
#[test]
fn drills_beside_failovers_harm_nobody_and_their_fencing_holds() {
    let (from, count) = seeds();
    let (mut green, mut red, mut done) = (0, 0, 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::drills(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        let of_drills = report.trace.lines().filter(|line| line.contains(" drill "));
        of_drills.for_each(|line| println!("{line}"));
        assert!(!report.trace.contains("the fencing has failed"), "{report}");
        green += report.trace.matches(" is green").count();
        red += report.trace.matches(" is red: ").count();
        done += report.trace.matches("the failover ended: Done").count();
    }
    println!("{green} drills were green, {red} red; {done} failovers were completed");
    assert!(count == 1 || (green > 0 && done > 0), "{green} drills were green; {done} failovers were completed");
}
