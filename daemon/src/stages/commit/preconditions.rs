//! Turns the intents of a batch into a proposal. Each intent is compared with this node's knowledge, and becomes a
//! command or gets a verdict.

use std::collections::BTreeSet;

use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{Command, Oid, ProjectKey, ProjectName, RefKey, RefName, RefValue, Version};

use super::refusals::not_packed;
use super::work::{Intent, Proposal, Verdict, Work, stale};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::ref_names::{self, RefClass};
use crate::seams::git::{GitError, Relation, Repositories};
use crate::seams::refdb::Freed;
use crate::seams::volume::{RefRecord, StoreError};
use crate::state::known_folders::KnownFolders;
use crate::state::version_map::VersionMap;

/// The reason why there is no proposal.
#[derive(Debug)]
pub enum NoProposal {
    /// This node may be behind: an intent does not match its knowledge, or seems to be fulfilled already. Catch up with
    /// the refdb first.
    Behind,
    /// The version map failed.
    Store(StoreError),
    /// An operation on the repository failed.
    Git(GitError),
}

impl From<StoreError> for NoProposal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<GitError> for NoProposal {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

/// Compares intents with this node's knowledge. The caller holds the locks of all open keys.
pub struct Proposer<'a> {
    /// The version map of this node.
    pub versions: &'a VersionMap,
    /// The directory marks that this incarnation remembers.
    pub folders: &'a KnownFolders,
    /// The names that the batch has freed.
    pub freed: &'a Freed,
    /// The repositories, for questions about objects and ancestry.
    pub repositories: &'a dyn Repositories,
    /// Whether this node has just caught up with the refdb. A mismatch is then a verdict.
    pub caught_up: bool,
    /// The injected bugs that a test has switched on.
    pub bugs: InjectedBugs,
}

impl Proposer<'_> {
    /// Builds the proposal for all intents without a verdict. An intent that cannot be committed, or that is fulfilled
    /// already, gets its verdict.
    pub async fn propose(&self, work: &Work, verdicts: &mut [Option<Verdict>]) -> Result<Proposal, NoProposal> {
        let mut proposal = Proposal {
            carried: Vec::new(),
            commands: Vec::new(),
            wants: Vec::new(),
            hints: Vec::new(),
            directories: Vec::new(),
            freed: self.freed.clone(),
            since: self.folders.now(),
        };
        let missing = self.missing(work, verdicts).await?;
        let mut behind = false;
        let mut moved = Vec::new();
        for (at, intent) in work.intents.iter().enumerate() {
            if verdicts[at].is_some() {
                continue;
            }
            let known = self.versions.get(&work.project, &intent.key)?;
            let value = known.as_ref().map_or(RefValue::Absent, |record| record.value.clone());
            if intent.expected.as_ref().is_some_and(|expected| *expected != value) {
                if self.caught_up {
                    verdicts[at] = Some(Verdict::Refused(stale(intent, &value)));
                } else {
                    behind = true;
                }
            } else if value == intent.new && !work.loosens {
                // That there is nothing to do is also certain only if the refdb says so.
                if self.caught_up {
                    verdicts[at] = Some(Verdict::Committed);
                } else {
                    behind = true;
                }
            } else if let Some(verdict) = not_there(intent, &missing) {
                verdicts[at] = Some(verdict);
            } else {
                moved.push((at, known));
            }
        }
        if behind {
            return Err(NoProposal::Behind);
        }
        self.refuse_unfit(work, &mut moved, verdicts).await?;
        let mut directories = BTreeSet::new();
        for (at, known) in moved {
            let intent = &work.intents[at];
            directories.extend(self.directories(&work.project, intent, known.as_ref()));
            add(intent, known, at, &mut proposal);
        }
        proposal.directories = directories.into_iter().collect();
        Ok(proposal)
    }

    /// Refuses the moves that git itself would reject because of their values, and removes them. Asks the repository
    /// once for the whole batch.
    async fn refuse_unfit(
        &self,
        work: &Work,
        moved: &mut Vec<(usize, Option<RefRecord>)>,
        verdicts: &mut [Option<Verdict>],
    ) -> Result<(), GitError> {
        let rules: Vec<(usize, Rule)> = moved
            .iter()
            .flat_map(|(at, known)| rules(&work.intents[*at], known.as_ref()).map(|rule| (*at, rule)))
            .collect();
        if rules.is_empty() {
            return Ok(());
        }
        let pairs: Vec<(Oid, Oid)> = rules.iter().map(|(_, rule)| rule.pair()).collect();
        let relations = self.relations(&work.project.name, &pairs).await?;
        for ((at, rule), relation) in rules.into_iter().zip(relations) {
            if verdicts[at].is_some() {
                continue;
            }
            verdicts[at] = match relation {
                Ok(Relation::FastForward) => None,
                Ok(Relation::Diverged) => rule.broken(&work.intents[at].key).map(Verdict::Refused),
                Err(flawed) => Some(Verdict::Refused(flawed)),
            };
        }
        moved.retain(|(at, _)| verdicts[*at].is_none());
        Ok(())
    }

    /// Relates pairs of values. A pair that cannot be related because of a flawed object has the refusal instead.
    async fn relations(
        &self,
        project: &ProjectName,
        pairs: &[(Oid, Oid)],
    ) -> Result<Vec<Result<Relation, Refusal>>, GitError> {
        match self.repositories.relations(project, pairs).await {
            Err(GitError::Flawed { .. }) => {}
            together => return Ok(together?.into_iter().map(Ok).collect()),
        }
        let mut apart = Vec::with_capacity(pairs.len());
        for (old, new) in pairs {
            apart.push(match self.repositories.relation(project, *old, *new).await {
                Err(error @ GitError::Flawed { .. }) => Err(not_packed(&error)),
                related => Ok(related?),
            });
        }
        Ok(apart)
    }

    /// The names that must become directories for an intent: it creates a ref below them.
    fn directories(&self, project: &ProjectKey, intent: &Intent, known: Option<&RefRecord>) -> Vec<RefName> {
        let was_live = known.is_some_and(|record| !record.value.is_absent());
        match &intent.key {
            RefKey::Ref(name) if !was_live && !intent.new.is_absent() => self.unmarked(project, name),
            RefKey::Ref(_) | RefKey::Head | RefKey::State => Vec::new(),
        }
    }

    /// The proper prefixes of a name that need a directory mark and, as far as this node knows, have none.
    fn unmarked(&self, project: &ProjectKey, name: &RefName) -> Vec<RefName> {
        if ref_names::classify(name) != Ok(RefClass::Mutable) || self.bugs.has(InjectedBug::NameConflictCommitted) {
            return Vec::new();
        }
        let mut directories = ref_names::directories(name);
        directories.retain(|directory| !self.folders.contains(project, directory));
        directories
    }

    /// The new values whose objects are missing. Asks the repository once for the whole batch.
    async fn missing(&self, work: &Work, verdicts: &[Option<Verdict>]) -> Result<Vec<Oid>, GitError> {
        let open = work.intents.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_none());
        let values: Vec<Oid> = open.filter_map(|(intent, _)| intent.new.oid()).collect();
        if values.is_empty() { Ok(values) } else { self.repositories.missing(&work.project.name, &values).await }
    }
}

