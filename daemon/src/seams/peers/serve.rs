//! The serving side: packs objects of one repository for another node.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::{Oid, ProjectName};

use super::PeerError;
use crate::seams::blob::Payload;
use crate::seams::git::{GitError, IsCommitted, Packed, Repositories};

/// Packs the objects that `wants` need beyond the closures of `haves`.
///
/// # Errors
/// See [`PeerError`].
pub async fn objects(
    repositories: &dyn Repositories,
    project: &ProjectName,
    wants: &[Oid],
    haves: &[Oid],
) -> Result<Vec<Payload>, PeerError> {
    has(repositories, project, wants).await?;
    let known: BTreeSet<Oid> = haves.iter().copied().collect();
    let is_known: IsCommitted = Arc::new(move |oid| known.contains(oid));
    answer(repositories.pack_for_peer(project, wants, haves, &is_known).await)
}

/// Packs these objects alone.
///
/// # Errors
/// See [`PeerError`].
pub async fn objects_alone(
    repositories: &dyn Repositories,
    project: &ProjectName,
    wants: &[Oid],
) -> Result<Vec<Payload>, PeerError> {
    has(repositories, project, wants).await?;
    answer(repositories.pack_alone(project, wants).await)
}

/// Checks that the repository has the wanted objects.
async fn has(repositories: &dyn Repositories, project: &ProjectName, wants: &[Oid]) -> Result<(), PeerError> {
    let absent = match repositories.missing(project, wants).await {
        Ok(absent) => absent,
        Err(GitError::NoRepository(_)) => wants.to_vec(),
        Err(error) => return Err(PeerError::NotNow(error.to_string())),
    };
    if absent.is_empty() { Ok(()) } else { Err(PeerError::Missing(absent)) }
}

fn answer(packed: Result<Packed, GitError>) -> Result<Vec<Payload>, PeerError> {
    match packed {
        Ok(packed) => Ok(packed.payload.into_iter().collect()),
        Err(GitError::Missing { oids, .. }) => Err(PeerError::Missing(oids)),
        Err(error) => Err(PeerError::NotNow(error.to_string())),
    }
}
