//! The rate at which the scenario of an injected bug finds it. A scenario that depends on its seeds finds nothing any
//! more as soon as another change leads to other runs.

use std::fmt;
use std::ops::Range;

use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};

use super::{Scenario, bugs, simulate};

/// The results of the seeds of one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The injected bug.
    pub bug: InjectedBug,
    /// The number of seeds.
    pub seeds: u64,
    /// The seeds in which a property of the bug was violated first.
    pub found: u64,
    /// The seeds in which another property was violated first.
    pub others: u64,
}

impl Rate {
    /// Runs the scenario of a bug with each of these seeds.
    #[must_use]
    pub fn measure(bug: InjectedBug, seeds: Range<u64>) -> Self {
        let properties = bugs::of(bug).properties;
        let mut rate = Self { bug, seeds: seeds.end - seeds.start, found: 0, others: 0 };
        for seed in seeds {
            match simulate(seed, Scenario::for_bug(bug), InjectedBugs::only(bug)) {
                Err(failure) if properties.contains(&failure.violation.property) => rate.found += 1,
                Err(_) => rate.others += 1,
                Ok(_) => {}
            }
        }
        rate
    }

    /// Whether at least every fifth seed finds the bug. Then 30 seeds miss it once in 800 changes of the code.
    #[must_use]
    pub fn survives(&self) -> bool {
        self.found * 5 >= self.seeds
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bug, seeds, found, others } = self;
        let too_low = if self.survives() { "" } else { ": TOO LOW" };
        write!(out, "{bug:?}: found by {found} of {seeds} seeds, {others} more violate another property{too_low}")
    }
}
