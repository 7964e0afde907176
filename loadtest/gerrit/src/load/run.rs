//! One run on real Gerrits, from the profile to the report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lockstep::base::clock::{Clock, SystemClock};
use lockstep_loadtest::Fallible;
use lockstep_loadtest::host::Host;
use lockstep_loadtest::load::drive::{Pace, open_loop};
use lockstep_loadtest::load::estate::Estate;
use lockstep_loadtest::load::ledger::Ended;
use lockstep_loadtest::load::measure::{Otlp, Recorder, Recording, write_hlog};
use lockstep_loadtest::load::oracle::{Evidence, Judgement, MOST_SHOWN, Violation, judge_sites};
use lockstep_loadtest::load::plan::{Arrival, Plan};
use lockstep_loadtest::load::profile::Profile;
use lockstep_loadtest::load::results::{self, Gathered, Report, Sizes, StageReport, gather};
use lockstep_loadtest::load::run::{Measured, converge, measure, store};
use lockstep_loadtest::report::round;
use lockstep_loadtest::stats::Stats;
use lockstep_proto::ProjectName;
use lockstep_tests::e2e::gerrit::stream::Key;
use lockstep_tests::e2e::gerrit::{FIRST_PROJECTS, Kit, Sites};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::begin::{estate, places, populate, processes, start};
use super::index;
use super::judge::{Shown, judge};
use super::listen::Listener;
use super::operation::carry_out;
use super::shared::{Answered, Place, Shared};
use super::told::{self, Told};
use super::world::{ACCOUNTS, World};
use crate::pair::sidecar;

/// The most memory of a Gerrit.
const HEAP: &str = "1g";
/// The shares of reads that are tried, from 0 to 1.
const SHARES: [f64; 9] = [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0];
/// Warm-up and length of one trial, in seconds.
const TRIAL_S: (f64, f64) = (5.0, 40.0);
/// The longest time that a trial's operations may need after its end, in seconds.
const BACKLOG_S: f64 = 3.0;
/// The pause between two comparisons of the indexes.
const PAUSE: Duration = Duration::from_millis(500);

/// A run, as it was ordered on the command line.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The profile.
    pub profile: Profile,
    /// The folder of the results.
    pub out: PathBuf,
    /// Whether `run.reads_share` is found by trials, instead of taken from the profile.
    pub find_reads: bool,
    /// The collector that receives metrics over OTLP while the run goes on.
    pub otlp: Option<String>,
    /// The command that repeats the run.
    pub command: String,
}

/// Carries out a run, and writes its results into the folder.
///
/// # Errors
/// The run could not be carried out.
///
/// # Panics
/// If a Gerrit or a sidecar does not start.
pub async fn run(order: Ordered) -> Fallible<Report> {
    let mut profile = order.profile.clone();
    std::fs::create_dir_all(&order.out)?;
    let otlp = order.otlp.as_deref().map(|endpoint| Otlp::open(endpoint, &profile)).transpose()?;
    let kit = Kit { heap: HEAP, log_level: "WARN", ..Kit::from_env() };
    say(&format!("{} Gerrits are started", profile.run.sites));
    let sites = start(&kit, &sidecar()?, &profile).await;
    let (major, minor) = kit.release;
    let estate =
        estate(&sites, format!("{} sites with a Gerrit {major}.{minor} each, on this machine", profile.run.sites));
    let shared = Arc::new(shared(&profile, &sites));
    let listeners = listeners(&shared, &sites).await?;
    populate(&shared).await?;
    if order.find_reads {
        profile.run.reads_share = find_reads(&shared, &estate, &sites, &profile).await?;
    }
    let plan = Plan::draw(&profile, profile.run.sites)?;
    say(&format!("the sites are prepared; the run begins, with {} operations", plan.arrivals.len()));
    let (started_ms, sizes) = (SystemClock.now_ms(), Sizes::of(&plan.arrivals));
    let (ran, recording, last) = drive(&shared, &estate, &sites, &profile, plan.arrivals, otlp.clone()).await?;
    say("the run has ended; waiting until every site has applied everything");
    let patience = Duration::from_secs_f64(profile.run.settle_s);
    let (converged, oracle) = judge_all(&shared, &estate, &listeners, &order.out, last, patience).await?;
    // Only now: a collector that is away takes seconds, in which the sites go on.
    if let Some(otlp) = otlp
        && let Some(why) = otlp.close().await
    {
        say(&why);
    }
    let began = SystemTime::UNIX_EPOCH + ran.wall_start;
    write_hlog(&order.out.join("latency.hlog"), &recording, &ran.watched, began)?;
    let own = ran.own(&recording, &profile.limits);
    let notes = notes(&ran, &listeners, plan.day.refs * plan.day.peak_per_second)?;
    let mut report = gather(Gathered {
        command: order.command,
        started_ms,
        host: Host::look().json(),
        versions: versions(&kit),
        estate: estate.description.clone(),
        is_local: true,
        measured_s: profile.run.seconds,
        profile,
        day: plan.day,
        own,
        recording,
        ended_s: ran.took.as_secs_f64(),
        settled_after_s: converged.map(|converged| converged.as_secs_f64()),
        watched: ran.watched,
        metrics: ran.metrics,
        sizes,
        processes: ran.processes,
        faults: Vec::new(),
        oracle,
    });
    report.notes = [notes, report.notes].concat();
    report.stages.extend(arrivals(&shared, &listeners)?);
    results::write(&order.out, &report)?;
    Ok(report)
}

