//! The load test (`make load`, in `load`), and the benchmarks.
//!
//! `make bench` measures the figures that Lockstep promises, and prints one JSON line per figure. The figures that
//! need a real Gerrit are in the package beside this one (`loadtest/gerrit`), which shares its reports and statistics.
//!
//! Every figure runs on whole nodes over the AWS adapters and the embedded emulators, unless its name says otherwise. A
//! figure with a goal says whether the goal was met. The process fails only if a figure could not be measured.
//!
//! | module | idea |
//! |---|---|
//! | `cli` | the command line of both |
//! | `load` | the load test |
//! | `report`, `stats` | JSON lines, medians |
//! | `host` | the machine, and the resources that a process uses |
//! | `cloud`, `site` | the emulators, and nodes on them in this process |
//! | `tap` | a port that counts reads of the streams |
//! | `process` | `lockstep run` as a process of its own |
//! | `far` | a simulated round trip to AWS |
//! | `history` | commits made by `git fast-import` |
//! | `figures` | the figures |

pub mod cli;
mod cloud;
mod far;
mod figures;
mod history;
pub mod host;
pub mod load;
mod process;
pub mod report;
mod site;
pub mod stats;
mod tap;

pub use figures::{ALL, Extent, QUICK, run};

/// The result of a benchmark's step. Any error ends the benchmark.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Parses a list of letters (`a,b,c`). None if one of them is not among `known`.
#[must_use]
pub fn letters(list: &str, known: &[char]) -> Option<Vec<char>> {
    let letter = |text: &str| known.iter().copied().find(|known| text.len() == 1 && text.starts_with(*known));
    list.split(',').map(letter).collect()
}
