//! o. Failovers between three sites of plain git, while a user pushes without a pause. Forced, after the active site
//! was killed: from the command until the probes are green, the command has ended, and the user's push was taken.
//! Planned: the time in which pushes are refused.
//!
//! The user's script pushes one commit after the other, and repeats a push that failed at the next site, for 30 seconds
//! at most. At the end every site must have each commit exactly once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_proto::failover::{Failover, FailoverPlan, FailoverStep, Role, SitesStatus};
use parking_lot::Mutex;
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::large_push::wait;
use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::git;
use crate::process::{Process, lockstep};
use crate::report::{Figure, Goal, Report};
use crate::stats::Stats;

/// The variable with the number of failovers of each kind, and the number without it.
const ROUNDS: (&str, usize) = ("FAILOVERS", 100);
/// How long the user repeats a push.
const PATIENCE: Duration = Duration::from_secs(30);
/// The name of the project.
const PROJECT: &str = "p";
/// The longest try of one push. A dead site does not answer.
const TRY: Duration = Duration::from_secs(3);

/// Measures the figures o.
pub async fn measure(report: &Report) -> Fallible<()> {
    let rounds = std::env::var(ROUNDS.0).ok().map_or(Ok(ROUNDS.1), |text| text.parse())?;
    let mut rig = Rig::start().await?;
    let user = User::start(&rig);
    let (mut forced, mut planned) = (Series::default(), Series::default());
    let outcome = async {
        for _ in 0..rounds {
            planned.add(rig.planned(&user, 0).await?, rig.last_failover().await?);
            forced.add(rig.forced(&user, 1).await?, rig.last_failover().await?);
        }
        Fallible::Ok(())
    };
    let outcome = outcome.await;
    let pushed = user.stop().await?;
    outcome?;
    rig.check(pushed).await?;
    let figure = |name, series: &Series, part, goal| {
        let stats = Stats::of(series.took.iter().copied())?;
        report.figure(&Figure {
            name,
            value: stats.at(part) / 1_000.0,
            unit: "s",
            goal: Some(Goal::AtMost(goal)),
            samples: stats.count(),
            detail: json!({"ms": stats.json(), "median_ms_of_steps": series.steps(), "pushes": pushed}),
        });
        Fallible::Ok(())
    };
    figure("o.forced_command_to_green_probes_p50", &forced, 0.5, 5.0)?;
    figure("o.forced_command_to_green_probes_max", &forced, 1.0, 15.0)?;
    figure("o.planned_refusals_p50", &planned, 0.5, 3.0)?;
    figure("o.planned_refusals_max", &planned, 1.0, 10.0)
}

/// The failovers of one kind.
#[derive(Default)]
struct Series {
    took: Vec<Duration>,
    failovers: Vec<Failover>,
}

impl Series {
    fn add(&mut self, took: Duration, failover: Failover) {
        self.took.push(took);
        self.failovers.push(failover);
    }

    /// The median duration of each step, in milliseconds, from the records of the failovers.
    fn steps(&self) -> BTreeMap<&'static str, u64> {
        let median = |step: FailoverStep| {
            let records = self.failovers.iter().flat_map(|failover| &failover.steps).filter(|one| one.step == step);
            let mut all: Vec<u64> = records.filter_map(|one| one.ended_ms?.checked_sub(one.began_ms?)).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        FailoverStep::ALL.map(|step| (step.name(), median(step))).into()
    }
}

/// Three sites, of which the first one is active.
struct Rig {
    cloud: Cloud,
    sites: Vec<Process>,
    repositories: Vec<PathBuf>,
}

impl Rig {
    async fn start() -> Fallible<Self> {
        let cloud = Cloud::start().await?;
        let sites: Vec<Process> =
            SITES.iter().map(|site| Process::configured(&cloud, site, &SITES, probes)).collect::<Fallible<_>>()?;
        for site in &sites {
            site.ready().await?;
        }
        let project = sites[0].create_project(PROJECT).await?;
        let mut repositories = Vec::new();
        for site in &sites {
            let repository = site.root.join(format!("{project}.git"));
            wait("the project", || repository.join("HEAD").exists()).await?;
            repositories.push(site.install_hooks(&project)?);
        }
        let rig = Self { cloud, sites, repositories };
        for at in 1..SITES.len() {
            rig.stand_by(at).await?;
        }
        Ok(rig)
    }

