//! The site stage: who this node is among the others, and what becomes of journals whose owner is gone.
//!
//! Safety rests on conditional writes alone: an incarnation is born under its site's role and epoch, a frozen one cannot
//! go on, and a poisoned window cannot be used. Leases only decide when somebody looks.
//!
//! | file | idea |
//! |---|---|
//! | `drain` | freeze, poison the window, publish: the end of an incarnation |
//! | `open` | drain what came before, then a new incarnation |
//! | `lease` | who seems to be gone: a pure function |
//! | `member` | heartbeat, low-water marks, adoption of dead siblings |
//! | `barrier` | when every open incarnation knows a transaction |

mod barrier;
mod drain;
mod lease;
mod member;
mod open;

pub use barrier::RegistryBarrier;
pub use drain::Drainer;
pub use lease::Leases;
pub use member::{Member, MemberLimits};
pub use open::{IncarnationOpener, OpenError};
