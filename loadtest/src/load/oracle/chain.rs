//! The history of one ref: a register with compare-and-set. Every value is written once at most, so the order of the
//! updates follows from the values: each names the value that it replaced.
//!
//! The history is right if every acknowledged update is on one path from absence to the value in the refdb, if the
//! version of the refdb is the length of the path, and if the path contradicts no client: an update that was answered
//! before another one began comes before it. That is linearizability of the register. Updates of unknown outcome may be
//! on the path; they are exactly where the values need them.

use std::collections::{BTreeMap, BTreeSet};

use super::{FinalRef, Kind};

/// An update that may have moved the ref.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update<'a> {
    /// The index of its request in the ledger.
    pub entry: usize,
    pub old: Option<&'a str>,
    pub new: Option<&'a str>,
    pub began_us: i64,
    /// When the answer came. `i64::MAX` if none came.
    pub ended_us: i64,
    /// Whether the client was told that it is committed.
    pub is_sure: bool,
}

/// The findings about one ref.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The violations, without the name of the ref.
    pub violations: Vec<(Kind, String)>,
    /// The requests of unknown outcome that are on the path.
    pub took_effect: BTreeSet<usize>,
    /// Every value that the path has.
    pub values: BTreeSet<String>,
}

/// Judges the history of one ref. The updates are in no particular order.
pub(super) fn judge(updates: &[Update<'_>], end: &FinalRef) -> Found {
    let mut found = Found::default();
    let used = used(updates, end);
    let (mut written, mut replaced) = (BTreeMap::new(), BTreeMap::new());
    for update in &used {
        if let Some(new) = update.new
            && written.insert(new, *update).is_some()
        {
            found.violations.push((Kind::AppliedTwice, format!("{new} was committed twice")));
        }
        if let Some(old) = update.old
            && replaced.insert(old, *update).is_some()
        {
            found.violations.push((Kind::Forked, format!("two acknowledged updates replaced {old}")));
        }
    }
    let last = end.value.as_deref();
    for new in written.keys().filter(|new| !replaced.contains_key(**new) && Some(**new) != last) {
        let shown = last.unwrap_or("absent");
        found.violations.push((Kind::Lost, format!("{new} was committed, and the refdb ends with {shown} without it")));
    }
    for old in replaced.keys().filter(|old| !written.contains_key(**old)) {
        found.violations.push((Kind::Foreign, format!("{old} was replaced, and no request wrote it")));
    }
    if let Some(last) = last {
        if !written.contains_key(last) {
            found.violations.push((Kind::Foreign, format!("the refdb has {last}, and no request wrote it")));
        }
        if replaced.contains_key(last) {
            found
                .violations
                .push((Kind::Lost, format!("the refdb has {last}, and an update that replaced it is gone")));
        }
    }
    count(&used, end, &mut found);
    order(&used, &mut found);
    found.took_effect = used.iter().filter(|update| !update.is_sure).map(|update| update.entry).collect();
    found.values = written.keys().chain(replaced.keys()).map(|value| (*value).to_owned()).collect();
    found
}

/// The updates that took effect: the acknowledged ones, and those of unknown outcome whose value was seen.
fn used<'a>(updates: &[Update<'a>], end: &FinalRef) -> Vec<Update<'a>> {
    let (mut used, mut open): (Vec<_>, Vec<_>) = updates.iter().copied().partition(|update| update.is_sure);
    loop {
        let seen: BTreeSet<&str> = used.iter().filter_map(|update| update.old).collect();
        let is_seen = |value: &str| seen.contains(value) || end.value.as_deref() == Some(value);
        let (more, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|update| update.new.is_some_and(is_seen));
        open = rest;
        if more.is_empty() {
            break;
        }
        used.extend(more);
    }
    // A deletion of unknown outcome took effect if nothing else explains the end of the value.
    for update in open.into_iter().filter(|update| update.new.is_none()) {
        let Some(old) = update.old else { continue };
        let is_written = used.iter().any(|other| other.new == Some(old));
        let is_replaced = used.iter().any(|other| other.old == Some(old));
        if is_written && !is_replaced && end.value.as_deref() != Some(old) {
            used.push(update);
        }
    }
    used
}

