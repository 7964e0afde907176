//! An attempt takes one transaction through the commit point. It ends as committed, refused or unknown.
//!
//! An attempt is resent with exactly the same bytes, or not at all. While the answer to a copy is missing, that copy
//! may still land. A refusal is then final only if a ref has another version (versions never go back) or the slot is
//! occupied. If a copy is still unanswered at the deadline, the attempt is resolved by poisoning its slot: the
//! conditional write either makes every late copy impossible, or returns the content of the slot.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{Slot, TxnId, limits};
use tokio::time::{Instant, timeout_at};

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{CommitAnswer, CommitRequest, NodeRecord, Obstacle, RefDb, RefDbError, SlotState};

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The transaction is committed at every site.
    Committed,
    /// The transaction is not committed and never will be. The slot is empty.
    Refused(Vec<Obstacle>),
    /// The transaction is not committed and never will be. The slot is poisoned or holds another transaction; the text
    /// says which.
    SlotLost(String),
    /// The refdb did not take the transaction, and no copy is in flight. The slot is empty.
    NotTaken {
        /// The refdb's reason, for people.
        why: String,
        /// Whether the same request may succeed later.
        retry: bool,
    },
    /// The refdb throttles the transaction, and no copy is in flight. The slot is empty, and locks of the transaction
    /// may be left. The same objects may be sent again, in another slot.
    Throttled(String),
    /// The outcome is not known yet. The slot must be resolved later.
    Unknown(String),
}

/// How long an attempt without a copy in flight keeps its slot. The settled mark of the lane waits for that slot, and
/// the other projects of the lane wait for the mark.
const KEEPS: Duration = Duration::from_millis(200);
/// After this many times the patience for one copy, an attempt with unanswered copies poisons its slot and goes on in
/// another one, for the same reason.
const COPIES: u32 = 4;

/// Sends transactions to the refdb.
#[derive(Clone)]
pub struct Attempts {
    /// The global ref database.
    pub refdb: RefDb,
    /// Randomness for the jitter of retries and for ids.
    pub entropy: Arc<dyn Entropy>,
    /// The time to wait for the answer to one copy before another copy is sent. A transaction that is written in parts
    /// gets this time per part.
    pub patience: Duration,
    /// The injected bugs that a test has switched on.
    pub bugs: InjectedBugs,
}

/// The state of an attempt that has not ended.
#[derive(Default)]
struct Progress {
    /// Whether a copy has no answer yet. It may land at any time.
    in_flight: bool,
    last_error: String,
}

