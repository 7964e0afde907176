//! The checkers: one file per property. Each checker is a function, without I/O, of the facts and of an action of a
//! node or a client. `watch` calls it at the moment of the action.

pub mod answers;
pub mod availability;
pub mod batches;
pub mod capacity;
pub mod chain;
pub mod checkpoints;
pub mod collection;
pub mod convergence;
pub mod digests;
pub mod durability;
pub mod events;
pub mod fencing;
pub mod forward;
pub mod held;
pub mod hindsight;
pub mod marks;
pub mod names;
pub mod objects;
pub mod projects;
pub mod readiness;
pub mod refresh;
pub mod shards;
pub mod slots;

use std::collections::BTreeMap;

use lockstep::seams::volume::{Held, NodeStore};

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property, which is also the name of its checker.
    pub property: &'static str,
    /// The observation that contradicts it.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.property, self.what)
    }
}

/// The result of a checker: the violation as text, or nothing.
pub type Verdict = Result<(), String>;

/// The parked records of a store, by their ids.
fn parked(store: &dyn NodeStore) -> Result<BTreeMap<String, Held>, String> {
    let parked = store.parked(None, usize::MAX).map_err(|error| error.to_string())?;
    Ok(parked.into_iter().collect())
}
