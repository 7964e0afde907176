//! The new refdb of a rebuild: its identity with the mark that keeps nodes out, and writes under the condition that the
//! identity is still this run's.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{Builder, RefdbIdentity, RefdbState};

use super::error::RebuildError;
use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{REBUILT_ITEMS, RebuildAnswer, Rebuilt, RefDb, RefDbError};
use crate::state::bound_refdb;

/// How often a call is tried before the run gives up.
const TRIES: u32 = 12;

/// A new refdb that this run writes into.
pub(super) struct Target {
    refdb: RefDb,
    entropy: Arc<dyn Entropy>,
    /// The identity, in the state of building.
    identity: RefdbIdentity,
    /// The revision of the identity's document, on which every write depends.
    revision: u64,
    /// Items that are not written yet.
    items: Vec<Rebuilt>,
}

impl Target {
    /// Marks the new refdb as being built by this run. An unfinished one of the same node is gone on with, and one of
    /// another node if `takes_over` is set.
    pub(super) async fn claim(
        refdb: RefDb,
        entropy: Arc<dyn Entropy>,
        wanted: RefdbIdentity,
        takes_over: bool,
        bugs: InjectedBugs,
    ) -> Result<Self, RebuildError> {
        let retry = Retry(&entropy);
        retry.call(|| refdb.setup.prepare(true)).await?;
        let (mut before, mut identity) = (0, wanted.clone());
        match retry.call(|| bound_refdb::read(&refdb)).await? {
            None if !retry.call(|| is_empty(&refdb)).await? => return Err(RebuildError::NotEmpty(wanted.table)),
            None => {}
            Some((revision, found)) => {
                let mine = wanted.builder.as_ref().map(|builder| &builder.node);
                let other = found.builder.as_ref().map(|builder| &builder.node).filter(|node| Some(*node) != mine);
                match (found.state, other) {
                    (RefdbState::Ready | RefdbState::Moving | RefdbState::Moved, _) => {
                        return Err(RebuildError::Complete { table: wanted.table, id: found.id });
                    }
                    (RefdbState::Building, Some(other)) if !takes_over => {
                        return Err(RebuildError::OtherRun(other.clone()));
                    }
                    (RefdbState::Building, _) => {
                        knows_as_much(&found, &wanted)?;
                        before = revision;
                        identity = gone_on_with(found, wanted);
                    }
                }
            }
        }
        if bugs.has(InjectedBug::ReadyBeforeWhole) {
            identity.state = RefdbState::Ready;
        }
        let (revision, stored) = retry.call(|| bound_refdb::write(&refdb, before, &identity)).await?;
        if stored != identity {
            return Err(RebuildError::Superseded);
        }
        Ok(Self { refdb, entropy, identity, revision, items: Vec::new() })
    }

    /// The id of the new refdb.
    pub(super) fn id(&self) -> &str {
        &self.identity.id
    }

    /// Writes items, in their order, though not at once.
    pub(super) async fn put(&mut self, items: Vec<Rebuilt>) -> Result<(), RebuildError> {
        for item in items {
            let is_twice = self.items.iter().any(|other| same_place(other, &item));
            if is_twice || self.items.len() == REBUILT_ITEMS {
                self.flush().await?;
            }
            self.items.push(item);
        }
        Ok(())
    }

    /// Writes everything that was put.
    pub(super) async fn flush(&mut self) -> Result<(), RebuildError> {
        let items = std::mem::take(&mut self.items);
        if items.is_empty() {
            return Ok(());
        }
        match Retry(&self.entropy).call(|| self.refdb.setup.rebuild(&items, self.revision)).await? {
            RebuildAnswer::Written => Ok(()),
            RebuildAnswer::Superseded => Err(RebuildError::Superseded),
            RebuildAnswer::NamesExclude(project, name) => Err(RebuildError::NamesExclude(project, name)),
        }
    }