fn say(text: &str) {
    eprintln!("{text}");
}

fn shared(profile: &Profile, sites: &Sites) -> Shared {
    Shared {
        profile: profile.clone(),
        places: places(sites),
        world: World::new(profile.model.projects),
        told: Mutex::default(),
        git: Semaphore::new(profile.limits.git_processes),
        clients: sites.cluster.scratch("clients"),
        creating: Mutex::new(()),
        answered: Mutex::default(),
    }
}

/// A listener at each site.
async fn listeners(shared: &Arc<Shared>, sites: &Sites) -> Fallible<Vec<Listener>> {
    let key = Key::give(&sites.servers[0], &sites.cluster.scratch("listener")).await;
    let mut listeners = Vec::new();
    for (site, server) in sites.servers.iter().enumerate() {
        listeners.push(Listener::start(shared, site, &key, server).await?);
    }
    Ok(listeners)
}

/// Carries out the arrivals. Returns the time at which the last one ended, too.
async fn drive(
    shared: &Arc<Shared>,
    estate: &Estate,
    sites: &Sites,
    profile: &Profile,
    arrivals: Vec<Arrival>,
    otlp: Option<Otlp>,
) -> Fallible<(Measured, Recording, Instant)> {
    let (run, limits) = (&profile.run, &profile.limits);
    let warm_up = Duration::from_secs_f64(run.warm_up_s);
    let total = warm_up + Duration::from_secs_f64(run.seconds);
    let recorder = Recorder::new(warm_up, total, Duration::from_millis(limits.late_ms)).telling(otlp);
    let pace = Arc::new(Pace::new(recorder, limits.in_flight));
    let others = processes(sites);
    let operation = |arrival: Arrival| {
        let (shared, pace) = (shared.clone(), pace.clone());
        async move { carry_out(&shared, &pace, &arrival).await }
    };
    let work = async {
        open_loop(&pace, arrivals, operation).await;
        Ok(())
    };
    let measured = measure(&pace, &estate.sites, run, move || others.clone(), work).await?;
    let last = pace.start() + measured.took;
    Ok((measured, pace.recorder.take(), last))
}

/// Finds the largest share of the model's reads that the generator can offer beside its Gerrits: by short runs with
/// more and more of them, until one is void or leaves a backlog. The oracle judges these runs with the main one.
async fn find_reads(shared: &Arc<Shared>, estate: &Estate, sites: &Sites, profile: &Profile) -> Fallible<f64> {
    let mut found = 0.0;
    for share in SHARES {
        let mut trial = profile.clone();
        trial.run.reads_share = share;
        (trial.run.warm_up_s, trial.run.seconds) = (TRIAL_S.0, TRIAL_S.1);
        trial.events.clear();
        let plan = Plan::draw(&trial, trial.run.sites)?;
        let (ran, recording, _) = drive(shared, estate, sites, &trial, plan.arrivals, None).await?;
        let own = ran.own(&recording, &trial.limits);
        let over = ran.took.as_secs_f64() - TRIAL_S.0 - TRIAL_S.1;
        let faults = own.faults.join("; ");
        say(&format!("{} % of the reads: {over:.1} s of work were left at the end; {faults}", share * 100.0));
        if !own.is_valid() || over > BACKLOG_S {
            break;
        }
        found = share;
    }
    Ok(found)
}

