//! Keeps the list of updates that nobody committed over restarts of the node.
//!
//! The list is a file beside the store. It is not synced: after a power cut it may lack its newest entries. Their
//! values are strays nevertheless.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_proto::ProjectName;
use lockstep_proto::gerrit::Stray;
use lockstep_proto::status::UncommittedUpdate;

use super::stages::Stages;
use crate::telemetry::status_board::StatusBoard;

/// The name of the file in the node's state folder. It holds the list as JSON, newest first.
const FILE: &str = "uncommitted";

/// Puts the list of the sidecar before this one on the board, and writes the file whenever there is more, until the
/// task is aborted. A file that is missing or garbled tells nothing.
pub(super) async fn keep(board: Arc<StatusBoard>, state: PathBuf) {
    let file = state.join(FILE);
    let text = tokio::fs::read_to_string(&file).await.unwrap_or_default();
    let before: Vec<UncommittedUpdate> = serde_json::from_str(&text).unwrap_or_default();
    board.uncommitted(before.into_iter().rev());
    loop {
        board.uncommitted_more().await;
        if let Err(error) = write(&file, &board.all_uncommitted()).await {
            tracing::warn!(%error, file = %file.display(), "the list of updates that nobody committed is not kept");
        }
    }
}

async fn write(file: &Path, all: &[UncommittedUpdate]) -> std::io::Result<()> {
    let new = file.with_extension("new");
    tokio::fs::write(&new, serde_json::to_vec(all)?).await?;
    tokio::fs::rename(&new, file).await
}

/// Those of the updates about which an operator has still to decide: the stray of the new value is there, and the ref
/// has another value. A deletion is listed as long as the ref has its old value.
pub(super) async fn open(stages: &Stages, all: Vec<UncommittedUpdate>) -> Vec<UncommittedUpdate> {
    let mut open = Vec::new();
    for update in all {
        if is_open(stages, &update).await {
            open.push(update);
        }
    }
    open
}

async fn is_open(stages: &Stages, update: &UncommittedUpdate) -> bool {
    let UncommittedUpdate { project, name, old, new, .. } = update;
    let Ok(now) = stages.deps.repositories.read_ref(project, name).await else { return true };
    match new {
        None => now.is_some() && (old.is_none() || now == *old),
        Some(value) => now != *new && is_kept(stages, project, Stray { name: name.clone(), value: *value }).await,
    }
}

async fn is_kept(stages: &Stages, project: &ProjectName, stray: Stray) -> bool {
    stages.state.materializer.strays(project).await.is_ok_and(|strays| strays.contains(&stray))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    #[tokio::test]
    async fn a_later_sidecar_knows_the_list() {
        let state = tempfile::tempdir().unwrap();
        let update = |at_ms| UncommittedUpdate {
            project: "p".parse().unwrap(),
            name: "refs/heads/main".parse().unwrap(),
            old: None,
            new: Some(lockstep_proto::Oid::Sha1([7; 20])),
            actor: "alice".to_owned(),
            at_ms,
        };
        let board = || Arc::new(StatusBoard::new(Arc::new(SystemClock)));
        let first = board();
        first.uncommitted([update(1), update(2)]);
        write(&state.path().join(FILE), &first.all_uncommitted()).await.unwrap();
        let later = board();
        let kept = tokio::spawn(keep(Arc::clone(&later), state.path().to_owned()));
        while later.all_uncommitted().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(later.all_uncommitted(), [update(2), update(1)]);
        kept.abort();
    }
}
