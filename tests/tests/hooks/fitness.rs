//! The fitness of a repository, row by row of `docs/git-servers.md`: `hook install` and `import` refuse an unfit one
//! before anything is committed, with the reason, and the remedy works.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::fake::{MAIN, Site, fails, git, ok, quiet};

/// A kind of repository: the commands that make `x.git` beside the clone `work`, a part of the reason, and the commands
/// of the remedy. Without a remedy the repository must be made anew.
struct Row {
    kind: &'static str,
    make: &'static str,
    reason: &'static str,
    remedy: Option<&'static str>,
}

const fn row(kind: &'static str, make: &'static str, reason: &'static str, remedy: Option<&'static str>) -> Row {
    Row { kind, make, reason, remedy }
}

const ROWS: &[Row] = &[
    row("fit", "git clone -q --bare work x.git", "", Some("true")),
    row(
        "shallow",
        "git -C work commit -q --allow-empty -m two; git clone -q --bare --depth 1 file://$PWD/work x.git",
        "it is shallow",
        Some("git -C x.git fetch -q --unshallow"),
    ),
    row(
        "detached HEAD",
        "git clone -q --bare work x.git; git -C x.git update-ref --no-deref HEAD main",
        "HEAD is detached",
        Some("git -C x.git symbolic-ref HEAD refs/heads/main"),
    ),
    row(
        "HEAD with a bad name",
        "git clone -q --bare work x.git; git -C x.git symbolic-ref HEAD refs/x",
        "its HEAD names refs/x",
        Some("git -C x.git symbolic-ref HEAD refs/heads/main"),
    ),
    row(
        "partial clone",
        "git -C work config uploadpack.allowFilter true; git clone -q --bare --filter=blob:none file://$PWD/work x.git",
        "it is a partial clone",
        Some("rm -rf x.git; git clone -q --mirror file://$PWD/work x.git"),
    ),
    row(
        "promisor packs",
        "git clone -q --bare work x.git; git -C x.git repack -q -a -d; touch $(ls x.git/objects/pack/*.pack | \
         sed s/pack$/promisor/)",
        "it is a partial clone",
        Some("rm x.git/objects/pack/*.promisor"),
    ),
    row(
        "alternates",
        "git clone -q --bare --shared work x.git",
        "borrows objects from",
        Some("git -C x.git repack -q -a -d && rm x.git/objects/info/alternates"),
    ),
    row(
        "linked work trees",
        "git clone -q --bare work x.git; git -C x.git worktree add -q ../tree main",
        "work trees are linked to it (tree)",
        Some("git -C x.git worktree remove ../tree"),
    ),
    row(
        "a work tree",
        "git clone -q work y; ln -s y/.git x.git",
        "it has a work tree",
        Some("rm x.git; git clone -q --bare y x.git"),
    ),
    row("SHA-256", "git init -q --bare --object-format=sha256 x.git", "SHA-256", None),
    row(
        "reftable",
        "git clone -q --bare work x.git; git -C x.git config core.repositoryFormatVersion 1; \
         git -C x.git config extensions.refStorage reftable",
        "refs are not stored in files",
        None,
    ),
    row(
        "an unknown extension",
        "git clone -q --bare work x.git; git -C x.git config core.repositoryFormatVersion 1; \
         git -C x.git config extensions.compression zstd",
        "extensions.compression is not supported",
        None,
    ),
    row(
        "grafts",
        "git clone -q --bare work x.git; git -C x.git rev-parse HEAD > x.git/info/grafts",
        "parents of its commits are replaced",
        Some("git -C x.git replace --convert-graft-file"),
    ),
];

fn shell(folder: &Path, script: &str) -> Output {
    quiet(Command::new("sh"), folder).args(["-ec", script]).output().unwrap()
}

/// A site whose repository is `x.git`.
async fn site() -> Site {
    let mut site = Site::unserved();
    site.serve().await;
    site
}

