//! Silent drills: a standby on a copy of this node's volume, in a process of its own.
//!
//! The sidecar makes the copy, starts this command again as its child, and judges the result. The child builds its
//! configuration from nothing but its plan, and every seam to the outside is one in memory: it opens no connection. It
//! makes a refdb from the version map of the copy, moves the copy to it, joins, is promoted by a forced failover, takes
//! a push, and compares all refs. Child and parent share no store, no socket and no lock but the one that keeps a next
//! start waiting while the child lives.
//!
//! | file | idea |
//! |---|---|
//! | `copies` | makes the copy, and removes it |
//! | `obstacles` | whether a copy can be made now |
//! | `job` | the work of one copy |
//! | `contents` | the refs of a volume, in few bytes |
//! | `parent` | starts the child, follows it, and judges |
//! | `plan` | the knowledge of the child, and its configuration |
//! | `words` | the lines on the child's standard output |
//! | `child` | the standby on the copy |
//! | `own_objects` | stands in for its peers |
//! | `canary` | a project of the copy that is pushed to |
//! | `error` | why a standby on a copy is red |

mod canary;
mod child;
mod contents;
mod copies;
mod error;
mod job;
mod obstacles;
mod own_objects;
mod parent;
mod plan;
mod words;

pub use child::run_child;
pub(super) use copies::VolumeCopies;
pub use error::SilentError;
