//! A repository that is copied while it is written, packed and collected stays sound.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut git = Command::new("git");
    for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        git.env(name, "test@localhost");
    }
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder).arg("-C").arg(folder).args(args);
    git.output().expect("git runs")
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn bare(path: &Path) {
    fs::create_dir_all(path).unwrap();
    git(path, &["init", "-q", "--bare", "."]);
}

/// A commit on top of `parent`, with a tree of its own.
fn commit(repository: &Path, parent: Option<&str>, text: &str) -> String {
    try_commit(repository, parent, text).expect("a commit")
}

/// Runs a git that writes an object. `None` if its folder was empty and `git prune-packed` removed it at that moment:
/// git looks for the folder once.
fn write(repository: &Path, args: &[&str]) -> Option<String> {
    let output = run(repository, args);
    let is_overtaken =
        String::from_utf8_lossy(&output.stderr).contains("unable to create temporary file: No such file");
    assert!(output.status.success() || is_overtaken, "{args:?}: {output:?}");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `None` if git has not found the object that it has just written, or the folder for it: it looks once, and a repack
/// may be under way.
fn try_commit(repository: &Path, parent: Option<&str>, text: &str) -> Option<String> {
    let blob = repository.join(format!("input-{}", text.replace(' ', "-")));
    fs::write(&blob, text).unwrap();
    let blob_id = write(repository, &["hash-object", "-w", blob.to_str().unwrap()]);
    fs::remove_file(&blob).unwrap();
    let entry = format!("100644,{},file", blob_id?);
    let index = repository.join(format!("index-{}", text.replace(' ', "-")));
    let mut add = Command::new("git");
    add.env("GIT_INDEX_FILE", &index).arg("-C").arg(repository);
    assert!(add.args(["update-index", "--add", "--cacheinfo", &entry]).output().unwrap().status.success());
    let mut tree = Command::new("git");
    let tree = tree.env("GIT_INDEX_FILE", &index).arg("-C").arg(repository).arg("write-tree").output().unwrap();
    fs::remove_file(&index).unwrap();
    if !tree.status.success() {
        return None;
    }
    let tree = String::from_utf8(tree.stdout).unwrap().trim().to_owned();
    let mut args = vec!["commit-tree", &tree, "-m", text];
    args.extend(parent.iter().flat_map(|parent| ["-p", parent]));
    write(repository, &args)
}

fn stay(path: &Path) -> PathBuf {
    path.to_owned()
}

#[test]
fn a_copy_has_the_refs_and_objects_and_nothing_that_calls_out() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("p.git"), home.path().join("copy/p.git"));
    bare(&from);
    let first = commit(&from, None, "one");
    git(&from, &["update-ref", "refs/heads/packed", &first]);
    git(&from, &["gc", "-q"]);
    let second = commit(&from, Some(&first), "two");
    git(&from, &["update-ref", "refs/heads/a/loose", &second]);
    // It puts loose objects into a pack of another name.
    git(&from, &["maintenance", "run", "--task=loose-objects"]);
    git(&from, &["prune-packed"]);
    let is_other = |name: &OsString| name.to_string_lossy().starts_with("loose-");
    assert!(names(&from.join("objects/pack")).unwrap().iter().any(is_other), "git has other names for packs");
    fs::write(from.join("refs/heads/a/held.lock"), "x").unwrap();
    fs::write(from.join("hooks/post-receive"), "#!/bin/sh\nexit 1\n").unwrap();
    git(&from, &["config", "remote.away.url", "https://away.example.org/p"]);
    git(&from, &["config", "core.hooksPath", "/elsewhere"]);
    git(&from, &["config", "include.path", "/elsewhere"]);
    git(&from, &["config", "extensions.noop", "true"]);
    let copied = copy_repository(&from, &to, Way::Full, &stay, &Stop::default()).unwrap().unwrap();
    assert!(copied.files > 5 && copied.bytes > 100, "{copied:?}");
    assert_eq!(git(&to, &["for-each-ref", "--format=%(refname) %(objectname)"]), {
        format!("refs/heads/a/loose {second}\nrefs/heads/packed {first}")
    });
    git(&to, &["fsck", "--full", "--strict"]);
    let settings = fs::read_to_string(to.join("config")).unwrap();
    assert!(settings.contains("noop") && settings.contains("bare = true"), "{settings}");
    assert!(!settings.contains("elsewhere") && !settings.contains("away"), "{settings}");
    assert!(!to.join("hooks").exists() && !to.join("refs/heads/a/held.lock").exists());
    assert_eq!(copy_repository(&home.path().join("gone"), &to, Way::Full, &stay, &Stop::default()).unwrap(), None);
}

