//! The facts: every effect in the refdb, in its own order, recorded below all faults.
//!
//! Chains, slots and incarnations stay here for ever, even when the journal is collected. Checkers compare the
//! observations of nodes and clients with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use lockstep::seams::refdb::{IncarnationRecord, SiteRecord};
use lockstep_proto::{
    IncarnationId, LaneId, NodeId, Oid, ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefName, RefValue,
    Seq, SiteId, Slot, Transaction, TxnId, Version,
};

/// The beginning of the names of refs that bad content was committed to.
pub const ROTTEN: &str = "refs/heads/rotten";

/// Whether bad content was committed to a ref. Such a ref cannot be brought up to date.
#[must_use]
pub fn is_rotten(name: &RefName) -> bool {
    name.as_str().starts_with(ROTTEN)
}

/// Whether bad content was committed to a key.
#[must_use]
pub fn is_rotten_key(key: &RefKey) -> bool {
    key.as_ref_name().is_some_and(is_rotten)
}

/// One step of a ref's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The version of the ref.
    pub version: Version,
    /// The value that the step gave.
    pub value: RefValue,
    /// The transaction of the step.
    pub txn: TxnId,
    /// The id of the request that it fulfils.
    pub request: String,
    /// The number of commits before it, over all refs.
    pub order: u64,
}

/// The content of an occupied slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// The transaction that was committed in the slot.
    Committed(TxnId),
    /// The marker that keeps the slot empty for ever.
    Poison,
}

/// All facts of a run.
#[derive(Debug, Default)]
pub struct Facts {
    /// Whether at most one site may commit at any moment.
    pub one_active: bool,
    /// The steps of every key, by its project's incarnation, and those of `@state` by incarnation 0, since all
    /// incarnations share it. The step of version `v` is at index `v - 1`.
    chains: BTreeMap<ProjectKey, BTreeMap<RefKey, Vec<Step>>>,
    /// Every committed transaction, collected ones too.
    pub transactions: BTreeMap<TxnId, Arc<Transaction>>,
    /// The bytes of the slot of every committed transaction.
    pub encoded: BTreeMap<TxnId, Bytes>,
    /// Committed transactions with bad content. Nodes set them aside.
    pub bad: BTreeSet<TxnId>,
    /// Every slot that was ever occupied.
    pub slots: BTreeMap<Slot, Occupant>,
    /// Slots that were collected. Every node is past them.
    pub collected: BTreeSet<Slot>,
    /// Every incarnation, with its marks and state as the refdb last returned them.
    pub incarnations: BTreeMap<IncarnationId, IncarnationRecord>,
    /// The number of commits before each incarnation was opened.
    pub opened: BTreeMap<IncarnationId, u64>,
    /// Incarnations whose record and journal are removed.
    pub forgotten: BTreeSet<IncarnationId>,
    /// The highest low-water marks that each node's record ever had.
    pub acknowledged: BTreeMap<NodeId, BTreeMap<LaneId, Seq>>,
    /// The record of every site.
    pub sites: BTreeMap<SiteId, SiteRecord>,
    /// The latest incarnation of each project.
    pub projects: BTreeMap<ProjectName, ProjectKey>,
    /// The number of commits.
    pub commits: u64,
}

impl Facts {
    /// A project's state. None before its first creation.
    #[must_use]
    pub fn state(&self, name: &ProjectName) -> Option<ProjectState> {
        match self.chain(&ProjectKey::of_name(name), &RefKey::State).last()?.value {
            RefValue::State(state) => Some(state),
            RefValue::Absent | RefValue::Oid(_) | RefValue::Symref(_) => None,
        }
    }

    /// Whether this incarnation of a project is deleted, or replaced by a later one.
    #[must_use]
    pub fn is_past(&self, project: &ProjectKey) -> bool {
        self.state(&project.name).is_some_and(|state| {
            state.incarnation > project.incarnation
                || (state.incarnation == project.incarnation && state.phase == ProjectPhase::Deleted)
        })
    }

    /// Every incarnation that a project ever had, in order.
    #[must_use]
    pub fn lives(&self, name: &ProjectName) -> Vec<ProjectKey> {
        let last = self.projects.get(name).map_or(0, |key| key.incarnation);
        (1..=last).map(|incarnation| ProjectKey::new(name, incarnation)).collect()
    }

