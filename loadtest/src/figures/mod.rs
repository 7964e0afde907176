//! The figures, one file per letter.

mod api;
mod backlog;
mod behind_limit;
mod bootstrap;
mod commit;
mod distance;
mod emulator;
mod existing;
mod failover;
mod fan_out;
mod lag;
mod large_push;
mod memory;
mod older;
mod proportion;
mod reshard;
mod round_trips;
mod siblings;
mod side_by_side;
mod verify;

use crate::Fallible;
use crate::report::{Goal, Report};

/// The letters of all figures.
pub const ALL: [char; 18] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u'];
/// The letters of the figures that take seconds. A quick t takes a minute: leases have their turns every ten seconds.
pub const QUICK: [char; 9] = ['a', 'b', 'c', 'd', 'e', 'i', 'r', 's', 'u'];

/// The size of a measurement. The figures r to u have both sizes, and all others have the whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The size that the goals are about.
    Whole,
    /// A tiny one, which shows that the figure can be measured. It has no goal.
    Quick,
}

impl Extent {
    /// One of two values.
    fn pick<T>(self, whole: T, quick: T) -> T {
        match self {
            Self::Whole => whole,
            Self::Quick => quick,
        }
    }

    /// The goal, if this size has one.
    fn goal(self, goal: Goal) -> Option<Goal> {
        self.pick(Some(goal), None)
    }
}

/// Measures one figure after the other. Returns the number of figures that could not be measured.
pub async fn run(chosen: &[char], extent: Extent, report: &Report) -> usize {
    let mut failed = 0;
    for letter in chosen {
        if let Err(error) = measure(*letter, extent, report).await {
            report.failed(*letter, &error.to_string());
            failed += 1;
        }
    }
    failed
}

async fn measure(letter: char, extent: Extent, report: &Report) -> Fallible<()> {
    match letter {
        'a' => round_trips::measure(report).await,
        'b' => commit::measure(report).await,
        'c' => api::measure(report).await,
        'd' => distance::measure(report).await,
        'e' => lag::measure(report).await,
        'f' => proportion::measure(report).await,
        'g' => large_push::measure(report).await,
        'h' => backlog::measure(report).await,
        'm' => behind_limit::measure(report).await,
        'n' => existing::measure(report).await,
        'o' => failover::measure(report).await,
        'p' => verify::measure(report).await,
        'q' => side_by_side::measure(report).await,
        'r' => reshard::measure(report, extent).await,
        's' => fan_out::measure(report, extent).await,
        't' => siblings::measure(report, extent).await,
        'u' => bootstrap::measure(report, extent).await,
        _ => memory::measure(report).await,
    }
}