    /// Writes the rest, and lets the nodes in.
    pub(super) async fn complete(mut self) -> Result<(), RebuildError> {
        self.flush().await?;
        let ready = RefdbIdentity { state: RefdbState::Ready, builder: None, ..self.identity };
        let write = || bound_refdb::write(&self.refdb, self.revision, &ready);
        let (_, stored) = Retry(&self.entropy).call(write).await?;
        if stored == ready { Ok(()) } else { Err(RebuildError::Superseded) }
    }
}

/// Checks that this run reads every volume that the runs before it have read. Their writes stay, so a ref that is
/// known at one of these nodes alone may be there, while the other refs of its transaction are not.
fn knows_as_much(found: &RefdbIdentity, wanted: &RefdbIdentity) -> Result<(), RebuildError> {
    let missing = found.sources.iter().filter(|source| !wanted.sources.contains(source));
    let missing: Vec<_> = missing.map(|source| source.node.clone()).collect();
    if missing.is_empty() { Ok(()) } else { Err(RebuildError::KnowsLess(missing)) }
}

/// The unfinished refdb that was found, for this run: it keeps its id, and knows all that either run knows.
fn gone_on_with(found: RefdbIdentity, wanted: RefdbIdentity) -> RefdbIdentity {
    let new = wanted.succeeds.into_iter().filter(|id| !found.succeeds.contains(id)).collect::<Vec<_>>();
    let tables = wanted.tables_before.into_iter().filter(|one| !found.tables_before.contains(one)).collect::<Vec<_>>();
    RefdbIdentity {
        succeeds: [found.succeeds, new].concat(),
        tables_before: [found.tables_before, tables].concat(),
        floor: found.floor.max(wanted.floor),
        sources: wanted.sources,
        builder: wanted.builder,
        ..found
    }
}

/// The identity of a new refdb, while this run builds it.
pub(super) fn wanted(
    table: &str,
    id: String,
    lineage: super::checks::Lineage,
    floor: u64,
    by: Builder,
) -> RefdbIdentity {
    RefdbIdentity {
        state: RefdbState::Building,
        table: table.to_owned(),
        succeeds: lineage.ids,
        tables_before: lineage.tables.into_iter().collect(),
        floor,
        builder: Some(by),
        ..RefdbIdentity::first(id)
    }
}

/// Whether the tables hold nothing of a refdb.
pub(super) async fn is_empty(refdb: &RefDb) -> Result<bool, RefDbError> {
    let has_projects = !refdb.refs.projects(None, 1).await?.is_empty();
    Ok(!has_projects && refdb.sites.sites().await?.is_empty() && refdb.nodes.nodes().await?.is_empty())
}

/// Whether two items of one write would be the same item of the store.
fn same_place(one: &Rebuilt, other: &Rebuilt) -> bool {
    let place = |item: &Rebuilt| match item {
        Rebuilt::Ref(project, item) => (project.to_string(), item.key.to_string()),
        Rebuilt::Directory(project, name) => (project.to_string(), name.to_string()),
        Rebuilt::Site(site) => (String::new(), site.site.to_string()),
        Rebuilt::Document(which, _) => ("@document".to_owned(), format!("{which:?}")),
    };
    place(one) == place(other)
}

/// Repeats calls that may succeed later. Every call of a rebuild may be repeated. An operator waits for the rebuild, so
/// it gives up after some tries.
pub(super) struct Retry<'a>(pub(super) &'a Arc<dyn Entropy>);

impl Retry<'_> {
    /// Calls until the refdb answers, or the tries are over.
    pub(super) async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, RebuildError>
    where
        F: Future<Output = Result<T, RefDbError>>,
    {
        let mut backoff = Backoff::new(Arc::clone(self.0), Duration::from_millis(50), Duration::from_secs(5));
        backoff.retry(TRIES, RefDbError::retry_helps, call).await.map_err(RebuildError::RefDb)
    }
}
