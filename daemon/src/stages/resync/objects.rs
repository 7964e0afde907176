//! Finds the values of a project that are not complete, and fetches their objects from peers.

use std::collections::{BTreeSet, VecDeque};

use lockstep_proto::{Oid, ProjectName};

use super::{ResyncError, Resyncer};
use crate::seams::git::GitError;
use crate::seams::peers::{OnArrival, Peers, fetch};

/// The most walks by which incomplete values are told from complete ones. Each is as long as the history.
const WALKS: usize = 32;

impl Resyncer {
    /// The values that are not complete. Values that more walks would tell apart are among them: fetching for a
    /// complete value costs time, and does no harm.
    pub(super) async fn incomplete(&self, project: &ProjectName, values: &[Oid]) -> Result<Vec<Oid>, GitError> {
        let (mut parts, mut walks, mut found) = (VecDeque::from([values.to_vec()]), 0, Vec::new());
        while let Some(part) = parts.pop_front() {
            walks += 1;
            if self.repositories.is_complete(project, &part).await? {
                continue;
            }
            if part.len() <= 1 || walks + parts.len() >= WALKS {
                found.extend(part);
                continue;
            }
            let (left, right) = part.split_at(part.len() / 2);
            parts.extend([left.to_vec(), right.to_vec()]);
        }
        Ok(found)
    }

    /// Fetches everything that the incomplete ones among these values need. Returns whether there were any. Moves no
    /// ref.
    ///
    /// # Errors
    /// No peer has the objects, a pack is bad, or the repository failed.
    pub(super) async fn complete(
        &self,
        project: &ProjectName,
        values: &[Oid],
        peers: &dyn Peers,
    ) -> Result<bool, ResyncError> {
        let wants = self.incomplete(project, values).await?;
        if wants.is_empty() {
            return Ok(false);
        }
        tracing::warn!(%project, values = wants.len(), "refs need objects that are not here: fetching them from peers");
        let lacking: BTreeSet<Oid> = wants.iter().copied().collect();
        let haves: Vec<Oid> = values.iter().copied().filter(|oid| !lacking.contains(oid)).collect();
        let repositories = &*self.repositories;
        fetch::<ResyncError>(peers, repositories, project, &wants, &haves, OnArrival::Ingest).await?;
        match self.repositories.is_complete(project, &wants).await? {
            true => Ok(true),
            false => Err(ResyncError::Incomplete(wants.len())),
        }
    }
}
