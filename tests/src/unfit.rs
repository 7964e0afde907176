//! The kinds of repositories that `docs/git-servers.md` lists, made and mended by commands: Lockstep refuses each unfit
//! one before anything is committed, and takes it after the remedy.

use std::path::Path;
use std::process::{Command, Output};

use crate::e2e::git::shield;

/// A kind of repository.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The name of the kind.
    pub name: &'static str,
    /// The commands that make `x.git` beside the clone `work`. `$OUTSIDE` is a folder that is not on the volume.
    pub make: &'static str,
    /// A part of the reason; empty if the repository is fit.
    pub reason: &'static str,
    /// The commands of the remedy, if this git can take it.
    pub remedy: Option<&'static str>,
}

const fn kind(name: &'static str, make: &'static str, reason: &'static str, remedy: Option<&'static str>) -> Kind {
    Kind { name, make, reason, remedy }
}

/// The commands that make the clone `work`.
pub const WORK: &str = "git init -q -b main work; git -C work commit -q --allow-empty -m one; git -C work branch old; \
                        git -C work tag -a -m v1 v1";

const KINDS: &[Kind] = &[
    kind("fit", "git clone -q --bare work x.git", "", Some("true")),
    kind(
        "shallow",
        "git -C work commit -q --allow-empty -m two; git clone -q --bare --depth 1 file://$PWD/work x.git",
        "it is shallow",
        Some("git -C x.git fetch -q --unshallow"),
    ),
    kind(
        "detached HEAD",
        "git clone -q --bare work x.git; git -C x.git update-ref --no-deref HEAD main",
        "HEAD is detached",
        Some("git -C x.git symbolic-ref HEAD refs/heads/main"),
    ),
    kind(
        "HEAD with a bad name",
        "git clone -q --bare work x.git; git -C x.git symbolic-ref HEAD refs/x",
        "its HEAD names refs/x",
        Some("git -C x.git symbolic-ref HEAD refs/heads/main"),
    ),
    kind(
        "partial clone",
        "git -C work config uploadpack.allowFilter true; git clone -q --bare --filter=blob:none file://$PWD/work x.git",
        "it is a partial clone",
        Some("rm -rf x.git; git clone -q --mirror file://$PWD/work x.git"),
    ),
    kind(
        "promisor packs",
        "git clone -q --bare work x.git; git -C x.git repack -q -a -d; touch $(ls x.git/objects/pack/*.pack | \
         sed s/pack$/promisor/)",
        "it is a partial clone",
        Some("rm x.git/objects/pack/*.promisor"),
    ),
    kind(
        "alternates on the volume",
        "git clone -q --bare work lender.git; git clone -q --bare --shared lender.git x.git",
        "borrows objects from",
        Some("git -C x.git repack -q -a -d; rm -rf x.git/objects/info/alternates lender.git"),
    ),
    kind(
        "alternates outside of the volume",
        "git clone -q --bare work $OUTSIDE/lender.git; git clone -q --bare --shared $OUTSIDE/lender.git x.git",
        "borrows objects from",
        Some("git -C x.git repack -q -a -d; rm -rf x.git/objects/info/alternates $OUTSIDE/lender.git"),
    ),
    kind(
        "linked work trees",
        "git clone -q --bare work x.git; git -C x.git worktree add -q ../tree main",
        "work trees are linked to it (tree)",
        Some("git -C x.git worktree remove ../tree"),
    ),
    kind(
        "a work tree",
        "git clone -q work y; ln -s y/.git x.git",
        "it has a work tree",
        Some("rm x.git; git clone -q --bare y x.git"),
    ),
    kind(
        "SHA-256",
        "git init -q --bare --object-format=sha256 -b main x.git; \
         git -C work fast-export --all | git -C x.git fast-import --quiet",
        "SHA-256",
        Some(
            "mv x.git old.git; git init -q --bare -b main x.git; \
             git -C old.git fast-export --all | git -C x.git fast-import --quiet; rm -rf old.git",
        ),
    ),
    // A git that knows no reftable cannot migrate one.
    kind(
        "the settings of reftable",
        "git clone -q --bare work x.git; git -C x.git config core.repositoryFormatVersion 1; \
         git -C x.git config extensions.refStorage reftable; echo ref: refs/heads/.invalid > x.git/HEAD",
        "refs are not stored in files",
        None,
    ),
    kind(
        "an unknown extension",
        "git clone -q --bare work x.git; git -C x.git config core.repositoryFormatVersion 1; \
         git -C x.git config extensions.compression zstd",
        "extensions.compression is not supported",
        Some("git config --file x.git/config --unset extensions.compression"),
    ),
    kind(
        "grafts",
        "git clone -q --bare work x.git; git -C x.git rev-parse HEAD > x.git/info/grafts",
        "parents of its commits are replaced",
        Some("git -C x.git replace --convert-graft-file"),
    ),
];

const REFTABLE: Kind = kind(
    "reftable",
    "git clone -q --bare --ref-format=reftable work x.git",
    "refs are not stored in files",
    Some("git -C x.git refs migrate --ref-format=files"),
);

/// Every kind that the installed git can make.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain(migrates_reftables().then_some(&REFTABLE))
}

/// Whether the installed git has the remedy for reftables. It came with git 2.46.
fn migrates_reftables() -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "git init -q --bare --ref-format=reftable x.git; git -C x.git refs migrate --ref-format=files";
    let can = run(folder.path(), folder.path(), script).status.success();
    if !can {
        eprintln!("NOT RUN: this git migrates no reftable");
    }
    can
}

/// Runs commands in a folder.
///
/// # Panics
/// If there is no shell.
#[must_use]
pub fn run(folder: &Path, outside: &Path, script: &str) -> Output {
    let mut command = Command::new("sh");
    shield(&mut command, folder);
    command.current_dir(folder).args(["-ec", script]).env("OUTSIDE", outside).output().expect("sh runs")
}
