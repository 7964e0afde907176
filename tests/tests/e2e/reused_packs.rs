//! An existing repository travels as one pack, which reuses what git has packed before. Bytes are counted and compared
//! with those of a mirror, not seconds.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{git, ok};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::{converged, sound};

use crate::lockstep;

const FILES: usize = 40;
const LINES: usize = 200;
const COMMITS: usize = 1_500;
/// More than the slot of a transaction holds.
const CHANGES: usize = 2_100;

/// A word that looks random and does not compress.
fn word(seed: usize) -> u64 {
    let mixed = (seed as u64 ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// The input of `git fast-import`: a history in which each commit changes one line of a file, and many changes of one
/// line, each on a commit of that history and with a ref of its own.
fn history() -> String {
    let mut files: Vec<Vec<u64>> =
        (0..FILES).map(|file| (0..LINES).map(|line| word(file * LINES + line)).collect()).collect();
    let mut text = String::new();
    let mut commit = |name: &str, mark: usize, from: Option<usize>, file: usize, lines: &[u64]| {
        let content: String = lines.iter().map(|line| format!("{line:016x}\n")).collect();
        let from = from.map(|from| format!("from :{from}\n")).unwrap_or_default();
        write!(
            text,
            "commit {name}\nmark :{mark}\ncommitter T <t@x> {} +0000\ndata 1\nm\n{from}M 100644 inline d{}/f{file}\n\
             data {}\n{content}\n",
            1_700_000_000 + mark,
            file % 7,
            content.len()
        )
        .expect("memory");
    };
    for at in 0..COMMITS {
        let file = if at < FILES { at } else { word(at) as usize % FILES };
        files[file][at % LINES] = word(1_000_000 + at);
        commit("refs/heads/main", at + 1, None, file, &files[file]);
    }
    for change in 0..CHANGES {
        let file = change % FILES;
        let mut lines = files[file].clone();
        lines[change % LINES] = word(2_000_000 + change);
        let name = format!("refs/changes/{:02}/{}/1", (change + 1) % 100, change + 1);
        commit(&name, COMMITS + change + 1, Some(1 + word(change) as usize % COMMITS), file, &lines);
    }
    text
}

/// Makes the repository, packed as git keeps it.
fn existing(repository: &Path) {
    std::fs::create_dir_all(repository).expect("a folder");
    let run = |args: &[&str], input: &str| {
        let mut child = Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(["-c", "core.fsync=none"])
            .args(args)
            .stdin(Stdio::piped())
            .spawn()
            .expect("git runs");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
        assert!(child.wait().expect("it ends").success(), "git {args:?}");
    };
    run(&["init", "-q", "--bare", "-b", "main"], "");
    run(&["fast-import", "--quiet"], &history());
    run(&["repack", "-adfq"], "");
    run(&["pack-refs", "--all"], "");
}

/// The bytes of all files below a folder. A file that is removed meanwhile has none: refs are being packed.
fn bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The most bytes that a folder has while something is done. A blob is removed once both sites have it and its slot is
/// collected, which may come before the end.
async fn most_bytes<T>(folder: &Path, work: impl Future<Output = T>) -> (u64, T) {
    let mut most = 0;
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (most.max(bytes(folder)), done),
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => most = most.max(bytes(folder)),
        }
    }
}

/// The bytes that a folder may have, where a mirror of the repository has `mirror` bytes.
fn most(mirror: u64) -> u64 {
    mirror * 3 / 2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_and_an_import_take_the_bytes_of_a_mirror() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let (blobs, mirror) = (cluster.scratch("blobs"), cluster.scratch("mirror"));
    let (seeded, imported) = (cluster.nodes[0].repository("seeded"), cluster.nodes[0].repository("imported"));
    existing(&seeded);
    let (from, to) = (seeded.to_str().expect("text"), mirror.to_str().expect("text"));
    let _ = ok(git(&cluster.scratch(""), &["clone", "-q", "--mirror", "--no-local", from, to]).await);
    let of_mirror = bytes(&mirror);
    assert!(of_mirror > 0, "the mirror is empty");
    std::fs::rename(&mirror, &imported).expect("renamed");

    let (stored, done) = most_bytes(&blobs, cluster.nodes[0].cli(&["seed", "seeded"])).await;
    let _ = ok(done);
    assert!(stored > 0 && stored <= most(of_mirror), "{stored} bytes in the blob store, {of_mirror} in the mirror");
    let to = imported.to_str().expect("text");
    let (both, done) = most_bytes(&blobs, cluster.nodes[0].cli(&["import", to, "--project", "imported"])).await;
    let _ = ok(done);
    let more = both.saturating_sub(stored);
    assert!(more <= most(of_mirror), "{more} more bytes in the blob store, {of_mirror} in the mirror");
    cluster.exists("imported").await;
    for project in ["seeded", "imported"] {
        assert_eq!(converged(&cluster, project).await.refs.len(), CHANGES + 1);
        let there = cluster.nodes[1].repository(project);
        let kept = bytes(&there);
        assert!(kept <= most(of_mirror), "{kept} bytes at the receiver, {of_mirror} in the mirror");
        let packed = until(async || (bytes(&there.join("refs")) < 41 * CHANGES as u64 / 10).then_some(())).await;
        assert!(packed.is_some(), "the refs stay loose");
        let packs = ok(git(&there, &["count-objects", "-v"]).await);
        assert!(packs.contains("count: 0\n") && packs.contains("packs: 1\n"), "it was not kept as it came: {packs}");
        sound(&there).await;
    }
}
