//! What a crashed process had moved before it could remember it durably: the announcements tell, and the disk confirms.

use std::collections::BTreeMap;

use lockstep_proto::{ProjectKey, ProjectPhase, RefKey, RefValue};

use super::StartError;
use super::stages::Stages;
use crate::git::{GitError, Repositories};
use crate::volume::{Announced, RefRecord};

/// Takes into the version map's overlay what was announced and is on the disk.
pub(super) async fn announced(stages: &Stages) -> Result<(), StartError> {
    let mut last: BTreeMap<(ProjectKey, RefKey), Vec<RefRecord>> = BTreeMap::new();
    for Announced { project, key, record } in stages.parts.store.announced()? {
        if record.version > stages.table.version(&project, &key)? {
            last.entry((project, key)).or_default().push(record);
        }
    }
    for ((project, key), records) in last {
        // The newest announcement that the disk shows: a ref is never announced twice without a move between.
        for record in records.into_iter().rev() {
            if is_shown(stages.parts.repositories.as_ref(), &project, &key, &record.value).await? {
                tracing::info!(%project, %key, version = %record.version, "moved before the crash");
                stages.table.moved(&project, [(key, record)]);
                break;
            }
        }
    }
    Ok(())
}

/// Whether the disk shows a value. Of a project's state it shows whether there is a repository.
async fn is_shown(
    repositories: &dyn Repositories,
    project: &ProjectKey,
    key: &RefKey,
    value: &RefValue,
) -> Result<bool, GitError> {
    let shown = match key {
        RefKey::State => {
            let lives = !matches!(value, RefValue::State(state) if state.phase == ProjectPhase::Deleted);
            repositories.exists(&project.name).await.map(|exists| exists == lives)
        }
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
