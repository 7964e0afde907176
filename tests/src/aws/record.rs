//! The calls that were made, and those that are denied or answered by a test.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::seams::aws::calls::On;
use parking_lot::Mutex;

/// An operation, and the kind of resource that it acted on.
pub type Made = (String, On);

/// The calls that all forwarders of a test have seen.
#[derive(Debug, Default)]
pub struct Record {
    made: Mutex<BTreeSet<Made>>,
    denied: Mutex<BTreeSet<String>>,
    answers: Mutex<BTreeMap<String, String>>,
}

impl Record {
    /// Notes a call.
    pub fn note(&self, operation: &str, on: On) {
        self.made.lock().insert((operation.to_owned(), on));
    }

    /// The calls so far.
    #[must_use]
    pub fn made(&self) -> BTreeSet<Made> {
        self.made.lock().clone()
    }

    /// Denies an operation from now on.
    pub fn deny(&self, operation: &str) {
        self.denied.lock().insert(operation.to_owned());
    }

    /// Whether an operation is denied.
    #[must_use]
    pub fn denies(&self, operation: &str) -> bool {
        self.denied.lock().contains(operation)
    }

    /// Answers an operation with a text from now on, in place of an emulator that does not know it.
    pub fn answer(&self, operation: &str, text: &str) {
        self.answers.lock().insert(operation.to_owned(), text.to_owned());
    }

    /// The answer of a test to an operation.
    #[must_use]
    pub fn answer_to(&self, operation: &str) -> Option<String> {
        self.answers.lock().get(operation).cloned()
    }
}