    /// The incarnations of a project that were not yet deleted at the commit count `since`.
    #[must_use]
    pub fn lives_since(&self, name: &ProjectName, since: u64) -> Vec<ProjectKey> {
        let steps = self.chain(&ProjectKey::of_name(name), &RefKey::State);
        let was_gone = |key: &ProjectKey| {
            let deleted = RefValue::State(ProjectState { phase: ProjectPhase::Deleted, incarnation: key.incarnation });
            steps.iter().any(|step| step.value == deleted && step.order < since)
        };
        self.lives(name).into_iter().filter(|key| !was_gone(key)).collect()
    }

    /// A chain. Empty if nothing was committed.
    #[must_use]
    pub fn chain(&self, project: &ProjectKey, key: &RefKey) -> &[Step] {
        let chains = match key {
            RefKey::State => self.chains.get(&ProjectKey::of_name(&project.name)),
            RefKey::Head | RefKey::Ref(_) => self.chains.get(project),
        };
        chains.and_then(|chains| chains.get(key)).map_or(&[], Vec::as_slice)
    }

    /// The lowest version, from `at_least` on, at which a ref has this value. At version zero a ref is absent.
    #[must_use]
    pub fn position(
        &self,
        project: &ProjectKey,
        name: &RefName,
        value: Option<Oid>,
        at_least: Version,
    ) -> Option<Version> {
        if at_least == Version::NONE && value.is_none() {
            return Some(Version::NONE);
        }
        let skip = usize::try_from(at_least.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut steps = self.chain(project, &RefKey::Ref(name.clone())).iter().skip(skip);
        steps.find(|step| step.value.oid() == value).map(|step| step.version)
    }

    /// Every key of a project's incarnation that was ever committed. Empty for a deleted incarnation, which nodes
    /// forget.
    #[must_use]
    pub fn keys(&self, project: &ProjectKey) -> Vec<RefKey> {
        let chains = self.chains.get(project).filter(|_| !self.is_past(project));
        chains.into_iter().flat_map(BTreeMap::keys).cloned().chain([RefKey::State]).collect()
    }

    /// Every ref of a project that was ever committed.
    #[must_use]
    pub fn names(&self, project: &ProjectKey) -> Vec<RefName> {
        let keys = self.chains.get(project).into_iter().flat_map(BTreeMap::keys);
        keys.filter_map(|key| key.as_ref_name().cloned()).collect()
    }

    /// The live refs of a project.
    #[must_use]
    pub fn live(&self, project: &ProjectKey) -> BTreeMap<RefName, Oid> {
        let names = if self.is_past(project) { Vec::new() } else { self.names(project) };
        let values = names.into_iter().filter_map(|name| {
            let last = self.chain(project, &RefKey::Ref(name.clone())).last()?.value.oid()?;
            Some((name, last))
        });
        values.collect()
    }

    /// The number of times that a name which had been a folder was freed, and a ref of this name created.
    #[must_use]
    pub fn freed(&self) -> usize {
        let loosens =
            |step: &Step| self.transactions.get(&step.txn).is_some_and(|transaction| transaction.loosened().is_some());
        let pairs = self.chains.values().flat_map(BTreeMap::values).flat_map(|chain| chain.windows(2));
        pairs.filter(|pair| loosens(&pair[0]) && pair[1].value.oid().is_some()).count()
    }

    /// Adds a commit, after the checkers have judged it.
    pub fn commit(&mut self, transaction: &Transaction) {
        let project = &transaction.project;
        for command in &transaction.commands {
            let step = Step {
                version: command.version,
                value: command.new.clone(),
                txn: transaction.id.clone(),
                request: transaction.request_id.clone(),
                order: self.commits,
            };
            let owner = match command.key {
                RefKey::State => ProjectKey::of_name(&project.name),
                RefKey::Head | RefKey::Ref(_) => project.clone(),
            };
            self.chains.entry(owner).or_default().entry(command.key.clone()).or_default().push(step);
        }
        if transaction.command(&RefKey::State).is_some() {
            self.projects.insert(project.name.clone(), project.clone());
        }
        self.slots.insert(transaction.id.slot.clone(), Occupant::Committed(transaction.id.clone()));
        self.transactions.insert(transaction.id.clone(), Arc::new(transaction.clone()));
        self.commits += 1;
    }
}
