//! The history: what each client asked for, when, and what it was told.
//!
//! Times are counts of commits, not milliseconds: `Facts::commits` at the moment of asking and of answering gives
//! the exact window in which an operation may take effect.

use std::collections::BTreeMap;

use lockstep_proto::bridge::{Outcome, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{ProjectName, RefName};

/// One request, and what is known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where.
    pub project: ProjectName,
    /// What was asked.
    pub request: RefTransactionRequest,
    /// How many commits there were when it was asked first.
    pub asked: u64,
    /// The verdicts on its refs, as far as any answer came.
    pub verdicts: BTreeMap<RefName, Outcome>,
}

/// Every request of a run, by its id.
#[derive(Debug, Default)]
pub struct History {
    entries: BTreeMap<String, Entry>,
}

impl History {
    /// A client asks. A retry under the same id keeps the first time.
    pub fn ask(&mut self, project: &ProjectName, request: &RefTransactionRequest, commits: u64) {
        self.entries.entry(request.request_id.clone()).or_insert_with(|| Entry {
            project: project.clone(),
            request: request.clone(),
            asked: commits,
            verdicts: BTreeMap::new(),
        });
    }

    /// A client is answered.
    pub fn answer(&mut self, id: &str, response: &RefTransactionResponse) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        for result in &response.results {
            entry.verdicts.insert(result.name.clone(), result.outcome);
        }
    }

    /// What is known of a request.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Verdicts by their outcome: committed, committed but not visible, refused, unknown; and never answered.
    #[must_use]
    pub fn counts(&self) -> [u64; 5] {
        let mut counts = [0; 5];
        for entry in self.entries.values() {
            for command in &entry.request.commands {
                let at = match entry.verdicts.get(&command.name) {
                    Some(Outcome::Committed) => 0,
                    Some(Outcome::CommittedNotYetVisible) => 1,
                    Some(Outcome::Refused) => 2,
                    Some(Outcome::Unknown) => 3,
                    None => 4,
                };
                counts[at] += 1;
            }
        }
        counts
    }
}