/// Waits until all sites agree, and judges them. Returns the time until they agreed.
async fn judge_all(
    shared: &Arc<Shared>,
    estate: &Estate,
    listeners: &[Listener],
    out: &Path,
    last: Instant,
    patience: Duration,
) -> Fallible<(Option<Duration>, Judgement)> {
    let projects = shared.world.projects.iter().map(|project| project.name.as_str());
    let names = FIRST_PROJECTS.into_iter().chain(projects).map(str::parse);
    let names = names.collect::<Result<Vec<ProjectName>, _>>()?;
    let (converged, refs) = converge(estate, &names, last, patience).await?;
    let facts = shared.told.lock().clone();
    told::write(&out.join("told.jsonl"), &facts)?;
    for listener in listeners {
        listener.drained(&facts, patience).await;
    }
    let mut violations: Vec<Violation> = Vec::new();
    for listener in listeners {
        violations.extend(listener.judge(&facts).into_iter().take(MOST_SHOWN));
    }
    violations.extend(indexes(shared, patience).await?);
    store(estate, out, &[], refs).await?;
    say("the oracle judges");
    let (shared, out) = (shared.clone(), out.to_owned());
    #[expect(clippy::disallowed_methods, reason = "git is waited for; no simulator runs the generator")]
    let judging = tokio::task::spawn_blocking(move || repositories(&shared, &out, &facts, violations));
    Ok((converged, judging.await??))
}

/// Compares the index of every Gerrit with its repositories, until they agree or the patience is over.
async fn indexes(shared: &Arc<Shared>, patience: Duration) -> Fallible<Vec<Violation>> {
    let end = Instant::now() + patience;
    loop {
        let mut found = Vec::new();
        for place in &shared.places {
            let changes = shown(shared, place)?.changes;
            found.extend(index::differences(place, &changes).await?.into_iter().take(MOST_SHOWN));
        }
        if found.is_empty() || Instant::now() >= end {
            return Ok(found);
        }
        sleep(PAUSE).await;
    }
}

fn shown(shared: &Shared, place: &Place) -> Fallible<Shown> {
    Shown::read(place, shared.world.projects.iter().map(|project| project.name.as_str()))
}

/// Judges the repositories of all sites, and adds the violations that are known already.
fn repositories(shared: &Shared, out: &Path, facts: &[Told], known: Vec<Violation>) -> Fallible<Judgement> {
    let mut judgement = Judgement { requests: facts.len() as u64, violations: known, ..Judgement::default() };
    for place in &shared.places {
        let shown = shown(shared, place)?;
        judgement.violations.extend(judge(place, &shown, facts)?.into_iter().take(MOST_SHOWN));
        judgement.refs = shown.changes.values().map(|changes| changes.len() as u64).sum();
    }
    let sure = |one: &&Told| one.ended == Ended::Committed;
    judgement.moves = facts.iter().filter(sure).count() as u64;
    Ok(judge_sites(&Evidence::read(out)?, judgement))
}

/// The stages that clients of other sites see, per site: from the answer to the client who changed something until the
/// event, which follows the refresh of the site's Gerrit, and until the end of the fetch that it sets off.
fn arrivals(shared: &Shared, listeners: &[Listener]) -> Fallible<Vec<StageReport>> {
    let answered = shared.answered.lock();
    let mut stages = Vec::new();
    for (site, (listener, place)) in listeners.iter().zip(&shared.places).enumerate() {
        let heard = listener.heard();
        for (what, times) in [("event", &heard.at), ("fetch", &heard.fetched_at)] {
            let name = format!("{what} of a change from another site at {}", place.name);
            stages.extend(stage(name, &since(&answered, site, times))?);
        }
    }
    Ok(stages)
}

