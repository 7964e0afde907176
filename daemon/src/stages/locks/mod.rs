//! The stage of the locks of operators and bridges: acquires, renews, releases, breaks and lists them, and lets this
//! node obey them.
//!
//! All locks are one document in the refdb, which each change replaces on condition. A lock keeps others out as soon as
//! a node has read it. It is held when every node that can commit obeys it. Its fencing token is a condition of the
//! write at the commit point. So no two holders ever both commit, even if one is slow, paused or cut off. Nothing of
//! that depends on a clock.
//!
//! Locks travel with a refdb that moves to other tables. So nobody changes them between the fence and the end of a
//! move.
//!
//! | file | idea |
//! |---|---|
//! | `decide` | the changes of the list, as pure functions |
//! | `follow` | reads the list, obeys it, and ends locks that have expired |
//! | `desk` | takes the requests of operators and bridges |

mod decide;
mod desk;
mod follow;

use lockstep_proto::locks::Locks;

pub use desk::LockDesk;
pub use follow::LockFollower;

use crate::seams::refdb::{Document, RefDb, RefDbError, StoredDocument};
use crate::state::bound_refdb;

/// The list of locks.
const LOCKS: StoredDocument<Locks> = StoredDocument::json(Document::Locks);

/// How often a change of the list is tried again when somebody else has replaced it meanwhile.
const TRIES: usize = 8;

/// Changes the list, again if somebody else has replaced it meanwhile. `change` answers whether there is something to
/// write.
///
/// # Errors
/// Those of `change`, the refdb did not answer, or it moves: see [`replace`].
async fn change<E: From<RefDbError>>(refdb: &RefDb, change: impl Fn(&mut Locks) -> Result<bool, E>) -> Result<(), E> {
    for _ in 0..TRIES {
        let (before, mut list) = LOCKS.read(refdb.documents.as_ref()).await?.unwrap_or_default();
        if !change(&mut list)? || replace(refdb, before, &list).await? {
            return Ok(());
        }
    }
    Err(RefDbError::NotNow("others change the list of locks at the same time".to_owned()).into())
}

/// Replaces the list of revision `before`, which was read just now. Answers whether it was replaced.
///
/// A refdb that moves is closed by its identity, and then its list of locks is written anew and copied. So a change
/// whose look at the identity was too early meets another revision.
///
/// # Errors
/// The refdb did not answer, or it moves to other tables. The list may be replaced.
async fn replace(refdb: &RefDb, before: u64, list: &Locks) -> Result<bool, RefDbError> {
    let identity = bound_refdb::read(refdb).await?;
    if identity.is_some_and(|(_, identity)| identity.is_closed()) {
        let why = "it moves to other tables and takes the locks along; they change again once the nodes have followed";
        return Err(RefDbError::NotNow(why.to_owned()));
    }
    LOCKS.replace(refdb.documents.as_ref(), before, list).await
}

#[cfg(test)]
mod tests {
    use lockstep_proto::rebuild::{RefdbIdentity, RefdbState};

    use super::*;
    use crate::seams::refdb::memory::MemoryRefDb;

    #[tokio::test]
    async fn locks_change_only_while_the_refdb_does_not_move() {
        let refdb = MemoryRefDb::new().refdb();
        let write_anew = |_: &mut Locks| Ok::<bool, RefDbError>(true);
        change(&refdb, write_anew).await.unwrap();
        let first = RefdbIdentity::first("1".to_owned());
        let (revision, _) = bound_refdb::write(&refdb, 0, &first).await.unwrap();
        change(&refdb, write_anew).await.unwrap();
        let moving = RefdbIdentity { state: RefdbState::Moving, ..first.clone() };
        let (revision, _) = bound_refdb::write(&refdb, revision, &moving).await.unwrap();
        let refused = change(&refdb, write_anew).await.unwrap_err();
        assert!(refused.retry_helps() && refused.to_string().contains("moves to other tables"), "{refused}");
        bound_refdb::write(&refdb, revision, &first).await.unwrap();
        change(&refdb, write_anew).await.unwrap();
        let (revision, _) = LOCKS.read(refdb.documents.as_ref()).await.unwrap().unwrap();
        assert_eq!(revision, 3, "the move was aborted");
    }
}
