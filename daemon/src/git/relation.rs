//! How two values of a ref relate: does the new commit contain the old one?

use git2::{ErrorCode, Oid};

use super::layout::failed;
use super::objects::{Objects, native, wire};
use super::{GitError, Relation};

/// Compares two values; both must be there. Blocks.
pub(super) fn relation(
    objects: &Objects<'_>,
    old: lockstep_proto::Oid,
    new: lockstep_proto::Oid,
) -> Result<Relation, GitError> {
    let (old, new) = (commit(objects, old)?, commit(objects, new)?);
    let (Some(old), Some(new)) = (old, new) else { return Ok(Relation::Diverged) };
    if old == new {
        return Ok(Relation::FastForward);
    }
    match objects.repository.graph_descendant_of(new, old) {
        Ok(true) => Ok(Relation::FastForward),
        Ok(false) => Ok(Relation::Diverged),
        Err(error) => Err(failed(objects.project, "relate two commits", error)),
    }
}

/// The id, if it names a commit; tags are not followed, as git does for pushes onto a branch.
fn commit(objects: &Objects<'_>, oid: lockstep_proto::Oid) -> Result<Option<Oid>, GitError> {
    let oid = native(objects.project, &oid)?;
    match objects.repository.find_commit(oid) {
        Ok(_) => Ok(Some(oid)),
        Err(error) if error.code() == ErrorCode::NotFound && objects.header(oid)?.is_none() => {
            Err(GitError::Missing { project: objects.project.clone(), oids: vec![wire(oid)] })
        }
        Err(_) if objects.header(oid)?.is_some_and(|(_, kind)| kind != git2::ObjectType::Commit) => Ok(None),
        Err(error) => Err(objects.error("read a commit", oid, &error)),
    }
}
