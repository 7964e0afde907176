//! Real Gerrits: the load test (`make load-gerrit`), and benchmarks with Lockstep and without (`make bench-gerrit`).
//!
//! In a benchmark, a plain Gerrit and one with the bridge take turns, operation by operation, so that both meet the
//! same state of the machine. The sidecar is the production binary. Its refdb is the emulator, in this process,
//! optionally behind a simulated round trip.
//!
//! | file | idea |
//! |---|---|
//! | `load` | the load test |
//! | `pair` | the two Gerrits, and a user at each |
//! | `operation` | the operations of a user, and their duration |
//! | `inside` | the sidecar's part of that, and its causes |
//! | `operations` | j: each operation, near the refdb and far from it |
//! | `large` | k: a project with 500,000 refs |
//! | `visible` | l: the time until the other site finds an operation |

mod inside;
mod large;
mod load;
mod operation;
mod operations;
mod pair;
mod visible;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use futures::FutureExt;
use lockstep::base::clock::{Clock, SystemClock};
use lockstep::node::assembly::stop_signal;
use lockstep_loadtest::load::profile::ProfileError;
use lockstep_loadtest::load::results::{Verdict, summary};
use lockstep_loadtest::report::Report;
use lockstep_loadtest::{Fallible, letters};

use crate::load::profiles::{BUILTIN, read};
use crate::load::run::{Ordered, run};

const ALL: [char; 3] = ['j', 'k', 'l'];
const AFTER: &str = "Exit codes: 0 passed, 1 could not be carried out, 2 wrong arguments or profile, 3 the oracle \
                     found a violation, 4 void (the generator did not keep up).";

/// The load test on real Gerrits. Without a command: the benchmarks of docs/performance.md.
#[derive(Debug, Parser)]
#[command(name = "lockstep-loadtest-gerrit", version, after_help = AFTER)]
struct Cli {
    /// Only these benchmarks: j,k
    #[arg(long)]
    only: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a profile on sites with a Gerrit each, judges them, and writes a report
    Run(RunArgs),
    /// Lists the profiles, or prints one
    Profile {
        /// The profile to print
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// A profile (`lockstep-loadtest-gerrit profile` lists them), or a TOML file
    profile: String,
    /// Replaces a value of the profile: SECTION.FIELD=VALUE
    #[arg(long)]
    set: Vec<String>,
    /// The seed
    #[arg(long)]
    seed: Option<u64>,
    /// Finds the largest share of reads that keeps a run valid by short trials first, and runs with it
    #[arg(long)]
    find_reads: bool,
    /// The folder of the results; by default, a new one below load-results
    #[arg(long)]
    out: Option<PathBuf>,
    /// A collector that receives metrics over OTLP while the run goes on: http://HOST:4318
    #[arg(long)]
    otlp: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // A site that does not start panics, and has said why.
    let work = AssertUnwindSafe(command(cli)).catch_unwind();
    let code = tokio::select! {
        biased;
        code = work => code.unwrap_or_else(|_| Err("the run was given up".into())),
        () = stop_signal() => Err("stopped by a signal; the sites of this run are stopped too".into()),
    };
    code.unwrap_or_else(|error| {
        eprintln!("lockstep-loadtest-gerrit: {error}");
        ExitCode::from(if error.is::<ProfileError>() { 2 } else { 1 })
    })
}

async fn command(cli: Cli) -> Fallible<ExitCode> {
    match cli.command {
        Some(Command::Run(args)) => load(args).await,
        Some(Command::Profile { name }) => profile(name.as_deref()),
        None => benchmarks(cli.only.as_deref()).await,
    }
}

async fn load(args: RunArgs) -> Fallible<ExitCode> {
    let mut set = args.set.clone();
    set.extend(args.seed.map(|seed| format!("run.seed={seed}")));
    let profile = read(&args.profile, &set)?;
    let out = args.out.unwrap_or_else(|| {
        PathBuf::from("load-results").join(format!("gerrit-{}-{}", profile.name, SystemClock.now_ms() / 1_000))
    });
    let replaced: String = args.set.iter().map(|set| format!(" --set {set}")).collect();
    let seed = profile.run.seed;
    let command = format!("lockstep-loadtest-gerrit run {} --seed {seed}{replaced}", args.profile);
    let command = if args.find_reads { format!("{command} --find-reads") } else { command };
    let report =
        run(Ordered { profile, out: out.clone(), find_reads: args.find_reads, otlp: args.otlp, command }).await?;
    for line in summary(&report) {
        println!("{line}");
    }
    for note in &report.notes {
        println!("note: {note}");
    }
    for violation in &report.oracle.violations {
        println!("violation: {:?}: {}", violation.kind, violation.text);
    }
    println!("{}", out.join("report.html").display());
    let is_missed = report.goals.iter().any(|goal| !goal.is_met());
    Ok(match report.verdict {
        Verdict::Passed if is_missed => ExitCode::from(6),
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Failed => ExitCode::from(3),
        Verdict::Void => ExitCode::from(4),
    })
}

fn profile(name: Option<&str>) -> Fallible<ExitCode> {
    match name {
        None => BUILTIN.iter().for_each(|(name, _, about)| println!("{name:8} {about}")),
        Some(name) => {
            let text = BUILTIN.iter().find(|(own, ..)| *own == name).map(|(_, text, _)| text.trim_end());
            println!("{}", text.ok_or_else(|| ProfileError(vec![format!("there is no profile {name}")]))?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn benchmarks(only: Option<&str>) -> Fallible<ExitCode> {
    let chosen = match only {
        Some(list) => {
            letters(list, &ALL).ok_or_else(|| ProfileError(vec![format!("--only {list}: some of {ALL:?}, as j,k")]))?
        }
        None => ALL.to_vec(),
    };
    let report = Report::new("bench-gerrit");
    let mut code = ExitCode::SUCCESS;
    for letter in chosen {
        if let Err(error) = measure(letter, &report).await {
            report.failed(letter, &error.to_string());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn measure(letter: char, report: &Report) -> Fallible<()> {
    match letter {
        'j' => operations::measure(report).await,
        'k' => large::measure(report).await,
        _ => visible::measure(report).await,
    }
}
