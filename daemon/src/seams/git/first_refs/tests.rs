//! Tests: the first refs of a repository appear at once, by the rules of git, and all else is left to git.

use std::process::Command;

use super::*;

/// A bare repository with a commit and a blob.
fn repository() -> (tempfile::TempDir, Oid, Oid) {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::init_bare(folder.path()).unwrap();
    let blob = repository.blob(b"text").unwrap();
    let tree = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
    let person = git2::Signature::new("T", "t@x", &git2::Time::new(1_700_000_000, 0)).unwrap();
    let commit = repository.commit(None, &person, &person, "m", &tree, &[]).unwrap();
    let ours = |oid: git2::Oid| Oid::from_bytes(oid.as_bytes()).unwrap();
    (folder, ours(commit), ours(blob))
}

fn create_line(name: &str, oid: Oid) -> Line {
    Line::Move { name: name.to_owned(), old: None, new: Some(oid), message: String::new() }
}

/// Enough lines, and some more.
fn lines(oid: Oid, more: &[Line]) -> Vec<Line> {
    let many = (0..FEWEST).map(|number| create_line(&format!("refs/changes/{:02}/{number}/1", number % 100), oid));
    many.chain(more.iter().cloned()).collect()
}

fn git(git_dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").arg("--git-dir").arg(git_dir).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn only_very_many_creations_are_taken() {
    let (_folder, commit, _) = repository();
    let main = create_line("refs/heads/main", commit);
    assert_eq!(of(&lines(commit, &[])).map(|refs| refs.len()), Some(FEWEST));
    assert!(of(&lines(commit, &[])[1..]).is_none());
    let moved =
        Line::Move { name: "refs/heads/x".into(), old: Some(commit), new: Some(commit), message: String::new() };
    let gone = Line::Move { name: "refs/heads/x".into(), old: None, new: None, message: String::new() };
    let below = create_line("refs/heads/main/x", commit);
    for more in [moved, gone, below, main.clone(), Line::Set("refs/lockstep/keep/x".into(), commit)] {
        assert!(of(&lines(commit, &[main.clone(), more.clone()])).is_none(), "{more:?}");
    }
}

#[test]
fn git_shows_exactly_the_refs_that_were_created() {
    let (folder, commit, blob) = repository();
    let git_dir = folder.path();
    let more = [create_line("refs/heads/main", commit), create_line("refs/tags/text", blob)];
    let refs = of(&lines(commit, &more)).unwrap();
    std::fs::create_dir_all(git_dir.join("logs/refs/heads")).unwrap();
    std::fs::write(git_dir.join("logs/refs/heads/main"), "").unwrap();
    assert!(create(git_dir, &refs).unwrap());
    let expected: String = refs.iter().map(|(name, oid)| format!("{oid} {name}\n")).collect();
    assert_eq!(git(git_dir, &["for-each-ref", "--format=%(objectname) %(refname)"]), expected);
    assert!(!git_dir.join("packed-refs.lock").exists());
    let log = git(git_dir, &["log", "-g", "--format=%H %gn <%ge> %gs", "main"]);
    assert_eq!(log, format!("{commit} Lockstep <lockstep@localhost> push\n"));
    assert_eq!(std::fs::read_dir(git_dir.join("logs/refs")).unwrap().count(), 1, "no reflog is begun");
    // Git goes on from there.
    git(git_dir, &["update-ref", "-d", "refs/tags/text"]);
    git(git_dir, &["pack-refs", "--all"]);
    assert_eq!(git(git_dir, &["for-each-ref"]).lines().count(), FEWEST + 1);
    assert!(!create(git_dir, &refs).unwrap(), "it has refs by now");
}

#[test]
fn a_repository_with_a_ref_or_a_lock_and_a_branch_that_is_no_commit_are_left_to_git() {
    let (folder, commit, blob) = repository();
    let git_dir = folder.path();
    let of_blob = of(&lines(commit, &[create_line("refs/heads/main", blob)])).unwrap();
    assert!(!create(git_dir, &of_blob).unwrap());
    let refs = of(&lines(commit, &[])).unwrap();
    std::fs::write(git_dir.join("packed-refs.lock"), "").unwrap();
    assert!(!create(git_dir, &refs).unwrap());
    assert!(git_dir.join("packed-refs.lock").exists(), "the lock is that of another program");
    std::fs::remove_file(git_dir.join("packed-refs.lock")).unwrap();
    for pack in [false, true] {
        git(git_dir, &["update-ref", "refs/heads/old", &commit.to_string()]);
        if pack {
            git(git_dir, &["pack-refs", "--all"]);
        }
        assert!(!create(git_dir, &refs).unwrap());
        assert_eq!(git(git_dir, &["for-each-ref"]).lines().count(), 1);
    }
    git(git_dir, &["update-ref", "-d", "refs/heads/old"]);
    git(git_dir, &["config", "core.sharedRepository", "group"]);
    assert!(!create(git_dir, &refs).unwrap(), "git chooses the permissions");
    git(git_dir, &["config", "--unset", "core.sharedRepository"]);
    assert!(create(git_dir, &refs).unwrap());
}
