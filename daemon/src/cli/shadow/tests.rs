//! Tests of the comparison, over journals that are made here, and of the journal of a watch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::compare::{Comparison, Kind};
use super::journal::{Entries, Entry, Move, State};
use super::{Journal, Watch, compare, read, render};
use crate::base::base_paths::BasePaths;
use crate::base::clock::SystemClock;

const PATIENCE: u64 = 1_000;

fn journal(site: &str, entries: impl IntoIterator<Item = Entry>) -> Entries {
    let begins = |at_ms, continues| Entry::Begins {
        site: site.to_owned(),
        node: format!("{site}-0"),
        at_ms,
        every_ms: 10,
        continues,
    };
    let mut all = vec![begins(0, false)];
    all.extend(entries);
    all.push(begins(9_000, true));
    all.push(Entry::Looked { at_ms: 10_000 });
    Entries(all)
}

fn state(text: &str) -> State {
    State { refs: 1, digest: text.to_owned() }
}

/// Refs that moved in one look: name, old and new value; an empty one is none.
fn moved(at_ms: u64, steps: &[(&str, &str, &str)]) -> Entry {
    let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let one = |(name, old, new): &(&str, &str, &str)| Move {
        name: (*name).to_owned(),
        old: value(old),
        new: value(new),
        refused: None,
    };
    Entry::Moved { at_ms, project: "p".to_owned(), moves: steps.iter().map(one).collect(), state: state("end") }
}

fn kinds(comparison: &Comparison) -> Vec<(Kind, u64)> {
    comparison.counts.iter().map(|(kind, count)| (*kind, *count)).collect()
}

#[test]
fn moves_that_arrive_whole_and_in_order_are_no_finding_and_have_a_lag() {
    let a = journal("a", [moved(100, &[("x", "", "1"), ("y", "", "1")]), moved(500, &[("x", "1", "2")])]);
    let b = journal("b", [moved(160, &[("x", "", "1"), ("y", "", "1")]), moved(900, &[("x", "1", "2")])]);
    let comparison = compare(&[a, b], PATIENCE);
    assert_eq!(kinds(&comparison), []);
    let there = &comparison.ways[0];
    assert_eq!((there.from.as_str(), there.arrived, there.lost), ("a-0", 3, 0));
    assert_eq!((there.lag_p50_ms, there.lag_max_ms), (60, 400));
    assert_eq!((comparison.watches[0].proposals, comparison.watches[0].refs), (2, 3));
    assert_eq!((comparison.watches[1].proposals, comparison.ways[1].arrived), (0, 0), "nothing began at b");
    assert!(render(&comparison).contains("nothing differs from the moves that Lockstep would have made"));
}

#[test]
fn a_move_is_lost_passed_over_or_under_way() {
    let a = journal(
        "a",
        [
            moved(100, &[("lost", "", "1"), ("over", "", "1")]),
            moved(300, &[("over", "1", "2"), ("back", "1", "2")]),
            moved(400, &[("back", "2", "1")]),
            moved(9_800, &[("late", "", "1")]),
        ],
    );
    let b = journal("b", [moved(400, &[("over", "", "2")])]);
    let comparison = compare(&[a, b], PATIENCE);
    let there = &comparison.ways[0];
    assert_eq!((there.arrived, there.passed_over, there.under_way, there.lost), (1, 3, 1, 1), "{comparison:?}");
    let lost: Vec<&str> = comparison.findings.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(lost, ["lost"], "the other ref is back at the value that b has");
}

#[test]
fn another_order_and_refs_that_come_apart_are_found() {
    let a = journal("a", [moved(100, &[("x", "", "1"), ("y", "", "1")]), moved(200, &[("z", "", "1")])]);
    let b = journal("b", [moved(300, &[("z", "", "1")]), moved(400, &[("x", "", "1")]), moved(500, &[("y", "", "1")])]);
    let found = compare(&[a, b], PATIENCE);
    assert_eq!(kinds(&found), [(Kind::OrderOfProposals, 1), (Kind::NotTogether, 1)], "{found:?}");
    let a = journal("a", [moved(100, &[("x", "0", "1")]), moved(200, &[("x", "1", "2")])]);
    let b = journal("b", [moved(300, &[("x", "0", "2")]), moved(400, &[("x", "2", "1")])]);
    let found = compare(&[a, b], PATIENCE);
    assert!(kinds(&found).contains(&(Kind::OrderOfValues, 1)), "{found:?}");
}

#[test]
fn a_ref_that_two_sites_move_from_one_value_is_found_and_so_is_a_project_that_differs() {
    let a = journal("a", [moved(100, &[("x", "0", "1")])]);
    let mut b = journal("b", [moved(150, &[("x", "0", "2")])]);
    b.0.push(Entry::Project { at_ms: 10_000, project: "p".to_owned(), state: state("other") });
    let found = compare(&[a, b], PATIENCE);
    let kinds = kinds(&found);
    for kind in [Kind::BothMoved, Kind::ProjectDiffers] {
        assert!(kinds.contains(&(kind, 1)), "{found:?}");
    }
    assert!(render(&found).contains("  p x: 1 at a-0, 2 at b-0\n"), "{}", render(&found));
}

#[test]
fn nothing_from_before_all_watches_looked_is_compared() {
    let a = journal("a", [moved(100, &[("x", "", "1")]), moved(600, &[("y", "", "1")])]);
    let anew =
        Entry::Begins { site: "b".to_owned(), node: "b-0".to_owned(), at_ms: 500, every_ms: 10, continues: false };
    let b = journal("b", [moved(50, &[("w", "", "1")]), anew, moved(650, &[("y", "", "1")])]);
    let found = compare(&[a, b], PATIENCE);
    assert_eq!((found.from_ms, kinds(&found)), (500, vec![]), "{found:?}");
    assert_eq!(found.ways[0].arrived, 1);
}

#[test]
fn a_problem_outlives_the_older_half_of_the_journal_until_it_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let (root, journal) = (folder.path().join("git"), folder.path().join("journal"));
    let repository = root.join("p.git");
    for part in ["refs", "objects"] {
        std::fs::create_dir_all(repository.join(part)).unwrap();
    }
    for (name, text) in [("HEAD", "ref: refs/heads/main\n"), ("config", "[core]\n\tbare = true\n"), ("shallow", "1\n")]
    {
        std::fs::write(repository.join(name), text).unwrap();
    }
    // Every look but the first begins a new half.
    let halves = Journal::open(&journal, 2).unwrap();
    let names = ("a".to_owned(), "a-0".to_owned());
    let mut watch = Watch::new(names, BasePaths::at(&root), Duration::from_secs(1), Arc::new(SystemClock), halves);
    let mut look = || {
        watch.look(|| (BTreeSet::from(["p".parse().unwrap()]), Vec::new())).unwrap();
        let is_kept = read(&journal).unwrap().0.iter().any(|entry| matches!(entry, Entry::Problem { .. }));
        (watch.counts().problems, is_kept)
    };
    assert_eq!([look(), look(), look(), look()], [(1, true); 4]);
    std::fs::remove_file(repository.join("shallow")).unwrap();
    assert_eq!([look(), look()], [(0, true), (0, false)]);
}
