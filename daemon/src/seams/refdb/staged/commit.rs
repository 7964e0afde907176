//! The three steps of a commit under locks, and the way back from the first step.

use std::time::Duration;

use futures::{StreamExt, stream};
use lockstep_proto::RefKey;

use super::StagedRefs;
use crate::base::faults::failpoint;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{CommitAnswer, CommitRequest, Obstacle, Part, RefDbError, RefItem, SlotState, rules};

/// The most parts that are written at the same time. They are of one project, and so of one partition of the table.
const PARTS: usize = 4;
/// The most parts of one item each that are written at the same time.
const SINGLE_ITEMS: usize = 64;
/// The pause before a part that was not taken is tried again. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest of these pauses. After it the whole copy counts as not taken.
const LAST_PAUSE: Duration = Duration::from_millis(640);

impl StagedRefs {
    /// Sends one copy of a commit of any size. If a lock that stood against it is gone now, the answer is
    /// [`CommitAnswer::Conflict`], and the caller may try again at once.
    pub(super) async fn commit_any(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        rules::sound(request)?;
        if self.is_staged(&request.transaction) {
            return self.under_locks(request).await;
        }
        match self.in_one_write(request).await? {
            CommitAnswer::Refused(obstacles) if self.frees_any(request, &obstacles).await => Ok(CommitAnswer::Conflict),
            answer => Ok(answer),
        }
    }

    /// Commits in one write. Directories that do not fit into it are marked before: a mark raises no version, and
    /// stays.
    async fn in_one_write(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        let transaction = &request.transaction;
        let lock = usize::from(request.lock_token.is_some());
        if transaction.commands.len() + request.directories.len() + lock < self.most() {
            return self.inner.refs.commit(request).await;
        }
        match self.lock_all(&self.folders(transaction, &request.directories)).await? {
            CommitAnswer::Committed => {
                self.inner.refs.commit(&CommitRequest { directories: Vec::new(), ..request.clone() }).await
            }
            met => Ok(met),
        }
    }

    async fn under_locks(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        let transaction = &request.transaction;
        let parts = self.parts(transaction, &request.freed);
        let mut met = self.lock_all(&parts).await?;
        if met == CommitAnswer::Committed {
            met = self.lock_all(&self.folders(transaction, &request.directories)).await?;
        }
        match met {
            CommitAnswer::Committed => self.seal(request, &parts).await,
            CommitAnswer::Conflict => Ok(CommitAnswer::Conflict),
            CommitAnswer::Refused(obstacles) if self.frees_any(request, &obstacles).await => Ok(CommitAnswer::Conflict),
            CommitAnswer::Refused(obstacles) => self.back_out(request, &parts, obstacles).await,
        }
    }

    /// Handles a part that cannot be locked. Perhaps an earlier copy landed, and another node has moved this part
    /// already. Then the transaction is committed, and the refs that still have its locks are moved. Otherwise the slot
    /// is poisoned before any lock is removed, because a late copy of the removal would take the locks of a later copy
    /// of the commit.
    async fn back_out(
        &self,
        request: &CommitRequest,
        parts: &[Part],
        obstacles: Vec<Obstacle>,
    ) -> Result<CommitAnswer, RefDbError> {
        let id = &request.transaction.id;
        let state = match self.bugs.has(InjectedBug::ReleasedUnpoisoned) {
            true => self.inner.journal.slot(&id.slot).await,
            false => self.inner.journal.poison(&id.slot).await,
        };
        match state.map_err(not_begun)? {
            SlotState::Committed(txn, _) if txn == *id => {
                let _ = self.flip_all(parts).await;
                Ok(CommitAnswer::Committed)
            }
            _ => {
                self.release_all(parts).await;
                Ok(CommitAnswer::Refused(obstacles))
            }
        }
    }

    /// Writes the slot, which is the commit point. Then moves the refs, or removes the locks if the slot holds
    /// something else.
    async fn seal(&self, request: &CommitRequest, parts: &[Part]) -> Result<CommitAnswer, RefDbError> {
        failpoint::reach("commit.locked");
        let id = &request.transaction.id;
        let sealed = match &request.lock_token {
            Some(token) => self.inner.refs.seal_held(id, &request.encoded, token).await?,
            None => self.inner.refs.seal(id, &request.encoded).await?,
        };
        match sealed {
            // The operator lock is gone. An earlier copy may have landed while it was held.
            SlotState::Empty => self.back_out(request, parts, vec![Obstacle::LockNotHeld]).await,
            SlotState::Committed(txn, _) if txn == *id => {
                failpoint::reach("commit.sealed");
                // If a ref is not moved now, the next node that meets its lock moves it.
                let _ = self.flip_all(parts).await;
                Ok(CommitAnswer::Committed)
            }
            other => {
                self.release_all(parts).await;
                Ok(CommitAnswer::Refused(vec![Obstacle::Slot(other)]))
            }
        }
    }

