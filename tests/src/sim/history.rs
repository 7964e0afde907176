//! The history: every request of the clients, its time, and its answers.
//!
//! Times are counts of commits, not milliseconds. `Facts::commits` at the request and at the answer give the exact
//! window in which an operation may take effect.

use std::collections::BTreeMap;

use lockstep_proto::bridge::{Outcome, ProjectResponse, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{ProjectName, RefKey, RefName};

/// One request, and its answers so far.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name that the client used, whichever incarnation answered.
    pub project: ProjectName,
    /// The request as it was first sent. Retries repeat it.
    pub request: RefTransactionRequest,
    /// The number of commits before the first try.
    pub asked: u64,
    /// The verdicts on its refs, as far as answers came.
    pub verdicts: BTreeMap<RefName, Outcome>,
    /// Whether it was repeated at a node that had lost its volume, and with it the memory of its requests.
    pub after_loss: bool,
}

/// One operation on a project, and its answer so far.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The name that the client used, whichever incarnation answered.
    pub project: ProjectName,
    /// The pseudo-ref that the operation moves.
    pub key: RefKey,
    /// The wanted target of `HEAD`, if the operation sets only that.
    pub head: Option<RefName>,
    /// The number of commits before the first try.
    pub asked: u64,
    /// The number of tries.
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
    /// Notes a client's request. A retry under the same id keeps the first time.
    pub fn ask(&mut self, project: &ProjectName, request: &RefTransactionRequest, commits: u64) {
        self.entries.entry(request.request_id.clone()).or_insert_with(|| Entry {
            project: project.clone(),
            request: request.clone(),
            asked: commits,
            verdicts: BTreeMap::new(),
            after_loss: false,
        });
    }

    /// Notes that a request is repeated at a node that has lost its volume since.
    pub fn repeat_after_loss(&mut self, id: &str) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.after_loss = true;
        }
    }

    /// Notes the answer to a request.
    pub fn answer(&mut self, id: &str, response: &RefTransactionResponse) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        for result in &response.results {
            entry.verdicts.insert(result.name.clone(), result.outcome);
        }
    }

    /// Notes a client's operation. A retry under the same id keeps the first time.
    pub fn operate(&mut self, id: &str, operation: Operation) {
        let operation = self.operations.entry(id.to_owned()).or_insert(operation);
        (operation.tries, operation.outcome) = (operation.tries + 1, None);
    }

    /// Notes the answer to an operation. An answer that allows a retry decides nothing about earlier tries, which may
    /// still land.
    pub fn operated(&mut self, id: &str, response: &ProjectResponse) {
        let Some(operation) = self.operations.get_mut(id) else { return };
        let may_try_again = response.refusal.as_ref().is_some_and(|refusal| refusal.retry);
        let is_open = response.outcome == Outcome::Refused && may_try_again && operation.tries > 1;
        operation.outcome = Some(if is_open { Outcome::Unknown } else { response.outcome });
    }

    /// The operation with this id.
    #[must_use]
    pub fn operation(&self, id: &str) -> Option<&Operation> {
        self.operations.get(id)
    }

    /// The number of operations that were answered as committed.
    #[must_use]
    pub fn operations_done(&self) -> u64 {
        self.operations.values().filter(|one| one.outcome == Some(Outcome::Committed)).count() as u64
    }

    /// The request with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The number of refs per answer: committed, committed but not visible, refused, unknown, and without an answer.
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
