//! Silent drills: makes the copy of this node's volume, starts a standby on it as a process of its own, and judges.
//!
//! The sidecar makes the copy, starts this command again as its child, and judges the result. `assembly` has the child,
//! which is a whole node. Child and parent share no store, no socket and no lock but the one that keeps a next start
//! waiting while the child lives.
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

pub(super) mod contents;
mod copies;
mod job;
mod obstacles;
mod parent;
pub(super) mod plan;
pub(super) mod words;

pub(super) use copies::VolumeCopies;
