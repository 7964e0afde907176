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
//! | `at_risk` | the transactions that the target lacks, counted in the journal |
//! | `decide` | the next action of a failover: a pure function |
//! | `plan` | the plan of a failover, its blockers and its hash: a pure function |
//! | `follow_up` | the work that goes on beside a failover which is done: a pure function |
//! | `estimate` | the estimated time of a failover: a pure function |
//! | `overview` | all sites with the digests of their nodes, and the two answers that count: pure functions |
//! | `digests` | reads the digests of all nodes, with their ages |
//! | `slot_ages` | for how long a node lacks settled slots |
//! | `preflight` | whether a failover could go well now |
//! | `drill` | the same steps on a canary, while the real sites go on |
//! | `record`, `history` | read the record and the history, and replace them |
//! | `earlier` | the form of an ended failover that nodes of the first release can read |
//! | `ending` | the end of a failover, and its recovery times |
//! | `driver` | takes the steps |
//! | `tools` | the means of a node that its driver uses |
//! | `own_part` | the part of each node of the target: verify its refs, and probe |
//! | `silent` | a standby on a copy of its volume |
//! | `drill_desk`, `silent_desk` | the operators' requests about drills, and the preflight |
//! | `drill_schedule`, `silent_schedule` | begin drills by themselves |
//! | `plan_desk`, `execute_desk` | the operators' requests for a plan, and for its execution |
//! | `resume` | the refusals of a late resume and of a late abort |
//! | `refusals` | the answers to requests that cannot be taken |
//! | `desk` | the operators' requests: pause, resume, abort, roles of sites; the others are in files of their own |
//! | `signing` | the operators' requests about signed records, and the keys of sites |
//! | `node_list` | the operators' requests that remove nodes which will not come back |
//! | `site_list` | the operators' requests that add sites to the list of sites, and remove them |
//! | `site_mode` | the operators' requests that switch Lockstep off at a site, and on again |

mod at_risk;
mod decide;
mod desk;
mod digests;
mod drill;
mod drill_desk;
mod drill_schedule;
mod driver;
mod earlier;
mod ending;
mod estimate;
mod execute_desk;
mod follow_up;
mod history;
mod node_list;
mod overview;
mod own_part;
mod plan;
mod plan_desk;
mod preflight;
mod record;
mod refusals;
mod resume;
mod signing;
mod silent;
mod silent_desk;
mod silent_schedule;
mod site_list;
mod site_mode;
mod slot_ages;
#[cfg(test)]
mod tests;
mod tools;
mod view;

pub use desk::{DeskTools, OperatorDesk};
pub use drill::{BeginError, DrillStage};
pub use drill_schedule::DrillSchedule;
pub use driver::{Driver, DriverLimits};
pub use plan::EXPOSURE;
pub use silent_schedule::SilentSchedule;
pub use slot_ages::{SlotAges, Standing};
pub use tools::Tools;
