//! Sorts the ledger by ref, has each history judged, and judges batches as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::{self, Update};
use super::{Evidence, FinalRef, Judgement, Kind, MOST_SHOWN, Violation};
use crate::load::ledger::Ended;

const ABSENT: FinalRef = FinalRef { value: None, version: 0 };

/// Judges the histories of all refs that the ledger names.
pub(super) fn judge(evidence: &Evidence) -> Judgement {
    let mut histories: BTreeMap<(&str, &str), Vec<Update<'_>>> = BTreeMap::new();
    for (number, entry) in evidence.ledger.iter().enumerate().filter(|(_, entry)| entry.ended != Ended::Refused) {
        let is_sure = entry.ended == Ended::Committed;
        for one in &entry.moves {
            histories.entry((&entry.project, &one.name)).or_default().push(Update {
                entry: number,
                old: one.old.as_deref(),
                new: one.new.as_deref(),
                began_us: entry.began_us,
                ended_us: if is_sure { entry.ended_us } else { i64::MAX },
                is_sure,
            });
        }
    }
    let mut violations = Vec::new();
    let mut values: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    let mut effects: BTreeMap<usize, usize> = BTreeMap::new();
    for ((project, name), updates) in &histories {
        let end = evidence.refdb.get(*project).and_then(|refs| refs.get(*name)).unwrap_or(&ABSENT);
        let found = chain::judge(updates, end);
        let named = |(kind, text)| Violation::new(kind, format!("{project} {name}: {text}"));
        violations.extend(found.violations.into_iter().map(named));
        found.took_effect.into_iter().for_each(|entry| *effects.entry(entry).or_default() += 1);
        values.insert((project, name), found.values);
    }
    violations.extend(unnamed(evidence, &histories));
    violations.extend(torn(evidence, &effects));
    violations.extend(refused(evidence, &values));
    violations.truncate(MOST_SHOWN);
    let unknown = evidence.ledger.iter().filter(|entry| entry.ended == Ended::Unknown).count();
    Judgement {
        violations,
        requests: evidence.ledger.len() as u64,
        refs: histories.len() as u64,
        moves: histories.values().map(|updates| updates.len() as u64).sum(),
        unknown_committed: effects.len() as u64,
        unknown_absent: (unknown - effects.len()) as u64,
        repositories: 0,
    }
}

/// Refs of the refdb that no request named.
fn unnamed(evidence: &Evidence, histories: &BTreeMap<(&str, &str), Vec<Update<'_>>>) -> Vec<Violation> {
    let all = evidence.refdb.iter().flat_map(|(project, refs)| refs.iter().map(move |one| (project, one)));
    let live = all.filter(|(_, (_, end))| end.value.is_some());
    let foreign = live.filter(|(project, (name, _))| !histories.contains_key(&(project.as_str(), name.as_str())));
    let named = |(project, (name, _)): (&String, (&String, &FinalRef))| {
        Violation::new(Kind::Foreign, format!("{project} {name}: the refdb has it, and no request wrote it"))
    };
    foreign.map(named).collect()
}

/// Batches of unknown outcome of which only some refs moved.
fn torn(evidence: &Evidence, effects: &BTreeMap<usize, usize>) -> Vec<Violation> {
    let partly = effects.iter().filter(|(entry, count)| **count != evidence.ledger[**entry].moves.len());
    let text = |(entry, count): (&usize, &usize)| {
        let entry = &evidence.ledger[*entry];
        let text = format!("{} {}: {count} of {} refs moved", entry.project, entry.request, entry.moves.len());
        Violation::new(Kind::Torn, text)
    };
    partly.map(text).collect()
}

/// Refused values that are in a history, or are the last value of a ref.
fn refused(evidence: &Evidence, values: &BTreeMap<(&str, &str), BTreeSet<String>>) -> Vec<Violation> {
    let mut found = Vec::new();
    for entry in evidence.ledger.iter().filter(|entry| entry.ended == Ended::Refused) {
        for one in &entry.moves {
            let Some(new) = &one.new else { continue };
            let end = evidence.refdb.get(&entry.project).and_then(|refs| refs.get(&one.name));
            let is_last = end.is_some_and(|end| end.value.as_ref() == Some(new));
            let history = values.get(&(entry.project.as_str(), one.name.as_str()));
            if is_last || history.is_some_and(|history| history.contains(new)) {
                let text = format!("{} {}: {new} was refused ({})", entry.project, one.name, entry.request);
                found.push(Violation::new(Kind::RefusedAndApplied, text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ledger::{Entry, Move};

    fn entry(request: &str, ended: Ended, moves: &[(&str, Option<&str>, Option<&str>)]) -> Entry {
        let owned = |value: &Option<&str>| value.map(str::to_owned);
        let one = |(name, old, new): &(&str, Option<&str>, Option<&str>)| Move {
            name: (*name).to_owned(),
            old: owned(old),
            new: owned(new),
        };
        Entry {
            request: request.to_owned(),
            class: None,
            site: 0,
            project: "p".to_owned(),
            git: false,
            began_us: 0,
            ended_us: 10,
            ended,
            txn: None,
            why: None,
            moves: moves.iter().map(one).collect(),
        }
    }

    fn evidence(ledger: Vec<Entry>, refs: &[(&str, &str, u64)]) -> Evidence {
        let end = |(name, value, version): &(&str, &str, u64)| {
            ((*name).to_owned(), FinalRef { value: Some((*value).to_owned()), version: *version })
        };
        let refdb = BTreeMap::from([("p".to_owned(), refs.iter().map(end).collect())]);
        Evidence { ledger, refdb, ..Evidence::default() }
    }

    fn kinds(evidence: &Evidence) -> Vec<Kind> {
        judge(evidence).violations.into_iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn a_batch_that_is_there_in_part_is_found() {
        let moves = [("a", None, Some("1")), ("b", None, Some("2"))];
        let both = [("a", "1", 1), ("b", "2", 1)];
        let unknown = || vec![entry("r", Ended::Unknown, &moves)];
        assert_eq!(kinds(&evidence(unknown(), &both)), []);
        assert_eq!(kinds(&evidence(unknown(), &[])), []);
        assert_eq!(kinds(&evidence(unknown(), &both[..1])), [Kind::Torn]);
        let judgement = judge(&evidence(unknown(), &both));
        assert_eq!((judgement.unknown_committed, judgement.unknown_absent, judgement.refs), (1, 0, 2));
    }

    #[test]
    fn a_refused_update_that_was_applied_is_found() {
        let first = entry("r", Ended::Committed, &[("a", None, Some("1"))]);
        let second = entry("s", Ended::Refused, &[("a", None, Some("2"))]);
        assert_eq!(kinds(&evidence(vec![first.clone(), second.clone()], &[("a", "1", 1)])), []);
        assert!(kinds(&evidence(vec![first, second], &[("a", "2", 2)])).contains(&Kind::RefusedAndApplied));
    }

    #[test]
    fn a_ref_that_no_request_wrote_is_found() {
        assert_eq!(kinds(&evidence(Vec::new(), &[("a", "1", 1)])), [Kind::Foreign]);
    }
}
