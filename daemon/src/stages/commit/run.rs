//! Takes one batch from its intents to its verdicts: lock, propose, pack, commit, move, answer.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{RefKey, Slot};
use tokio::time::{Instant, timeout_at};

use super::attempt::AttemptEnd;
use super::build::NotReady;
use super::ends::{accept, not_known, refuse_carried, refuse_open, refuse_rest, refused, unknown};
use super::free_names::Freeing;
use super::preconditions::{NoProposal, Proposer};
use super::refusals::{
    fenced, forbids, is_behind, not_packed, not_taken, older_refdb, too_late, too_long, too_many, unavailable,
    withdrawn,
};
use super::repeated::Before;
use super::requests::{Doubt, Kept};
use super::under_lock::too_many_under_lock;
use super::unused_blob::UnusedBlob;
use super::work::{Ended, Proposal, Round, Verdict, Work};
use super::{Committer, build};
use crate::base::backoff::Backoff;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::blob::BlobError;
use crate::seams::refdb::{CommitRequest, Freed, Obstacle, SlotState};
use crate::state::materialize::{MaterializeError, OnMismatch};
use crate::state::quiesce::QuiesceGuard;
use crate::state::version_map::RefGuard;

/// A transaction that was sent, its slot, the end of its attempt, and its blobs.
type Sent = (CommitRequest, Slot, AttemptEnd, [UnusedBlob; 2]);

impl Committer {
    /// Runs a batch to its end. The future may be dropped only when the incarnation ends: a slot that it has taken must
    /// get its outcome, or its lane stands still.
    pub(super) async fn run(&self, work: &Work) -> Ended {
        let count = work.intents.len().max(1);
        let doubt = self.requests.doubt(&work.project.name, &work.request_id);
        if let Doubt::Slot(slot) = &doubt
            && !self.in_doubt.is_known(slot, work.deadline).await
        {
            return not_known(count, &"the global ref database does not answer");
        }
        match self.remembered(work) {
            Ok(Some(ended)) => return ended,
            Ok(None) => {}
            Err(error) => return not_known(count, &error),
        }
        let (ended, is_proven) = self.rounds(work, doubt != Doubt::None).await;
        // A refusal of this try says nothing about an earlier one whose outcome nothing tells.
        match doubt == Doubt::Open && !is_proven && ended.kept() == Kept::Nothing {
            true => not_known(count, &"this try was refused"),
            false => ended,
        }
    }

