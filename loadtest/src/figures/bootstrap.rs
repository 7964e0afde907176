//! u. A new site takes everything from its peer, compared with `git clone --mirror` of the same repository in the same
//! run. The goal of issue 15: "bootstrap goes at the speed of `git clone`".
//!
//! The repository has 200 MB of files that do not compress, and 20,000 small commits. The peer has been seeded with it
//! and sends it over its listener for peers, with mutual TLS. The time counts from the start of the new site's process
//! until its repository shows all refs. The clone reads the peer's repository through `git upload-pack`, once before
//! and once after that, and the shorter time counts.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lockstep::base::clock::{Clock, SystemClock};
use lockstep::seams::tls::authority::{self, Validity};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::Extent;
use super::verify::{certify, free_port};
use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::{History, git};
use crate::process::{Process, lockstep};
use crate::report::{Figure, Goal, Report, round};

/// The name of the project.
const PROJECT: &str = "large";
/// The longest time of one step.
const PATIENCE: Duration = Duration::from_secs(600);
/// The time of the new site, as a multiple of the clone's.
const GOAL: Goal = Goal::AtMost(1.0);

/// The repository to make.
struct Content {
    /// The number of files of one branch each, and their size in bytes once they are compressed.
    files: usize,
    bytes: usize,
    /// The number of small commits on `main`.
    commits: usize,
}

/// Measures the figure u.
pub async fn measure(report: &Report, extent: Extent) -> Fallible<()> {
    let content = extent.pick(
        Content { files: 200, bytes: 1_000_000, commits: 20_000 },
        Content { files: 20, bytes: 50_000, commits: 200 },
    );
    let cloud = Cloud::start().await?;
    let tls = Tls::new(&cloud)?;
    let peer = Process::configured(&cloud, SITES[0], &SITES[..1], |_| tls.of_peer())?;
    peer.ready().await?;
    let here = peer.root.join(PROJECT).with_extension("git");
    make(&here, &content)?;
    let start = Instant::now();
    let root = peer.root.display().to_string();
    cli(&peer, &["seed", "--alone", "--no-report", "--root", &root, PROJECT]).await?;
    let seeded = start.elapsed();
    add_site(&peer, &cloud).await?;

    let before = clone(&here, &cloud.folder().join("before")).await?;
    let start = Instant::now();
    let new = Process::configured(&cloud, SITES[1], &SITES[..2], |_| tls.of_new())?;
    let there = new.root.join(PROJECT).with_extension("git");
    let wanted = refs(&here)?;
    wait("all refs at the new site", async || there.exists() && refs(&there).is_ok_and(|refs| refs == wanted)).await?;
    let shown = start.elapsed();
    new.ready().await?;
    let ready = start.elapsed();
    let after = clone(&here, &cloud.folder().join("after")).await?;
    let objects = count(&there)?;
    if objects != count(&here)? {
        return Err(format!("the new site has {objects} objects behind its refs, another number than its peer").into());
    }
    let (cloned, seconds) = (before.min(after), |time: Duration| round(time.as_secs_f64()));
    report.figure(&Figure {
        name: "u.bootstrap_time_of_a_clone",
        value: shown.as_secs_f64() / cloned.as_secs_f64(),
        unit: "times",
        goal: extent.goal(GOAL),
        samples: 1,
        detail: json!({
            "bootstrap_s": seconds(shown), "clones_s": [seconds(before), seconds(after)], "ready_s": seconds(ready),
            "seed_of_the_peer_s": seconds(seeded), "objects": objects, "commits": content.commits,
            "files": content.files, "bytes_per_file": content.bytes,
        }),
    });
    Ok(())
}

/// The certificates of both sites, and the port of the peer's listener.
struct Tls {
    folders: [String; 2],
    port: u16,
}

impl Tls {
    fn new(cloud: &Cloud) -> Fallible<Self> {
        let now = Duration::from_millis(SystemClock.now_ms());
        let validity = Validity { now, lifetime: Duration::from_secs(86_400) };
        let signer = authority::init("bench", validity)?;
        for site in &SITES[..2] {
            certify(&cloud.folder().join("tls").join(site), &signer, site, validity)?;
        }
        let folder = |site: &str| cloud.folder().join("tls").join(site).display().to_string();
        Ok(Self { folders: [folder(SITES[0]), folder(SITES[1])], port: free_port()? })
    }

