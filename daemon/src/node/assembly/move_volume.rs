//! Moves a volume to a refdb that was rebuilt from the one that the volume belongs to.
//!
//! The version map of the volume speaks of the refdb before. Its versions mean nothing in the new one, and its last
//! refs may be unknown there, if no node of this site was read. So the volume gives the version map up in one durable
//! step, and reconciles with the new refdb as a new volume does. Before that step, each value on the disk that the new
//! refdb does not have is kept as a stray, and the refs of projects that it does not have are taken away. A crash in
//! between repeats both. The facts say before all this that the node reconciles: a node that is pointed back to the
//! refdb before then takes its refs from there again.
//!
//! A refdb that does not answer, or throttles, is asked again: the first reads of a new table come from all nodes at
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{LEAP, RefdbIdentity};
use lockstep_proto::{Oid, ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefName, RefValue, Version};
use tokio::time::{Instant, timeout};

use super::NodeDependencies;
use crate::base::backoff::Backoff;
use crate::seams::git::{GitError, RefMove};
use crate::seams::refdb::RefDbError;
use crate::seams::volume::{BoundTo, Changes, Rebind, RefRecord, StoreError, VolumeFacts};
use crate::state::bound_refdb::{self, Verdict, Volume};
use crate::state::materialize::stray_label;

/// How long a start waits for the refdb. A node that gets no answer starts as it is, and looks again when it joins.
const PATIENCE: Duration = Duration::from_secs(5);
/// The items of a page of the refdb.
const PAGE: usize = 1_000;
/// The time between two lines of the log about the progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Why a volume could not be moved. Nothing that counts was changed: the next start tries again.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A call of the refdb failed.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A repository could not be read or changed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// The projects of the volume, as the new refdb sees them.
#[derive(Default)]
struct Found {
    /// Projects that the new refdb has, too. Their states stay in the version map.
    keep: BTreeSet<ProjectName>,
    /// Projects that live in the new refdb: their refs are compared when the node reconciles.
    living: BTreeSet<ProjectName>,
    /// Projects that only this volume has.
    alone: Vec<ProjectName>,
    /// The number of values that were kept as strays.
    strays: usize,
}

/// Moves the volume, if the refdb of the configuration was rebuilt from the one of the volume.
pub(super) async fn to_rebuilt_refdb(deps: &NodeDependencies) -> Result<(), MoveError> {
    let has_memory = bound_refdb::has_memory(deps.store.as_ref())?;
    let found = match timeout(PATIENCE, bound_refdb::read(&deps.refdb)).await {
        Ok(Ok(found)) => found.map(|(_, found)| found),
        Ok(Err(_)) | Err(_) => return Ok(()),
    };
    let (bound, facts) = (deps.store.bound()?, deps.store.facts()?);
    let volume = Volume { refdb: bound.refdb.as_ref(), id: &facts.id, has_memory };
    match bound_refdb::judge(volume, found.as_ref()) {
        Verdict::Move(found) => move_to(deps, &bound, found).await,
        Verdict::Same | Verdict::Propose | Verdict::Bind(_) | Verdict::Follow(_) | Verdict::Refuse(_) => Ok(()),
    }
}

async fn move_to(deps: &NodeDependencies, bound: &BoundTo, refdb: RefdbIdentity) -> Result<(), MoveError> {
    let before = bound.refdb.as_ref().map_or("one without an identity", |refdb| refdb.id.as_str());
    tracing::warn!(refdb = refdb.id, before, "the refdb was rebuilt: this volume moves to it");
    deps.observer.starting(&"moving the volume to the rebuilt refdb: repairing the repositories");
    // The refs must be readable: the last process may have been killed.
    let report = deps.repositories.repair(true).await?;
    tracing::info!(?report, "the repair before the move is complete");
    let facts = VolumeFacts { reconciles: true, ..deps.store.facts()? };
    deps.store.commit(Changes { facts: Some(facts.clone()), ..Changes::default() }).await?;
    let mut found = Found::default();
    let projects = deps.store.projects()?;
    let mut said = Instant::now();
    let rebuilds = rebuilds_since(bound, &refdb);
    for (at, project) in projects.iter().enumerate() {
        if said.elapsed() >= PROGRESS {
            tracing::info!(
                projects = at,
                of = projects.len(),
                "comparing the values of this volume with the new refdb"
            );
            said = Instant::now();
        }
        let of = projects.len();
        deps.observer.starting(&format!("moving the volume to the rebuilt refdb: {at} of {of} projects are compared"));
        compare_project(deps, rebuilds, project, &mut found).await?;
    }
    deps.observer.starting(&"moving the volume to the rebuilt refdb: writing the new version map");
    deps.repositories.sync().await?;
    let Found { keep, living, alone, strays } = found;
    if strays > 0 || !alone.is_empty() {
        tracing::warn!(
            strays,
            projects = ?alone,
            "values of this volume are not in the rebuilt refdb: kept as strays (lockstep stray list PROJECT); these \
             projects are only here"
        );
    }
    let facts = VolumeFacts { of_other_refdb: living, ..facts };
    let changes = Changes {
        rebind: Some(Rebind { keep }),
        bound: Some(BoundTo { refdb: Some(refdb), sites: bound.sites.clone() }),
        facts: Some(facts),
        ..Changes::default()
    };
    Ok(deps.store.commit(changes).await?)
}

