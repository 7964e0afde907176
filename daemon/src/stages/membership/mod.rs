//! The membership stage: a node's part in the group of nodes, and the end of incarnations whose owner is gone.
//!
//! Safety rests on conditional writes alone: an incarnation is opened under its site's role and epoch, a frozen
//! incarnation cannot move its marks, and a poisoned window cannot be used. Leases only decide when other nodes look.
//!
//! | file | idea |
//! |---|---|
//! | `freeze_and_poison` | fences an incarnation: freezes it, poisons its window |
//! | `open` | fences earlier incarnations, then opens a new one |
//! | `lease` | which nodes seem to be gone: a pure function |
//! | `heir` | which node publishes what a dead incarnation left: a pure function |
//! | `member` | heartbeats and low-water marks, which depend on nothing else |
//! | `watcher` | adoption, expulsion, and the locks of dead owners |
//! | `site_list` | whether a node's site is in the list of sites |
//! | `role_reader` | follows the roles of all sites |
//! | `met_locks` | the locks that commits have met |
//! | `barrier` | the wait until every open incarnation knows a transaction |

mod barrier;
mod freeze_and_poison;
mod heir;
mod lease;
mod member;
mod met_locks;
mod open;
mod role_reader;
mod site_list;
mod watcher;

pub use barrier::RegistryBarrier;
pub use freeze_and_poison::Fencer;
pub use lease::Leases;
pub use member::{Member, MemberLimits, will_beat};
pub use met_locks::NotedLocks;
pub use open::{IncarnationOpener, OpenError};
pub use role_reader::RoleReader;
pub use site_list::{EnrollError, enroll};
pub use watcher::{Running, Watcher};
