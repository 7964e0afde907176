//! The child of a silent drill: a standby on a copy of this node's volume, in a process of its own.
//!
//! The child builds its configuration from nothing but its plan, and every seam to the outside is one in memory: it
//! opens no connection. It makes a refdb from the version map of the copy, moves the copy to it, joins, is promoted by
//! a forced failover, takes a push, and compares all refs. `node/silent_drill` makes the copy and judges the result.
//!
//! | file | idea |
//! |---|---|
//! | `child` | the standby on the copy |
//! | `own_objects` | stands in for its peers |
//! | `canary` | a project of the copy that is pushed to |
//! | `error` | why a standby on a copy is red |

mod canary;
mod child;
mod error;
mod own_objects;

pub use child::run_child;
pub use error::SilentError;
