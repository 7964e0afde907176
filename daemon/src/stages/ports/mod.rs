//! Ports: the traits through which stages use each other, one file per conversation (`standby_copies` has two traits).
//! `node::assembly` joins the implementations.
//!
//! | file | content |
//! |---|---|
//! | `transactions`, `inspection`, `handshake` | from the API to commit, to the node's status, to the handshake |
//! | `refreshes`, `stream_events`, `seeding` | from the API to refresh, to events, to seed |
//! | `sink`, `announcements` | from consume to apply and to events |
//! | `catch_up` | from every stage to apply: bring this node up to the refdb |
//! | `barrier` | from commit to membership: wait until no incarnation can commit unaware |
//! | `met_locks` | from commit to membership: locks that stand in the way |
//! | `operators` | from the API to failover: sites, plans, roles |
//! | `console` | from the API to the console, for its pages, and back, for the holders of tokens |
//! | `locking` | from the API to locks: the locks of operators and bridges |
//! | `rebuilds` | from the API to rebuild: the version map for peers, a new refdb for operators |
//! | `peer_refs` | from the API to verify: digests and refs for peers |
//! | `shared_records` | from the API to share: records of streams for siblings |
//! | `fencing` | from failover to membership: end an incarnation |
//! | `comparison`, `probes` | from failover to verify: compare all refs; to the assembly: act as a user of this node |
//! | `doctor` | from the API to the assembly: the checks of this node |
//! | `local_health` | from failover to the assembly: the disks and certificates of this machine |
//! | `standby_copies` | from failover to the assembly: a standby on a copy of the volume |
//! | `leftovers` | from membership to publish: the journals of dead incarnations |
//! | `seed_commits` | from seed to commit |
//! | `refreshed` | from events to refresh: does Gerrit show the refs? |
//! | `arrivals` | from the API to arrival: wait until a site shows a transaction |
//! | `due_subjects` | from arrival to refresh: the subjects of refs that Gerrit has not refreshed |

mod announcements;
mod arrivals;
mod barrier;
mod catch_up;
mod comparison;
mod console;
mod doctor;
mod due_subjects;
mod fencing;
mod handshake;
mod inspection;
mod leftovers;
mod local_health;
mod locking;
mod met_locks;
mod operators;
mod peer_refs;
mod probes;
mod rebuilds;
mod refreshed;
mod refreshes;
mod seed_commits;
mod seeding;
mod shared_records;
mod sink;
mod standby_copies;
mod stream_events;
mod transactions;

pub use announcements::Announcements;
pub use arrivals::Arrivals;
pub use barrier::{Barrier, BarrierError, Unaware};
pub use catch_up::{Behind, CatchUp, CatchUpError};
pub use comparison::{Comparison, ComparisonError};
pub use console::{Console, OperatorRole, TokenError, TokenHash, TokenHolder, TokenHolders};
pub use doctor::Doctor;
pub use due_subjects::DueSubjects;
pub use fencing::{Fencing, FencingOver};
pub use handshake::Handshake;
pub use inspection::Inspection;
pub use leftovers::Leftovers;
pub use local_health::LocalHealth;
pub use locking::Locking;
pub use met_locks::MetLocks;
pub use operators::{Operators, check_approval};
pub use peer_refs::PeerRefs;
pub use probes::Probes;
pub use rebuilds::Rebuilds;
pub use refreshed::Refreshed;
pub use refreshes::Refreshes;
pub use seed_commits::SeedCommits;
pub use seeding::Seeding;
pub use shared_records::SharedRecords;
pub use sink::{Done, Sink};
pub use standby_copies::{BroughtUp, CopyMade, Doing, StandbyCopies, StandbyCopy, StandbyCopyError};
pub use stream_events::StreamEvents;
pub use transactions::Transactions;
