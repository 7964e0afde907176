//! `make bench-gerrit`: the time that a user of Gerrit waits, with Lockstep and without, in one run.
//!
//! A plain Gerrit and one with the bridge take turns, operation by operation, so that both meet the same state of the
//! machine. The sidecar is the production binary. Its refdb is the emulator, in this process, optionally behind a
//! simulated round trip.
//!
//! | file | idea |
//! |---|---|
//! | `pair` | the two Gerrits, and a user at each |
//! | `operation` | the operations of a user, and their duration |
//! | `inside` | the sidecar's part of that, and its causes |
//! | `operations` | j: each operation, near the refdb and far from it |
//! | `large` | k: a project with 500,000 refs |
//! | `visible` | l: the time until the other site finds an operation |

mod inside;
mod large;
mod operation;
mod operations;
mod pair;
mod visible;

use std::process::ExitCode;

use lockstep_loadtest::report::Report;
use lockstep_loadtest::{Fallible, letters};

const ALL: [char; 3] = ['j', 'k', 'l'];
const USAGE: &str = "usage: lockstep-loadtest-gerrit [--only j,k,l]";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let chosen = match &args[..] {
        [] => Some(ALL.to_vec()),
        [only, list] if only == "--only" => letters(list, &ALL),
        _ => None,
    };
    let Some(chosen) = chosen else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let report = Report::new("bench-gerrit");
    let mut code = ExitCode::SUCCESS;
    for letter in chosen {
        if let Err(error) = measure(letter, &report).await {
            report.failed(letter, &error.to_string());
            code = ExitCode::FAILURE;
        }
    }
    code
}

async fn measure(letter: char, report: &Report) -> Fallible<()> {
    match letter {
        'j' => operations::measure(report).await,
        'k' => large::measure(report).await,
        _ => visible::measure(report).await,
    }
}