#[test]
fn a_repository_that_borrows_objects_borrows_from_the_copy() {
    let home = tempfile::tempdir().unwrap();
    let (lender, from) = (home.path().join("git/lender.git"), home.path().join("git/p.git"));
    bare(&lender);
    bare(&from);
    let lent = commit(&lender, None, "lent");
    fs::write(from.join("objects/info/alternates"), format!("{}\n", lender.join("objects").display())).unwrap();
    git(&from, &["update-ref", "refs/heads/main", &lent]);
    let (root, copies) = (home.path().join("git"), home.path().join("copy"));
    let moved = |path: &Path| path.strip_prefix(&root).map_or(path.to_owned(), |rest| copies.join(rest));
    for name in ["lender.git", "p.git"] {
        copy_repository(&root.join(name), &copies.join(name), Way::Full, &moved, &Stop::default()).unwrap().unwrap();
    }
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(git(&copies.join("p.git"), &["rev-parse", "refs/heads/main"]), lent);
    git(&copies.join("p.git"), &["fsck", "--full"]);
}

#[test]
fn a_copy_that_is_given_up_stops() {
    let home = tempfile::tempdir().unwrap();
    let from = home.path().join("p.git");
    bare(&from);
    let stop = Stop::default();
    stop.stop();
    let given_up = copy_repository(&from, &home.path().join("to"), Way::Full, &stay, &stop);
    assert!(matches!(given_up, Err(CopyError::Stopped)), "{given_up:?}");
}

/// Pushes move and delete refs, while refs are packed and garbage is collected without any grace. Each copy is sound,
/// and no ref is older than when the copy began.
#[test]
fn copies_of_a_repository_that_changes_are_behind_at_most_and_never_broken() {
    const BRANCHES: usize = 4;
    let home = tempfile::tempdir().unwrap();
    let from = home.path().join("p.git");
    bare(&from);
    let done = AtomicBool::new(false);
    // The number of the newest commit of each branch that was there, for certain.
    let newest: [AtomicU64; BRANCHES] = Default::default();
    std::thread::scope(|threads| {
        for (branch, newest) in newest.iter().enumerate() {
            let (from, done) = (&from, &done);
            threads.spawn(move || {
                let name = format!("refs/heads/b{branch}");
                let mut tip = None;
                for number in 1..=400_u64 {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    let made = try_commit(from, tip.as_deref(), &format!("{branch} {number}"));
                    let Some(next) = made else { continue };
                    // A gc may hold the lock of the packed refs.
                    if run(from, &["update-ref", &name, &next]).status.success() {
                        tip = Some(next);
                        newest.store(number, Ordering::SeqCst);
                    }
                    let other = format!("refs/heads/t{branch}");
                    let _ = run(from, &["update-ref", &other, tip.as_deref().unwrap_or_default()]);
                    let _ = run(from, &["update-ref", "-d", &other]);
                }
            });
        }
        let (upkeep, ended) = (&from, &done);
        threads.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let _ = run(upkeep, &["pack-refs", "--all", "--prune"]);
                // Objects without a ref may be of a commit that is being made, so nothing is pruned.
                let _ = run(upkeep, &["repack", "-q", "-a", "-d", "-k"]);
                let _ = run(upkeep, &["prune-packed", "-q"]);
            }
        });
        let result = std::panic::catch_unwind(|| {
            while newest.iter().any(|one| one.load(Ordering::SeqCst) < 2) {
                std::thread::yield_now();
            }
            for round in 0..12 {
                let before: Vec<u64> = newest.iter().map(|one| one.load(Ordering::SeqCst)).collect();
                let to = home.path().join(format!("copy-{round}.git"));
                copy_repository(&from, &to, Way::Full, &stay, &Stop::default()).unwrap().unwrap();
                let checked = run(&to, &["fsck", "--full", "--connectivity-only"]);
                assert!(checked.status.success(), "round {round}: {checked:?}");
                for (branch, before) in before.iter().enumerate() {
                    let said = git(&to, &["log", "-1", "--format=%s", &format!("refs/heads/b{branch}")]);
                    let (_, number) = said.split_once(' ').unwrap();
                    let number: u64 = number.parse().unwrap();
                    assert!(number >= *before, "round {round}: b{branch} is at {number} and was at {before}");
                }
            }
        });
        done.store(true, Ordering::SeqCst);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}
