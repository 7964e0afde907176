//! How two values of a ref relate: does the new commit contain the old one?

use git2::{Commit, ErrorCode, ObjectType};
use lockstep_proto::Oid;

use super::layout::failed;
use super::objects::{Objects, native};
use super::{GitError, Relation};

/// Compares two values; both must be there. Blocks.
pub(super) fn relation(objects: &Objects<'_>, old: Oid, new: Oid) -> Result<Relation, GitError> {
    let (old, new) = (commit(objects, old)?, commit(objects, new)?);
    let (Some(old), Some(new)) = (old, new) else { return Ok(Relation::Diverged) };
    // Most moves are one step, which needs no walk.
    if old.id() == new.id() || new.parent_ids().any(|parent| parent == old.id()) {
        return Ok(Relation::FastForward);
    }
    match objects.repository.graph_descendant_of(new.id(), old.id()) {
        Ok(true) => Ok(Relation::FastForward),
        Ok(false) => Ok(Relation::Diverged),
        Err(error) => Err(failed(objects.project, "relate two commits", error)),
    }
}

/// The commit, if the id names one; tags are not followed, as git does for pushes onto a branch.
fn commit<'r>(objects: &'r Objects<'_>, oid: Oid) -> Result<Option<Commit<'r>>, GitError> {
    let id = native(objects.project, &oid)?;
    match objects.repository.find_commit(id) {
        Ok(commit) => Ok(Some(commit)),
        Err(error) if error.code() == ErrorCode::NotFound && objects.header(id)?.is_none() => {
            Err(GitError::Missing { project: objects.project.clone(), oids: vec![oid] })
        }
        Err(_) if objects.header(id)?.is_some_and(|(_, kind)| kind != ObjectType::Commit) => Ok(None),
        Err(error) => Err(objects.error("read a commit", id, &error)),
    }
}