impl Attempts {
    /// Sends a transaction until it is answered or `deadline` has passed. At the deadline, an attempt that may still
    /// land is resolved by poisoning its slot.
    pub async fn commit(&self, request: &CommitRequest, deadline: Instant) -> AttemptEnd {
        let mut progress = Progress::default();
        let mut backoff =
            Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(10), Duration::from_millis(500));
        let mut request = std::borrow::Cow::Borrowed(request);
        // A large transaction is written in parts, one after the other when the refdb throttles them.
        let parts = u32::try_from(1 + request.transaction.commands.len() / limits::WRITE_COMMANDS).unwrap_or(u32::MAX);
        let begun = Instant::now();
        let yields = self.yields(&request) && !self.bugs.has(InjectedBug::ThrottledKeepsSlot);
        loop {
            let patience = (Instant::now() + self.patience * parts).min(deadline);
            let answer = timeout_at(patience, self.refdb.refs.commit(&request)).await;
            let answer = answer.unwrap_or_else(|_| Err(RefDbError::Unknown("no answer in time".into())));
            crate::base::faults::failpoint::reach("commit.answered");
            if let Some(end) = self.judge(&request, answer, &mut progress) {
                return self.confirm(&request, end, &progress).await;
            }
            if self.bugs.has(InjectedBug::RefusedInFlight) && progress.in_flight {
                let why = progress.last_error.clone();
                return AttemptEnd::NotTaken { why, retry: true };
            }
            if yields && !progress.in_flight && begun.elapsed() >= KEEPS {
                return AttemptEnd::Throttled(progress.last_error);
            }
            if yields && progress.in_flight && begun.elapsed() >= self.patience * COPIES {
                match self.resolve(&request.transaction.id).await {
                    AttemptEnd::Unknown(why) => progress.last_error = why,
                    end => return end,
                }
            }
            if !backoff.wait_until(deadline).await {
                return self.give_up(&request, progress).await;
            }
            if self.bugs.has(InjectedBug::ResendOtherBytes) && progress.in_flight {
                let again = request.to_mut();
                again.transaction.id.attempt = self.entropy.next();
                again.encoded = again.transaction.encode();
            }
        }
    }

    /// Whether an attempt gives its slot up when it makes no progress. A large transaction that is written in steps
    /// keeps it, because its locks name it, and it has a lane of its own. Where every transaction is written in steps,
    /// the slot of a small one is poisoned, which makes its locks void.
    fn yields(&self, request: &CommitRequest) -> bool {
        let refs = &self.refdb.refs;
        let is_small = request.transaction.commands.len() <= limits::WRITE_COMMANDS;
        !refs.commits_in_steps(&request.transaction) || (refs.write_items() == 1 && is_small)
    }

    /// The end of the attempt, if this answer is one. A refusal while a copy is in flight is not certain yet: `confirm`
    /// checks it.
    fn judge(
        &self,
        request: &CommitRequest,
        answer: Result<CommitAnswer, RefDbError>,
        progress: &mut Progress,
    ) -> Option<AttemptEnd> {
        let mine = &request.transaction.id;
        match answer {
            Ok(CommitAnswer::Committed) => Some(AttemptEnd::Committed),
            Ok(CommitAnswer::Conflict) => {
                progress.last_error = "another write to the same refs was in progress".into();
                None
            }
            Ok(CommitAnswer::Refused(obstacles)) if landed(mine, &obstacles) => Some(AttemptEnd::Committed),
            Ok(CommitAnswer::Refused(obstacles)) => match occupant(&obstacles) {
                Some(what) => Some(AttemptEnd::SlotLost(what)),
                None if progress.in_flight && !is_final(&obstacles) => {
                    progress.last_error = format!("refused while an earlier copy is unanswered: {obstacles:?}");
                    None
                }
                None => Some(AttemptEnd::Refused(obstacles)),
            },
            Err(RefDbError::Unknown(why)) => {
                progress.in_flight = true;
                progress.last_error = why;
                None
            }
            Err(RefDbError::NotNow(why)) => {
                progress.last_error = why;
                None
            }
            Err(RefDbError::Broken(why)) if !progress.in_flight => Some(AttemptEnd::NotTaken { why, retry: false }),
            Err(RefDbError::Broken(why)) => {
                progress.last_error = why;
                None
            }
        }
    }

    /// Confirms a refusal. A stale ref that was seen while a copy is in flight may be that copy's own work, with later
    /// commits on top of it, so read the slot.
    async fn confirm(&self, request: &CommitRequest, end: AttemptEnd, progress: &Progress) -> AttemptEnd {
        match end {
            AttemptEnd::Refused(obstacles) if progress.in_flight => {
                let mine = &request.transaction.id;
                match self.refdb.journal.slot(&mine.slot).await {
                    Ok(SlotState::Empty) => AttemptEnd::Refused(obstacles),
                    Ok(state) => occupied(mine, &state),
                    Err(_) if self.bugs.has(InjectedBug::ErrorAsAbsent) => AttemptEnd::Refused(obstacles),
                    Err(error) => AttemptEnd::Unknown(error.to_string()),
                }
            }
            end => end,
        }
    }

    async fn give_up(&self, request: &CommitRequest, progress: Progress) -> AttemptEnd {
        if progress.in_flight {
            self.resolve(&request.transaction.id).await
        } else {
            AttemptEnd::NotTaken { why: progress.last_error, retry: true }
        }
    }

    /// With the injected bug `CommitWaitsForSites`, waits until every node has applied a transaction. Returns whether
    /// that was in time.
    pub async fn is_everywhere(&self, txn: &TxnId, deadline: Instant) -> bool {
        if !self.bugs.has(InjectedBug::CommitWaitsForSites) {
            return true;
        }
        let mut backoff =
            Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(50), Duration::from_millis(500));
        let Slot { lane, seq } = &txn.slot;
        loop {
            let nodes = self.refdb.nodes.nodes().await.unwrap_or_default();
            let is_applied = |node: &NodeRecord| node.expelled || node.mark(lane) > *seq;
            if !nodes.is_empty() && nodes.iter().all(is_applied) {
                return true;
            }
            if !backoff.wait_until(deadline).await {
                return false;
            }
        }
    }

    /// Resolves an attempt whose outcome is open: poisons its slot, unless the slot is occupied. Its content then tells
    /// the outcome.
    pub async fn resolve(&self, txn: &TxnId) -> AttemptEnd {
        let patience = Instant::now() + self.patience;
        match timeout_at(patience, self.refdb.journal.poison(&txn.slot)).await {
            Ok(Ok(state)) => occupied(txn, &state),
            Ok(Err(error)) => AttemptEnd::Unknown(error.to_string()),
            Err(_) => AttemptEnd::Unknown("no answer in time".into()),
        }
    }
}

/// Whether an obstacle shows that an earlier copy of this same transaction landed.
fn landed(mine: &TxnId, obstacles: &[Obstacle]) -> bool {
    obstacles.iter().any(|obstacle| match obstacle {
        Obstacle::Slot(SlotState::Committed(txn, _)) => txn == mine,
        Obstacle::Stale(item) => item.txn.as_ref() == Some(mine),
        Obstacle::Slot(_) | Obstacle::Locked(_) | Obstacle::IsDirectory(_) => false,
        Obstacle::PrefixIsLive(_) | Obstacle::LockNotHeld => false,
    })
}

