//! Ports: the traits through which stages use each other, one per file. `node::assembly` joins the implementations.

mod announcements;
mod barrier;
mod catch_up;
mod handshake;
mod inspection;
mod refreshed;
mod refreshes;
mod seed_commits;
mod seeding;
mod sink;
mod stream_events;
mod transactions;

pub use announcements::Announcements;
pub use barrier::{Barrier, BarrierError};
pub use catch_up::{CatchUp, CatchUpError};
pub use handshake::Handshake;
pub use inspection::Inspection;
pub use refreshed::Refreshed;
pub use refreshes::Refreshes;
pub use seed_commits::SeedCommits;
pub use seeding::Seeding;
pub use sink::{Done, Sink};
pub use stream_events::StreamEvents;
pub use transactions::Transactions;
