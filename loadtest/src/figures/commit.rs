//! b. A commit compared with the emulator alone, in the same run: the latency of one client, and the throughput of 16
//! clients while three sites apply on the same cores.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::future::try_join_all;
use lockstep_proto::bridge::RefTransactionRequest;
use lockstep_proto::{Oid, ProjectName, TxnId};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

use super::emulator::Caller;
use crate::Fallible;
use crate::cloud::Cloud;
use crate::history::History;
use crate::report::{Figure, Goal, Report, round};
use crate::site::{Manner, Site, batch, stop};
use crate::stats::Stats;

/// Measurements alternate in rounds, so that the load of another program affects all of them.
const ROUNDS: usize = 10;
/// The number of transactions of one client per round.
const STEPS: usize = 60;
/// The number of clients for the throughput.
pub const CLIENTS: usize = 16;
/// The number of transactions per client for the throughput.
pub const EACH: usize = 150;
/// The number of projects that the clients work on.
const PROJECTS: usize = 4;

/// Measures the figures b.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let sites = Site::all(&cloud, Manner::USUAL).await?;
    latency(&cloud, &sites, report).await?;
    throughput(&cloud, &sites, report).await?;
    stop(sites).await;
    Ok(())
}

async fn latency(cloud: &Cloud, sites: &[Site], report: &Report) -> Fallible<()> {
    let project = sites[0].begin_project("latency", sites).await?;
    let mut steps = Steps::new(&sites[0], &project, "single", ROUNDS * STEPS, 1)?;
    let mut caller = Caller::new(&cloud.dynamo_client().await, "bench", "single");
    let mut moves = UpdateRef::start(&sites[0].repository(&project.0), ROUNDS * STEPS, 2)?;
    let (mut emulator, mut git, mut commit) = (Stats::new()?, Stats::new()?, Stats::new()?);
    for _ in 0..ROUNDS {
        for _ in 0..STEPS {
            emulator.add(caller.call().await?);
        }
        for _ in 0..STEPS {
            git.add(moves.step().await?);
        }
        for _ in 0..STEPS {
            commit.add(steps.step().await?);
        }
    }
    moves.child.kill().await?;
    let figure = |name, stats: &Stats, goal| Figure {
        name,
        value: stats.p50(),
        unit: "ms",
        goal,
        samples: stats.count(),
        detail: stats.json(),
    };
    report.figure(&figure("b.emulator_alone_p50", &emulator, None));
    report.figure(&figure("b.git_update_ref_p50", &git, None));
    let above = commit.p50() - emulator.p50() - git.p50();
    report.figure(&figure("b.commit_p50", &commit, None));
    report.figure(&Figure {
        name: "b.commit_p50_above_emulator_and_git",
        value: above,
        unit: "ms",
        goal: Some(Goal::AtMost(1.0)),
        samples: commit.count(),
        detail: json!({"commit_ms": round(commit.p50()), "emulator_ms": round(emulator.p50()),
                       "git_ms": round(git.p50())}),
    });
    Ok(())
}

async fn throughput(cloud: &Cloud, sites: &[Site], report: &Report) -> Fallible<()> {
    let lanes = lanes(sites, "throughput", EACH, 100).await?;
    let client = cloud.dynamo_client().await;
    let mut alone = vec![emulator_rate(&client, 0).await?, emulator_rate(&client, 1).await?];
    let Pipeline { total, committed, everywhere, latency } = pipeline(sites, lanes).await?;
    alone.push(emulator_rate(&client, 2).await?);
    let windows: Vec<f64> = alone.iter().copied().map(round).collect();
    alone.sort_by(f64::total_cmp);
    let alone = alone[1];
    report.figure(&Figure {
        name: "b.emulator_alone_16_clients",
        value: alone,
        unit: "transactions/s",
        goal: None,
        samples: 3 * total as u64,
        detail: json!({"before_before_after": windows}),
    });
    report.figure(&Figure {
        name: "b.pipeline_16_clients_3_sites",
        value: everywhere,
        unit: "transactions/s",
        goal: Some(Goal::AtLeast(round(alone / 3.0))),
        samples: total as u64,
        detail: json!({"committed_per_s": round(committed), "part_of_the_emulator_alone": round(everywhere / alone),
                       "commit_latency_ms": latency.json(), "projects": PROJECTS}),
    });
    Ok(())
}

/// One branch per client, each with so many commits. The commits are in the repositories, and not committed yet.
pub async fn lanes<'a>(sites: &'a [Site], name: &str, each: usize, first_seed: u64) -> Fallible<Vec<Steps<'a>>> {
    let mut lanes = Vec::new();
    for at in 0..PROJECTS {
        let project = sites[0].begin_project(&format!("{name}-{at}"), sites).await?;
        for client in 0..CLIENTS / PROJECTS {
            let seed = first_seed + (at * CLIENTS + client) as u64;
            lanes.push(Steps::new(&sites[0], &project, &format!("branch-{client}"), each, seed)?);
        }
    }
    sites[0].node.stages().state.durability.wait_durable().await;
    Ok(lanes)
}

