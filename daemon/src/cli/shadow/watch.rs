//! Looks at the repositories of a site, again and again, and writes what moved into the journal. It only reads them.
//!
//! All moves of one look at a project are one proposal: a batch of Gerrit is on the disk within milliseconds. Two
//! batches between two looks become one proposal, and a value that was replaced between two looks is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectName, RefName};
use sha2::{Digest, Sha256};

use super::journal::{Entry, Journal, JournalError, Move, State};
use crate::base::base_paths::BasePaths;
use crate::base::clock::Clock;
use crate::base::ref_names;
use crate::seams::git::fitness;
use crate::seams::git::watched::{self, Fingerprint};

/// The number of looks after which the list of repositories is read again, and an entry tells that the watch lives.
const LIST_EVERY: u64 = 30;

/// The numbers that a watch tells as metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// The projects that are watched.
    pub projects: u64,
    /// The proposals since the start.
    pub proposals: u64,
    /// The refs in them.
    pub refs: u64,
    /// The problems that are known: what cannot be read, and what Lockstep would not take.
    pub problems: u64,
    /// The duration of the last look at all projects.
    pub look: Duration,
}

/// A project as the last look saw it.
struct Seen {
    fingerprint: Fingerprint,
    refs: BTreeMap<String, String>,
}

/// The watch of one site's repositories.
pub struct Watch {
    site: String,
    node: String,
    base_paths: BasePaths,
    every: Duration,
    clock: Arc<dyn Clock>,
    journal: Journal,
    seen: BTreeMap<ProjectName, Seen>,
    projects: BTreeSet<ProjectName>,
    looks: u64,
    counts: WatchCounts,
    /// The problems that are in the journal already.
    told: BTreeSet<String>,
}

impl Watch {
    /// A watch that has seen nothing yet.
    #[must_use]
    pub fn new(
        (site, node): (String, String),
        base_paths: BasePaths,
        every: Duration,
        clock: Arc<dyn Clock>,
        journal: Journal,
    ) -> Self {
        let (seen, projects, told) = Default::default();
        let counts = WatchCounts::default();
        Self { site, node, base_paths, every, clock, journal, seen, projects, looks: 0, counts, told }
    }

    /// The numbers of this watch.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        self.counts
    }

    /// Looks at every project once. `list` finds the repositories, and those that Lockstep would not take.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn look(&mut self, list: impl FnOnce() -> (BTreeSet<ProjectName>, Vec<String>)) -> Result<(), JournalError> {
        let began = self.clock.now_ms();
        let begins = self.looks == 0 || self.journal.is_full();
        if begins {
            self.begin(began)?;
        }
        if begins || self.looks.is_multiple_of(LIST_EVERY) {
            let (projects, problems) = list();
            self.projects = projects;
            problems.into_iter().try_for_each(|why| self.problem(why))?;
            self.journal.put(&Entry::Looked { at_ms: began })?;
        }
        self.looks += 1;
        let known: BTreeSet<ProjectName> = self.seen.keys().cloned().collect();
        for project in known.union(&self.projects.clone()) {
            self.look_at(project)?;
        }
        self.counts.projects = self.seen.len() as u64;
        self.counts.problems = self.told.len() as u64;
        self.counts.look = Duration::from_millis(self.clock.now_ms().saturating_sub(began));
        Ok(())
    }

    /// Begins the journal, or its next half, with everything that the watch knows. Problems are looked for again, so
    /// that those that were repaired do not stay.
    fn begin(&mut self, at_ms: u64) -> Result<(), JournalError> {
        if self.journal.is_full() {
            self.journal.turn()?;
        }
        let continues = self.looks > 0;
        let every_ms = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX);
        let (site, node) = (self.site.clone(), self.node.clone());
        self.journal.put(&Entry::Begins { site, node, at_ms, every_ms, continues })?;
        self.told.clear();
        for (project, seen) in &self.seen {
            let (project, state) = (project.to_string(), state(&seen.refs));
            self.journal.put(&Entry::Project { at_ms, project, state })?;
        }
        let known: Vec<ProjectName> = self.seen.keys().cloned().collect();
        known.iter().try_for_each(|project| self.fitness(&project.to_string(), &self.base_paths.git_dir(project)))
    }

    fn look_at(&mut self, project: &ProjectName) -> Result<(), JournalError> {
        let git_dir = self.base_paths.git_dir(project);
        let at_ms = self.clock.now_ms();
        let looked = watched::fingerprint(&git_dir).and_then(|fingerprint| {
            match self.seen.get(project).is_some_and(|seen| seen.fingerprint == fingerprint) {
                true => Ok(None),
                false => Ok(Some(Seen { fingerprint, refs: watched::refs(&git_dir)? })),
            }
        });
        let name = project.to_string();
        let now = match looked {
            Ok(Some(now)) => now,
            Ok(None) => return Ok(()),
            Err(_) if !git_dir.join("HEAD").exists() => {
                return match self.seen.remove(project) {
                    Some(_) => self.journal.put(&Entry::Gone { at_ms, project: name }),
                    None => Ok(()),
                };
            }
            Err(error) => return self.problem(format!("{name} cannot be read: {error}")),
        };
        let entry = match self.seen.get(project) {
            None => {
                self.fitness(&name, &git_dir)?;
                Some(Entry::Project { at_ms, project: name, state: state(&now.refs) })
            }
            Some(before) => {
                let mut moves = moves(&before.refs, &now.refs);
                moves.sort_by_key(|step| watched::written_ns(&git_dir, &step.name).unwrap_or(i128::MIN));
                self.counts.proposals += u64::from(!moves.is_empty());
                self.counts.refs += moves.len() as u64;
                let state = state(&now.refs);
                (!moves.is_empty()).then_some(Entry::Moved { at_ms, project: name, moves, state })
            }
        };
        self.seen.insert(project.clone(), now);
        entry.map_or(Ok(()), |entry| self.journal.put(&entry))
    }

    /// Notes what Lockstep would not take of a repository.
    fn fitness(&mut self, project: &str, git_dir: &Path) -> Result<(), JournalError> {
        match fitness::look(git_dir) {
            Ok(fitness) => {
                let unfit = fitness.unfit.iter().map(|why| format!("{project}: {why}"));
                let left_out = fitness.left_out.iter().map(|one| format!("{project}: {one}"));
                unfit.chain(left_out).collect::<Vec<_>>().into_iter().try_for_each(|why| self.problem(why))
            }
            Err(error) => self.problem(format!("{project} cannot be read: {error}")),
        }
    }

    fn problem(&mut self, why: String) -> Result<(), JournalError> {
        if !self.told.insert(why.clone()) {
            return Ok(());
        }
        self.journal.put(&Entry::Problem { at_ms: self.clock.now_ms(), why })
    }
}

/// The moves between two states, in the order of the names.
fn moves(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Move> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let moved = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
    moved
        .map(|name| Move {
            name: name.clone(),
            old: before.get(name).cloned(),
            new: now.get(name).cloned(),
            refused: refused(name),
        })
        .collect()
}

/// Why Lockstep would not take a ref of this name.
fn refused(name: &str) -> Option<String> {
    match name.parse::<RefName>() {
        _ if name == "HEAD" => None,
        Ok(name) => ref_names::classify(&name).err().map(str::to_owned),
        Err(error) => Some(error.to_string()),
    }
}

fn state(refs: &BTreeMap<String, String>) -> State {
    let mut digest = Sha256::new();
    refs.iter().for_each(|(name, value)| digest.update(format!("{value} {name}\n")));
    State { refs: refs.len() as u64, digest: hex::encode(digest.finalize()) }
}
