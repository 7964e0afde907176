//! The apply stage: brings the committed transactions of all sites into this node's repositories.
//!
//! Version n+1 of a ref is applied onto n. A transaction that is not newer is skipped. A transaction that lacks
//! something is parked, and the missing part is fetched when it does not arrive in time. Objects are stored before refs
//! move, and all refs of a transaction move together or not at all. So duplicates and reordering are harmless.
//!
//! | file | idea |
//! |---|---|
//! | `event` | a transaction on its way through the stage |
//! | `plan` | decides to apply, skip or wait: a pure function |
//! | `atomic_apply` | applies transactions that go together: objects, then refs |
//! | `project` | the single writer of one project: batches, parking, quarantine |
//! | `reason` | why a transaction is parked or quarantined |
//! | `order` | the order in which fetched transactions are applied |
//! | `parked` | the parked transactions of one project in memory, and their bounds |
//! | `catch_up` | fetches whole transactions from the journal |
//! | `compare` | compares the refdb's answers with the version map: it may be older than this node |
//! | `set_aside` | the bad transactions of a catch-up, and all that builds on them |
//! | `hold_bad` | holds the bad transactions of a catch-up in quarantine |
//! | `fetched` | the transactions of a catch-up in memory, within the node's budget for parked and fetched ones |
//! | `light` | stores the objects of fetched transactions that are in memory without their packs |
//! | `held_back` | the refs that a state transfer must leave out because committed content is bad |
//! | `state_transfer` | takes the refdb's state of a project at once, where the journal no longer leads there |
//! | `refdb_items` | applies items of the refdb: objects from peers, then all refs |
//! | `restore_repository` | creates a missing repository anew, with objects from peers |

mod atomic_apply;
mod catch_up;
mod compare;
mod event;
mod fetched;
mod held_back;
mod hold_bad;
mod light;
mod order;
mod parked;
mod plan;
mod project;
mod reason;
mod refdb_items;
mod restore_repository;
mod set_aside;
mod state_transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::rebuild::LEAP;
use lockstep_proto::{ProjectName, Slot, Transaction};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

pub use atomic_apply::{UnitError, Units};
pub use catch_up::Catcher;
use event::Event;
pub use plan::{Step, plan};
pub use reason::{Contradiction, ParkReason};

use crate::base::budget::ByteBudget;
use crate::base::clock::{Clock, Entropy};
use crate::base::tasks::Tasks;
use crate::seams::volume::{HeldKind, NodeStore, StoreError, parked_pages};
use crate::stages::ports::{CatchUp, Done, Sink};
use crate::state::bound_refdb::BoundRefdb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::durability::Durability;
use crate::state::known_folders::KnownFolders;
use crate::state::low_water::LowWater;
use crate::state::quiesce::Quiesce;
use crate::state::signing::{NotSigned, Signing};
use crate::state::went_back::{Evidence, WentBack};

/// The bounds of the apply stage.
#[derive(Clone, Copy, Debug)]
pub struct ApplyLimits {
    /// The most transactions in one unit.
    pub batch: usize,
    /// The most transactions that wait for the writer of one project. At this bound the readers wait.
    pub queue: usize,
    /// How long a transaction is parked before its missing parts are fetched.
    pub patience: Duration,
    /// How long a writer lives without work.
    pub idle: Duration,
    /// The most bytes of the node's parked and fetched transactions in memory. A project with a parked one beyond it
    /// takes a state transfer; a fetched one beyond it is read again when it is applied.
    pub parked_bytes: u64,
    /// How long a transaction may be parked before its project takes a state transfer.
    pub parked_age: Duration,
}

impl Default for ApplyLimits {
    fn default() -> Self {
        let (patience, idle) = (Duration::from_millis(300), Duration::from_secs(60));
        let (parked_bytes, parked_age) = (256 << 20, Duration::from_secs(3_600));
        Self { batch: 128, queue: 512, patience, idle, parked_bytes, parked_age }
    }
}

/// The dependencies and bounds that all writers of a node share.
struct Shared {
    /// Applies transactions to the repositories.
    units: Units,
    /// Fetches missing transactions and objects.
    catch_up: Arc<dyn CatchUp>,
    /// Makes parked and quarantined transactions durable.
    durability: Durability,
    /// Notes which slots need nothing more at this node.
    low_water: Arc<LowWater>,
    /// Whether the refdb is older than this node.
    went_back: WentBack,
    /// Verifies the records of streams.
    signing: Arc<Signing>,
    /// Notes what cannot be brought up to date.
    debts: Arc<Debts>,
    /// The bytes of parked transactions in memory.
    parked: ByteBudget,
    /// The refdb that this node's volume belongs to.
    bound: Arc<BoundRefdb>,
    /// Waits for this node's commits in progress when a project loses its writability, or a name its mark.
    quiesce: Arc<Quiesce>,
    /// The directory marks that this node remembers.
    folders: Arc<KnownFolders>,
    /// The slots that are done once the commits in progress have ended.
    behind_commits: Mutex<BTreeSet<Slot>>,
    /// Writes this node's low-water marks into its record at once.
    beat: Arc<Notify>,
    /// The wall clock, for the times since which transactions are parked.
    clock: Arc<dyn Clock>,
    /// Randomness, for the jitter of retries.
    entropy: Arc<dyn Entropy>,
    /// The bounds of the stage.
    limits: ApplyLimits,
    /// Owns the tasks of the writers.
    tasks: Tasks,
}

