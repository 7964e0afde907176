//! The steps of a run in their order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lockstep::base::clock::{Clock, SystemClock};
use lockstep_proto::ProjectName;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::converge;
use super::measured::{Measured, measure};
use super::prepare::prepare;
use super::steps;
use crate::Fallible;
use crate::host::Host;
use crate::load::drive::{Context, FaultMark, Pace, drive, inject};
use crate::load::estate::{Estate, EstateFile, Local, LocalSettings};
use crate::load::measure::{Otlp, Recorder, write_hlog};
use crate::load::oracle::{Evidence, Judgement, judge};
use crate::load::plan::{Arrival, Plan, read_trace, replay};
use crate::load::profile::{Profile, Shape};
use crate::load::results::{self, Gathered, Report, Sizes, gather};
use crate::load::world::World;

/// A run, as it was ordered on the command line.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The profile.
    pub profile: Profile,
    /// The trace of `replay`.
    pub trace: Option<PathBuf>,
    /// The file that names the estate. Without it, the estate is started here.
    pub estate: Option<EstateFile>,
    /// The `lockstep` program for sites that are started here.
    pub lockstep: PathBuf,
    /// The folder of the results.
    pub out: PathBuf,
    /// The collector that receives metrics over OTLP while the run goes on.
    pub otlp: Option<String>,
    /// Whether the repositories of sites that were started here stay.
    pub keep: bool,
    /// The command that repeats the run.
    pub command: String,
}

/// Carries out a run, and writes its results into the folder.
///
/// # Errors
/// The run could not be carried out: a process did not start, a file could not be written, the trace is none.
pub async fn run(order: Ordered) -> Fallible<Report> {
    let profile = order.profile.clone();
    std::fs::create_dir_all(&order.out)?;
    let home = tempfile::Builder::new().prefix("lockstep-load-").tempdir()?;
    let home_path = if order.keep { home.keep() } else { home.path().to_owned() };
    let sites = order.estate.as_ref().map_or(profile.run.sites, EstateFile::count);
    let otlp = order.otlp.as_deref().map(|endpoint| Otlp::open(endpoint, &profile)).transpose()?;
    let plan = plan(&order, sites)?;
    say(&format!("{} operations are planned for {sites} sites", plan.arrivals.len()));
    let estate = Arc::new(open(&order, &home_path).await?);
    let measured_s = measured(&profile, &plan);
    let started_ms = SystemClock.now_ms();
    let context = Arc::new(context(&profile, &estate, &home_path, started_ms, measured_s, otlp.clone())?);
    prepare(&context).await?;
    say("the projects are at every site; the run begins");
    let (ran, faults, ended) = carry_out(&context, plan.arrivals.clone()).await?;
    let measured_s = context.pace.stopped_s().map_or(measured_s, |at| (at - profile.run.warm_up_s).max(1.0));
    say("the run has ended; waiting until every site has applied everything");
    let resolved = converge::resolve(&context).await;
    if resolved > 0 {
        say(&format!("{resolved} requests without an answer turned out to be committed"));
    }
    let patience = Duration::from_secs_f64(profile.run.settle_s);
    let names: Vec<ProjectName> = context.world.names().cloned().collect();
    let last = context.pace.start() + ran.took;
    let (converged, refs) = converge::converge(&estate, &names, last, patience).await?;
    // Only now: a collector that is away takes seconds, in which the sites go on.
    if let Some(otlp) = otlp
        && let Some(why) = otlp.close().await
    {
        say(&why);
    }
    let ledger = context.ledger.lock().clone();
    converge::store(&estate, &order.out, &ledger, refs).await?;
    say("the oracle judges");
    let oracle = judge_folder(&order.out).await?;
    let recording = context.pace.recorder.take();
    let began = SystemTime::UNIX_EPOCH + ran.wall_start;
    write_hlog(&order.out.join("latency.hlog"), &recording, &ran.watched, began)?;
    let own = ran.own(&recording, &profile.limits);
    let mut report = gather(Gathered {
        command: order.command.clone(),
        started_ms,
        host: Host::look().json(),
        versions: versions(&order),
        estate: estate.description.clone(),
        is_local: estate.local.is_some(),
        profile,
        day: plan.day,
        own,
        recording,
        measured_s,
        ended_s: ran.took.as_secs_f64(),
        settled_after_s: converged.map(|converged| converged.as_secs_f64()),
        watched: ran.watched,
        metrics: ran.metrics,
        sizes: Sizes::of(&plan.arrivals),
        processes: ran.processes,
        faults,
        oracle,
    });
    report.notes = ended.into_iter().chain(report.notes).collect();
    results::write(&order.out, &report)?;
    if order.keep {
        say(&format!("the sites stay in {}", home_path.display()));
    }
    Ok(report)
}

