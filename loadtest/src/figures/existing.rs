//! n. An existing repository is imported, compared with `git clone --mirror` of it in the same run: the time until the
//! import has ended and until another site shows all refs, the bytes in the blob store and on the other site's disk,
//! and the memory of both sidecars with their git children.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lockstep::base::clock::{Entropy, SeededEntropy};
use serde_json::json;
use tokio::process::Command;
use tokio::time::Instant;

use super::large_push::{Peaks, peak, wait, watch};
use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::git;
use crate::host::mib;
use crate::process::{Process, lockstep};
use crate::report::{Figure, Goal, Report, round};

/// The commits and the refs of a real project whose import was found to be slow.
const COMMITS: usize = 16_450;
const REFS: usize = 7_007;
/// The files of the project, and the lines of each.
const FILES: usize = 2_000;
const LINES: usize = 500;
/// The files that a commit changes. With these, the clone has about the size of that project's, 87 MB.
const CHANGED: usize = 4;
/// The bound on the clone's time, and on its bytes.
const GOAL: Goal = Goal::AtMost(1.5);

/// Measures the figures n.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let pair = &SITES[..2];
    let (origin, peer) = (Process::start(&cloud, pair[0], pair)?, Process::start(&cloud, pair[1], pair)?);
    origin.ready().await?;
    peer.ready().await?;
    let (here, there) = (origin.root.join("old.git"), peer.root.join("old.git"));
    make(&here)?;
    let mirror = cloud.folder().join("mirror");
    let start = Instant::now();
    run(Command::new("git").args(["clone", "-q", "--mirror", "--no-local"]).arg(&here).arg(&mirror)).await?;
    let cloned = start.elapsed();

    let peaks = Peaks::default();
    let watching = tokio::spawn(watch(origin.pid(), peer.pid(), peaks.clone()));
    let start = Instant::now();
    let mut import = Command::new(lockstep()?);
    import.args(["import", "--project", "old", "--socket"]).arg(origin.socket()).arg(&here);
    run(&mut import).await?;
    let imported = start.elapsed();
    let blobs = size(&cloud.folder().join("blobs"))?;
    wait("the refs", || git(&["for-each-ref"], &there).is_ok_and(|refs| refs.lines().count() == REFS)).await?;
    let visible = start.elapsed();
    watching.abort();
    let (clone, kept) = (size(&mirror)?, size(&there)?);
    let seconds = |time: Duration| round(time.as_secs_f64());
    let detail = json!({
        "clone_s": seconds(cloned), "import_s": seconds(imported), "visible_at_peer_after_s": seconds(visible),
        "clone": clone.json(), "blob_store": blobs.json(), "peer": kept.json(),
        "origin_and_children_mib": round(mib(peak(&peaks, "origin"))),
        "peer_and_children_mib": round(mib(peak(&peaks, "peer"))),
        "commits": COMMITS, "refs": REFS,
    });
    let figure =
        |name, value| Figure { name, value, unit: "times", goal: Some(GOAL), samples: 1, detail: detail.clone() };
    report.figure(&figure("n.import_time_of_a_clone", imported.as_secs_f64() / cloned.as_secs_f64()));
    report.figure(&figure("n.visible_time_of_a_clone", visible.as_secs_f64() / cloned.as_secs_f64()));
    report.figure(&figure("n.blob_store_bytes_of_a_clone", ratio(blobs.bytes, clone.bytes)));
    report.figure(&figure("n.peer_bytes_of_a_clone", ratio(kept.bytes, clone.bytes)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "the size of a repository")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

async fn run(command: &mut Command) -> Fallible<()> {
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

/// The size of a folder: the bytes of its files, and those of the blocks that they take.
#[derive(Default)]
struct Size {
    bytes: u64,
    allocated: u64,
}

impl Size {
    fn json(&self) -> serde_json::Value {
        json!({"bytes": self.bytes, "allocated": self.allocated})
    }
}

fn size(folder: &Path) -> Fallible<Size> {
    let mut size = Size::default();
    let mut work = vec![folder.to_owned()];
    while let Some(folder) = work.pop() {
        // A sidecar at work removes its temporary files and folders.
        let Some(entries) = present(std::fs::read_dir(folder))? else { continue };
        for entry in entries {
            let entry = entry?;
            let Some(meta) = present(entry.metadata())? else { continue };
            let path = entry.path();
            if meta.is_dir() {
                work.push(path);
            } else {
                size.bytes += meta.len();
                size.allocated += meta.blocks() * 512;
            }
        }
    }
    Ok(size)
}

/// The value, or `None` if the file is gone.
fn present<T>(read: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Makes a repository in which each commit changes one line of some files, with a branch and many changes, and packs it
/// as git keeps it.
fn make(repository: &Path) -> Fallible<()> {
    std::fs::create_dir_all(repository)?;
    git(&["init", "-q", "--bare", "-b", "main"], repository)?;
    let mut child = std::process::Command::new("git")
        .args(["-c", "core.fsync=none", "--git-dir"])
        .arg(repository)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut to = BufWriter::new(child.stdin.take().ok_or("git fast-import has no input")?);
    write(&mut to)?;
    to.flush()?;
    drop(to);
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("git fast-import: {status}").into());
    }
    git(&["-c", "core.fsync=none", "repack", "-adfq"], repository)?;
    git(&["pack-refs", "--all"], repository).map(drop)
}

/// The content of the project: the lines of each file.
struct Content {
    files: Vec<Vec<u64>>,
    entropy: SeededEntropy,
}

impl Content {
    fn new() -> Self {
        let entropy = SeededEntropy::new(1);
        let files = (0..FILES).map(|_| (0..LINES).map(|_| entropy.next()).collect()).collect();
        Self { files, entropy }
    }

    fn below(&self, most: usize) -> usize {
        usize::try_from(self.entropy.next() % most as u64).unwrap_or(0)
    }

    /// The files that a commit changes: some at random, one line of each. With the first commits, a new one too.
    fn changed(&self, new: Option<usize>) -> BTreeMap<usize, Vec<u64>> {
        let chosen = new.into_iter().chain((0..CHANGED).map(|_| self.below(FILES)));
        chosen
            .map(|file| {
                let mut lines = self.files[file].clone();
                lines[self.below(LINES)] = self.entropy.next();
                (file, lines)
            })
            .collect()
    }
}

fn write(to: &mut impl Write) -> Fallible<()> {
    let mut content = Content::new();
    let mut commit =
        |name: &str, mark: usize, from: Option<usize>, files: &BTreeMap<usize, Vec<u64>>| -> Fallible<()> {
            writeln!(to, "commit {name}\nmark :{mark}\ncommitter T <t@x> {} +0000\ndata 1\nm", 1_700_000_000 + mark)?;
            if let Some(from) = from {
                writeln!(to, "from :{from}")?;
            }
            for (file, lines) in files {
                let text: String = lines.iter().map(|line| format!("{line:016x}\n")).collect();
                writeln!(to, "M 100644 inline d{}/f{file}\ndata {}\n{text}", file % 40, text.len())?;
            }
            Ok(())
        };
    for at in 0..COMMITS {
        let changed = content.changed((at < FILES).then_some(at));
        commit("refs/heads/main", at + 1, None, &changed)?;
        changed.into_iter().for_each(|(file, lines)| content.files[file] = lines);
    }
    for change in 1..REFS {
        let changed = content.changed(None);
        commit(&format!("refs/pull/{change}/head"), COMMITS + change, Some(1 + content.below(COMMITS)), &changed)?;
    }
    Ok(())
}