/// The apply stage of one node: hands each event to the writer of its project.
#[derive(Clone)]
pub struct Applier {
    shared: Arc<Shared>,
    writers: Arc<Mutex<BTreeMap<ProjectName, mpsc::Sender<Event>>>>,
}

impl Applier {
    /// Creates the stage without writers. A project's writer starts with its first event.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        units: Units,
        catch_up: Arc<dyn CatchUp>,
        parked: ByteBudget,
        limits: ApplyLimits,
    ) -> Self {
        let NodeContext { clock, entropy, went_back, tasks, .. } = context.clone();
        let NodeState { durability, low_water, debts, bound, quiesce, folders, beat, signing, .. } = state.clone();
        let shared = Shared {
            units,
            catch_up,
            durability,
            low_water,
            went_back,
            signing,
            debts,
            parked,
            bound,
            quiesce,
            folders,
            behind_commits: Mutex::default(),
            beat,
            clock,
            entropy,
            limits,
            tasks,
        };
        Self { shared: Arc::new(shared), writers: Arc::default() }
    }

    /// Tries the held transactions again, because this start may bring a new release or a repair.
    async fn try_held_again(&self, store: &dyn NodeStore) -> Result<(), StoreError> {
        let quarantined = store.quarantined()?;
        self.shared.signing.kept(quarantined.values().filter(|held| held.kind == HeldKind::Unsigned).count());
        for held in quarantined.into_values() {
            if held.is_committed()
                && let Ok(transaction) = Transaction::outlined(&held.bytes)
            {
                self.offer(Arc::new(transaction), held.bytes, None, None).await;
            }
        }
        Ok(())
    }

    /// Whether a transaction was committed in a refdb from which the present one was rebuilt. The rebuild has taken its
    /// values, or the node that has them keeps them as strays. The record itself must not be applied: its versions are
    /// not of this refdb.
    fn is_of_other_refdb(&self, transaction: &Transaction) -> bool {
        transaction.id.slot.lane.incarnation.number.0 <= self.shared.bound.floor()
    }

    /// The evidence that a transaction was committed in a refdb that was rebuilt from the one of this node. It must not
    /// be applied: a ref that was created anew there has a low version.
    fn is_of_successor(&self, transaction: &Transaction) -> Option<Evidence> {
        let refdb = self.shared.bound.refdb()?;
        let number = transaction.id.slot.lane.incarnation.number.0;
        let is_beyond = number > refdb.floor.saturating_add(LEAP);
        is_beyond.then(|| Evidence::Succeeded { volume: refdb.id, txn: transaction.id.clone() })
    }

    async fn send_to_writer(&self, mut event: Event) {
        loop {
            let writer = self.writer(&event.transaction.project.name);
            match writer.send(event).await {
                Ok(()) => return,
                Err(back) => event = back.0,
            }
        }
    }

    fn writer(&self, project: &ProjectName) -> mpsc::Sender<Event> {
        let mut writers = self.writers.lock();
        if let Some(writer) = writers.get(project).filter(|writer| !writer.is_closed()) {
            return writer.clone();
        }
        writers.retain(|_, writer| !writer.is_closed());
        let (sender, events) = mpsc::channel(self.shared.limits.queue);
        let writer = project::Writer::new(project.clone(), Arc::clone(&self.shared));
        self.shared.tasks.spawn("apply", writer.run(events));
        writers.insert(project.clone(), sender.clone());
        sender
    }

    /// Takes up again the transactions that were parked when the node stopped.
    ///
    /// # Errors
    /// The node's store failed.
    pub async fn resume(&self, store: &dyn NodeStore) -> Result<(), StoreError> {
        for page in parked_pages(store) {
            for (id, held) in page? {
                match Event::resumed(held) {
                    Ok(event) => self.send_to_writer(event).await,
                    Err(error) => {
                        tracing::error!(%id, %error, "a parked transaction cannot be decoded; it stays parked");
                    }
                }
            }
        }
        self.try_held_again(store).await
    }
}

#[cfg(test)]
impl Applier {
    /// The stage of a node of tests, with the state of the node.
    fn of_node(context: &NodeContext) -> (Self, NodeState) {
        let state = NodeState::load(context, Duration::from_millis(1)).unwrap();
        let (units, budget) = (Units::new(context, &state), ByteBudget::new(1_000_000));
        let catch_up: Arc<dyn CatchUp> = Arc::new(Catcher::new(context, &state, units.clone(), budget.clone()));
        (Self::new(context, &state, units, catch_up, budget, ApplyLimits::default()), state)
    }
}

#[async_trait]
impl Sink for Applier {
    async fn offer(
        &self,
        transaction: Arc<Transaction>,
        bytes: Bytes,
        unsigned: Option<NotSigned>,
        done: Option<Done>,
    ) {
        let successor = self.is_of_successor(&transaction);
        if successor.is_some() || self.is_of_other_refdb(&transaction) {
            // A record that anybody may have written is no evidence.
            successor.filter(|_| is_of_a_site(unsigned.as_ref())).into_iter().for_each(|evidence| {
                self.shared.went_back.tell(evidence);
            });
            self.shared.units.observer.skipped(&transaction.site, &transaction.id);
            done.into_iter().for_each(|done| done());
            return;
        }
        self.send_to_writer(Event { transaction, bytes, unsigned, parked_since_ms: None, done }).await;
    }
}

/// Whether the signature of a record shows that a site made it, in whichever refdb, or need not show it.
fn is_of_a_site(unsigned: Option<&NotSigned>) -> bool {
    matches!(unsigned, None | Some(NotSigned::OtherRefdb(_)))
}