/// The time after warm-up. A trace may be shorter than the profile allows.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a run")]
fn measured(profile: &Profile, plan: &Plan) -> f64 {
    let run = &profile.run;
    if profile.load.shape != Shape::Replay {
        return run.seconds;
    }
    let last = plan.arrivals.last().map_or(0.0, |last| last.at_us as f64 / 1e6);
    (last - run.warm_up_s).clamp(1.0, run.seconds)
}

/// Judges the run in a folder, on a thread for blocking work.
pub(crate) async fn judge_folder(folder: &Path) -> Fallible<Judgement> {
    let folder = folder.to_owned();
    #[expect(clippy::disallowed_methods, reason = "git is waited for; no simulator runs the generator")]
    let judging = tokio::task::spawn_blocking(move || Fallible::Ok(judge(&Evidence::read(&folder)?)));
    judging.await?
}

fn say(text: &str) {
    eprintln!("{text}");
}

fn plan(order: &Ordered, sites: usize) -> Fallible<Plan> {
    if order.profile.load.shape != Shape::Replay {
        return Ok(Plan::draw(&order.profile, sites)?);
    }
    let path = order.trace.as_ref().ok_or("a replay needs a trace: run replay FILE")?;
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let trace = read_trace(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(replay(&order.profile, &trace, sites)?)
}

async fn open(order: &Ordered, home: &Path) -> Fallible<Estate> {
    if let Some(file) = &order.estate {
        if !order.profile.faults.is_empty() {
            return Err(
                "the profile injects faults, which only sites that are started here take: remove [[faults]]".into()
            );
        }
        return Ok(file.open().await);
    }
    Local::start(LocalSettings {
        lockstep: order.lockstep.clone(),
        own: std::env::current_exe()?,
        folder: home.to_owned(),
        sites: order.profile.run.sites,
        poll_ms: order.profile.run.poll_ms,
        agents_running: order.profile.run.agents_running,
        round_trip_ms: order.profile.run.round_trip_ms,
        faults: order.profile.faults.clone(),
    })
    .await
}

fn context(
    profile: &Profile,
    estate: &Arc<Estate>,
    home: &Path,
    started_ms: u64,
    measured_s: f64,
    otlp: Option<Otlp>,
) -> Fallible<Context> {
    let (run, limits) = (&profile.run, &profile.limits);
    let warm_up = Duration::from_secs_f64(run.warm_up_s);
    let total = warm_up + Duration::from_secs_f64(measured_s);
    let recorder = Recorder::new(warm_up, total, Duration::from_millis(limits.late_ms)).telling(otlp);
    Ok(Context {
        world: World::new(&format!("{}-{:x}", run.seed, started_ms / 1_000), profile.model.projects)?,
        pace: Arc::new(Pace::new(recorder, limits.in_flight)),
        git: Semaphore::new(limits.git_processes),
        profile: profile.clone(),
        estate: estate.clone(),
        ledger: Mutex::default(),
        clients: home.join("clients"),
        creating: Mutex::new(()),
    })
}

/// Carries out the plan. Returns the measurements, the faults, and the reason if the load ended early.
async fn carry_out(
    context: &Arc<Context>,
    arrivals: Vec<Arrival>,
) -> Fallible<(Measured, Vec<FaultMark>, Option<String>)> {
    let mut ended = None;
    let (marks, estate) = (Arc::new(Mutex::new(Vec::new())), context.estate.clone());
    let processes = move || estate.local.as_ref().map(Local::processes).unwrap_or_default();
    let work = async {
        let growing = steps::end_after_broken(&context.pace, &context.profile);
        let faults = inject(context.clone(), marks.clone());
        let ((), injected, why) = tokio::join!(drive(context, arrivals), faults, growing);
        ended = why;
        injected
    };
    let ran = measure(&context.pace, &context.estate.sites, &context.profile.run, processes, work).await?;
    let faults = marks.lock().clone();
    Ok((ran, faults, ended))
}

fn versions(order: &Ordered) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("lockstep-loadtest".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let mut ask = |name: &str, program: &Path| {
        let output = Command::new(program).arg("--version").output();
        if let Ok(output) = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout)) {
            let version = output.split_whitespace().filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            versions.insert(name.to_owned(), version.collect::<Vec<_>>().join(" "));
        }
    };
    ask("git", Path::new("git"));
    if order.estate.is_none() {
        ask("lockstep", &order.lockstep);
    }
    let build = if cfg!(debug_assertions) { "not optimised" } else { "optimised" };
    versions.insert("build".to_owned(), build.to_owned());
    versions
}