/// The description of poison or of another transaction in the slot, if an obstacle shows it.
fn occupant(obstacles: &[Obstacle]) -> Option<String> {
    obstacles.iter().find_map(|obstacle| match obstacle {
        Obstacle::Slot(SlotState::Poisoned) => Some("the transaction's slot was poisoned".into()),
        Obstacle::Slot(SlotState::Committed(other, _)) => Some(format!("the transaction's slot holds {other}")),
        _ => None,
    })
}

/// Whether a ref is stale, or the operator lock is gone. Versions never go back, and no token comes back. So no copy
/// can land any more.
fn is_final(obstacles: &[Obstacle]) -> bool {
    obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::Stale(_) | Obstacle::LockNotHeld))
}

/// The end of an attempt, as the content of its slot shows it.
fn occupied(mine: &TxnId, state: &SlotState) -> AttemptEnd {
    match state {
        SlotState::Committed(txn, _) if txn == mine => AttemptEnd::Committed,
        SlotState::Committed(other, _) => AttemptEnd::SlotLost(format!("the transaction's slot holds {other}")),
        SlotState::Poisoned => AttemptEnd::SlotLost("the answer was lost, and the slot was poisoned".into()),
        SlotState::Empty => AttemptEnd::Unknown("the slot is empty".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::pending;

    use async_trait::async_trait;
    use bytes::Bytes;
    use lockstep_proto::{ProjectKey, ProjectName, RefKey};

    use super::*;
    use crate::base::clock::SeededEntropy;
    use crate::base::transaction_builder::TransactionBuilder;
    use crate::seams::refdb::memory::MemoryRefDb;
    use crate::seams::refdb::{JournalStore, Part, RefItem, RefStore};

    const PATIENCE: Duration = Duration::from_secs(2);

    /// A refdb that takes calls and answers none, or to which no connection is made.
    #[derive(Clone, Copy)]
    enum Away {
        Hangs,
        NotConnected,
    }

    impl Away {
        async fn answer<T>(self) -> Result<T, RefDbError> {
            match self {
                Self::Hangs => pending().await,
                Self::NotConnected => Err(RefDbError::NotNow("the call was not sent".into())),
            }
        }
    }

    #[async_trait]
    impl RefStore for Away {
        async fn commit(&self, _: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
            self.answer().await
        }

        async fn lock(&self, _: &Part) -> Result<CommitAnswer, RefDbError> {
            self.answer().await
        }

        async fn seal(&self, _: &TxnId, _: &Bytes) -> Result<SlotState, RefDbError> {
            self.answer().await
        }

        async fn seal_held(&self, _: &TxnId, _: &Bytes, _: &str) -> Result<SlotState, RefDbError> {
            self.answer().await
        }

        async fn flip(&self, _: &Part) -> Result<(), RefDbError> {
            self.answer().await
        }

        async fn release(&self, _: &ProjectKey, _: &TxnId, _: &[RefKey]) -> Result<(), RefDbError> {
            self.answer().await
        }

        async fn read(&self, _: &ProjectKey, _: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
            self.answer().await
        }

        async fn scan(&self, _: &ProjectKey, _: Option<&RefKey>, _: usize) -> Result<Vec<RefItem>, RefDbError> {
            self.answer().await
        }

        async fn projects(&self, _: Option<&ProjectName>, _: usize) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
            self.answer().await
        }
    }

    #[async_trait]
    impl JournalStore for Away {
        async fn slot(&self, _: &Slot) -> Result<SlotState, RefDbError> {
            self.answer().await
        }

        async fn poison(&self, _: &Slot) -> Result<SlotState, RefDbError> {
            self.answer().await
        }

        async fn collect(&self, _: &[Slot]) -> Result<(), RefDbError> {
            self.answer().await
        }
    }

    /// The end of an attempt, and the time that it takes beyond its deadline.
    async fn end(away: Away) -> (AttemptEnd, Duration) {
        let store = Arc::new(away);
        let refdb = RefDb { refs: Arc::clone(&store) as _, journal: store as _, ..MemoryRefDb::new().refdb() };
        let entropy = Arc::new(SeededEntropy::new(1));
        let attempts = Attempts { refdb, entropy, patience: PATIENCE, bugs: InjectedBugs::default() };
        let transaction = TransactionBuilder::in_slot(1).creates("main").build();
        let encoded = transaction.encode();
        let (directories, freed) = (Vec::new(), BTreeMap::new());
        let request = CommitRequest { transaction, encoded, directories, freed, lock_token: None };
        let deadline = Instant::now() + Duration::from_secs(5);
        let end = attempts.commit(&request, deadline).await;
        (end, Instant::now().saturating_duration_since(deadline))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refdb_that_hangs_leaves_the_outcome_unknown_and_one_that_was_not_reached_does_not() {
        let (hung, late) = end(Away::Hangs).await;
        assert!(matches!(hung, AttemptEnd::Unknown(_)), "a copy may have been sent: {hung:?}");
        assert!(late <= PATIENCE, "{late:?}");
        let (refused, late) = end(Away::NotConnected).await;
        assert!(matches!(refused, AttemptEnd::Throttled(_) | AttemptEnd::NotTaken { .. }), "{refused:?}");
        assert_eq!(late, Duration::ZERO);
    }
}