/// Adds the command of an intent to the proposal.
fn add(intent: &Intent, known: Option<RefRecord>, at: usize, proposal: &mut Proposal) {
    let (version, old, predecessor) = match known {
        Some(record) => (record.version, record.value, Some(record.txn)),
        None => (Version::NONE, RefValue::Absent, None),
    };
    proposal.wants.extend(intent.new.oid());
    proposal.hints.extend(old.oid());
    proposal.carried.push(at);
    let (key, new) = (intent.key.clone(), intent.new.clone());
    proposal.commands.push(Command { key, old, new, version: version.next(), predecessor });
}

/// Refuses an intent whose object is missing. Git itself would reject it.
fn not_there(intent: &Intent, missing: &[Oid]) -> Option<Verdict> {
    let (RefKey::Ref(name), Some(new)) = (&intent.key, intent.new.oid()) else { return None };
    let message = format!("{name}: object {new} is not in the repository; send it first, then the ref");
    missing.contains(&new).then(|| Verdict::Refused(Refusal::new(RefusalCode::MissingObject, false, message)))
}

/// A rule that the new value of a ref must keep.
enum Rule {
    /// A branch points to a commit: git refuses anything else, at every site.
    Commit(Oid),
    /// The new value contains the old one, unless the move is forced. The relation is always computed, because the
    /// materializer asks for it again and the repository remembers the answer.
    History { old: Oid, new: Oid, forced: bool },
}

impl Rule {
    /// The values whose relation decides. Only a commit contains itself, so a pair of equal values tests for a commit.
    fn pair(&self) -> (Oid, Oid) {
        match self {
            Self::Commit(new) => (*new, *new),
            Self::History { old, new, .. } => (*old, *new),
        }
    }

    /// The refusal of a move that breaks the rule; none for a forced move.
    fn broken(&self, name: &RefKey) -> Option<Refusal> {
        match self {
            Self::History { forced: true, .. } => None,
            Self::Commit(new) => {
                let message = format!("{name}: {new} is no commit; git keeps only commits on branches");
                Some(Refusal::new(RefusalCode::Invalid, false, message))
            }
            Self::History { old, new, .. } => {
                let message = format!("{name}: {new} does not contain {old}; merge or rebase, or force the update");
                Some(Refusal::new(RefusalCode::NonFastForward, false, message))
            }
        }
    }
}

/// The rules that an intent must keep, given the known record of its ref.
fn rules(intent: &Intent, known: Option<&RefRecord>) -> impl Iterator<Item = Rule> {
    let new = intent.new.oid();
    let is_branch = intent.key.as_ref_name().is_some_and(RefName::is_branch);
    let old = known.and_then(|record| record.value.oid());
    let commit = new.filter(|_| is_branch).map(Rule::Commit);
    commit.into_iter().chain(old.zip(new).map(|(old, new)| Rule::History { old, new, forced: intent.force }))
}