    /// Runs a batch round by round. Returns its end, and whether a search has proven that no earlier try was committed.
    /// `tried`: there may be such a try that the memory does not know. It can be found in the journal alone.
    async fn rounds(&self, work: &Work, mut tried: bool) -> (Ended, bool) {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; work.intents.len()];
        let (mut caught_up, mut freeing) = (false, Freeing::default());
        let mut backoff =
            Backoff::new(Arc::clone(&self.attempts.entropy), Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let round = self.round(work, &mut verdicts, caught_up, &freeing.freed).await;
            tried |= !matches!(round, Round::Behind { sent: false });
            match round {
                Round::Ended(ended) => return (ended, caught_up),
                Round::Behind { .. } => {
                    if let Some(ended) = self.behind(work, &mut verdicts, tried).await {
                        return (ended, false);
                    }
                    // A node that is behind again after it has caught up waits, so that no surprise runs hot.
                    if caught_up && !backoff.wait_until(work.deadline).await || Instant::now() >= work.deadline {
                        return (refuse_open(verdicts, &too_late()), true);
                    }
                    caught_up = true;
                }
                Round::Folders(names) => self.free_names(work, &names, &mut freeing, &mut verdicts).await,
                Round::Blocked(why) => {
                    if !backoff.wait_until(work.deadline).await {
                        return (refuse_open(verdicts, &why), caught_up);
                    }
                }
            }
        }
    }

    async fn round(&self, work: &Work, verdicts: &mut [Option<Verdict>], caught_up: bool, freed: &Freed) -> Round {
        let open: Vec<usize> = (0..work.intents.len()).filter(|at| verdicts[*at].is_none()).collect();
        let keys: Vec<RefKey> = open.iter().map(|at| work.intents[*at].key.clone()).collect();
        let Ok(inside) = timeout_at(work.deadline, self.quiesce.enter(&work.project.name)).await else {
            return Round::Ended(refuse_open(verdicts.to_vec(), &too_late()));
        };
        let guard = self.versions.locks.lock(&work.project.name, keys).await;
        if let Some(refused) = self.takes_no_commits(work) {
            return Round::Ended(refuse_open(verdicts.to_vec(), &refused));
        }
        if let Err(refused) = self.locked_out(work, verdicts, caught_up) {
            return self.kept_out(work, verdicts, caught_up, &refused);
        }
        let (repositories, bugs) = (self.repositories.as_ref(), self.attempts.bugs);
        let (versions, folders) = (self.versions.as_ref(), self.folders.as_ref());
        let proposer = Proposer { versions, folders, freed, repositories, caught_up, bugs };
        let proposal = match proposer.propose(work, verdicts).await {
            Ok(proposal) => proposal,
            Err(NoProposal::Behind) => return Round::Behind { sent: false },
            Err(NoProposal::Store(error)) => return Round::Ended(refuse_open(verdicts.to_vec(), &unavailable(&error))),
            Err(NoProposal::Git(error)) => return Round::Ended(refuse_open(verdicts.to_vec(), &not_packed(&error))),
        };
        if caught_up {
            self.mend(work, &open, verdicts).await;
        }
        if work.atomic && verdicts.iter().flatten().any(|verdict| matches!(verdict, Verdict::Refused(_))) {
            let message = "another command of this atomic batch was refused; nothing was changed";
            return Round::Ended(refuse_rest(verdicts, &Refusal::new(RefusalCode::Transaction, false, message)));
        }
        if let Some(refused) = too_many(&proposal).or_else(|| too_many_under_lock(work, &proposal)) {
            return Round::Ended(refuse_carried(verdicts, &proposal, &refused));
        }
        if proposal.commands.is_empty() {
            return self.only_local(work, verdicts).await;
        }
        self.send(work, verdicts, proposal, (guard, inside)).await
    }

    /// The refusal, if the refdb is older than this node, or if the project's phase, as far as this node knows it,
    /// forbids the batch.
    fn takes_no_commits(&self, work: &Work) -> Option<Refusal> {
        if self.went_back.is_known() {
            return Some(older_refdb());
        }
        if work.intents.iter().any(|intent| intent.key == RefKey::State) {
            return None;
        }
        match self.versions.project(&work.project.name) {
            Ok(state) => forbids(&work.project, state, work.seed.is_some()),
            Err(error) => Some(unavailable(&error)),
        }
    }

    async fn only_local(&self, work: &Work, verdicts: &[Option<Verdict>]) -> Round {
        let placed = self.materializer.materialize(&work.project, &[], &work.local, OnMismatch::Stop).await;
        let ended = match placed {
            Err(error) if !work.local.is_empty() => {
                Ended::all(verdicts.len().max(1), &Verdict::Refused(unavailable(&error)))
            }
            Ok(()) | Err(_) => refuse_open(verdicts.to_vec(), &too_late()),
        };
        Round::Ended(ended)
    }

    /// Takes the proposal through the commit point, and handles each way in which that can end.
    async fn send(
        &self,
        work: &Work,
        verdicts: &mut [Option<Verdict>],
        proposal: Proposal,
        (guard, inside): (RefGuard, QuiesceGuard),
    ) -> Round {
        let started = Instant::now();
        let packed = match build::pack(self, work, &proposal).await {
            Ok(packed) => packed,
            Err(why) => return self.not_ready(work, verdicts, &proposal, &why).await,
        };
        // The deadline bounds only the refdb's part: a large push is not refused because its objects took long to pack.
        let deadline = work.deadline + started.elapsed();
        let (request, slot, end, blobs) = match self.attempt(work, &proposal, packed, deadline).await {
            Ok(attempted) => attempted,
            Err(Some(refused)) => return Round::Ended(refuse_carried(verdicts, &proposal, &refused)),
            Err(None) => return Round::Ended(refuse_open(verdicts.to_vec(), &too_late())),
        };
        match end {
            AttemptEnd::Committed => {
                self.folders.remember(proposal.since, &work.project, &request.directories);
                let shown = self.committed(work, &request).await;
                drop(guard);
                self.observer.committed(&request.transaction, shown.is_ok(), started.elapsed());
                if !self.attempts.is_everywhere(&request.transaction.id, deadline).await {
                    return Round::Ended(unknown(verdicts, &proposal, request.transaction));
                }
                Round::Ended(accept(verdicts, &proposal, request.transaction, shown))
            }
            AttemptEnd::Unknown(why) => {
                self.observer.unknown(&request.transaction.id);
                self.leave_in_doubt(&request, &why, blobs, inside);
                Round::Ended(unknown(verdicts, &proposal, request.transaction))
            }
            AttemptEnd::SlotLost(why) => {
                self.observer.failed("commit", &format!("{}: {why}", request.transaction.id));
                self.slot_lost(&slot).await;
                match self.in_doubt.uncommitted.is_over().await {
                    Some(true) => Round::Ended(refuse_carried(verdicts, &proposal, &fenced())),
                    Some(false) | None => Round::Blocked(withdrawn()),
                }
            }
            AttemptEnd::Throttled(why) => {
                self.observer.failed("commit", &format!("{} was not taken: {why}", request.transaction.id));
                Round::Ended(refuse_carried(verdicts, &proposal, &not_taken(true)))
            }
            AttemptEnd::NotTaken { why, retry } => {
                self.observer.failed("commit", &format!("{} was not taken: {why}", request.transaction.id));
                self.not_used(&request, slot, inside);
                Round::Ended(refuse_carried(verdicts, &proposal, &not_taken(retry)))
            }
            AttemptEnd::Refused(obstacles) => {
                self.not_used(&request, slot, inside);
                self.note_locks(&obstacles);
                refused(work, verdicts, &proposal, &obstacles)
            }
        }
    }

    /// Hands a transaction without a known outcome to the in-doubt resolver.
    fn leave_in_doubt(&self, request: &CommitRequest, why: &str, blobs: [UnusedBlob; 2], inside: QuiesceGuard) {
        let id = &request.transaction.id;
        self.observer.failed("commit", &format!("{id} is in doubt: {why}"));
        self.in_doubt.resolve_later(&request.transaction, request.encoded.clone(), blobs.into(), inside);
    }

    /// Sends the transaction until its attempt ends, or the deadline has passed. While the refdb throttles it, each try
    /// takes a slot for a moment only, so that the other projects of the lane go on.
    ///
    /// # Errors
    /// The refusal, if the transaction does not fit into a slot. None if the deadline passed before there was a slot.
    async fn attempt(
        &self,
        work: &Work,
        proposal: &Proposal,
        (packed, pack): (build::Ready, UnusedBlob),
        deadline: Instant,
    ) -> Result<Sent, Option<Refusal>> {
        let lane = match proposal.commands.len() + 1 > self.limits.write_items {
            true => self.journal.large_lane(),
            false => self.journal.lane_of(&work.project.name),
        };
        let mut backoff =
            Backoff::new(Arc::clone(&self.attempts.entropy), Duration::from_millis(100), Duration::from_secs(2));
        loop {
            let slot = timeout_at(deadline, self.journal.take(lane)).await.map_err(|_| None)?;
            let request = build::request(self, work, proposal, packed.clone(), &slot);
            if let Some(refused) = too_long(&request) {
                self.journal.give_back(&slot);
                return Err(Some(refused));
            }
            let locator = self.long_forms.locator(&request.transaction, &request.encoded);
            let long_form = UnusedBlob::before_put(self, locator.map(|locator| locator.key));
            let request = match self.slot_bytes(&request).await {
                Ok(encoded) => CommitRequest { encoded, ..request },
                Err(refused) => {
                    self.journal.give_back(&slot);
                    return Err(Some(refused));
                }
            };
            long_form.is_stored();
            let noted =
                [&pack, &long_form].into_iter().try_for_each(|blob| blob.may_be_needed(&request.transaction.id));
            if let Err(error) = noted {
                self.journal.give_back(&slot);
                return Err(Some(unavailable(&error)));
            }
            crate::base::faults::failpoint::reach("commit.before_send");
            let end = match self.attempts.commit(&request, deadline).await {
                AttemptEnd::SlotLost(why) if self.in_doubt.proves(&slot).await != Some(true) => {
                    AttemptEnd::Unknown(why)
                }
                end => end,
            };
            [&pack, &long_form].into_iter().for_each(|blob| blob.ended(&end));
            crate::base::faults::failpoint::reach("commit.after_commit");
            if !matches!(end, AttemptEnd::Throttled(_)) {
                return Ok((request, slot, end, [pack, long_form]));
            }
            let has_locks = self.attempts.refdb.refs.commits_in_steps(&request.transaction);
            match has_locks || self.journal.is_in_the_way(&slot) {
                true => self.in_doubt.resolve_slot_later(slot.clone(), None),
                false => self.journal.give_back(&slot),
            }
            if !backoff.wait_until(deadline).await {
                return Ok((request, slot, end, [pack, long_form]));
            }
        }
    }

    /// The bytes for the slot: the transaction or its locator, with the signature of this site if it has a key. All
    /// copies of a commit have the same bytes, and so has the record that anybody publishes.
    async fn slot_bytes(&self, request: &CommitRequest) -> Result<Bytes, Refusal> {
        let bytes = self.store_long_form(request).await.map_err(|error| unavailable(&error))?;
        self.signing.sign(bytes).map_err(|why| unavailable(&why))
    }

    /// The bytes to be signed. If they are a locator, the long form is in the blob store when this returns.
    async fn store_long_form(&self, request: &CommitRequest) -> Result<Bytes, BlobError> {
        let (long_forms, transaction) = (self.long_forms.clone(), request.transaction.clone());
        let encoded = request.encoded.clone();
        match long_forms.locator(&transaction, &encoded) {
            Some(locator) if self.attempts.bugs.has(InjectedBug::LongFormAfterSlot) => {
                let late = async move { drop(long_forms.store(&transaction, encoded).await) };
                self.tasks.spawn("long form", late);
                Ok(locator.encode())
            }
            _ => long_forms.store(&transaction, encoded).await,
        }
    }

    /// Notes the locks among the obstacles, in case that their owners are dead.
    fn note_locks(&self, obstacles: &[Obstacle]) {
        let locked = obstacles.iter().filter_map(|obstacle| match obstacle {
            Obstacle::Locked(item) => item.lock.as_ref(),
            _ => None,
        });
        locked.for_each(|lock| self.locks.met(lock));
    }

    /// Handles a proposal without a pack. A flawed object refuses its own commands; the others of a batch that is not
    /// atomic go on without them, in another round.
    async fn not_ready(
        &self,
        work: &Work,
        verdicts: &mut [Option<Verdict>],
        proposal: &Proposal,
        why: &NotReady,
    ) -> Round {
        let refusal = why.refusal();
        if !work.atomic && why.is_flaw() && proposal.carried.len() > 1 {
            let flawed = build::flawed(self, work, proposal).await;
            if !flawed.is_empty() {
                for (at, refused) in flawed {
                    verdicts[at] = Some(Verdict::Refused(refused));
                }
                return Round::Blocked(refusal);
            }
        }
        Round::Ended(refuse_carried(verdicts, proposal, &refusal))
    }

    /// Follows up on a commit: tells the journal, and moves the local refs. The error says why the new values cannot be
    /// read here yet.
    async fn committed(&self, work: &Work, request: &CommitRequest) -> Result<(), MaterializeError> {
        let transaction = Arc::new(request.transaction.clone());
        self.committed.note(&transaction);
        let in_steps = self.attempts.refdb.refs.commits_in_steps(&transaction);
        self.plain_slots.note(&transaction, &request.encoded, in_steps);
        self.journal.committed(&transaction.id.slot, request.encoded.clone());
        let slice = std::slice::from_ref(&transaction);
        match self.materializer.materialize(&work.project, slice, &work.local, OnMismatch::Stop).await {
            Ok(()) => {
                self.durability.want();
                Ok(())
            }
            Err(error) => {
                self.observer.failed("commit", &format!("{} is committed, not yet visible: {error}", transaction.id));
                for command in &transaction.commands {
                    if let Err(error) = self.versions.committed_ahead(&work.project, &command.key, command.version) {
                        self.observer.failed("commit", &format!("{}: {error}", transaction.id));
                    }
                }
                let keys = transaction.commands.iter().map(|command| command.key.clone()).collect();
                self.catch_up.later(&work.project, keys);
                Err(error)
            }
        }
    }

    /// Handles the slot of a transaction that was not committed. A transaction that is written in steps may have left
    /// locks, whose meaning depends on the slot, so the slot must be resolved. Any other slot is given back.
    fn not_used(&self, request: &CommitRequest, slot: Slot, inside: QuiesceGuard) {
        if self.attempts.refdb.refs.commits_in_steps(&request.transaction) {
            self.in_doubt.resolve_slot_later(slot, Some(inside));
        } else {
            self.journal.give_back(&slot);
        }
    }

    /// Tells the journal the content of an occupied slot: poison, or another transaction (which should never happen).
    async fn slot_lost(&self, slot: &Slot) {
        match self.attempts.refdb.journal.slot(slot).await {
            Ok(SlotState::Poisoned) => self.journal.poisoned(slot),
            Ok(SlotState::Committed(_, bytes)) => self.journal.committed(slot, bytes),
            Ok(SlotState::Empty) | Err(_) => self.in_doubt.resolve_slot_later(slot.clone(), None),
        }
    }

    /// Catches up with all open keys: a transaction that one key leads to may take another key to a step that is not
    /// its last. Returns the end of the batch if this fails, or if the request turns out to be committed already. That
    /// can only be if it was `tried`, or if the memory has gaps.
    async fn behind(&self, work: &Work, verdicts: &mut [Option<Verdict>], tried: bool) -> Option<Ended> {
        let open = work.intents.iter().zip(&*verdicts).filter(|(_, verdict)| verdict.is_none());
        let keys: Vec<RefKey> = open.map(|(intent, _)| intent.key.clone()).collect();
        let caught = timeout_at(work.deadline, self.catch_up.keys(&work.project, &keys)).await;
        let refuse = |why: &dyn Display| Some(refuse_open(verdicts.to_vec(), &is_behind(why)));
        match caught {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return refuse(&error),
            Err(_) => return refuse(&"no answer in time"),
        }
        if !tried && !self.committed.has_gaps() {
            return None;
        }
        let mut backoff =
            Backoff::new(Arc::clone(&self.attempts.entropy), Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let why = match self.committed_before(&work.project, &work.request_id, &work.intents).await {
                Ok(Before::Found(ended)) => return Some(ended),
                Ok(Before::Not) => return None,
                Ok(Before::NotKnown) => return Some(not_known(verdicts.len(), &"it may be collected")),
                Err(why) => why,
            };
            if !backoff.wait_until(work.deadline).await {
                return Some(not_known(verdicts.len(), &why));
            }
        }
    }
}
