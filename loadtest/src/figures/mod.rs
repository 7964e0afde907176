//! The figures, one file per letter.

mod api;
mod backlog;
mod behind_limit;
mod commit;
mod distance;
mod emulator;
mod existing;
mod failover;
mod lag;
mod large_push;
mod memory;
mod older;
mod proportion;
mod round_trips;
mod side_by_side;
mod verify;

use crate::Fallible;
use crate::report::Report;

/// The letters of all figures.
pub const ALL: [char; 14] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'm', 'n', 'o', 'p', 'q'];
/// The letters of the figures that take seconds.
pub const QUICK: [char; 6] = ['a', 'b', 'c', 'd', 'e', 'i'];

/// Measures one figure after the other. Returns the number of figures that could not be measured.
pub async fn run(chosen: &[char], report: &Report) -> usize {
    let mut failed = 0;
    for letter in chosen {
        if let Err(error) = measure(*letter, report).await {
            report.failed(*letter, &error.to_string());
            failed += 1;
        }
    }
    failed
}

async fn measure(letter: char, report: &Report) -> Fallible<()> {
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
        _ => memory::measure(report).await,
    }
}
