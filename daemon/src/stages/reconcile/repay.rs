//! The repayer: brings degraded projects up to date, with growing pauses, and ends the entries of held transactions
//! whose values have come in another way.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectName, TxnId};
use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::blob::long_form::LongForms;
use crate::seams::volume::{NodeStore, StoreError};
use crate::stages::ports::CatchUp;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::durability::Durability;
use crate::state::version_map::VersionMap;

/// The pause between two looks for a debt that is due.
const LOOK: Duration = Duration::from_secs(1);
/// A look at the held transactions happens once per this many looks, because it reads their records.
const HELD_LOOKS: u64 = 30;

/// The repayer of one node.
pub struct Repayer {
    /// The debts of the node.
    debts: Arc<Debts>,
    /// Brings a project up to date.
    catch_up: Arc<dyn CatchUp>,
    /// Tells which versions are applied here.
    versions: Arc<VersionMap>,
    /// Makes applied values durable, before a debt ends.
    durability: Durability,
    /// Has the records of held transactions, and the note of restorations in progress.
    store: Arc<dyn NodeStore>,
    /// Reads held transactions that travel as locators.
    long_forms: LongForms,
    /// Receives every try that failed.
    observer: Arc<dyn Observer>,
}

impl Repayer {
    /// Creates the repayer, which brings projects up to date through `catch_up`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, catch_up: Arc<dyn CatchUp>) -> Self {
        let NodeContext { store, long_forms, observer, .. } = context.clone();
        let NodeState { debts, versions, durability, .. } = state.clone();
        Self { debts, catch_up, versions, durability, store, long_forms, observer }
    }

    /// Runs until the task is aborted.
    pub async fn run(self) {
        let mut looks: u64 = 0;
        loop {
            for project in self.debts.due() {
                self.repay(&project).await;
            }
            if looks.is_multiple_of(HELD_LOOKS)
                && let Err(why) = self.release_applied().await
            {
                self.observer.failed("repay", &why);
            }
            looks += 1;
            sleep(LOOK).await;
        }
    }

    async fn repay(&self, project: &ProjectName) {
        match self.store.facts() {
            // The repository restorer brings its objects first.
            Ok(facts) if facts.restoring.contains(project) => return,
            Ok(_) => {}
            Err(why) => return self.observer.failed("repay", &why),
        }
        let begun = self.debts.begins();
        match self.catch_up.bring_up_to_date(project).await {
            Ok(()) => {
                self.durability.wait_durable().await;
                self.debts.paid(project, begun);
            }
            Err(why) => {
                self.observer.failed("repay", &format!("{project} stays degraded: {why}"));
                // Its state is known if the repository can be read: then only refs are behind.
                self.debts.failed(project, why.failure(), None);
            }
        }
    }

    /// Ends the entry of every held transaction whose refs have its versions, or newer ones.
    async fn release_applied(&self) -> Result<(), StoreError> {
        let held = self.debts.held();
        if held.is_empty() {
            return Ok(());
        }
        let records = self.store.quarantined()?;
        let mut applied: Vec<TxnId> = Vec::new();
        for txn in held {
            let Some(record) = records.get(&txn.to_string()) else { continue };
            let Ok(transaction) = self.long_forms.read(&record.bytes).await else { continue };
            if self.versions.has_applied(&transaction)? {
                applied.push(txn);
            }
        }
        if !applied.is_empty() {
            self.durability.wait_durable().await;
            applied.iter().for_each(|txn| self.debts.release(txn));
        }
        Ok(())
    }
}