/// The version of the refdb is the number of updates, and creations and deletions take turns.
fn count(used: &[Update<'_>], end: &FinalRef, found: &mut Found) {
    let created = used.iter().filter(|update| update.old.is_none()).count();
    let deleted = used.iter().filter(|update| update.new.is_none()).count();
    let wanted = deleted + usize::from(end.value.is_some());
    // A creation without its end is a lost update, which is found above.
    let unended = usize::from(end.value.is_none());
    if created > wanted + unended {
        found.violations.push((Kind::Forked, format!("it was created {created} times and deleted {deleted} times")));
    }
    if created < wanted {
        let text = format!("it was deleted {deleted} times and created {created} times, and ends as {:?}", end.value);
        found.violations.push((Kind::Lost, text));
    }
    let updates = used.len() as u64;
    if end.version > updates {
        let text = format!("the refdb counts {} moves, and {updates} were made", end.version);
        found.violations.push((Kind::AppliedTwice, text));
    }
    if end.version < updates {
        let text = format!("the refdb counts {} moves, and {updates} were acknowledged", end.version);
        found.violations.push((Kind::Lost, text));
    }
}

/// Real time: no update precedes one that was answered before it began.
fn order(used: &[Update<'_>], found: &mut Found) {
    let by_old: BTreeMap<&str, &Update<'_>> = used.iter().filter_map(|one| Some((one.old?, one))).collect();
    // From each creation to its deletion, the values give the order.
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for first in used.iter().filter(|update| update.old.is_none()) {
        let (mut at, mut latest, mut earliest, mut steps) = (Some(first), i64::MIN, i64::MAX, 0);
        while let Some(update) = at.filter(|_| steps <= used.len()) {
            if update.ended_us < latest {
                let value = update.new.unwrap_or("the deletion");
                let text = format!("{value} comes after an update that began when it had been answered");
                found.violations.push((Kind::OutOfOrder, text));
            }
            latest = latest.max(update.began_us);
            earliest = earliest.min(update.ended_us);
            steps += 1;
            at = update.new.and_then(|new| by_old.get(new).copied());
        }
        spans.push((earliest, latest));
    }
    // Two lives of the ref overlap if each has an update that was answered before one of the other began.
    spans.sort_unstable();
    for (at, one) in spans.iter().enumerate() {
        let later = spans[at + 1..].iter().take_while(|other| other.0 < one.1);
        for _ in later.filter(|other| one.0 < other.1) {
            found.violations.push((Kind::OutOfOrder, "two lives of the ref overlap in time".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An update from `old` to `new` in the time from `began` to `ended`. `-` is absence.
    fn update(old: &'static str, new: &'static str, began_us: i64, ended_us: i64) -> Update<'static> {
        let value = |text: &'static str| (text != "-").then_some(text);
        Update { entry: 0, old: value(old), new: value(new), began_us, ended_us, is_sure: true }
    }

    fn unsure(old: &'static str, new: &'static str, began_us: i64) -> Update<'static> {
        Update { is_sure: false, ..update(old, new, began_us, i64::MAX) }
    }

    fn kinds(updates: &[Update<'_>], value: &str, version: u64) -> Vec<Kind> {
        let end = FinalRef { value: (value != "-").then(|| value.to_owned()), version };
        let mut kinds: Vec<Kind> = judge(updates, &end).violations.into_iter().map(|(kind, _)| kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    #[test]
    fn a_chain_of_updates_is_right() {
        let life = [update("-", "a", 0, 1), update("a", "b", 2, 3), update("b", "-", 4, 5), update("-", "c", 4, 9)];
        assert_eq!(kinds(&life, "c", 4), []);
        assert_eq!(kinds(&life[..3], "-", 3), []);
        assert_eq!(kinds(&[], "-", 0), []);
    }

    #[test]
    fn an_update_of_unknown_outcome_may_be_there_or_not() {
        let chain = [update("-", "a", 0, 1), unsure("a", "b", 2)];
        assert_eq!(kinds(&chain, "a", 1), []);
        assert_eq!(kinds(&chain, "b", 2), []);
        assert_eq!(kinds(&[chain[0], chain[1], update("b", "c", 5, 6)], "c", 3), []);
        assert_eq!(kinds(&[chain[0], unsure("a", "-", 2)], "-", 2), []);
        assert_eq!(kinds(&[chain[0], unsure("a", "-", 2)], "a", 1), []);
    }

    #[test]
    fn a_lost_update_is_found() {
        let chain = [update("-", "a", 0, 1), update("a", "b", 2, 3)];
        assert_eq!(kinds(&chain, "a", 1), [Kind::Lost]);
        assert_eq!(kinds(&chain, "-", 0), [Kind::Lost]);
        assert_eq!(kinds(&chain, "b", 1), [Kind::Lost]);
    }

    #[test]
    fn an_update_that_was_applied_twice_is_found() {
        let chain = [update("-", "a", 0, 1), update("a", "b", 2, 3)];
        assert_eq!(kinds(&chain, "b", 3), [Kind::AppliedTwice]);
        let again = [chain[0], chain[1], update("b", "a", 4, 5)];
        assert!(kinds(&again, "a", 3).contains(&Kind::AppliedTwice));
    }

    #[test]
    fn a_fork_is_found() {
        let fork = [update("-", "a", 0, 1), update("a", "b", 2, 3), update("a", "c", 2, 3)];
        assert!(kinds(&fork, "c", 3).contains(&Kind::Forked));
        assert!(kinds(&[update("-", "a", 0, 1), update("-", "b", 0, 1)], "b", 2).contains(&Kind::Forked));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        assert!(kinds(&[update("-", "a", 0, 1)], "x", 1).contains(&Kind::Foreign));
        assert!(kinds(&[update("-", "a", 0, 1), update("x", "b", 2, 3)], "b", 2).contains(&Kind::Foreign));
    }

    #[test]
    fn an_order_that_no_client_saw_is_found() {
        assert_eq!(kinds(&[update("-", "a", 5, 6), update("a", "b", 2, 3)], "b", 2), [Kind::OutOfOrder]);
        let lives = [update("-", "a", 0, 1), update("a", "-", 8, 9), update("-", "b", 3, 4), update("b", "-", 5, 6)];
        assert_eq!(kinds(&lives, "-", 4), [Kind::OutOfOrder]);
    }
}
