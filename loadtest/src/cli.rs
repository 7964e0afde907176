//! The command line.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lockstep::base::clock::{Clock, SystemClock};
use lockstep::node::assembly::stop_signal;

use crate::load::estate::{Emulator, EstateFile, burden, emulator, forward};
use crate::load::knee::Slo;
use crate::load::model::Day;
use crate::load::profile::{BUILTIN, Profile, ProfileError, Shape, Target, builtin, parse};
use crate::load::results::{Report, Verdict};
use crate::load::run::{Ordered, run};
use crate::load::{compare, knee, oracle, record};
use crate::report::Report as Figures;
use crate::{ALL, Extent, Fallible, QUICK, letters};

const AFTER: &str = "Exit codes: 0 passed, 1 could not be carried out, 2 wrong arguments or profile, 3 the oracle \
                     found a violation, 4 void (the generator did not keep up), 5 worse than the base, \
                     or no step at which the objectives hold, 6 passed, but a goal of the \
                     profile was missed.";

/// The load test of Lockstep.
#[derive(Debug, Parser)]
#[command(name = "lockstep-loadtest", version, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a profile, judges the sites, and writes a report
    Run(RunArgs),
    /// Lists the profiles, or prints one
    Profile {
        /// The profile to print
        name: Option<String>,
    },
    /// Prints the counts and rates of the model
    Model {
        /// Replaces a coefficient: model.NAME=VALUE
        #[arg(long)]
        set: Vec<String>,
    },
    /// Repeats the oracle's judgement on the folder of a run with --keep
    Check {
        /// The folder of the results
        folder: PathBuf,
    },
    /// Compares reports; ends with 5 if the new ones are worse
    Compare {
        /// A report.json, or a folder with some
        base: PathBuf,
        /// The same of the new build
        new: PathBuf,
        /// The growth of a figure that is not yet worse: 0.1 for 10 %
        #[arg(long, default_value_t = 0.1)]
        tolerance: f64,
    },
    /// Finds the highest step of a growing load at which every objective holds; ends with 5 if there is none
    Knee {
        /// The report.json of a run with steps, or a folder with those of repeats
        runs: PathBuf,
        /// The objectives: p99_ms, lag_ms, seconds_share, failed_share
        #[arg(long)]
        slo: Option<PathBuf>,
    },
    /// Records a trace of a site's streams, without names
    Record {
        /// The configuration of a sidecar
        #[arg(long)]
        config: PathBuf,
        /// The trace
        #[arg(long)]
        out: PathBuf,
    },
    /// Measures the figures of docs/performance.md
    Bench {
        /// Only those that take seconds, and some of them with tiny sizes and without goals
        #[arg(long)]
        quick: bool,
        /// Only these letters: a,b,c
        #[arg(long)]
        only: Option<String>,
    },
    /// Runs an emulator in a process of its own
    #[command(hide = true)]
    Emulator { which: Emulator, folder: PathBuf },
    /// Forwards ports to the emulators, as a file says
    #[command(hide = true)]
    Forward { control: PathBuf },
    /// Keeps the disk of a folder busy
    #[command(hide = true)]
    Burden { folder: PathBuf },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// A profile (`lockstep-loadtest profile` lists them), or a TOML file
    profile: String,
    /// The trace that `replay` repeats
    trace: Option<PathBuf>,
    /// Replaces a value of the profile: SECTION.FIELD=VALUE
    #[arg(long)]
    set: Vec<String>,
    /// Takes load.factor from the knee of these runs of `step`, and three times that as load.to: a report.json, or a
    /// folder with some
    #[arg(long)]
    knee: Option<PathBuf>,
    /// The objectives of that knee
    #[arg(long, requires = "knee")]
    slo: Option<PathBuf>,
    /// The seed
    #[arg(long)]
    seed: Option<u64>,
    /// Runs it this many times, each with the next seed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    repeat: u64,
    /// A file that names the estate (docs/load/README.md); by default, sites are started on this machine
    #[arg(long)]
    estate: Option<PathBuf>,
    /// The `lockstep` program for sites on this machine; by default, the one beside this program
    #[arg(long)]
    lockstep: Option<PathBuf>,
    /// The folder of the results; by default, a new one below load-results
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keeps the repositories of sites on this machine, for `check`
    #[arg(long)]
    keep: bool,
    /// A collector that receives metrics over OTLP while the run goes on: http://HOST:4318
    #[arg(long)]
    otlp: Option<String>,
}

