//! The failover stage: moves the writes of one site to another.
//!
//! A failover is a sequence of steps. Its state is one record in the refdb, which every write replaces under the
//! condition that nobody else has replaced it. Every node can go on with it, and each step may be repeated. A node that
//! dies in the middle of a step, and two nodes that take the same step, do no harm.
//!
//! Safety does not rest on this stage. A site whose role is not active opens no incarnation, and nothing can be
//! committed in a poisoned one.
//!
//! | file | idea |
//! |---|---|
//! | `view` | the state of the sites, as the refdb has it |
//! | `decide` | the next action of a failover: a pure function |
//! | `plan` | the plan of a failover, its blockers and its hash: a pure function |
//! | `record` | reads the record, and replaces it |
//! | `driver` | takes the steps |
//! | `desk` | the operators' requests: plan, execute, pause, resume, abort, roles of sites |

mod decide;
mod desk;
mod driver;
mod plan;
mod record;
mod view;

pub use desk::OperatorDesk;
pub use driver::{Driver, DriverLimits};
