//! Fetches objects from peers and takes them into a repository: in portions, or some objects alone.

use lockstep_proto::{Oid, ProjectName, RefName};

use super::{MOST_OIDS, PeerError, Peers};
use crate::seams::git::{GitError, Repositories};

/// The most objects that are fetched alone. More damage than that is better mended by everything that the refs need.
pub const MOST_ALONE: usize = 1_000;

/// The step between the arrival of objects and their way into the repository. Nothing changes here before a peer has
/// sent something.
#[derive(Clone, Copy, Debug)]
pub enum OnArrival<'a> {
    /// They go into the repository that is there.
    Ingest,
    /// The files with damaged copies of these objects are put away once.
    SetAside(&'a [Oid]),
    /// A missing repository is created, with this `HEAD`.
    Create(&'a RefName),
}

/// Fetches everything that `wants` need beyond the closures of `haves`, which are complete here. Moves no ref.
///
/// # Errors
/// No peer has all objects, a pack is bad, or the repository failed. Objects that have arrived stay.
pub async fn fetch<E: From<PeerError> + From<GitError>>(
    peers: &dyn Peers,
    repositories: &dyn Repositories,
    project: &ProjectName,
    wants: &[Oid],
    haves: &[Oid],
    on_arrival: OnArrival<'_>,
) -> Result<(), E> {
    let (mut haves, mut is_first) = (haves.to_vec(), true);
    for wants in wants.chunks(MOST_OIDS) {
        haves.truncate(MOST_OIDS);
        let packs = peers.objects(project, wants, &haves).await?;
        match on_arrival {
            OnArrival::SetAside(damaged) if is_first => _ = repositories.set_aside(project, damaged).await?,
            OnArrival::Create(head) => repositories.create(project, head).await?,
            OnArrival::SetAside(_) | OnArrival::Ingest => {}
        }
        repositories.ingest(project, &packs, wants, &[]).await?;
        haves.splice(0..0, wants.iter().copied());
        is_first = false;
    }
    Ok(())
}

/// Fetches damaged or missing objects alone, in the place of their copies here. Other objects may be gone with the
/// files that are put away. Moves no ref.
///
/// # Errors
/// No peer has all of them, a pack is bad, the repository lacks other objects too, or it failed. Files may be put away.
pub async fn fetch_alone<E: From<PeerError> + From<GitError>>(
    peers: &dyn Peers,
    repositories: &dyn Repositories,
    project: &ProjectName,
    damaged: &[Oid],
) -> Result<(), E> {
    let packs = peers.objects_alone(project, damaged).await?;
    repositories.set_aside(project, damaged).await?;
    Ok(repositories.ingest(project, &packs, damaged, &[]).await?)
}
