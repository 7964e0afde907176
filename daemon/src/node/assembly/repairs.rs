//! Ends debts as an operator asks: a quarantined or parked transaction is tried again, or the refdb's values are taken
//! in the place of a quarantined one.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::debt::{Repair, RepairAnswer};
use lockstep_proto::{ProjectName, RefKey, Transaction};
use tokio::sync::oneshot;

use super::stages::Stages;
use crate::seams::volume::{Held, parked_pages};
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
        if let Some(held) = all.remove(entry) {
            return Ok(held);
        }
        Err(ApiError::invalid(match self.parked(entry)? {
            Some(_) => format!(
                "{entry} is parked, and not in quarantine: it was committed at every site, and is applied once what it \
                 waits for has arrived; `lockstep quarantine retry {entry}` tries it now"
            ),
            None => format!("the quarantine has no entry {entry}; `lockstep quarantine list` lists the entries"),
        }))
    }

    /// The record of a parked transaction. None if it is not parked.
    fn parked(&self, entry: &str) -> Result<Option<Held>, ApiError> {
        for page in parked_pages(self.stages.deps.store.as_ref()) {
            let mut page = page.map_err(ApiError::unavailable)?.into_iter();
            if let Some((_, held)) = page.find(|(id, _)| id == entry) {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// The committed transaction of an entry, perhaps only its outline, with its bytes.
    fn committed(&self, entry: &str) -> Result<(Transaction, Bytes), ApiError> {
        let held = self.record(entry)?;
        let unfit = |why: String| ApiError::new(RefusalCode::Invalid, false, why);
        if !held.is_committed() {
            let way = format!("`lockstep quarantine discard {entry}` takes it out");
            return Err(unfit(format!("entry {entry} was never committed, and holds nothing back: {way}")));
        }
        let unreadable = |error| unfit(format!("entry {entry} cannot be read by this release: {error}"));
        let transaction = Transaction::outlined(&held.bytes).map_err(unreadable)?;
        Ok((transaction, held.bytes))
    }

    async fn retry(&self, entry: &str) -> Result<RepairAnswer, ApiError> {
        if let Some(held) = self.parked(entry)? {
            return self.retry_parked(entry, held).await;
        }
        let (transaction, record) = self.committed(entry)?;
        self.look_again(transaction.clone(), record.clone()).await;
        let why = "it was tried again, and its content is still bad, or something else is missing";
        self.conclude(&transaction, &record, false, why).await
    }

    /// Has the writer of its project try a transaction again. Returns once it has looked at it.
    async fn look_again(&self, transaction: Transaction, bytes: Bytes) {
        let (done, looked_at) = oneshot::channel();
        let done = move || {
            // The caller may be gone.
            let _ = done.send(());
        };
        self.stages.applier.offer(Arc::new(transaction), bytes, None, Some(Box::new(done))).await;
        // A writer that ends without a word leaves the record as it is.
        let _ = looked_at.await;
    }

    /// Brings the refs of a parked transaction up to the refdb's state, and has its record looked at again.
    async fn retry_parked(&self, entry: &str, held: Held) -> Result<RepairAnswer, ApiError> {
        let stays = |why: String| RepairAnswer { done: false, message: format!("{entry} stays parked: {why}") };
        let outline = match Transaction::outlined(&held.bytes) {
            Ok(outline) => outline,
            Err(error) => return Ok(stays(format!("it cannot be read by this release: {error}"))),
        };
        let whole = match self.stages.context.long_forms.read(&held.bytes).await {
            Ok(whole) => whole,
            Err(error) => return Ok(stays(format!("it cannot be read: {error}"))),
        };
        let keys = whole.commands.iter().map(|command| command.key.clone()).filter(|key| *key != RefKey::State);
        let keys: Vec<RefKey> = keys.collect();
        let mut tried = self.stages.catch_up.project(&whole.project.name).await;
        if tried.is_ok() {
            tried = self.stages.catch_up.keys(&whole.project, &keys).await;
        }
        self.look_again(outline, held.bytes).await;
        let state = &self.stages.state;
        if !state.versions.has_applied(&whole).map_err(ApiError::unavailable)? {
            let why = tried.err().map_or_else(|| held.reason.clone(), |error| error.to_string());
            return Ok(stays(why));
        }
        state.durability.wait_durable().await;
        Ok(RepairAnswer {
            done: true,
            message: format!("the refs of {entry} are up to date, and it is parked no more"),
        })
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
        if held.is_committed() {
            return Err(ApiError::invalid(format!(
                "entry {entry} was committed at every site, and later moves of its refs wait for it, so it cannot be \
                 discarded: `lockstep quarantine retry {entry}` tries it again, and `lockstep quarantine accept \
                 {entry}` takes the refdb's values in its place"
            )));
        }
        let durability = &self.stages.state.durability;
        durability.stage(|changes| changes.unquarantine.push(entry.to_owned()));
        durability.wait_durable().await;
        let bytes = held.bytes.len();
        let message = format!(
            "entry {entry} was discarded with its {bytes} bytes: it was never committed, and nothing of it was applied \
             here, so no value of a ref gives way, and there is no stray"
        );
        Ok(RepairAnswer { done: true, message })
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