    /// The sections of the peer's configuration.
    fn of_peer(&self) -> String {
        let Self { folders: [folder, _], port } = self;
        let allowed = SITES[1];
        format!("{}listen = \"127.0.0.1:{port}\"\nallow = [\"spiffe://lockstep/{allowed}/*\"]\n", files(folder))
    }

    /// The sections of the new site's configuration.
    fn of_new(&self) -> String {
        let Self { folders: [_, folder], port } = self;
        let (files, peer) = (files(folder), SITES[0]);
        format!(
            "{files}[peers.{peer}-0]\nurl = \"https://127.0.0.1:{port}\"\n\
             identity = \"spiffe://lockstep/{peer}/{peer}-0\"\n"
        )
    }
}

fn files(folder: &str) -> String {
    format!(
        "[tls]\ncertificate_file = \"{folder}/tls.crt\"\nkey_file = \"{folder}/tls.key\"\n\
         trust_file = \"{folder}/ca.crt\"\n"
    )
}

/// Makes the repository: `main` with the small commits, and a branch for each file. It has few packs and no other refs.
fn make(repository: &Path, content: &Content) -> Fallible<()> {
    std::fs::create_dir_all(repository)?;
    git(&["init", "-q", "--bare", "-b", "main"], repository)?;
    let Content { files, bytes, commits } = *content;
    let small = History { from: None, chains: 1, length: commits, bytes: 100, seed: 1, loose: false };
    let large = History { from: None, chains: files, length: 1, bytes, seed: 2, loose: false };
    let main = small.import(repository)?.pop().unwrap_or_default().pop().ok_or("there is no commit")?;
    git(&["update-ref", "refs/heads/main", &main.to_string()], repository)?;
    for (at, commits) in large.import(repository)?.into_iter().enumerate() {
        git(&["update-ref", &format!("refs/heads/file-{at}"), &commits[0].to_string()], repository)?;
    }
    for made in git(&["for-each-ref", "--format=%(refname)", "refs/lockstep"], repository)?.lines() {
        git(&["update-ref", "-d", made], repository)?;
    }
    // The files do not compress, so nobody looks for deltas.
    git(&["-c", "core.fsync=none", "-c", "pack.window=0", "repack", "-adq"], repository)?;
    git(&["pack-refs", "--all"], repository).map(drop)
}

/// The branches of a repository with their values.
fn refs(repository: &Path) -> Fallible<String> {
    git(&["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads"], repository)
}

/// The number of objects behind the branches. It fails if one is missing.
fn count(repository: &Path) -> Fallible<usize> {
    Ok(git(&["rev-list", "--objects", "--branches"], repository)?.lines().count())
}

/// Adds the new site to the list of sites. Other changes may have to come first.
async fn add_site(peer: &Process, cloud: &Cloud) -> Fallible<()> {
    let endpoint = cloud.kinesis_endpoint();
    let add = ["site", "add", SITES[1], "--stream-endpoint", &endpoint, "--reason", "figure u"];
    let end = Instant::now() + PATIENCE;
    loop {
        match cli(peer, &add).await {
            Err(_) if Instant::now() < end => sleep(Duration::from_millis(500)).await,
            done => return done,
        }
    }
}

/// Clones a repository through `git upload-pack`, without sharing its files. Returns the time.
async fn clone(from: &Path, to: &Path) -> Fallible<Duration> {
    let start = Instant::now();
    let mut command = Command::new("git");
    command.args(["clone", "-q", "--mirror"]).arg(format!("file://{}", from.display())).arg(to);
    run(&mut command).await?;
    Ok(start.elapsed())
}

async fn cli(at: &Process, args: &[&str]) -> Fallible<()> {
    let mut command = Command::new(lockstep()?);
    run(command.args(args).env("LOCKSTEP_SOCKET", at.socket())).await
}

async fn run(command: &mut Command) -> Fallible<()> {
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

async fn wait(what: &str, is_so: impl AsyncFn() -> bool) -> Fallible<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        if Instant::now() >= end {
            return Err(format!("not in time: {what}").into());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
