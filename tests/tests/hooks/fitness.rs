//! The fitness of a repository, row by row of `docs/git-servers.md`: `hook install` and `import` refuse an unfit one
//! before anything is committed, with the reason, and the remedy works.

use std::path::PathBuf;

use lockstep_tests::unfit;

use crate::fake::{MAIN, Site, fails, git, ok};

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
    for kind in unfit::kinds() {
        let (site, outside) = (site().await, tempfile::tempdir().unwrap());
        let run = |script: &str| ok(unfit::run(site.folder.path(), outside.path(), script));
        run(kind.make);
        *site.fake.refdb.lock() = Some(std::collections::BTreeMap::new());
        let settings = || std::fs::read_to_string(x(&site).join("config")).unwrap();
        let before = settings();
        let install = || site.lockstep(&["hook", "install", "x.git", "--project", "x"]);
        let import = || site.lockstep(&["import", "x.git", "--project", "x"]);
        if !kind.reason.is_empty() {
            for refused in [install(), import()] {
                let text = fails(refused);
                assert!(text.contains(kind.reason), "{}: {text}", kind.name);
                assert!(text.contains(';'), "{}: no remedy in {text}", kind.name);
                assert!(!text.contains("refs/heads/.invalid"), "{}: reftable's own HEAD: {text}", kind.name);
            }
            assert!(site.fake.projects.lock().is_empty(), "{}: the project was made", kind.name);
            assert_eq!(settings(), before, "{}", kind.name);
        }
        let Some(remedy) = kind.remedy else { continue };
        run(remedy);
        let imported = import();
        let done = String::from_utf8_lossy(&imported.stdout).into_owned();
        assert!(done.contains("refs committed"), "{}: {imported:?}", kind.name);
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
                git update-ref refs/heads/@ main; git update-ref refs/changes/01/2/3 main; \
                git update-ref refs/heads$(printf '/abcdefg%.0s' $(seq 95)) main";
    let folder = site.folder.path();
    for pack in ["true", "git -C x.git pack-refs --all"] {
        ok(unfit::run(folder, folder, &format!("rm -rf x.git; ({make}); {pack}")));
        *site.fake.refdb.lock() = Some(std::collections::BTreeMap::new());
        let imported = site.lockstep(&["import", "x.git", "--project", "x"]);
        assert_eq!(imported.status.code(), Some(3));
        let done = String::from_utf8_lossy(&imported.stdout).into_owned();
        assert!(done.contains("4 refs committed"), "{done}");
        let text = fails(imported);
        for part in [
            "5 refs were not imported",
            "refs/stash: has fewer than three components",
            "refs/heads/latest: is a symbolic ref to refs/heads/main",
            "\"refs/heads/caf\\351\": is not UTF-8",
            "refs/changes/01/2/3: does not have the form",
            "/abcdefg: is longer than 768 bytes",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!text.contains('\u{fffd}'), "{text}");
        let warned = site.lockstep(&["hook", "install", "x.git", "--project", "x"]);
        assert!(String::from_utf8_lossy(&warned.stderr).contains("this ref is not replicated: refs/heads/latest"));
        // The advice works, with the hooks in place.
        for advice in text.split('`').skip(1).step_by(2) {
            ok(unfit::run(&x(&site), folder, advice));
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
