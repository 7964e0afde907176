//! The history: what each client asked for, when, and what it was told.
//!
//! Times are counts of commits, not milliseconds: `Facts::commits` at the moment of asking and of answering gives
//! the exact window in which an operation may take effect.

use std::collections::BTreeMap;

use lockstep_proto::bridge::{Outcome, ProjectResponse, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{ProjectName, RefKey, RefName};

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

/// One operation on a project, and what is known of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which project.
    pub project: ProjectName,
    /// The pseudo-ref that it moves.
    pub key: RefKey,
    /// Where `HEAD` shall point, if that is all that is asked for.
    pub head: Option<RefName>,
    /// How many commits there were when it was asked first.
    pub asked: u64,
    /// How often it was asked.
    pub tries: u64,
    /// The last answer, if any came.
    pub outcome: Option<Outcome>,
}

/// Every request of a run, by its id.
#[derive(Debug, Default)]
pub struct History {
    entries: BTreeMap<String, Entry>,
    operations: BTreeMap<String, Operation>,
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

    /// A client asks for an operation. A retry under the same id keeps the first time.
    pub fn operate(&mut self, id: &str, operation: Operation) {
        let operation = self.operations.entry(id.to_owned()).or_insert(operation);
        (operation.tries, operation.outcome) = (operation.tries + 1, None);
    }

    /// A client is answered. That a retry may try again says nothing of the tries before it: they may still land.
    pub fn operated(&mut self, id: &str, response: &ProjectResponse) {
        let Some(operation) = self.operations.get_mut(id) else { return };
        let may_try_again = response.refusal.as_ref().is_some_and(|refusal| refusal.retry);
        let is_open = response.outcome == Outcome::Refused && may_try_again && operation.tries > 1;
        operation.outcome = Some(if is_open { Outcome::Unknown } else { response.outcome });
    }

    /// What is known of an operation.
    #[must_use]
    pub fn operation(&self, id: &str) -> Option<&Operation> {
        self.operations.get(id)
    }

    /// How many operations were answered as done.
    #[must_use]
    pub fn operations_done(&self) -> u64 {
        self.operations.values().filter(|one| one.outcome == Some(Outcome::Committed)).count() as u64
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
