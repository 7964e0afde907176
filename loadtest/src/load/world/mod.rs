//! The world that the clients change: projects, their open changes, and the commits that an operation needs.
//!
//! | file | idea |
//! |---|---|
//! | `state` | which changes are open, and where they are at home |
//! | `objects` | writes commits into a repository |
//! | `build` | from an arrival to the moves of refs, with their objects |

mod build;
mod objects;
mod state;

pub use build::{Built, Effect, Places, build, first_batches};
pub use state::{Change, World};
