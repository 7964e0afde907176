//! The load test itself: the profile `smoke` against real sidecars, and then the oracle, which must find each kind of
//! violation that is planted into the finished run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lockstep_loadtest::load::ledger::{Ended, Entry, Move, read, write};
use lockstep_loadtest::load::oracle::Kind;
use lockstep_loadtest::load::results::{Report, Verdict};
use serde_json::Value;
use tempfile::TempDir;

fn loadtest(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep-loadtest"));
    // The sites are started below this folder, so that they go with it.
    command.env("TMPDIR", home).current_dir(home).args(args).output().expect("the load test runs")
}

/// A finished run, whose sites are kept.
struct Finished {
    home: TempDir,
    out: PathBuf,
}

impl Finished {
    fn run() -> (Self, Report) {
        let home = tempfile::tempdir().expect("a folder");
        let out = home.path().join("out");
        let (sidecar, folder) = (env!("CARGO_BIN_EXE_lockstep-for-loadtest"), out.display().to_string());
        // Beside other tests everything may take long, and no client gives up for that.
        let patient = ["--set", "run.give_up_s=240", "--set", "run.settle_s=240"];
        let args = ["run", "smoke", "--lockstep", sidecar, "--out", &folder, "--keep"];
        let output = loadtest(home.path(), &[&args[..], &patient[..]].concat());
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // On a machine with other work the generator may be late. That voids the figures, and not the judgement.
        assert!(matches!(output.status.code(), Some(0 | 4)), "{:?}\n{said}", output.status);
        let report = fs::read(out.join("report.json")).expect("a report");
        (Self { home, out }, serde_json::from_slice(&report).expect("a report"))
    }

    fn ledger(&self) -> Vec<Entry> {
        read(&self.out.join("ledger.jsonl")).expect("a ledger")
    }

    fn evidence(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out.join("evidence.json")).expect("evidence")).expect("evidence")
    }

    fn repository(&self, site: usize, project: &str) -> PathBuf {
        let root = self.evidence()["places"][site]["root"].as_str().expect("a root").to_owned();
        Path::new(&root).join(format!("{project}.git"))
    }

    /// The violations that the oracle finds now.
    fn found(&self) -> Vec<Kind> {
        let output = loadtest(self.home.path(), &["check", &self.out.display().to_string()]);
        let judgement: Value = serde_json::from_slice(&output.stdout).expect("a judgement");
        let kinds = judgement["violations"].as_array().expect("violations").iter();
        let kinds: Vec<Kind> = kinds.map(|one| serde_json::from_value(one["kind"].clone()).expect("a kind")).collect();
        assert_eq!(output.status.code(), Some(if kinds.is_empty() { 0 } else { 3 }));
        kinds
    }

    /// The violations with another ledger.
    fn found_with(&self, ledger: &[Entry]) -> Vec<Kind> {
        let (path, before) = (self.out.join("ledger.jsonl"), self.ledger());
        write(&path, ledger).expect("the ledger is written");
        let found = self.found();
        write(&path, &before).expect("the ledger is written");
        found
    }
}

