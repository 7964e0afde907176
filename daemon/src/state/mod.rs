//! What one node knows, and how it becomes durable.
//!
//! | room | job |
//! |---|---|
//! | `journal` | slots, windows and marks of the running incarnation |
//! | `version_map` | each ref's version, value and transaction; the overlay of moves that are not durable yet; ref locks |
//! | `materialize` | committed transactions become the refs on the disk |
//! | `durability` | the durable step: sync the repositories, then store what the node remembers |
//! | `low_water` | per lane: everything below this slot is applied here |
//! | `quiesce` | wait until the commits inside a project have ended |
//! | `gerrit_session` | only the newest Gerrit process is answered |

pub mod durability;
pub mod gerrit_session;
pub mod journal;
pub mod low_water;
pub mod materialize;
pub mod quiesce;
pub mod version_map;