fn x(site: &Site) -> PathBuf {
    site.folder.path().join("x.git")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_repository_is_refused_before_anything_is_committed_and_the_remedy_works() {
    for row in ROWS {
        let site = site().await;
        ok(shell(site.folder.path(), row.make));
        *site.fake.refdb.lock() = Some(std::collections::BTreeMap::new());
        let settings = || std::fs::read_to_string(x(&site).join("config")).unwrap();
        let before = settings();
        let install = || site.lockstep(&["hook", "install", "x.git", "--project", "x"]);
        let import = || site.lockstep(&["import", "x.git", "--project", "x"]);
        if !row.reason.is_empty() {
            for refused in [install(), import()] {
                let text = fails(refused);
                assert!(text.contains(row.reason), "{}: {text}", row.kind);
                assert!(text.contains(';'), "{}: no remedy in {text}", row.kind);
            }
            assert!(site.fake.projects.lock().is_empty(), "{}: the project was made", row.kind);
            assert_eq!(settings(), before, "{}", row.kind);
        }
        let Some(remedy) = row.remedy else { continue };
        ok(shell(site.folder.path(), remedy));
        let imported = import();
        let done = String::from_utf8_lossy(&imported.stdout).into_owned();
        assert!(done.contains("refs committed"), "{}: {imported:?}", row.kind);
        ok(install());
    }
}

/// A ref that does not fit is named, and the others go.
#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_does_not_fit_is_left_out_by_name_and_the_others_go() {
    let site = site().await;
    let make = "git clone -q --bare work x.git; cd x.git; git update-ref refs/stash main; \
                git symbolic-ref refs/heads/latest refs/heads/main; \
                git update-ref \"$(printf 'refs/heads/caf\\351')\" main; \
                git update-ref refs/heads/@ main; git update-ref refs/changes/01/2/3 main";
    for pack in ["true", "git -C x.git pack-refs --all"] {
        ok(shell(site.folder.path(), &format!("rm -rf x.git; ({make}); {pack}")));
        *site.fake.refdb.lock() = Some(std::collections::BTreeMap::new());
        let imported = site.lockstep(&["import", "x.git", "--project", "x"]);
        assert_eq!(imported.status.code(), Some(3));
        let done = String::from_utf8_lossy(&imported.stdout).into_owned();
        assert!(done.contains("4 refs committed"), "{done}");
        let text = fails(imported);
        for part in [
            "4 refs were not imported",
            "refs/stash: has fewer than three components",
            "refs/heads/latest: is a symbolic ref to refs/heads/main",
            "\"refs/heads/caf\\351\": is not UTF-8",
            "refs/changes/01/2/3: does not have the form",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!text.contains('\u{fffd}'), "{text}");
        let warned = site.lockstep(&["hook", "install", "x.git", "--project", "x"]);
        assert!(String::from_utf8_lossy(&warned.stderr).contains("this ref is not replicated: refs/heads/latest"));
        // The advice works, with the hooks in place.
        for advice in text.split('`').skip(1).step_by(2) {
            ok(shell(&x(&site), advice));
        }
        let again = ok(site.lockstep(&["import", "x.git"]));
        assert!(again.contains("0 refs committed, 4 were committed before"), "{again}");
        assert!(ok(git(&x(&site), &["for-each-ref"])).contains("refs/heads/@"));
    }
}

/// git would move the target. Lockstep does not replicate the alias, so the user reads where to push.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_symbolic_ref_is_refused_alone_and_says_where_to_push() {
    let site = site().await;
    ok(git(&site.bare(), &["symbolic-ref", "refs/heads/latest", MAIN]));
    let new = site.commit();
    let text = fails(site.push(&["main:latest", "main:fresh"]));
    assert!(text.contains("symbolic ref to refs/heads/main") && text.contains("push to refs/heads/main"), "{text}");
    assert_eq!(crate::fake::value(&site.bare(), "refs/heads/fresh"), Some(new));
}
