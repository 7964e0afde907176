//! g. A push of 1 GiB that does not compress, and its replication: the peak memory of both sidecars' processes, of
//! their git children, and of the git that receives the push.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lockstep::base::clock::{Entropy, SeededEntropy};
use parking_lot::Mutex;
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::git;
use crate::host::{descendants, mib, peak_resident, resident};
use crate::process::Process;
use crate::report::{Figure, Goal, Report, round};
use crate::site::PATIENCE;

/// The number of files: few enough that git unpacks the push into loose objects instead of keeping its pack.
const FILES: usize = 90;
/// The bytes of each file: 1 GiB together.
const FILE_BYTES: usize = (1 << 30) / FILES;
/// The interval between two readings of the memory.
const EVERY: Duration = Duration::from_millis(10);

/// The largest reading of each process group.
pub(super) type Peaks = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// Measures the figures g.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let pair = &SITES[..2];
    let (origin, peer) = (Process::start(&cloud, pair[0], pair)?, Process::start(&cloud, pair[1], pair)?);
    origin.ready().await?;
    peer.ready().await?;
    let project = origin.create_project("large").await?;
    let there = peer.root.join(format!("{project}.git"));
    wait("the project", || there.exists()).await?;
    let repository = origin.install_hooks(&project)?;
    // The setting that docs/operations.md recommends for repositories with such pushes.
    git(&["config", "lockstep.deadlineMs", "600000"], &repository)?;
    let clone = cloud.folder().join("clone.git");
    make(&clone)?;
    let peaks: Peaks = Arc::default();
    let watching = tokio::spawn(watch(origin.pid(), peer.pid(), Arc::clone(&peaks)));
    let start = Instant::now();
    push(&clone, &repository).await?;
    let pushed = start.elapsed();
    let tip = git(&["rev-parse", "refs/heads/main"], &repository)?;
    wait("the push", || git(&["rev-parse", "refs/heads/main"], &there).is_ok_and(|seen| seen == tip)).await?;
    let replicated = start.elapsed();
    watching.abort();
    let peak = |name| mib(peak(&peaks, name));
    let detail = json!({
        "origin_sidecar_mib": round(mib(peak_resident(origin.pid()))), "origin_child_mib": round(peak("origin child")),
        "peer_sidecar_mib": round(mib(peak_resident(peer.pid()))), "peer_child_mib": round(peak("peer child")),
        "receive_pack_and_its_children_mib": round(peak("receive")),
        "push_took_s": round(pushed.as_secs_f64()), "visible_at_peer_after_s": round(replicated.as_secs_f64()),
        "files": FILES, "bytes": FILES * FILE_BYTES,
    });
    let figure = |name, value| Figure {
        name,
        value,
        unit: "MiB",
        goal: Some(Goal::AtMost(256.0)),
        samples: 1,
        detail: detail.clone(),
    };
    report.figure(&figure("g.push_of_1_GiB_origin_and_children", peak("origin")));
    report.figure(&figure("g.push_of_1_GiB_peer_and_children", peak("peer")));
    Ok(())
}

/// Makes a bare repository with one commit of large files.
fn make(clone: &Path) -> Fallible<()> {
    std::fs::create_dir_all(clone)?;
    git(&["init", "-q", "--bare", "-b", "main"], clone)?;
    let mut child = std::process::Command::new("git")
        .args(["-c", "core.compression=0", "-c", "core.fsync=none", "--git-dir"])
        .arg(clone)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut to = BufWriter::new(child.stdin.take().ok_or("git fast-import has no input")?);
    let entropy = SeededEntropy::new(1);
    writeln!(to, "commit refs/heads/main\ncommitter Bench <bench@lockstep.invalid> 1700000000 +0000\ndata 5\nlarge")?;
    for file in 0..FILES {
        writeln!(to, "M 100644 inline file-{file}\ndata {FILE_BYTES}")?;
        let mut left = FILE_BYTES;
        while left > 0 {
            let bytes = entropy.next().to_le_bytes();
            let count = left.min(bytes.len());
            to.write_all(&bytes[..count])?;
            left -= count;
        }
        writeln!(to)?;
    }
    to.flush()?;
    drop(to);
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("git fast-import: {status}").into()) }
}

async fn push(clone: &Path, repository: &Path) -> Fallible<()> {
    let mut command = Command::new("git");
    command
        .args(["-c", "core.compression=0", "-c", "core.bigFileThreshold=1m", "push", "-q"])
        .arg(repository)
        .arg("refs/heads/main:refs/heads/main");
    let output = command.current_dir(clone).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("git push: {}", String::from_utf8_lossy(&output.stderr)).into())
}

pub(super) async fn wait(what: &str, there: impl Fn() -> bool) -> Fallible<()> {
    let end = Instant::now() + PATIENCE;
    while !there() {
        if Instant::now() >= end {
            return Err(format!("{what} did not arrive").into());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Reads the memory of both sidecars with their children, and of the receiving git, until it is aborted.
pub(super) async fn watch(origin: u32, peer: u32, peaks: Peaks) {
    loop {
        for (pid, whole, child) in [(origin, "origin", "origin child"), (peer, "peer", "peer child")] {
            let children: Vec<u64> = descendants(pid).iter().map(|(child, _)| resident(*child)).collect();
            note(&peaks, child, children.iter().copied().max().unwrap_or(0));
            note(&peaks, whole, resident(pid) + children.iter().sum::<u64>());
        }
        note(&peaks, "receive", receiving());
        sleep(EVERY).await;
    }
}

/// The memory of the receiving side of this process's own push: `git receive-pack` and its children.
fn receiving() -> u64 {
    let ours = descendants(std::process::id());
    let receivers = ours.iter().filter(|(_, line)| line.contains("receive-pack"));
    let trees = receivers
        .map(|(pid, _)| resident(*pid) + descendants(*pid).iter().map(|(child, _)| resident(*child)).sum::<u64>());
    trees.max().unwrap_or(0)
}

/// The largest reading of a process group, in bytes.
pub(super) fn peak(peaks: &Peaks, name: &str) -> u64 {
    peaks.lock().get(name).copied().unwrap_or(0)
}

fn note(peaks: &Peaks, name: &'static str, bytes: u64) {
    let mut peaks = peaks.lock();
    let peak = peaks.entry(name).or_default();
    *peak = (*peak).max(bytes);
}
