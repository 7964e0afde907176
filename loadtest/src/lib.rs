//! `make bench`: the figures that Lockstep promises, measured, one JSON line each. Those that need a real Gerrit are in the
//! package beside this one (`loadtest/gerrit`), with the reports and statistics of this one.
//!
//! Every figure runs on whole nodes over the AWS adapters and the embedded emulators, unless its name says otherwise.
//! A figure that has a goal says whether it was met; the process fails only when something could not be measured.
//!
//! | module | idea |
//! |---|---|
//! | `report`, `stats` | JSON lines, medians |
//! | `host` | what the machine is, and what a process uses |
//! | `cloud`, `site` | the emulators, and nodes on them in this process |
//! | `process` | `lockstep run` as a process of its own |
//! | `far` | a round trip to AWS, injected |
//! | `history` | commits made by `git fast-import` |
//! | `figures` | what is measured |

mod cloud;
mod far;
mod figures;
mod history;
pub mod host;
mod process;
pub mod report;
mod site;
pub mod stats;

pub use figures::{ALL, QUICK, run};

/// Whatever went wrong; a benchmark ends with it.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The letters of a list (`a,b,c`), of those that are `known`; none when there is another one.
#[must_use]
pub fn letters(list: &str, known: &[char]) -> Option<Vec<char>> {
    let letter = |text: &str| known.iter().copied().find(|known| text.len() == 1 && text.starts_with(*known));
    list.split(',').map(letter).collect()
}