/// The rates of clients that commit without a pause, in transactions per second.
pub struct Pipeline {
    /// The number of transactions.
    total: usize,
    /// The rate until the last one was answered.
    committed: f64,
    /// The rate until every site has applied the last one.
    pub everywhere: f64,
    latency: Stats,
}

/// Has all clients commit everything, and waits until every site has applied it.
#[expect(clippy::cast_precision_loss, reason = "some thousand transactions")]
pub async fn pipeline(sites: &[Site], lanes: Vec<Steps<'_>>) -> Fallible<Pipeline> {
    let before: Vec<u64> = sites.iter().map(|site| site.recorded.count()).collect();
    let total: usize = lanes.iter().map(Steps::left).sum();
    let start = Instant::now();
    let took = try_join_all(lanes.into_iter().map(Steps::all)).await?;
    let committed = total as f64 / start.elapsed().as_secs_f64();
    for (site, before) in sites.iter().zip(&before).skip(1) {
        site.recorded.reach(before + total as u64).await?;
    }
    let everywhere = total as f64 / start.elapsed().as_secs_f64();
    Ok(Pipeline { total, committed, everywhere, latency: Stats::of(took.into_iter().flatten())? })
}

#[expect(clippy::cast_precision_loss, reason = "some thousand transactions")]
async fn emulator_rate(client: &aws_sdk_dynamodb::Client, window: usize) -> Fallible<f64> {
    let callers = (0..CLIENTS).map(|at| Caller::new(client, "bench", &format!("client-{window}-{at}")));
    let start = Instant::now();
    let calls = callers.map(async |mut caller| {
        for _ in 0..EACH {
            caller.call().await?;
        }
        Fallible::Ok(())
    });
    try_join_all(calls).await?;
    Ok((CLIENTS * EACH) as f64 / start.elapsed().as_secs_f64())
}

/// A branch that is moved from commit to commit.
pub struct Steps<'a> {
    site: &'a Site,
    project: ProjectName,
    branch: String,
    commits: std::vec::IntoIter<Oid>,
    old: Option<Oid>,
    id: u64,
}

impl<'a> Steps<'a> {
    /// Makes the commits. They are in the repository, as after a push, but no replicated ref has them yet.
    pub fn new(
        site: &'a Site,
        (project, base): &(ProjectName, Oid),
        branch: &str,
        length: usize,
        seed: u64,
    ) -> Fallible<Self> {
        let history = History { from: Some(*base), chains: 1, length, bytes: History::SMALL, seed, loose: true };
        let mut chains = history.import(&site.repository(project))?;
        let commits = chains.pop().unwrap_or_default().into_iter();
        let project = project.clone();
        Ok(Self { site, project, branch: format!("refs/heads/{branch}"), commits, old: None, id: seed << 32 })
    }

    /// Moves the branch to its next commit. Returns the time from the call to its answer.
    pub async fn step(&mut self) -> Fallible<Duration> {
        let request = self.request()?;
        let start = Instant::now();
        self.site.commit(&self.project, request).await?;
        Ok(start.elapsed())
    }

    /// Moves the branch to its next commit. Returns the id of the transaction.
    pub async fn advance(&mut self) -> Fallible<TxnId> {
        let request = self.request()?;
        self.site.commit(&self.project, request).await
    }

    /// The number of commits to which the branch was not moved yet.
    pub fn left(&self) -> usize {
        self.commits.len()
    }

    /// The project of the branch.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    fn request(&mut self) -> Fallible<RefTransactionRequest> {
        let new = self.commits.next().ok_or("the history is used up")?;
        self.id += 1;
        batch(format!("step-{:x}", self.id), [(self.branch.clone(), self.old.replace(new), new)])
    }

    async fn all(mut self) -> Fallible<Vec<Duration>> {
        let mut took = Vec::new();
        while self.left() > 0 {
            took.push(self.step().await?);
        }
        Ok(took)
    }
}

/// Moves a ref with git alone, by a long-lived `git update-ref --stdin`.
struct UpdateRef {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    commits: std::vec::IntoIter<Oid>,
}

impl UpdateRef {
    fn start(git_dir: &Path, length: usize, seed: u64) -> Fallible<Self> {
        let history = History { from: None, chains: 1, length, bytes: History::SMALL, seed, loose: true };
        let commits = history.import(git_dir)?.pop().unwrap_or_default().into_iter();
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(git_dir).args(["update-ref", "--no-deref", "--stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output, commits })
    }

    async fn step(&mut self) -> Fallible<Duration> {
        let new = self.commits.next().ok_or("the history is used up")?;
        let start = Instant::now();
        let text = format!("start\nupdate refs/lockstep/bench/step {new}\nprepare\ncommit\n");
        self.input.write_all(text.as_bytes()).await?;
        let mut line = String::new();
        while !line.ends_with("commit: ok\n") {
            if self.output.read_line(&mut line).await? == 0 {
                return Err(format!("git update-ref said {line:?}").into());
            }
        }
        Ok(start.elapsed())
    }
}