/// How many rebuilds are between the refdb of the volume and this one.
fn rebuilds_since(bound: &BoundTo, refdb: &RefdbIdentity) -> u64 {
    let own = bound.refdb.as_ref().and_then(|own| refdb.succeeds.iter().position(|id| *id == own.id)).unwrap_or(0);
    refdb.succeeds.len().saturating_sub(own).max(1) as u64
}

async fn compare_project(
    deps: &NodeDependencies,
    rebuilds: u64,
    (name, record): &(ProjectName, RefRecord),
    found: &mut Found,
) -> Result<(), MoveError> {
    let RefValue::State(mine) = &record.value else { return Ok(()) };
    let theirs = state(deps, name).await?;
    // Each rebuild has raised the version of a project that it knew, and so is every later version of it. Any other
    // state is of a project that was created after a rebuild that did not know this one.
    let raised = |version: Version| version.0 / LEAP >= record.version.0 / LEAP + rebuilds;
    let is_there = theirs.is_some_and(|(version, state)| raised(version) && state.incarnation >= mine.incarnation);
    if is_there {
        found.keep.insert(name.clone());
    }
    if mine.phase == ProjectPhase::Deleted || !deps.repositories.exists(name).await? {
        return Ok(());
    }
    if theirs.is_some_and(|(_, state)| state.phase != ProjectPhase::Deleted) {
        found.living.insert(name.clone());
    }
    if !is_there {
        found.strays += take_away(deps, name).await?;
        found.alone.push(name.clone());
        return Ok(());
    }
    let is_same = theirs.is_some_and(|(_, state)| state.incarnation == mine.incarnation);
    // The refs of a project that is still being seeded are not committed yet, and stay.
    if is_same && mine.phase != ProjectPhase::ReadOnly {
        found.strays += keep_unknown(deps, &ProjectKey::new(name, mine.incarnation)).await?;
    }
    Ok(())
}

/// The state of a project in the refdb, with its version.
async fn state(deps: &NodeDependencies, name: &ProjectName) -> Result<Option<(Version, ProjectState)>, RefDbError> {
    let (project, keys) = (ProjectKey::of_name(name), [RefKey::State]);
    let items = until_answered(deps, || deps.refdb.refs.read(&project, &keys)).await?;
    Ok(items.into_iter().flatten().find_map(|item| match item.value {
        RefValue::State(state) => Some((item.version, state)),
        RefValue::Absent | RefValue::Oid(_) | RefValue::Symref(_) => None,
    }))
}

/// Keeps the values on the disk that the refdb does not have as strays, and returns their number. Once the node has
/// reconciled, those that the committed values contain are released. Refs that the refdb does not have are deleted,
/// because their names may exclude those that it has.
async fn keep_unknown(deps: &NodeDependencies, project: &ProjectKey) -> Result<usize, MoveError> {
    let mut unknown: BTreeMap<RefName, Oid> = deps.repositories.list_refs(&project.name).await?.into_iter().collect();
    let (mut after, mut named): (Option<RefKey>, BTreeSet<RefName>) = (None, BTreeSet::new());
    while !unknown.is_empty() {
        let page = until_answered(deps, || deps.refdb.refs.scan(project, after.as_ref(), PAGE)).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        for item in page {
            if let (Some(name), Some(value)) = (item.key.as_ref_name(), item.value.oid())
                && let Some(shown) = unknown.get(name)
            {
                if *shown == value {
                    unknown.remove(name);
                } else {
                    named.insert(name.clone());
                }
            }
        }
    }
    let unnamed = unknown.iter().filter(|(name, _)| !named.contains(*name));
    let moves: Vec<RefMove> = unnamed
        .map(|(name, old)| RefMove { name: name.clone(), old: Some(*old), new: None, message: String::new() })
        .collect();
    let keep: Vec<(String, Oid)> = unknown.into_iter().map(|one| stray(&one)).collect();
    if !keep.is_empty() {
        deps.repositories.move_refs(&project.name, &moves, &keep).await?;
    }
    Ok(keep.len())
}

/// Deletes the refs of a project that only this volume has, with their values kept as strays. Another project of the
/// name, which may be there already, would take them for its own.
async fn take_away(deps: &NodeDependencies, name: &ProjectName) -> Result<usize, MoveError> {
    let shown = deps.repositories.list_refs(name).await?;
    let keep: Vec<(String, Oid)> = shown.iter().map(stray).collect();
    let moves: Vec<RefMove> = shown
        .into_iter()
        .map(|(name, old)| RefMove { name, old: Some(old), new: None, message: String::new() })
        .collect();
    if !moves.is_empty() {
        deps.repositories.move_refs(name, &moves, &keep).await?;
    }
    Ok(keep.len())
}

/// Asks the refdb until it answers. Only a refusal that a retry does not change is an error. Unlike a rebuild, a start
/// never gives up: nobody else would try again. It says meanwhile what it waits for.
async fn until_answered<T, F>(deps: &NodeDependencies, call: impl Fn() -> F) -> Result<T, RefDbError>
where
    F: Future<Output = Result<T, RefDbError>>,
{
    let mut backoff = Backoff::new(Arc::clone(&deps.entropy), Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) if !error.retry_helps() => return Err(error),
            Err(error) => {
                deps.observer.starting(&format!("moving the volume to the rebuilt refdb, and waiting for it: {error}"));
                tracing::warn!(%error, "the move to the rebuilt refdb waits");
            }
        }
        backoff.wait().await;
    }
}

fn stray((name, value): &(RefName, Oid)) -> (String, Oid) {
    (stray_label(name, *value), *value)
}
