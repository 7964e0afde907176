//! An operation that has ended, as its client saw it.

use std::time::Duration;

use crate::load::model::Class;

/// The end of an operation, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Result {
    /// Done: committed, or read.
    Done,
    /// Refused in the end, with the code of the reason.
    Refused(String),
    /// The client gave up and does not know the outcome.
    Unknown,
}

/// An operation that has ended. All times are microseconds after the start of the run.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The class.
    pub class: Class,
    /// The site that was asked.
    pub site: usize,
    /// The intended start.
    pub at_us: u64,
    /// The end.
    pub ended_us: u64,
    /// The time in which the request and its objects were made, over all tries.
    pub prepare: Duration,
    /// The time from the first sending of the last try to its answer.
    pub answer: Duration,
    /// The number of tries.
    pub tries: u32,
    /// How often the client was told to wait and come again.
    pub told: u64,
    /// The number of refs that moved.
    pub refs: u64,
    /// The outcome.
    pub result: Result,
}

impl Finished {
    /// An operation that has begun at a site, and has not been tried yet.
    #[must_use]
    pub fn begun(class: Class, site: usize, at_us: u64) -> Self {
        let (prepare, answer) = (Duration::ZERO, Duration::ZERO);
        Self { class, site, at_us, ended_us: 0, prepare, answer, tries: 0, told: 0, refs: 0, result: Result::Unknown }
    }
}