    /// Locks the refs of all parts, and marks their directories. A part that was not taken is tried again by itself.
    /// Parts that are locked stay locked.
    async fn lock_all(&self, parts: &[Part]) -> Result<CommitAnswer, RefDbError> {
        let (mut left, mut obstacles): (Vec<&Part>, Vec<Obstacle>) = (parts.iter().collect(), Vec::new());
        let mut pause = FIRST_PAUSE;
        loop {
            let answers = self.a_few_at_once(left.iter().map(|part| self.lock_part(part)).collect()).await;
            let (mut again, mut why) = (Vec::new(), None);
            for (part, answer) in left.into_iter().zip(answers) {
                match answer {
                    Ok(CommitAnswer::Committed) => {}
                    Ok(CommitAnswer::Refused(met)) => obstacles.extend(met),
                    Ok(CommitAnswer::Conflict) => again.push(part),
                    Err(RefDbError::NotNow(text) | RefDbError::Unknown(text)) => {
                        again.push(part);
                        why = Some(text);
                    }
                    Err(error @ RefDbError::Broken(_)) => return Err(error),
                }
            }
            // Obstacles end the loop. A caller that has locked some parts then backs out, in any state of the others.
            if !obstacles.is_empty() {
                return Ok(CommitAnswer::Refused(obstacles));
            }
            if again.is_empty() {
                return Ok(CommitAnswer::Committed);
            }
            if pause > LAST_PAUSE {
                return why.map_or(Ok(CommitAnswer::Conflict), |why| Err(RefDbError::NotNow(why)));
            }
            tokio::time::sleep(pause).await;
            (left, pause) = (again, pause * 2);
        }
    }

    /// Moves the refs of all parts.
    pub(super) async fn flip_all(&self, parts: &[Part]) -> Result<(), RefDbError> {
        let flips = self.a_few_at_once(parts.iter().map(|part| self.flip_part(part)).collect()).await;
        flips.into_iter().collect()
    }

    /// Removes the locks of a transaction that is not in its slot. If this fails, the next node that meets a lock
    /// removes it.
    async fn release_all(&self, parts: &[Part]) {
        let keys = |part: &Part| part.commands.iter().map(|command| command.key.clone()).collect::<Vec<RefKey>>();
        let keys: Vec<Vec<RefKey>> = parts.iter().map(keys).collect();
        let releases = parts.iter().zip(&keys).map(|(part, keys)| self.release_part(part, keys));
        let _ = self.a_few_at_once(releases.collect()).await;
    }

    /// Runs calls, a few at a time. Returns their answers in order.
    async fn a_few_at_once<T>(&self, calls: Vec<impl Future<Output = T>>) -> Vec<T> {
        let most = if self.most() == 1 { SINGLE_ITEMS } else { PARTS };
        stream::iter(calls).buffered(most).collect().await
    }

    async fn lock_part(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        let answer = self.inner.refs.lock(part).await;
        if matches!(answer, Ok(CommitAnswer::Committed)) {
            failpoint::reach("commit.part_locked");
        }
        answer
    }

    async fn flip_part(&self, part: &Part) -> Result<(), RefDbError> {
        self.inner.refs.flip(part).await?;
        failpoint::reach("commit.part_moved");
        Ok(())
    }

    async fn release_part(&self, part: &Part, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.inner.refs.release(&part.project, &part.txn, keys).await?;
        failpoint::reach("commit.part_released");
        Ok(())
    }

    /// Whether a lock that stood in the way is gone now. If this is not known, the lock stays the answer.
    async fn frees_any(&self, request: &CommitRequest, obstacles: &[Obstacle]) -> bool {
        let locked = |obstacle: &Obstacle| match obstacle {
            Obstacle::Locked(item) => Some(item.clone()),
            _ => None,
        };
        let items: Vec<RefItem> = obstacles.iter().filter_map(locked).collect();
        let items: Vec<&RefItem> = items.iter().collect();
        self.free(&request.transaction.project, &items).await.unwrap_or(false)
    }
}

/// Before the slot was touched, a lost answer puts no commit in doubt.
fn not_begun(error: RefDbError) -> RefDbError {
    match error {
        RefDbError::Unknown(why) => RefDbError::NotNow(why),
        error => error,
    }
}