/// From the answers to clients of other sites until these times.
fn since(answered: &Answered, site: usize, times: &BTreeMap<String, Instant>) -> Vec<Duration> {
    let of_others = answered.iter().filter(|(_, (of, _))| *of != site);
    // An event may overtake the answer at the origin.
    let took = of_others.filter_map(|(mark, (_, at))| Some(times.get(mark)?.saturating_duration_since(*at)));
    took.collect()
}

#[expect(clippy::cast_precision_loss, reason = "events of a run")]
fn stage(name: String, took: &[Duration]) -> Fallible<Option<StageReport>> {
    if took.is_empty() {
        return Ok(None);
    }
    let count = took.len() as f64;
    let mean = took.iter().sum::<Duration>().as_secs_f64() * 1_000.0 / count;
    let p99 = Stats::of(took.iter().copied())?.at(0.99);
    Ok(Some(StageReport { name, count, mean_ms: round(mean), p99_at_most_ms: Some(round(p99)) }))
}

/// The differences from a real day that only a run on Gerrits has, and the rates that were reached.
fn notes(ran: &Measured, listeners: &[Listener], modelled: f64) -> Fallible<Vec<String>> {
    let committed: f64 = ran.metrics.by("lockstep_commit_refs_total", "none").values().sum();
    let heard: Vec<_> = listeners.iter().map(Listener::heard).collect();
    let fetches = Stats::of(heard.iter().flat_map(|one| one.fetches.iter().copied()))?;
    let mut events: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in heard.iter().flat_map(|one| &one.events) {
        *events.entry(kind).or_default() += count;
    }
    let events: Vec<String> = events.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let accounts: u64 = ACCOUNTS.iter().map(|(_, count)| count).sum();
    Ok(vec![
        format!(
            "The sidecars committed {} ref updates per second, warm-up, releases and mass rebases included. The peak \
             hour of the model has {}.",
            round(committed / ran.took.as_secs_f64().max(0.001)),
            round(modelled)
        ),
        format!(
            "One listener per site received every event ({}), and fetched {} patch sets: {} ms (median), {} ms (p99).",
            events.join(", "),
            fetches.count(),
            round(fetches.p50()),
            round(fetches.at(0.99))
        ),
        format!("{accounts} accounts stand for all people and programs. CI votes on Code-Review, with a tag."),
        "The emulators run in the generator's process, so its share of the processors includes theirs. The Gerrits use \
         the C1 compiler only."
            .to_owned(),
    ])
}

fn versions(kit: &Kit) -> BTreeMap<String, String> {
    let build = if cfg!(debug_assertions) { "not optimised" } else { "optimised" };
    let (major, minor) = kit.release;
    BTreeMap::from([
        ("lockstep-loadtest-gerrit".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("gerrit".to_owned(), format!("{major}.{minor}")),
        ("build".to_owned(), build.to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_a_change_begin_with_the_answer_at_its_own_site() {
        let now = Instant::now();
        let at = |ms: u64| now + Duration::from_millis(ms);
        let answered: Answered = [("a", (0, at(100))), ("b", (0, at(100))), ("c", (1, at(0))), ("d", (0, at(0)))]
            .map(|(mark, answer)| (mark.to_owned(), answer))
            .into();
        let times: BTreeMap<String, Instant> =
            [("a", at(180)), ("b", at(90)), ("c", at(7))].map(|(mark, at)| (mark.to_owned(), at)).into();
        let took = since(&answered, 1, &times);
        assert_eq!(took, [80, 0].map(Duration::from_millis), "c is of this site, and d has not come");
        let one = stage("event".to_owned(), &took).unwrap().unwrap();
        assert_eq!((one.count, one.mean_ms), (2.0, 40.0));
        assert!(one.p99_at_most_ms.is_some_and(|p99| (80.0..80.2).contains(&p99)), "{one:?}");
        assert_eq!(stage("event".to_owned(), &[]).unwrap(), None);
    }
}
