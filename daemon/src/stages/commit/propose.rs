//! From wishes to a proposal: each wish is held against what this node knows, and becomes a step or a refusal.

use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{Command, Oid, ProjectKey, RefKey, RefName, RefValue, Version};

use super::work::{Intent, Proposal, Verdict, Work, refusal, stale};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::ref_names::{self, RefClass};
use crate::seams::git::{GitError, Relation, Repositories};
use crate::seams::volume::{RefRecord, StoreError};
use crate::state::version_map::VersionMap;

/// Why there is no proposal.
#[derive(Debug)]
pub enum NoProposal {
    /// These keys are not what their wishes expect, as far as this node knows: ask the refdb first.
    Behind,
    /// The repository or the version map failed.
    Failed(String),
}

impl From<StoreError> for NoProposal {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<GitError> for NoProposal {
    fn from(error: GitError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Holds wishes against what is known here. The caller holds the locks of all open keys.
pub struct Proposer<'a> {
    /// What is known.
    pub versions: &'a VersionMap,
    /// For objects and ancestry.
    pub repositories: &'a dyn Repositories,
    /// Whether the refdb was just asked: then a mismatch is a verdict.
    pub caught_up: bool,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

impl Proposer<'_> {
    /// The proposal for all wishes without a verdict; wishes that cannot be get one.
    pub async fn propose(&self, work: &Work, verdicts: &mut [Option<Verdict>]) -> Result<Proposal, NoProposal> {
        let mut proposal = Proposal {
            carried: Vec::new(),
            commands: Vec::new(),
            wants: Vec::new(),
            hints: Vec::new(),
            directories: Vec::new(),
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
            } else if value == intent.new {
                // That there is nothing to do, too, is true only if the refdb says so.
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
        for (at, known) in moved {
            self.add(&work.project, &work.intents[at], known, at, &mut proposal)?;
        }
        Ok(proposal)
    }

    /// Refuses the moves that git itself would reject for what their values are, and takes them out. One question for the
    /// whole batch.
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
        let relations = self.repositories.relations(&work.project.name, &pairs).await?;
        for ((at, rule), relation) in rules.into_iter().zip(relations) {
            if relation != Relation::FastForward && verdicts[at].is_none() {
                verdicts[at] = rule.broken(&work.intents[at].key).map(Verdict::Refused);
            }
        }
        moved.retain(|(at, _)| verdicts[*at].is_none());
        Ok(())
    }

    fn add(
        &self,
        project: &ProjectKey,
        intent: &Intent,
        known: Option<RefRecord>,
        at: usize,
        proposal: &mut Proposal,
    ) -> Result<(), StoreError> {
        let (version, old, predecessor) = match known {
            Some(record) => (record.version, record.value, Some(record.txn)),
            None => (Version::NONE, RefValue::Absent, None),
        };
        if let (RefKey::Ref(name), true, false) = (&intent.key, old.is_absent(), intent.new.is_absent()) {
            for directory in self.unmarked(project, name)? {
                if !proposal.directories.contains(&directory) {
                    proposal.directories.push(directory);
                }
            }
        }
        proposal.wants.extend(intent.new.oid());
        proposal.hints.extend(old.oid());
        proposal.carried.push(at);
        let (key, new) = (intent.key.clone(), intent.new.clone());
        proposal.commands.push(Command { key, old, new, version: version.next(), predecessor });
        Ok(())
    }

    /// The proper prefixes that must be marked, and are not known to be.
    fn unmarked(&self, project: &ProjectKey, name: &RefName) -> Result<Vec<RefName>, StoreError> {
        if ref_names::classify(name) != Ok(RefClass::Mutable) || self.bugs.has(InjectedBug::NameConflictCommitted) {
            return Ok(Vec::new());
        }
        let mut unmarked = Vec::new();
        for directory in ref_names::directories(name) {
            if !self.versions.is_directory(project, &directory)? {
                unmarked.push(directory);
            }
        }
        Ok(unmarked)
    }

    /// New values whose objects are not there. One question for the whole batch.
    async fn missing(&self, work: &Work, verdicts: &[Option<Verdict>]) -> Result<Vec<Oid>, GitError> {
        let open = work.intents.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_none());
        let values: Vec<Oid> = open.filter_map(|(intent, _)| intent.new.oid()).collect();
        if values.is_empty() { Ok(values) } else { self.repositories.missing(&work.project.name, &values).await }
    }
}

/// Git itself would reject a value whose object is not there.
fn not_there(intent: &Intent, missing: &[Oid]) -> Option<Verdict> {
    let (RefKey::Ref(name), Some(new)) = (&intent.key, intent.new.oid()) else { return None };
    let message = format!("{name}: object {new} is not in the repository; send it first, then the ref");
    missing.contains(&new).then(|| Verdict::Refused(refusal(RefusalCode::MissingObject, false, message)))
}

/// What a value must be.
enum Rule {
    /// git moves a branch to nothing but commits, at no site.
    Commit(Oid),
    /// The new value contains the old one, unless it is forced. That is asked in any case, because whoever moves the ref
    /// asks again, and the repository remembers.
    History { old: Oid, new: Oid, forced: bool },
}

impl Rule {
    /// The values whose relation tells. Only a commit contains anything, itself to begin with.
    fn pair(&self) -> (Oid, Oid) {
        match self {
            Self::Commit(new) => (*new, *new),
            Self::History { old, new, .. } => (*old, *new),
        }
    }

    /// The refusal of a move that does not keep it; none when it need not.
    fn broken(&self, name: &RefKey) -> Option<Refusal> {
        match self {
            Self::History { forced: true, .. } => None,
            Self::Commit(new) => {
                let message = format!("{name}: {new} is no commit; git keeps only commits on branches");
                Some(refusal(RefusalCode::Invalid, false, message))
            }
            Self::History { old, new, .. } => {
                let message = format!("{name}: {new} does not contain {old}; merge or rebase, or force the update");
                Some(refusal(RefusalCode::NonFastForward, false, message))
            }
        }
    }
}

/// The rules that a wish must keep, given what its ref is.
fn rules(intent: &Intent, known: Option<&RefRecord>) -> impl Iterator<Item = Rule> {
    let new = intent.new.oid();
    let is_branch = intent.key.as_ref_name().is_some_and(RefName::is_branch);
    let old = known.and_then(|record| record.value.oid());
    let commit = new.filter(|_| is_branch).map(Rule::Commit);
    commit.into_iter().chain(old.zip(new).map(|(old, new)| Rule::History { old, new, forced: intent.force }))
}
