//! `sim`: runs seeds of the simulator, or replays one. `make sim SEED=123` calls it.

use std::process::ExitCode;

use clap::Parser;
use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use lockstep_tests::sim::{Scenario, simulate};

/// Simulates whole sites with faults from a seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// This seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the whole trace.
    #[arg(long)]
    trace: bool,
    /// InjectedBug this bug, and use its scenario.
    #[arg(long, value_parser = parse_bug)]
    bug: Option<InjectedBug>,
    /// Without faults.
    #[arg(long)]
    calm: bool,
    /// With volumes and a whole site lost.
    #[arg(long)]
    losses: bool,
    /// With a node that is expelled at the end, and comes back.
    #[arg(long)]
    expulsion: bool,
    /// How long faults go on, in virtual seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

fn parse_bug(text: &str) -> Result<InjectedBug, String> {
    let found = InjectedBug::ALL.into_iter().find(|bug| format!("{bug:?}") == text);
    found.ok_or_else(|| format!("there is no such bug; there are {:?}", InjectedBug::ALL))
}

impl Arguments {
    fn scenario(&self) -> Scenario {
        let mut scenario = match (self.bug, self.calm) {
            (Some(bug), _) => Scenario::for_bug(bug),
            (None, true) => Scenario::calm(),
            (None, false) if self.losses => Scenario::losses(),
            (None, false) if self.expulsion => Scenario::expulsion(),
            (None, false) => Scenario::general(),
        };
        scenario.safety_ms = self.seconds.map_or(scenario.safety_ms, |seconds| seconds * 1_000);
        scenario
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bugs = arguments.bug.map(InjectedBugs::only).unwrap_or_default();
    let (first, count) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    for seed in first..first + count {
        match simulate(seed, arguments.scenario(), bugs) {
            Ok(report) if arguments.trace => println!("{}{report}", report.trace),
            Ok(report) => println!("{report}"),
            Err(failure) => {
                if arguments.trace {
                    print!("{}", failure.trace);
                }
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
