//! Runs the chosen figures.

use std::process::ExitCode;

use lockstep_loadtest::report::Report;
use lockstep_loadtest::{ALL, QUICK, letters, run};

const USAGE: &str = "usage: lockstep-loadtest [--quick] [--only a,b,c]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(chosen) = chosen(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = match lockstep::base::tasks::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let failed = runtime.block_on(run(&chosen, &Report::new("bench")));
    runtime.shutdown_background();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The letters of the figures to measure. None if the arguments are wrong.
fn chosen(args: &[String]) -> Option<Vec<char>> {
    match args {
        [] => Some(ALL.to_vec()),
        [quick] if quick == "--quick" => Some(QUICK.to_vec()),
        [only, list] if only == "--only" => letters(list, &ALL),
        _ => None,
    }
}
