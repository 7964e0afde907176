//! Compares the journals of sites: a pure function.
//!
//! The site that shows a value first is its origin. For each other site the comparison tells when the value arrived, or
//! that it never did. Times are those of the sites' clocks, and as exact as the pause between two looks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::journal::{Entries, Entry, State};

/// The most findings of each kind that are kept.
const MOST: usize = 200;

/// The comparison of the journals of some sites.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// The time from which all watches look, in milliseconds since 1970. Nothing before it is compared.
    pub from_ms: u64,
    /// The watches, with the moves that began at each.
    pub watches: Vec<Watched>,
    /// The fate of each origin's moves at each other site.
    pub ways: Vec<Way>,
    /// Deviations from Lockstep, the first ones of each kind.
    pub findings: Vec<Finding>,
    /// The number of findings of each kind.
    pub counts: BTreeMap<Kind, u64>,
}

/// A watch, and the moves that began at its site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// The node whose repositories were watched.
    pub node: String,
    /// The site of that node.
    pub site: String,
    /// When it began, in milliseconds since 1970.
    pub from_ms: u64,
    /// Its last entry, in milliseconds since 1970.
    pub to_ms: u64,
    /// Projects at the end.
    pub projects: u64,
    /// Moves of refs whose origin it is, by proposals: Lockstep would have committed them here.
    pub proposals: u64,
    /// The refs in them.
    pub refs: u64,
    /// The repositories and refs that Lockstep would not take.
    pub problems: Vec<String>,
}

/// The fate of the moves of one origin at another site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The node of the origin.
    pub from: String,
    /// The node at which the moves should arrive.
    pub to: String,
    /// The number of moves that arrived.
    pub arrived: u64,
    /// Moves that did not arrive, because a later value of the ref did.
    pub passed_over: u64,
    /// Moves that may be on their way.
    pub under_way: u64,
    /// Moves that never arrived.
    pub lost: u64,
    /// The lag of those that arrived, in milliseconds: the median.
    pub lag_p50_ms: u64,
    /// The same, for 99 of 100.
    pub lag_p99_ms: u64,
    /// The longest lag of a move that arrived, in milliseconds.
    pub lag_max_ms: u64,
}

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A move never arrived at a site.
    NeverArrived,
    /// Two sites moved a ref from the same value to two values. Lockstep would have refused one of them.
    BothMoved,
    /// The values of a ref came in another order.
    OrderOfValues,
    /// The proposals of an origin came in another order.
    OrderOfProposals,
    /// The refs of a proposal did not come together.
    NotTogether,
    /// Lockstep would have refused the name of the ref.
    NameRefused,
    /// The refs of a project differ at the end.
    ProjectDiffers,
}

/// Something that is not as Lockstep would have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of the deviation.
    pub kind: Kind,
    /// The name of the project.
    pub project: String,
    /// The ref, if it is about one.
    pub name: String,
    /// The details, for people.
    pub what: String,
}

/// One move of a ref, in the journal of one watch.
#[derive(Clone, Debug)]
struct Step {
    at_ms: u64,
    /// The number of the entry in the journal.
    entry: usize,
    old: Option<String>,
    new: Option<String>,
}

type Key = (String, String);

/// A journal, from the last time on that its watch began anew.
#[derive(Default)]
struct Seen {
    watched: Watched,
    steps: BTreeMap<Key, Vec<Step>>,
    states: BTreeMap<String, State>,
    /// The refs of each entry.
    entries: BTreeMap<usize, (String, Vec<Key>)>,
    refused: BTreeMap<Key, String>,
}

/// Compares journals. A move that is younger than `patience_ms` at the end of a journal may still arrive there.
#[must_use]
pub fn compare(journals: &[Entries], patience_ms: u64) -> Comparison {
    let mut all: Vec<Seen> = journals.iter().map(seen).collect();
    let from_ms = all.iter().map(|one| one.watched.from_ms).max().unwrap_or(0);
    for one in &mut all {
        one.steps.values_mut().for_each(|steps| steps.retain(|step| step.at_ms >= from_ms));
        one.steps.retain(|_, steps| !steps.is_empty());
    }
    let mut found = Found::default();
    let origins: Vec<BTreeMap<Key, Vec<usize>>> = (0..all.len()).map(|at| own_steps(&all, at)).collect();
    let mut ways = Vec::new();
    for (at, own) in origins.iter().enumerate() {
        let one = &mut all[at];
        let mut entries = BTreeSet::new();
        own.iter().for_each(|(key, steps)| entries.extend(steps.iter().map(|&step| one.steps[key][step].entry)));
        one.watched.proposals = entries.len() as u64;
        one.watched.refs = own.values().map(|steps| steps.len() as u64).sum();
        for (key, why) in &all[at].refused {
            found.put(Kind::NameRefused, key, why.clone());
        }
        for to in (0..all.len()).filter(|to| *to != at) {
            ways.push(way((&all[at], own), &all[to], patience_ms, &mut found));
        }
    }
    for at in 0..all.len() {
        for other in at + 1..all.len() {
            both_moved((&all[at], &origins[at]), (&all[other], &origins[other]), &mut found);
            order_of_values(&all[at], &all[other], &mut found);
            states(&all[at], &all[other], patience_ms, &mut found);
        }
    }
    let watches = all.into_iter().map(|one| one.watched).collect();
    Comparison { from_ms, watches, ways, findings: found.findings, counts: found.counts }
}

