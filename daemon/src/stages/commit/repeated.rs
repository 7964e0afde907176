//! Finds the first try of a request that a caller repeats: in the node's durable memory, and then in the chains of its
//! refs. A request that is found is never tried again.

use lockstep_proto::bridge::{ApiError, Refusal, RefusalCode};
use lockstep_proto::{ProjectKey, ProjectName, RefKey, RefValue, Transaction, TxnId};

use super::Committer;
use super::work::{Ended, Intent, Verdict, Work};
use crate::seams::blob::long_form::LongFormError;
use crate::seams::refdb::{RefDbError, SlotState};
use crate::seams::volume::{CommittedRequest, StoreError};

/// Number of transactions per ref among which a repeated request is looked for.
const LOOK_BACK: usize = 16;

/// Why an earlier try of a request cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookBackError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A slot could not be read from the refdb.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// A transaction of the chain cannot be read.
    #[error(transparent)]
    Unreadable(#[from] LongFormError),
}

/// The result of a search for the first try of a request.
#[derive(Debug)]
pub(super) enum Before<T> {
    /// The first try was committed.
    Found(T),
    /// It was not committed through this node.
    Not,
    /// Nothing proves either: this node's memory has gaps, and the chain is collected or long.
    NotKnown,
}

impl<T> Before<T> {
    /// The first try, if it was found.
    pub(super) fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Not | Self::NotKnown => None,
        }
    }

    fn map<U>(self, change: impl FnOnce(T) -> U) -> Before<U> {
        match self {
            Self::Found(found) => Before::Found(change(found)),
            Self::Not => Before::Not,
            Self::NotKnown => Before::NotKnown,
        }
    }
}

impl Committer {
    /// The answer to a request that this node remembers as committed. None if it remembers none.
    ///
    /// # Errors
    /// The node's own store failed.
    pub(super) fn remembered(&self, work: &Work) -> Result<Option<Ended>, StoreError> {
        match self.committed.find(&work.project.name, &work.request_id)? {
            Some(found) => self.replay(&work.project, &work.intents, &found),
            None => Ok(None),
        }
    }

    /// The answer to a request on a project that does not exist here, or no longer does.
    ///
    /// # Errors
    /// The node's own store failed.
    pub(super) fn remembered_of(
        &self,
        project: &ProjectName,
        request_id: &str,
        intents: &[Intent],
    ) -> Result<Option<Ended>, ApiError> {
        let found = self.committed.find(project, request_id).map_err(ApiError::unavailable)?;
        let Some(found) = found else { return Ok(None) };
        self.replay(&ProjectKey::of_name(project), intents, &found).map_err(ApiError::unavailable)
    }

    /// Looks for an earlier try of a request: its answer was lost, or this node restarted.
    ///
    /// # Errors
    /// The memory or the chain cannot be read now. Never take this for "no".
    pub(super) async fn committed_before(
        &self,
        project: &ProjectKey,
        request_id: &str,
        intents: &[Intent],
    ) -> Result<Before<Ended>, LookBackError> {
        if let Some(found) = self.committed.find(&project.name, request_id)?
            && let Some(ended) = self.replay(project, intents, &found)?
        {
            return Ok(Before::Found(ended));
        }
        let is_ours = |earlier: &Transaction| earlier.request_id == request_id && earlier.project == *project;
        let mut before = Before::Not;
        for intent in intents {
            // Only a ref that does not have the value that the request expects can have such a try.
            let known = self.versions.get(project, &intent.key)?;
            let value = known.as_ref().map_or(&RefValue::Absent, |known| &known.value);
            if intent.expected.as_ref().is_none_or(|expected| expected == value) {
                continue;
            }
            // The try may belong to an earlier project of this name, whose chains are gone.
            if project.incarnation > 1 && self.committed.has_gaps() {
                before = Before::NotKnown;
            }
            let Some(known) = known else { continue };
            match self.earlier_try(&intent.key, known.txn, is_ours).await? {
                Before::Found(earlier) => return Ok(Before::Found(replay(intents, &earlier))),
                Before::NotKnown => before = Before::NotKnown,
                Before::Not => {}
            }
        }
        Ok(before)
    }

