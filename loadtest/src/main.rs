//! `make bench`: the figures that Lockstep promises, measured, one JSON line each.
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
mod host;
mod process;
mod report;
mod site;
mod stats;

use std::process::ExitCode;

use report::Report;

/// Whatever went wrong; a benchmark ends with it.
type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: lockstep-loadtest [--quick] [--only a,b,c]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(chosen) = chosen(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = match lockstep::tasks::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let failed = runtime.block_on(figures::run(&chosen, &Report::new()));
    runtime.shutdown_background();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The letters of the figures to measure; none when the arguments are wrong.
fn chosen(args: &[String]) -> Option<Vec<char>> {
    match args {
        [] => Some(figures::ALL.to_vec()),
        [quick] if quick == "--quick" => Some(figures::QUICK.to_vec()),
        [only, list] if only == "--only" => list.split(',').map(letter).collect(),
        _ => None,
    }
}

fn letter(text: &str) -> Option<char> {
    figures::ALL.iter().copied().find(|known| text.len() == 1 && text.starts_with(*known))
}
