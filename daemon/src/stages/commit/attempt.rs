//! One transaction's way through the commit point: committed, refused or unknown, and nothing else.
//!
//! An attempt is resent with the very same bytes, or not at all. While the answer to a copy is missing, that copy may
//! still land: then "refused" is final only on another version of a ref (versions never go back) or once the slot is
//! occupied. What is still open at the deadline is settled by poisoning the slot: the conditional put either makes
//! every late copy impossible, or tells what is in the slot.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{TxnId, limits};
use tokio::time::{Instant, timeout_at};

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{CommitAnswer, CommitRequest, Obstacle, RefDb, RefDbError, SlotState};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It is true everywhere.
    Committed,
    /// It never happened and never will; the slot is empty.
    Refused(Vec<Obstacle>),
    /// It never happened and never will; the slot is poisoned, or holds another transaction.
    SlotLost(String),
    /// The refdb did not take it (and no copy is in flight): why, and whether a retry helps. The slot is empty.
    NotTaken {
        /// What the refdb said.
        why: String,
        /// Whether the same request may succeed later.
        retry: bool,
    },
    /// Nobody knows yet. The slot must be settled later.
    Unknown(String),
}

/// Sends attempts.
#[derive(Clone)]
pub struct Attempts {
    /// The global ref database.
    pub refdb: Arc<dyn RefDb>,
    /// For the jitter of retries.
    pub entropy: Arc<dyn Entropy>,
    /// How long one copy may take before another one is sent; of a transaction that goes in parts, for each part.
    pub patience: Duration,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

/// What is known of an attempt so far.
#[derive(Default)]
struct Progress {
    /// Whether a copy has no answer: it may land at any time.
    in_flight: bool,
    last_error: String,
}

impl Attempts {
    /// Sends a transaction until it is answered or `deadline` has passed, then settles it.
    pub async fn commit(&self, request: &CommitRequest, deadline: Instant) -> AttemptEnd {
        let mut progress = Progress::default();
        let mut backoff =
            Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(10), Duration::from_millis(500));
        let mut request = std::borrow::Cow::Borrowed(request);
        // A large transaction goes in parts, one after the other when the refdb throttles them.
        let parts = u32::try_from(1 + request.transaction.commands.len() / limits::WRITE_COMMANDS).unwrap_or(u32::MAX);
        loop {
            let patience = (Instant::now() + self.patience * parts).min(deadline);
            let answer = timeout_at(patience, self.refdb.commit(&request)).await;
            let answer = answer.unwrap_or_else(|_| Err(RefDbError::Unknown("no answer in time".into())));
            crate::base::faults::failpoint::reach("commit.answered");
            if let Some(end) = self.judge(&request, answer, &mut progress) {
                return self.confirm(&request, end, &progress).await;
            }
            if self.bugs.has(InjectedBug::RefusedInFlight) && progress.in_flight {
                let why = progress.last_error.clone();
                return AttemptEnd::NotTaken { why, retry: true };
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

    /// The end, if this answer is one. A refusal while a copy is in flight is only a suspicion: see `confirm`.
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
                progress.last_error = "another write to the same refs was under way".into();
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

    /// A stale ref, seen while a copy is in flight, may be that copy's own work, and more on top of it: look.
    async fn confirm(&self, request: &CommitRequest, end: AttemptEnd, progress: &Progress) -> AttemptEnd {
        match end {
            AttemptEnd::Refused(obstacles) if progress.in_flight => {
                let mine = &request.transaction.id;
                match self.refdb.slot(&mine.slot).await {
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
            self.settle(&request.transaction.id).await
        } else {
            AttemptEnd::NotTaken { why: progress.last_error, retry: true }
        }
    }

    /// Poisons the slot of an attempt whose fate is open, unless it is occupied: then it is known.
    pub async fn settle(&self, txn: &TxnId) -> AttemptEnd {
        let patience = Instant::now() + self.patience;
        match timeout_at(patience, self.refdb.poison(&txn.slot)).await {
            Ok(Ok(state)) => occupied(txn, &state),
            Ok(Err(error)) => AttemptEnd::Unknown(error.to_string()),
            Err(_) => AttemptEnd::Unknown("no answer in time".into()),
        }
    }
}

/// Whether an obstacle shows that an earlier copy of this very transaction landed.
fn landed(mine: &TxnId, obstacles: &[Obstacle]) -> bool {
    obstacles.iter().any(|obstacle| match obstacle {
        Obstacle::Slot(SlotState::Committed(txn, _)) => txn == mine,
        Obstacle::Stale(item) => item.txn.as_ref() == Some(mine),
        Obstacle::Slot(_) | Obstacle::Locked(_) | Obstacle::IsDirectory(_) | Obstacle::PrefixIsLive(_) => false,
    })
}

/// What else is in the slot.
fn occupant(obstacles: &[Obstacle]) -> Option<String> {
    obstacles.iter().find_map(|obstacle| match obstacle {
        Obstacle::Slot(SlotState::Poisoned) => Some("its slot was poisoned".into()),
        Obstacle::Slot(SlotState::Committed(other, _)) => Some(format!("its slot holds {other}")),
        _ => None,
    })
}

/// Versions never go back: with a stale ref no copy can land any more.
fn is_final(obstacles: &[Obstacle]) -> bool {
    obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::Stale(_)))
}

/// What an occupied slot says of an attempt at it.
fn occupied(mine: &TxnId, state: &SlotState) -> AttemptEnd {
    match state {
        SlotState::Committed(txn, _) if txn == mine => AttemptEnd::Committed,
        SlotState::Committed(other, _) => AttemptEnd::SlotLost(format!("its slot holds {other}")),
        SlotState::Poisoned => AttemptEnd::SlotLost("its answer was lost, and its slot was poisoned".into()),
        SlotState::Empty => AttemptEnd::Unknown("the slot is empty".into()),
    }
}
