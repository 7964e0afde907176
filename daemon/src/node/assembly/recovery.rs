//! Recovers the moves of refs that a crashed process had made before the version map was durable. The move intents name
//! the moves, and the disk shows which of them were made.

use std::collections::BTreeMap;

use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};

use super::StartError;
use super::stages::Stages;
use crate::seams::git::{GitError, Repositories};
use crate::seams::volume::MoveIntent;
use crate::state::version_map::Mover;

/// Takes the intents that the disk shows into the version map's overlay. Project states come first, because the intents
/// of a deleted project are dropped.
pub(super) async fn intents(stages: &Stages) -> Result<(), StartError> {
    let mut states: BTreeMap<ProjectName, Vec<MoveIntent>> = BTreeMap::new();
    let mut refs: BTreeMap<(ProjectKey, RefKey), Vec<MoveIntent>> = BTreeMap::new();
    for one in stages.deps.store.intents()? {
        if one.record.version <= stages.state.versions.version(&one.project, &one.key)? {
            continue;
        }
        match one.key {
            RefKey::State => states.entry(one.project.name.clone()).or_default().push(one),
            RefKey::Head | RefKey::Ref(_) => {
                refs.entry((one.project.clone(), one.key.clone())).or_default().push(one);
            }
        }
    }
    for intents in states.into_values() {
        if let Some(one) = newest_shown(stages, intents).await? {
            forget(stages, &one.project, &one.record.value)?;
            stages.state.versions.moved(&one.project, [(one.key, one.record)].into(), Mover::Other)?;
        }
    }
    for ((project, _), intents) in refs {
        let here = stages.state.versions.project_key(&project.name)?.as_ref() == Some(&project);
        if here && let Some(one) = newest_shown(stages, intents).await? {
            stages.state.versions.moved(&project, [(one.key, one.record)].into(), Mover::Other)?;
        }
    }
    Ok(())
}

/// The newest intent that the disk shows. A ref never has two intents without a move between them.
async fn newest_shown(stages: &Stages, intents: Vec<MoveIntent>) -> Result<Option<MoveIntent>, StartError> {
    for one in intents.into_iter().rev() {
        if is_shown(stages.deps.repositories.as_ref(), &one.project, &one.key, &one.record.value).await? {
            tracing::info!(project = %one.project, key = %one.key, version = %one.record.version, "recovered a move");
            return Ok(Some(one));
        }
    }
    Ok(None)
}

/// Drops the version map's records of earlier incarnations of a project, because its new state says that they are gone.
fn forget(stages: &Stages, project: &ProjectKey, value: &RefValue) -> Result<(), StartError> {
    let RefValue::State(now) = value else { return Ok(()) };
    let Some(known) = stages.state.versions.project(&project.name)? else { return Ok(()) };
    let gone = if now.phase == ProjectPhase::Deleted { now.incarnation + 1 } else { now.incarnation };
    for incarnation in known.incarnation..gone {
        stages.state.versions.forget(&ProjectKey::new(&project.name, incarnation));
    }
    Ok(())
}

/// Whether the disk shows a value. For a project's state, this is whether the repository exists.
async fn is_shown(
    repositories: &dyn Repositories,
    project: &ProjectKey,
    key: &RefKey,
    value: &RefValue,
) -> Result<bool, GitError> {
    let shown = match key {
        RefKey::State => repositories.exists(&project.name).await.map(|exists| exists != value.is_deleted_project()),
        RefKey::Head => {
            repositories.head(&project.name).await.map(|head| head.map(RefValue::Symref).as_ref() == Some(value))
        }
        RefKey::Ref(name) => repositories.read_ref(&project.name, name).await.map(|oid| RefValue::from(oid) == *value),
    };
    match shown {
        Err(GitError::NoRepository(_)) => Ok(false),
        shown => shown,
    }
}
