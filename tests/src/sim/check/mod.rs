//! The checkers: one file a property of the design's list of invariants. Each is a function of the facts and of
//! what a node or a client did, without I/O; `watch` calls them at the moment at which it happens.

pub mod answers;
pub mod batches;
pub mod chain;
pub mod checkpoints;
pub mod collection;
pub mod convergence;
pub mod durability;
pub mod events;
pub mod fencing;
pub mod forward;
pub mod held;
pub mod marks;
pub mod names;
pub mod objects;
pub mod projects;
pub mod refresh;
pub mod shards;
pub mod slots;

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker that found it.
    pub property: &'static str,
    /// What it saw.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.property, self.what)
    }
}

/// What a checker says.
pub type Verdict = Result<(), String>;