    /// Searches a ref's chain backwards from a transaction for a try of a request. The chain proves that there was none
    /// only if it is read to its beginning. Without gaps in the memory no such proof is needed.
    pub(super) async fn earlier_try(
        &self,
        key: &RefKey,
        from: TxnId,
        is_ours: impl Fn(&Transaction) -> bool,
    ) -> Result<Before<Transaction>, LookBackError> {
        let without_proof = || if self.committed.has_gaps() { Before::NotKnown } else { Before::Not };
        let mut next = Some(from);
        for _ in 0..LOOK_BACK {
            let Some(txn) = next.take() else { return Ok(Before::Not) };
            let bytes = match self.attempts.refdb.journal.slot(&txn.slot).await? {
                SlotState::Committed(id, bytes) if id == txn => bytes,
                // The transaction is committed, so it was collected.
                SlotState::Committed(..) | SlotState::Poisoned | SlotState::Empty => return Ok(without_proof()),
            };
            let earlier = match self.long_forms.read(&bytes).await {
                Err(error) if error.is_absent() => return Ok(without_proof()),
                read => read?,
            };
            if is_ours(&earlier) {
                return Ok(Before::Found(earlier));
            }
            next = earlier.command(key).and_then(|command| command.predecessor.clone());
        }
        Ok(without_proof())
    }

    /// Whether the id of an operation on a project was committed, as its state's chain or the memory shows.
    ///
    /// # Errors
    /// As [`Committer::committed_before`].
    pub(super) async fn operated_before(&self, key: &ProjectKey, id: &str) -> Result<Before<TxnId>, LookBackError> {
        if let Some(found) = self.committed.find(&key.name, id)? {
            return Ok(Before::Found(found.txn));
        }
        let is_ours = |earlier: &Transaction| earlier.request_id == id && earlier.project.name == key.name;
        match self.versions.get(key, &RefKey::State)? {
            Some(known) => {
                let found = self.earlier_try(&RefKey::State, known.txn, is_ours).await?;
                Ok(found.map(|earlier| earlier.id))
            }
            None => Ok(Before::Not),
        }
    }

    /// The answer of a remembered try: its values can be read here if the version map is as far. None if the
    /// request has nothing in common with that try: then its caller has used the id for another request.
    fn replay(
        &self,
        project: &ProjectKey,
        intents: &[Intent],
        found: &CommittedRequest,
    ) -> Result<Option<Ended>, StoreError> {
        let mut verdicts = Vec::with_capacity(intents.len());
        for intent in intents {
            verdicts.push(match found.version_of(&intent.key, &intent.new) {
                Some(version) if self.versions.version(project, &intent.key)? >= version => Verdict::Committed,
                Some(_) => Verdict::NotYetVisible("this server is behind".to_owned()),
                None => refused_then(intent),
            });
        }
        let is_ours = verdicts.iter().any(|verdict| !matches!(verdict, Verdict::Refused(_)));
        Ok(is_ours.then(|| Ended { txn: Some(found.txn.clone()), verdicts }))
    }
}

/// The answer of an earlier try. Intents that its transaction carries are committed; the others were refused then.
fn replay(intents: &[Intent], earlier: &Transaction) -> Ended {
    let verdicts = intents.iter().map(|intent| match earlier.command(&intent.key) {
        Some(command) if command.new == intent.new => Verdict::Committed,
        _ => refused_then(intent),
    });
    Ended { txn: Some(earlier.id.clone()), verdicts: verdicts.collect() }
}

fn refused_then(intent: &Intent) -> Verdict {
    Verdict::Refused(Refusal::new(RefusalCode::Stale, false, format!("{} was refused at the first try", intent.key)))
}