#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    counts: BTreeMap<Kind, u64>,
}

impl Found {
    fn put(&mut self, kind: Kind, (project, name): &Key, what: String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= MOST as u64 {
            self.findings.push(Finding { kind, project: project.clone(), name: name.clone(), what });
        }
    }
}

/// Reads a journal from the last time on that its watch began anew.
fn seen(journal: &Entries) -> Seen {
    let is_anew = |entry: &Entry| matches!(entry, Entry::Begins { continues: false, .. });
    let from = journal.0.iter().rposition(is_anew).unwrap_or(0);
    let mut one = Seen::default();
    for (at, entry) in journal.0.iter().enumerate().skip(from) {
        match entry {
            Entry::Begins { site, node, at_ms, .. } => {
                if one.watched.node.is_empty() {
                    (one.watched.node, one.watched.site, one.watched.from_ms) = (node.clone(), site.clone(), *at_ms);
                }
            }
            Entry::Looked { at_ms } => one.watched.to_ms = *at_ms,
            Entry::Project { at_ms, project, state } => {
                one.watched.to_ms = *at_ms;
                one.states.insert(project.clone(), state.clone());
            }
            Entry::Moved { at_ms, project, moves, state } => {
                one.watched.to_ms = *at_ms;
                one.states.insert(project.clone(), state.clone());
                let mut keys = Vec::new();
                for step in moves {
                    let key = (project.clone(), step.name.clone());
                    if let Some(why) = &step.refused {
                        one.refused.insert(key.clone(), why.clone());
                    }
                    let (old, new) = (step.old.clone(), step.new.clone());
                    one.steps.entry(key.clone()).or_default().push(Step { at_ms: *at_ms, entry: at, old, new });
                    keys.push(key);
                }
                one.entries.insert(at, (project.clone(), keys));
            }
            Entry::Gone { at_ms, project } => {
                one.watched.to_ms = *at_ms;
                one.states.remove(project);
            }
            Entry::Problem { why, .. } => one.watched.problems.push(why.clone()),
        }
    }
    one.watched.projects = one.states.len() as u64;
    one
}

/// The steps whose value no other watch saw earlier, by their number among the steps of the ref.
fn own_steps(all: &[Seen], at: usize) -> BTreeMap<Key, Vec<usize>> {
    let mut own: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (key, steps) in &all[at].steps {
        for (number, step) in steps.iter().enumerate() {
            let is_earlier = |(other, one): (usize, &Seen)| {
                let first = one.steps.get(key).and_then(|steps| steps.iter().find(|other| other.new == step.new));
                other != at && first.is_some_and(|first| (first.at_ms, other) < (step.at_ms, at))
            };
            if !all.iter().enumerate().any(is_earlier) {
                own.entry(key.clone()).or_default().push(number);
            }
        }
    }
    own
}

/// Follows the moves of an origin to another watch.
fn way((from, own): (&Seen, &BTreeMap<Key, Vec<usize>>), to: &Seen, patience_ms: u64, found: &mut Found) -> Way {
    let mut way = Way { from: from.watched.node.clone(), to: to.watched.node.clone(), ..Way::default() };
    let (mut lags, mut arrivals) = (Vec::new(), BTreeMap::<usize, Vec<usize>>::new());
    for (key, numbers) in own {
        let (steps, none) = (&from.steps[key], Vec::new());
        let there = to.steps.get(key).unwrap_or(&none);
        for &number in numbers {
            let step = &steps[number];
            if let Some(arrived) = there.iter().find(|other| other.new == step.new) {
                way.arrived += 1;
                lags.push(arrived.at_ms.saturating_sub(step.at_ms));
                arrivals.entry(step.entry).or_default().push(arrived.entry);
                continue;
            }
            let came = |later: &Step| later.new == step.old || there.iter().any(|other| other.new == later.new);
            // The ref came back to a value that it never left at the other site.
            let returned = there.is_empty() && steps[..number].iter().any(|earlier| earlier.old == step.new);
            if returned || steps[number + 1..].iter().any(came) {
                way.passed_over += 1;
            } else if step.at_ms + patience_ms > to.watched.to_ms {
                way.under_way += 1;
            } else {
                way.lost += 1;
                let value = step.new.as_deref().unwrap_or("its deletion");
                found.put(Kind::NeverArrived, key, format!("{value} of {} is not at {}", way.from, way.to));
            }
        }
    }
    together_and_in_order(from, &arrivals, &way, found);
    lags.sort_unstable();
    let at = |share: usize| lags.get((lags.len() * share / 100).min(lags.len().saturating_sub(1))).copied();
    (way.lag_p50_ms, way.lag_p99_ms) = (at(50).unwrap_or(0), at(99).unwrap_or(0));
    way.lag_max_ms = lags.last().copied().unwrap_or(0);
    way
}