fn git(repository: &Path, args: &[&str]) -> String {
    let mut command = lockstep_loadtest::load::git::command(repository);
    let output = command.args(["-c", "core.hooksPath=/dev/null"]).args(args).output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The index of the last committed entry that changed one ref which existed before, and of the one before it.
fn neighbours(ledger: &[Entry]) -> (usize, usize) {
    for (last, entry) in ledger.iter().enumerate().rev().filter(|(_, entry)| entry.ended == Ended::Committed) {
        let [only] = entry.moves.as_slice() else { continue };
        let Some(old) = &only.old else { continue };
        let wrote = |other: &Entry| {
            other.ended == Ended::Committed
                && other.moves.len() == 1
                && other.project == entry.project
                && other.moves.iter().any(|one| one.name == only.name && one.new.as_ref() == Some(old))
        };
        if let (Some(_), Some(first)) = (&only.new, ledger.iter().position(wrote)) {
            return (first, last);
        }
    }
    panic!("no ref moved twice");
}

fn a_plain_run_is_whole(report: &Report) {
    assert!(report.oracle.is_clean(), "{:?}", report.oracle.violations);
    assert_ne!(report.verdict, Verdict::Failed);
    assert!(report.settled_after_s.is_some());
    for class in ["push_patch_set", "ci_vote", "comment", "draft", "bot_bump", "release_tag", "mass_rebase"] {
        let stats = report.classes.get(class).unwrap_or_else(|| panic!("no {class}"));
        assert!(stats.done > 0, "{class}: {stats:?}");
        assert_eq!(stats.latency.count, stats.done);
    }
    let refused: u64 = report.total.refused.values().sum();
    let ended = report.total.done + refused + report.total.unknown + report.total.dropped;
    assert_eq!(report.total.offered, ended, "{:?}", report.total);
    assert!(report.total.refs > report.total.done / 2);
    assert_eq!(report.faults.len(), 1);
    for site in &report.sites {
        assert!(site.lag.count > 0, "{site:?}");
    }
    assert_eq!(report.processes.len(), 6, "{:?}", report.processes.iter().map(|one| &one.name).collect::<Vec<_>>());
    assert!(report.calls["transactions committed"] > 0.0 && report.calls["appends to streams"] > 0.0);
    assert!(report.stages.iter().any(|stage| stage.name.starts_with("lockstep_commit_seconds")));
    let cost = report.cost.as_ref().expect("transactions were committed");
    // A commit takes two units for each ref, and more for its slot.
    assert!(cost.lines[0].per_transaction > 4.0 && cost.lines[2].count > cost.transactions / 2.0, "{cost:?}");
    assert_eq!((cost.dollars, report.growth.len()), (None, 3), "no price is made up");
    let disk = |name: &str| report.processes.iter().find(|one| one.name.starts_with(name)).and_then(|one| one.disk(0));
    assert!(disk("generator").is_none());
    if fs::read("/proc/self/io").is_ok() {
        assert!(disk("sidecar").is_some());
    } else {
        eprintln!("bytes on the disk: NOT RUN: /proc/self/io cannot be read");
    }
}

fn violations_in_the_sites_are_found(run: &Finished, ledger: &[Entry]) {
    let has_changes = |entry: &Entry| ledger.iter().any(|one| one.project == entry.project && one.moves.len() > 1);
    let first = ledger.iter().position(|one| one.class.is_none() && one.moves.len() == 1 && has_changes(one));
    let first = first.expect("the preparation");
    let project = ledger[first].project.clone();
    let repository = run.repository(1, &project);
    let value = git(&repository, &["rev-parse", "refs/heads/main"]);
    let meta = git(&repository, &["for-each-ref", "--count=1", "--format=%(objectname)", "refs/changes"]);
    git(&repository, &["update-ref", "refs/heads/main", &meta]);
    assert_eq!(run.found(), [Kind::SitesDiffer]);
    git(&repository, &["update-ref", "-d", "refs/heads/main"]);
    assert_eq!(run.found(), [Kind::SitesDiffer]);
    git(&repository, &["update-ref", "refs/heads/main", &value]);
    git(&repository, &["update-ref", "refs/heads/foreign", &value]);
    assert_eq!(run.found(), [Kind::SitesDiffer]);
    git(&repository, &["update-ref", "-d", "refs/heads/foreign"]);
    assert_eq!(run.found(), []);

    // The preparation wrote its objects at the first site, one file each. All later values of `main` reach them.
    let repository = run.repository(0, &project);
    let value = ledger[first].moves[0].new.as_deref().expect("a value");
    let (object, away) = (repository.join("objects").join(&value[..2]).join(&value[2..]), repository.join("away"));
    fs::rename(&object, &away).expect("the object is moved away");
    assert!(run.found().contains(&Kind::Damaged));
    fs::rename(&away, &object).expect("the object is put back");
    assert_eq!(run.found(), []);
}

fn violations_in_the_histories_are_found(run: &Finished, ledger: &[Entry]) {
    let (first, last) = neighbours(ledger);
    let other = |value: &str| Some(value.chars().rev().collect::<String>());

    let mut lost = ledger[last].clone();
    lost.moves[0].old.clone_from(&ledger[last].moves[0].new);
    lost.moves[0].new = other(ledger[last].moves[0].new.as_deref().expect("a value"));
    assert!(run.found_with(&[ledger, &[lost]].concat()).contains(&Kind::Lost));

    let mut fork = ledger[last].clone();
    fork.moves[0].new = other(ledger[last].moves[0].new.as_deref().expect("a value"));
    assert!(run.found_with(&[ledger, &[fork]].concat()).contains(&Kind::Forked));

    assert!(run.found_with(&[ledger, &[ledger[last].clone()]].concat()).contains(&Kind::AppliedTwice));

    let mut refused = ledger.to_vec();
    refused[last].ended = Ended::Refused;
    assert!(run.found_with(&refused).contains(&Kind::RefusedAndApplied));

    let mut foreign = ledger.to_vec();
    foreign.remove(first);
    assert!(run.found_with(&foreign).contains(&Kind::Foreign));

    let mut torn = ledger.to_vec();
    torn[last].ended = Ended::Unknown;
    let absent = Move { name: "refs/heads/never".to_owned(), old: None, new: other("1234567890") };
    torn[last].moves.push(absent);
    assert_eq!(run.found_with(&torn), [Kind::Torn]);

    let mut order = ledger.to_vec();
    order[first].began_us = order[last].ended_us + 1;
    order[first].ended_us = order[last].ended_us + 2;
    let found = run.found_with(&order);
    assert!(!found.is_empty() && found.iter().all(|kind| *kind == Kind::OutOfOrder), "{found:?}");
}

fn a_difference_that_a_node_found_in_itself_is_found(run: &Finished) {
    let path = run.out.join("evidence.json");
    let before = fs::read(&path).expect("evidence");
    let mut evidence = run.evidence();
    evidence["verify"] = serde_json::json!(["site-a: project refs/heads/main: the disk has another value"]);
    fs::write(&path, evidence.to_string()).expect("the evidence is written");
    assert_eq!(run.found(), [Kind::VerifyFailed]);
    fs::write(&path, before).expect("the evidence is written");
}

fn a_second_application_in_the_refdb_is_found(run: &Finished, ledger: &[Entry]) {
    let (_, last) = neighbours(ledger);
    let (entry, path) = (&ledger[last], run.out.join("evidence.json"));
    let before = fs::read(&path).expect("evidence");
    let mut evidence = run.evidence();
    let version = &mut evidence["refdb"][&entry.project][&entry.moves[0].name]["version"];
    *version = (version.as_u64().expect("a version") + 1).into();
    fs::write(&path, evidence.to_string()).expect("the evidence is written");
    assert_eq!(run.found(), [Kind::AppliedTwice]);
    fs::write(&path, before).expect("the evidence is written");
    assert_eq!(run.found(), []);
}

#[test]
fn a_run_ends_with_a_clean_judgement_and_each_planted_violation_is_found() {
    let (run, report) = Finished::run();
    a_plain_run_is_whole(&report);
    let page = fs::read_to_string(run.out.join("report.html")).expect("a page");
    assert!(page.matches("<figure").count() == 8 && !page.contains("<script") && !page.contains("http"), "{page}");
    assert!(fs::read_to_string(run.out.join("latency.hlog")).expect("a log").contains("Tag=ci_vote"));
    assert_eq!(run.found(), []);
    let ledger = run.ledger();
    violations_in_the_sites_are_found(&run, &ledger);
    violations_in_the_histories_are_found(&run, &ledger);
    a_difference_that_a_node_found_in_itself_is_found(&run);
    a_second_application_in_the_refdb_is_found(&run, &ledger);
}

#[test]
fn wrong_arguments_are_named_and_end_with_their_code() {
    let home = tempfile::tempdir().expect("a folder");
    let said = |args: &[&str]| {
        let output = loadtest(home.path(), args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = said(&["run", "smoke", "--set", "run.seconds=0", "--lockstep", "none"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("run.seconds = 0: it must be from 1 to 172800 seconds"), "{text}");
    let (code, text) = said(&["run", "smoky", "--lockstep", "none"]);
    assert!(code == Some(2) && text.contains("it is neither a file nor one of smoke, 100k"), "{text}");
    let estate = home.path().join("estate.toml");
    fs::write(
        &estate,
        "sites = [{ name = \"a\", socket = \"/s\", root = \"/r\" }]\n[refdb]\nprefix = \"x\"\nregion = \"r\"\n",
    )
    .expect("a file");
    let (code, text) = said(&["run", "smoke", "--estate", &estate.display().to_string()]);
    assert!(code == Some(1) && text.contains("is no loopback address and is not in `allow`"), "{text}");
    let (code, text) = said(&["run", "smoke", "--lockstep", "no-such-program", "--out", "out"]);
    assert!(code == Some(1) && text.contains("no-such-program"), "{text}");
}