    /// Makes a site a standby, as an operator does, and waits until it is ready.
    async fn stand_by(&self, at: usize) -> Fallible<()> {
        let status: SitesStatus = serde_json::from_str(&self.cli(0, &["sites", "--json"]).await?)?;
        let site = status.sites.iter().find(|one| one.site.as_str() == SITES[at]).ok_or("the site is not enrolled")?;
        if site.role != Role::Standby {
            let epoch = site.epoch.to_string();
            let args = ["site", "role", SITES[at], "standby", "--expect-epoch", &epoch, "--reason", "figure o"];
            self.cli(0, &args).await?;
        }
        self.sites[at].ready().await
    }

    /// Runs a command at a site.
    async fn cli(&self, at: usize, args: &[&str]) -> Fallible<String> {
        let mut command = Command::new(lockstep()?);
        command.args(args).env("LOCKSTEP_SOCKET", self.sites[at].socket()).stdin(Stdio::null());
        said(command.output().await?, &args.join(" "))
    }

    /// Moves the writes from one of the first two sites to the other, by the commands of `docs/failover.md`.
    async fn move_writes(&self, from: usize, kind: &[&str]) -> Fallible<()> {
        let to = 1 - from;
        let between = ["--from", SITES[from], "--to", SITES[to]];
        let plan = [&["failover", "plan", "--json"], &between[..], kind].concat();
        let plan: FailoverPlan = serde_json::from_str(&self.cli(to, &plan).await?)?;
        let confirmed = ["--reason", "figure o", "--yes", "--plan-hash", &plan.hash];
        self.cli(to, &[&["failover", "execute"], &between[..], &confirmed, kind].concat()).await.map(drop)
    }

    /// The record of the last failover.
    async fn last_failover(&self) -> Fallible<Failover> {
        Ok(serde_json::from_str(&self.cli(0, &["failover", "status", "--json"]).await?)?)
    }

    /// A planned failover. Returns how long pushes were refused.
    async fn planned(&self, user: &User, from: usize) -> Fallible<Duration> {
        user.taken_since(Instant::now()).await?;
        let began = Instant::now();
        self.move_writes(from, &[]).await?;
        user.taken_since(Instant::now()).await?;
        Ok(user.longest_refusal_since(began))
    }

    /// A forced failover of a site that was killed. Returns the time from the command until its end, with green probes,
    /// and a push that was taken.
    async fn forced(&mut self, user: &User, from: usize) -> Fallible<Duration> {
        user.taken_since(Instant::now()).await?;
        self.sites[from].kill()?;
        let began = Instant::now();
        self.move_writes(from, &["--forced"]).await?;
        let ended = Instant::now();
        let took = user.taken_since(began).await?.max(ended).duration_since(began);
        if self.last_failover().await?.end.and_then(|end| end.green_ms).is_none() {
            return Err("a probe stayed red after a forced failover".into());
        }
        self.sites[from].restart()?;
        self.sites[from].ready().await?;
        self.stand_by(from).await?;
        Ok(took)
    }

    /// Checks that every site has each pushed commit once: the user's history is a chain.
    async fn check(&self, pushed: usize) -> Fallible<()> {
        for repository in &self.repositories {
            let count = || git(&["rev-list", "--count", "refs/heads/main"], repository);
            let all = || count().is_ok_and(|count| count.trim() == pushed.to_string());
            wait("every commit at every site", all).await.map_err(|error| {
                format!("{error}: {pushed} were pushed, {} has {:?}", repository.display(), count())
            })?;
        }
        Ok(())
    }
}

/// The probe of a site: git pushes to the project, and fetches from it.
fn probes(root: &Path) -> String {
    format!("[probes]\ngit = {:?}\n", root.join(PROJECT).with_extension("git"))
}