/// Whether the refs of each proposal came together, and the proposals of a project in their order. `arrivals` has the
/// entries of the other journal for each entry of the origin.
fn together_and_in_order(from: &Seen, arrivals: &BTreeMap<usize, Vec<usize>>, way: &Way, found: &mut Found) {
    let mut last: BTreeMap<&String, usize> = BTreeMap::new();
    for (entry, there) in arrivals {
        let Some((project, keys)) = from.entries.get(entry) else { continue };
        let (Some(first), Some(end)) = (there.iter().min(), there.iter().max()) else { continue };
        let name = keys.first().map_or(String::new(), |(_, name)| name.clone());
        let key = (project.clone(), name);
        if first != end {
            let what = format!("{} refs of one look at {} came to {} in several looks", there.len(), way.from, way.to);
            found.put(Kind::NotTogether, &key, what);
        }
        if let Some(before) = last.insert(project, *end)
            && *first < before
        {
            let what = format!("it came from {} to {} before an earlier one", way.from, way.to);
            found.put(Kind::OrderOfProposals, &key, what);
        }
    }
}

/// The refs that two origins moved from the same value to two values.
fn both_moved(
    (one, own): (&Seen, &BTreeMap<Key, Vec<usize>>),
    (other, others): (&Seen, &BTreeMap<Key, Vec<usize>>),
    found: &mut Found,
) {
    for (key, numbers) in own {
        let Some(theirs) = others.get(key) else { continue };
        for step in numbers.iter().map(|&number| &one.steps[key][number]) {
            let mut theirs = theirs.iter().map(|&number| &other.steps[key][number]);
            if let Some(clash) = theirs.find(|it| it.old == step.old && it.new != step.new) {
                let [ours, theirs] = [&step.new, &clash.new].map(|it| it.as_deref().unwrap_or("absent"));
                let (a, b) = (&one.watched.node, &other.watched.node);
                found.put(Kind::BothMoved, key, format!("{ours} at {a}, {theirs} at {b}"));
            }
        }
    }
}

/// The refs whose values came in another order, of those values that both watches saw.
fn order_of_values(one: &Seen, other: &Seen, found: &mut Found) {
    for (key, steps) in &one.steps {
        let Some(theirs) = other.steps.get(key) else { continue };
        let common = |steps: &[Step], others: &[Step]| {
            let mut seen = BTreeSet::new();
            let both = steps.iter().filter(|step| others.iter().any(|other| other.new == step.new));
            both.filter(|step| seen.insert(step.new.clone())).map(|step| step.new.clone()).collect::<Vec<_>>()
        };
        if common(steps, theirs) != common(theirs, steps) {
            let (a, b) = (&one.watched.node, &other.watched.node);
            found.put(Kind::OrderOfValues, key, format!("{a} and {b} saw its values in different orders"));
        }
    }
}

/// The projects whose refs differ at the end, if nothing moved there lately.
fn states(one: &Seen, other: &Seen, patience_ms: u64, found: &mut Found) {
    let names: BTreeSet<&String> = one.states.keys().chain(other.states.keys()).collect();
    let end = one.watched.to_ms.min(other.watched.to_ms);
    let is_quiet = |seen: &Seen, name: &str| {
        let mut of_project = seen.steps.iter().filter(|((project, _), _)| project == name);
        !of_project.any(|(_, steps)| steps.last().is_some_and(|step| step.at_ms + patience_ms > end))
    };
    for name in names {
        let (ours, theirs) = (one.states.get(name), other.states.get(name));
        if ours != theirs && is_quiet(one, name) && is_quiet(other, name) {
            let none = || "no repository".to_owned();
            let refs = |state: Option<&State>| state.map_or_else(none, |state| format!("{} refs", state.refs));
            let (a, b) = (&one.watched.node, &other.watched.node);
            let what = format!("{} at {a}, {} at {b}", refs(ours), refs(theirs));
            found.put(Kind::ProjectDiffers, &(name.clone(), String::new()), what);
        }
    }
}