/// Runs the command line. `--help` lists the exit codes.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match lockstep::base::tasks::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(async {
        tokio::select! {
            biased;
            code = command(cli.command) => code,
            () = stop_signal() => Err("stopped by a signal; the sites of this run are stopped too".into()),
        }
    });
    // The tasks hold the sites' processes, which end with them.
    runtime.shutdown_timeout(Duration::from_secs(5));
    code.unwrap_or_else(|error| failed(error.as_ref()))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("lockstep-loadtest: {error}");
    ExitCode::from(if error.is::<ProfileError>() { 2 } else { 1 })
}

/// Prints a line. A reader that has hung up does not end a run whose report is in a file.
fn tell(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

async fn command(command: Command) -> Fallible<ExitCode> {
    match command {
        Command::Run(args) => run_all(args).await,
        Command::Profile { name } => profile(name.as_deref()),
        Command::Model { set } => model(&set),
        Command::Check { folder } => check(&folder).await,
        Command::Compare { base, new, tolerance } => {
            let compared = compare::compare(&compare::side(&base)?, &compare::side(&new)?, tolerance)?;
            tell(compare::table(&compared).trim_end());
            let is_worse = compared.iter().any(|one| one.is_worse);
            Ok(if is_worse { ExitCode::from(5) } else { ExitCode::SUCCESS })
        }
        Command::Knee { runs, slo } => {
            let slo = slo.as_deref().map(Slo::read).transpose()?.unwrap_or_default();
            let reports = compare::side(&runs)?;
            compare::alike(reports.iter())?;
            let knees = reports.iter().map(|report| knee::knee(report, &slo)).collect::<Fallible<Vec<_>>>()?;
            tell(knee::text(&knees, reports[0].profile.model.builds_per_day).trim_end());
            let is_found = knees.iter().all(|knee| knee.factor().is_some());
            Ok(if is_found { ExitCode::SUCCESS } else { ExitCode::from(5) })
        }
        Command::Record { config, out } => {
            let recorded = record::record(&config, &out).await?;
            tell(format_args!(
                "{} transactions; {} other records are left out",
                recorded.transactions, recorded.left_out
            ));
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { quick, only } => {
            let chosen = match only {
                Some(list) => {
                    letters(&list, &ALL).ok_or_else(|| format!("--only {list}: some of {ALL:?}, as a,b,c"))?
                }
                None if quick => QUICK.to_vec(),
                None => ALL.to_vec(),
            };
            let (extent, target) = if quick { (Extent::Quick, "bench-quick") } else { (Extent::Whole, "bench") };
            let failed = crate::run(&chosen, extent, &Figures::new(target)).await;
            Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Emulator { which, folder } => emulator(which, &folder).await.map(|()| ExitCode::SUCCESS),
        Command::Forward { control } => forward(&control).await.map(|()| ExitCode::SUCCESS),
        Command::Burden { folder } => burden(&folder).map(|()| ExitCode::SUCCESS),
    }
}

/// The profile of a name or of a file.
fn read(name: &str, set: &[String]) -> Fallible<Profile> {
    if let Some(text) = builtin(name) {
        return Ok(parse(name, text, set)?);
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|error| {
        let known: Vec<&str> = BUILTIN.iter().map(|(name, _, _)| *name).collect();
        ProfileError(vec![format!("{name}: {error}; it is neither a file nor one of {}", known.join(", "))])
    })?;
    let stem = path.file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
    Ok(parse(&stem, &text, set)?)
}

/// The values that `--knee` sets.
fn above_knee(runs: &Path, slo: Option<&Path>) -> Fallible<Vec<String>> {
    let slo = slo.map(Slo::read).transpose()?.unwrap_or_default();
    let reports = compare::side(runs)?;
    compare::alike(reports.iter())?;
    knee::overload(&reports, &slo)
}

async fn run_all(mut args: RunArgs) -> Fallible<ExitCode> {
    if let Some(runs) = &args.knee {
        // The command that the report repeats names the values, and not the runs.
        args.set = [above_knee(runs, args.slo.as_deref())?, args.set].concat();
    }
    let mut set = args.set.clone();
    set.extend(args.seed.map(|seed| format!("run.seed={seed}")));
    let profile = read(&args.profile, &set)?;
    if profile.run.target == Target::Gerrit {
        let why = "run.target = \"gerrit\": another program runs real Gerrits: make load-gerrit PROFILE=...";
        return Err(ProfileError(vec![why.to_owned()]).into());
    }
    if args.knee.is_some() && profile.load.shape != Shape::Burst {
        let why = "--knee: the profile has no burst that could be three times the knee: run the profile `overload`";
        return Err(ProfileError(vec![why.to_owned()]).into());
    }
    let estate = args.estate.as_deref().map(EstateFile::read).transpose()?;
    let lockstep = match (&args.lockstep, &estate) {
        (Some(path), _) => path.clone(),
        (None, Some(_)) => PathBuf::new(),
        (None, None) => crate::process::lockstep()?,
    };
    let out = args.out.clone().unwrap_or_else(|| {
        PathBuf::from("load-results").join(format!("{}-{}", profile.name, SystemClock.now_ms() / 1_000))
    });
    let (mut worst, mut is_missed) = (Verdict::Passed, false);
    for number in 0..args.repeat {
        let mut profile = profile.clone();
        profile.run.seed += number;
        let out = if args.repeat > 1 { out.join(format!("run-{}", number + 1)) } else { out.clone() };
        let report = run(Ordered {
            command: text(&args, profile.run.seed),
            profile,
            trace: args.trace.clone(),
            estate: estate.clone(),
            lockstep: lockstep.clone(),
            out: out.clone(),
            otlp: args.otlp.clone(),
            keep: args.keep,
        })
        .await?;
        show(&report, &out);
        is_missed |= report.goals.iter().any(|goal| !goal.is_met());
        worst = match (worst, report.verdict) {
            (Verdict::Failed, _) | (_, Verdict::Failed) => Verdict::Failed,
            (Verdict::Void, _) | (_, Verdict::Void) => Verdict::Void,
            _ => Verdict::Passed,
        };
    }
    Ok(match worst {
        Verdict::Passed if is_missed => ExitCode::from(6),
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Failed => ExitCode::from(3),
        Verdict::Void => ExitCode::from(4),
    })
}

/// The command that repeats a run.
fn text(args: &RunArgs, seed: u64) -> String {
    let mut words = vec!["lockstep-loadtest run".to_owned(), args.profile.clone()];
    words.extend(args.trace.iter().map(|trace| trace.display().to_string()));
    words.push(format!("--seed {seed}"));
    words.extend(args.set.iter().map(|set| format!("--set {set}")));
    words.extend(args.estate.iter().map(|estate| format!("--estate {}", estate.display())));
    words.join(" ")
}

/// Prints the facts of a report.
fn show(report: &Report, out: &Path) {
    for line in crate::load::results::summary(report) {
        tell(line);
    }
    for violation in &report.oracle.violations {
        tell(format_args!("violation: {:?}: {}", violation.kind, violation.text));
    }
    tell(out.join("report.html").display());
}

fn profile(name: Option<&str>) -> Fallible<ExitCode> {
    match name {
        None => BUILTIN.iter().for_each(|(name, _, about)| tell(format_args!("{name:8} {about}"))),
        Some(name) => {
            tell(builtin(name).ok_or_else(|| ProfileError(vec![format!("there is no profile {name}")]))?.trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn model(set: &[String]) -> Fallible<ExitCode> {
    let profile = parse("model", "", set)?;
    tell(serde_json::to_string_pretty(&Day::of(&profile.model))?);
    Ok(ExitCode::SUCCESS)
}

async fn check(folder: &Path) -> Fallible<ExitCode> {
    let judgement: oracle::Judgement = crate::load::run::judge_folder(folder).await?;
    tell(serde_json::to_string_pretty(&judgement)?);
    Ok(if judgement.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
