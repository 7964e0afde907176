//! Ends debts as an operator asks: a quarantined transaction is tried again, or the refdb's values are taken in its
//! place.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::debt::{Repair, RepairAnswer};
use lockstep_proto::{ProjectName, Transaction};
use tokio::sync::oneshot;

use super::stages::Stages;
use crate::seams::volume::Held;
use crate::stages::ports::{CatchUpError, Sink};

/// The repairs of one node.
pub(super) struct Repairs<'a> {
    stages: &'a Stages,
}

impl<'a> Repairs<'a> {
    pub(super) fn new(stages: &'a Stages) -> Self {
        Self { stages }
    }

    /// Tries to end a debt.
    pub(super) async fn end(&self, repair: Repair) -> Result<RepairAnswer, ApiError> {
        match repair {
            Repair::Retry { entry } => self.retry(&entry).await,
            Repair::Accept { entry } => self.accept(&entry).await,
            Repair::Drop { entry } => self.drop_entry(&entry).await,
            Repair::RetryProject { project } => self.retry_project(&project).await,
        }
    }

    /// The record of an entry of the quarantine.
    fn record(&self, entry: &str) -> Result<Held, ApiError> {
        let mut all = self.stages.deps.store.quarantined().map_err(ApiError::unavailable)?;
        let absent = || format!("the quarantine has no entry {entry}; `lockstep quarantine` lists the entries");
        all.remove(entry).ok_or_else(|| ApiError::new(RefusalCode::Invalid, false, absent()))
    }

    /// The committed transaction of an entry, perhaps only its outline, with its bytes.
    fn committed(&self, entry: &str) -> Result<(Transaction, Bytes), ApiError> {
        let held = self.record(entry)?;
        let unfit = |why: String| ApiError::new(RefusalCode::Invalid, false, why);
        if !held.is_committed(entry) {
            return Err(unfit(format!("entry {entry} was never committed, and holds nothing back: drop it")));
        }
        let unreadable = |error| unfit(format!("entry {entry} cannot be read by this release: {error}"));
        let transaction = Transaction::outlined(&held.bytes).map_err(unreadable)?;
        Ok((transaction, held.bytes))
    }

    async fn retry(&self, entry: &str) -> Result<RepairAnswer, ApiError> {
        let (transaction, bytes) = self.committed(entry)?;
        let record = bytes.clone();
        let (done, looked_at) = oneshot::channel();
        let done = move || {
            // The caller may be gone.
            let _ = done.send(());
        };
        self.stages.applier.offer(Arc::new(transaction.clone()), bytes, None, Some(Box::new(done))).await;
        // A writer that ends without a word leaves the entry as it is.
        let _ = looked_at.await;
        let why = "it was tried again, and its content is still bad, or something else is missing";
        self.conclude(&transaction, &record, false, why).await
    }

    async fn accept(&self, entry: &str) -> Result<RepairAnswer, ApiError> {
        let (transaction, record) = self.committed(entry)?;
        let taken = self.stages.catch_up.transfer_state(&transaction.project.name).await;
        let why = match &taken {
            Ok(()) => "the refdb's state was taken, and the transaction is newer".to_owned(),
            Err(error) => format!("the refdb's values cannot be taken from peers: {error}"),
        };
        match taken {
            Ok(()) | Err(CatchUpError::LeftOut { .. }) => {
                self.conclude(&transaction, &record, taken.is_ok(), &why).await
            }
            Err(_) => Ok(RepairAnswer { done: false, message: why }),
        }
    }

    /// Ends the entry of a transaction whose refs have its versions, or newer ones, now. `taken` says that the whole
    /// project has the refdb's values.
    async fn conclude(
        &self,
        transaction: &Transaction,
        record: &Bytes,
        taken: bool,
        why: &str,
    ) -> Result<RepairAnswer, ApiError> {
        let state = &self.stages.state;
        let is_applied = match self.stages.context.long_forms.read(record).await {
            Ok(whole) => state.versions.has_applied(&whole).map_err(ApiError::unavailable)?,
            // No refs can be read from it. The whole project has the refdb's values now.
            Err(error) if taken && error.is_bad() => true,
            Err(error) => {
                let message = format!("{} stays in quarantine: it cannot be read: {error}", transaction.id);
                return Ok(RepairAnswer { done: false, message });
            }
        };
        if !is_applied {
            return Ok(RepairAnswer { done: false, message: format!("{} stays in quarantine: {why}", transaction.id) });
        }
        state.durability.wait_durable().await;
        state.debts.release(&transaction.id);
        state.durability.wait_durable().await;
        let project = &transaction.project.name;
        if state.debts.is_owed(project) {
            return self.retry_project(project).await;
        }
        Ok(RepairAnswer { done: true, message: format!("the refs of {} are up to date", transaction.id) })
    }

    async fn drop_entry(&self, entry: &str) -> Result<RepairAnswer, ApiError> {
        let held = self.record(entry)?;
        if held.is_committed(entry) {
            let message = format!(
                "entry {entry} was committed, and later moves of its refs wait for it: retry it, or accept the refdb's \
                 values in its place"
            );
            return Err(ApiError::new(RefusalCode::Invalid, false, message));
        }
        let durability = &self.stages.state.durability;
        durability.stage(|changes| changes.unquarantine.push(entry.to_owned()));
        durability.wait_durable().await;
        Ok(RepairAnswer { done: true, message: format!("entry {entry} was dropped") })
    }

    async fn retry_project(&self, project: &ProjectName) -> Result<RepairAnswer, ApiError> {
        let state = &self.stages.state;
        if !state.debts.is_owed(project) {
            let message = format!("project {project} is not owed at this node; `lockstep status` lists the debts");
            return Err(ApiError::new(RefusalCode::Invalid, false, message));
        }
        let begun = state.debts.begins();
        match self.stages.catch_up.bring_up_to_date(project).await {
            Ok(()) => {
                state.durability.wait_durable().await;
                state.debts.paid(project, begun);
                state.durability.wait_durable().await;
                Ok(RepairAnswer { done: true, message: format!("project {project} is up to date") })
            }
            Err(why) => {
                state.debts.failed(project, why.failure(), None);
                Ok(RepairAnswer { done: false, message: format!("project {project} stays degraded: {why}") })
            }
        }
    }
}
