//! The membership stage: a node's part in the group of nodes, and the drain of journals whose owner is gone.
//!
//! Safety rests on conditional writes alone: an incarnation is opened under its site's role and epoch, a frozen
//! incarnation cannot move its marks, and a poisoned window cannot be used. Leases only decide when other nodes look.
//!
//! | file | idea |
//! |---|---|
//! | `freeze_and_drain` | ends an incarnation: freezes it, poisons its window, publishes its committed slots |
//! | `open` | drains earlier incarnations, then opens a new one |
//! | `lease` | which nodes seem to be gone: a pure function |
//! | `member` | heartbeats, low-water marks, adoption and expulsion |
//! | `barrier` | the wait until every open incarnation knows a transaction |

mod barrier;
mod freeze_and_drain;
mod lease;
mod member;
mod open;

pub use barrier::RegistryBarrier;
pub use freeze_and_drain::Drainer;
pub use lease::Leases;
pub use member::{Member, MemberLimits, will_beat};
pub use open::{IncarnationOpener, OpenError};
