//! q. The same moves of refs three ways, in turns: by git alone (the floor), through Lockstep, and through the
//! lock-and-check sequence of the older design with the same git behind it. Next to AWS and 20 ms away, with 1, 20 and
//! 1,000 refs per batch.
//!
//! One site is started, so that no other site uses the machine's time. Lockstep also carries the objects of the batch;
//! the older sequence leaves them to another program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lockstep_proto::{Oid, ProjectName};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

use super::older::{Move, Older};
use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::{History, git};
use crate::report::{Figure, Report, round};
use crate::site::{Manner, Site, batch, stop};
use crate::stats::Stats;

/// The round trip to AWS when it is far away.
const FAR: Duration = Duration::from_millis(20);
/// The new bytes of each commit.
const BYTES: usize = 200;

/// A comparison.
struct Case {
    /// Refs per batch.
    refs: usize,
    /// Batches.
    times: usize,
    /// The figures: the older sequence as a multiple of Lockstep, and Lockstep as a multiple of git.
    names: [&'static str; 2],
}

const NEARBY: [Case; 3] = [
    Case { refs: 1, times: 100, names: ["q.older_of_lockstep_1_ref", "q.lockstep_of_git_1_ref"] },
    Case { refs: 20, times: 30, names: ["q.older_of_lockstep_20_refs", "q.lockstep_of_git_20_refs"] },
    Case { refs: 1_000, times: 5, names: ["q.older_of_lockstep_1000_refs", "q.lockstep_of_git_1000_refs"] },
];
/// A batch of 1,000 refs takes the older sequence 100 seconds.
const FAR_AWAY: [Case; 3] = [
    Case { refs: 1, times: 40, names: ["q.older_of_lockstep_1_ref_20ms", "q.lockstep_of_git_1_ref_20ms"] },
    Case { refs: 20, times: 10, names: ["q.older_of_lockstep_20_refs_20ms", "q.lockstep_of_git_20_refs_20ms"] },
    Case { refs: 1_000, times: 2, names: ["q.older_of_lockstep_1000_refs_20ms", "q.lockstep_of_git_1000_refs_20ms"] },
];

/// Measures the figures q.
pub async fn measure(report: &Report) -> Fallible<()> {
    for (round_trip, cases) in [(None, &NEARBY), (Some(FAR), &FAR_AWAY)] {
        let cloud = Cloud::start().await?;
        let manner = Manner { round_trip, ..Manner::NEAR };
        let sites = vec![Site::start(&cloud, SITES[0], &SITES[..1], manner).await?];
        let mut older = Older::start(&cloud, round_trip).await?;
        for case in cases {
            compare(report, &cloud, &sites, &mut older, case).await?;
        }
        stop(sites).await;
    }
    Ok(())
}

async fn compare(report: &Report, cloud: &Cloud, sites: &[Site], older: &mut Older, case: &Case) -> Fallible<()> {
    let Case { refs, times, names } = *case;
    let label = format!("side-by-side-{refs}");
    let (project, base) = sites[0].begin_project(&label, sites).await?;
    let (chains, length) = (refs, times);
    let history = History { from: Some(base), chains, length, bytes: BYTES, seed: refs as u64, loose: false };
    let made = history.import(&sites[0].repository(&project))?;
    // The two others have repositories of their own, without Lockstep.
    let mut alone = Plain::start(&cloud.folder().join(format!("{label}-git.git")), history).await?;
    let mut checked = Plain::start(&cloud.folder().join(format!("{label}-older.git")), history).await?;
    let calls = older.calls;
    let [mut floor, mut lockstep, mut sequence] = [Stats::new()?, Stats::new()?, Stats::new()?];
    for at in 0..times {
        floor.add(alone.step(at, None, &label).await?);
        lockstep.add(commit(&sites[0], &project, &made, at).await?);
        sequence.add(checked.step(at, Some(&mut *older), &label).await?);
    }
    let calls = (older.calls - calls) as usize / times;
    let detail = json!({
        "git_ms": floor.json(), "lockstep_ms": lockstep.json(), "older_ms": sequence.json(),
        "refs": refs, "calls_of_the_older_sequence_per_batch": calls,
        "round_trip_ms": round(older.round_trip().as_secs_f64() * 1_000.0),
    });
    let ratios = [sequence.p50() / lockstep.p50(), lockstep.p50() / floor.p50()];
    for (name, value) in names.into_iter().zip(ratios) {
        let (goal, detail) = (None, detail.clone());
        report.figure(&Figure { name, value, unit: "times", goal, samples: lockstep.count(), detail });
    }
    Ok(())
}

/// The moves of one batch: every branch goes from the commit before to the one at `at`.
fn moves(made: &[Vec<Oid>], at: usize) -> impl Iterator<Item = (String, Option<Oid>, Oid)> {
    made.iter().enumerate().map(move |(chain, commits)| {
        (format!("refs/heads/branch-{chain}"), (at > 0).then(|| commits[at - 1]), commits[at])
    })
}

async fn commit(site: &Site, project: &ProjectName, made: &[Vec<Oid>], at: usize) -> Fallible<Duration> {
    let request = batch(format!("{project}-{at}"), moves(made, at))?;
    let start = Instant::now();
    site.commit(project, request).await?;
    Ok(start.elapsed())
}

/// A repository without Lockstep, and the long-lived git that moves its refs.
struct Plain {
    made: Vec<Vec<Oid>>,
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Plain {
    async fn start(git_dir: &Path, history: History) -> Fallible<Self> {
        let (git_dir, history) = (git_dir.to_owned(), History { from: None, ..history });
        git(&["init", "-q", "--bare", &git_dir.display().to_string()], &parent(&git_dir)?)?;
        let made = history.import(&git_dir)?;
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&git_dir).args(["update-ref", "--no-deref", "--stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().ok_or("git has no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("git has no output")?);
        Ok(Self { made, _child: child, input, output })
    }

    /// Moves all branches in one transaction, inside the older sequence if there is one.
    async fn step(&mut self, at: usize, older: Option<&mut Older>, label: &str) -> Fallible<Duration> {
        let text = |oid: Oid| oid.to_string();
        let all: Vec<Move> = moves(&self.made, at).map(|(name, old, new)| (name, old.map(text), text(new))).collect();
        let start = Instant::now();
        let Some(older) = older else {
            self.transaction(&all).await?;
            return Ok(start.elapsed());
        };
        let named: Vec<Move> =
            all.iter().map(|(name, old, new)| (format!("{label}/{name}"), old.clone(), new.clone())).collect();
        older.lock_and_check(&named).await?;
        self.transaction(&all).await?;
        older.write_and_release(&named).await?;
        Ok(start.elapsed())
    }

    async fn transaction(&mut self, all: &[Move]) -> Fallible<()> {
        let mut text = String::from("start\n");
        for (name, old, new) in all {
            match old {
                Some(old) => writeln!(text, "update {name} {new} {old}")?,
                None => writeln!(text, "create {name} {new}")?,
            }
        }
        text.push_str("prepare\ncommit\n");
        self.input.write_all(text.as_bytes()).await?;
        let mut said = String::new();
        while !said.ends_with("commit: ok\n") {
            if self.output.read_line(&mut said).await? == 0 {
                return Err(format!("git update-ref said {said:?}").into());
            }
        }
        Ok(())
    }
}

fn parent(path: &Path) -> Fallible<PathBuf> {
    Ok(path.parent().ok_or("a folder without a parent")?.to_owned())
}
