//! The stage of the locks of operators and bridges: acquires, renews, releases, breaks and lists them, and lets this
//! node obey them.
//!
//! All locks are one document in the refdb, which each change replaces on condition. A lock keeps others out as soon as
//! a node has read it. It is held when every node that can commit obeys it. Its fencing token is a condition of the
//! write at the commit point. So no two holders ever both commit, even if one is slow, paused or cut off. Nothing of
//! that depends on a clock.
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

use crate::seams::refdb::{Document, StoredDocument};

/// The list of locks.
const LOCKS: StoredDocument<Locks> = StoredDocument::json(Document::Locks);

/// How often a change of the list is tried again when somebody else has replaced it meanwhile.
const TRIES: usize = 8;
