//! `sim`: runs seeds of the simulator, or replays one seed. `make sim SEED=123` calls it.

use std::ops::Range;
use std::process::ExitCode;

use clap::Parser;
use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use lockstep_tests::sim::rates::Rate;
use lockstep_tests::sim::{Scenario, simulate};

/// Simulates whole sites, with faults that a seed decides. Ends with the first property that does not hold.
#[derive(Parser)]
struct Arguments {
    /// The number of seeds to run.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first seed to run.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the whole trace of each seed.
    #[arg(long)]
    trace: bool,
    /// Inject this bug, and use its scenario.
    #[arg(long, value_parser = parse_bug)]
    bug: Option<InjectedBug>,
    /// Use the scenario of this injected bug, without the bug.
    #[arg(long, value_parser = parse_bug)]
    scenario_of: Option<InjectedBug>,
    /// Measure how many seeds find each injected bug, or the one of `--bug`. Fails if it is less than every fifth.
    #[arg(long)]
    rates: bool,
    /// Run without faults and without crashes.
    #[arg(long)]
    calm: bool,
    /// Lose volumes too, and at the end those of a whole site.
    #[arg(long)]
    losses: bool,
    /// Expel a node at the end, and bring it back.
    #[arg(long)]
    expulsion: bool,
    /// Replace the refdb by an older backup in the middle.
    #[arg(long)]
    rewound: bool,
    /// Lose the refdb at the end, and rebuild it.
    #[arg(long)]
    rebuilt: bool,
    /// Sign all records, and let an attacker write to the streams.
    #[arg(long)]
    signed: bool,
    /// Write one item of the refdb at a time, as tables with multi-Region strong consistency demand.
    #[arg(long)]
    single_item: bool,
    /// Let the nodes of a site share the reads of streams.
    #[arg(long)]
    siblings: bool,
    /// Let autoscalers set the numbers of shards.
    #[arg(long)]
    autoscaled: bool,
    /// Fail over one of several active sites.
    #[arg(long)]
    all_active: bool,
    /// The duration of the faults, in virtual seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

fn parse_bug(text: &str) -> Result<InjectedBug, String> {
    let found = InjectedBug::ALL.into_iter().find(|bug| format!("{bug:?}") == text);
    found.ok_or_else(|| format!("no such bug; the bugs are {:?}", InjectedBug::ALL))
}

impl Arguments {
    fn scenario(&self) -> Scenario {
        let mut scenario = match (self.bug.or(self.scenario_of), self.calm) {
            (Some(bug), _) => Scenario::for_bug(bug),
            (None, true) => Scenario::calm(),
            (None, false) if self.losses => Scenario::losses(),
            (None, false) if self.expulsion => Scenario::expulsion(),
            (None, false) if self.rewound => Scenario::rewound(),
            (None, false) if self.rebuilt => Scenario::rebuilt(),
            (None, false) if self.signed => Scenario::signed(),
            (None, false) if self.single_item => Scenario::single_item(),
            (None, false) if self.siblings => Scenario::siblings(),
            (None, false) if self.autoscaled => Scenario::autoscaled(),
            (None, false) if self.all_active => Scenario::all_active(),
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
    if arguments.rates {
        return rates(arguments.bug, first..first + count);
    }
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

/// Measures the rates of all injected bugs, or of one.
fn rates(bug: Option<InjectedBug>, seeds: Range<u64>) -> ExitCode {
    let bugs = InjectedBug::ALL.into_iter().filter(|one| bug.is_none_or(|only| only == *one));
    let mut is_low = false;
    for bug in bugs {
        let rate = Rate::measure(bug, seeds.clone());
        is_low |= !rate.survives();
        println!("{rate}");
    }
    if is_low { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