fn said(output: Output, args: &str) -> Fallible<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("lockstep {args}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// The pushes of the user's script.
#[derive(Default)]
struct Pushes {
    /// When each push was taken.
    taken: Vec<Instant>,
    /// When a push was refused first, and when it was taken.
    refused: Vec<(Instant, Instant)>,
    /// The first push that was given up.
    given_up: Option<String>,
}

/// The user's script.
struct User {
    pushes: Arc<Mutex<Pushes>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Fallible<usize>>,
}

impl User {
    fn start(rig: &Rig) -> Self {
        let (pushes, stop) = (Arc::<Mutex<Pushes>>::default(), Arc::<AtomicBool>::default());
        let script = Script {
            clone: rig.cloud.folder().join("user.git"),
            sites: rig.repositories.clone(),
            pushes: Arc::clone(&pushes),
        };
        let task = tokio::spawn(script.run(Arc::clone(&stop)));
        Self { pushes, stop, task }
    }

    /// Waits for a push that was taken after `since`, and returns when that was.
    async fn taken_since(&self, since: Instant) -> Fallible<Instant> {
        let end = Instant::now() + PATIENCE * 2;
        loop {
            {
                let pushes = self.pushes.lock();
                if let Some(why) = &pushes.given_up {
                    return Err(why.clone().into());
                }
                if let Some(taken) = pushes.taken.iter().find(|taken| **taken > since) {
                    return Ok(*taken);
                }
            }
            if Instant::now() >= end || self.task.is_finished() {
                return Err("no push was taken in time".into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The longest time from the first refusal of a push until it was taken.
    fn longest_refusal_since(&self, since: Instant) -> Duration {
        let pushes = self.pushes.lock();
        let late = pushes.refused.iter().filter(|(_, taken)| *taken > since);
        late.map(|(first, taken)| taken.duration_since(*first)).max().unwrap_or_default()
    }

    /// Ends the script. Returns the number of pushes that were taken.
    async fn stop(self) -> Fallible<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

struct Script {
    clone: PathBuf,
    sites: Vec<PathBuf>,
    pushes: Arc<Mutex<Pushes>>,
}

impl Script {
    async fn run(self, stop: Arc<AtomicBool>) -> Fallible<usize> {
        std::fs::create_dir_all(&self.clone)?;
        git(&["init", "-q", "--bare", "-b", "main"], &self.clone)?;
        let tree = git(&["hash-object", "-t", "tree", "-w", "/dev/null"], &self.clone)?;
        let (mut tip, mut at, mut count) = (None::<String>, 0, 0);
        while !stop.load(Ordering::Relaxed) {
            tip = Some(commit(&self.clone, tree.trim(), tip.as_deref(), count)?);
            if let Err(why) = self.push(&mut at).await {
                self.pushes.lock().given_up = Some(why.to_string());
                return Err(why);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Pushes the tip until a site takes it. `at` is the site that took the last push.
    async fn push(&self, at: &mut usize) -> Fallible<()> {
        let end = Instant::now() + PATIENCE;
        let mut first_refused = None;
        loop {
            let began = Instant::now();
            let Err(why) = push(&self.clone, &self.sites[*at]).await else { break };
            first_refused.get_or_insert(began);
            if Instant::now() >= end {
                return Err(format!("a push was refused for {PATIENCE:?}: {why}").into());
            }
            *at = (*at + 1) % self.sites.len();
        }
        let now = Instant::now();
        let mut pushes = self.pushes.lock();
        pushes.taken.push(now);
        pushes.refused.extend(first_refused.map(|first| (first, now)));
        Ok(())
    }
}

/// Makes a commit on top of `tip`, and points `main` at it.
fn commit(clone: &Path, tree: &str, tip: Option<&str>, number: usize) -> Fallible<String> {
    let message = number.to_string();
    let mut args =
        vec!["-c", "user.name=T", "-c", "user.email=t@lockstep.invalid", "commit-tree", "-m", &message, tree];
    args.extend(tip.into_iter().flat_map(|tip| ["-p", tip]));
    let made = git(&args, clone)?.trim().to_owned();
    git(&["update-ref", "refs/heads/main", &made], clone)?;
    Ok(made)
}

/// Pushes `main` to a site, once.
async fn push(clone: &Path, site: &Path) -> Fallible<()> {
    let mut command = Command::new("git");
    command.arg("-C").arg(clone).args(["push", "-q"]).arg(site).arg("refs/heads/main");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(TRY, command.output()).await.map_err(|_| "no answer")??;
    said(output, "push").map(drop)
}
