//! Publishes the committed slots of dead incarnations that are not in the event log yet.
//!
//! Nobody waits for it. An incarnation is poisoned first, by any node that needs it, and its published marks in the
//! refdb tell how far this work is. So it survives every crash: membership names the incarnations that are this node's
//! to publish, and names them again until they are drained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lockstep_proto::{IncarnationId, Seq};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::carrier::{Carrier, Step};
use super::source::Left;
use crate::seams::refdb::{IncarnationRecord, RefDbError};
use crate::stages::ports::Leftovers;
use crate::state::context::NodeContext;

/// The interval at which the published marks are stored, and the pause after that failed.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// Publishes the journals of dead incarnations. Clones share one state.
#[derive(Clone)]
pub struct LeftoverPublisher {
    context: NodeContext,
    mine: Arc<Mutex<BTreeMap<IncarnationId, IncarnationRecord>>>,
    wake: Arc<Notify>,
}

impl Leftovers for LeftoverPublisher {
    fn publish(&self, mine: Vec<IncarnationRecord>) {
        *self.mine.lock() = mine.into_iter().map(|record| (record.id.clone(), record)).collect();
        self.wake.notify_one();
    }
}

impl LeftoverPublisher {
    /// Creates a publisher that has nothing to do yet.
    #[must_use]
    pub fn new(context: &NodeContext) -> Self {
        Self { context: context.clone(), mine: Arc::default(), wake: Arc::default() }
    }

    /// Publishes until the task is aborted. Incarnations are published concurrently, so a stream that is away holds up
    /// no other.
    pub async fn run(self) {
        let (mut running, mut ids) = (FuturesUnordered::new(), BTreeSet::new());
        loop {
            for record in self.mine.lock().values() {
                if ids.insert(record.id.clone()) {
                    running.push(self.carry(record.clone()));
                }
            }
            tokio::select! {
                biased;
                Some(id) = running.next() => drop(ids.remove(&id)),
                () = self.wake.notified() => {}
            }
        }
    }

    /// Publishes one incarnation, until it is drained or somebody else's to publish.
    async fn carry(&self, record: IncarnationRecord) -> IncarnationId {
        let id = record.id.clone();
        tracing::info!(incarnation = %id, "publishing the slots that this incarnation left");
        let source = Left { record, refdb: self.context.refdb.clone(), bugs: self.context.bugs };
        let mut carrier = Carrier::new(&self.context, source.record.site.clone(), &source);
        let (mut stored, mut last) = (source.record.published.clone(), Instant::now());
        // A node that was the publisher before may have got further. Its slots may be collected, so begin anew from its
        // marks.
        while self.newest(&id).is_some_and(|newest| !carrier.is_behind(&newest.published)) {
            let step = carrier.step(&source).await;
            let marks: Vec<Seq> = carrier.marks().into_iter().map(|(_, mark)| mark).collect();
            let is_done = step == Step::Idle && marks == source.record.ends();
            if is_done || (marks != stored && last.elapsed() >= STORE_EVERY) {
                last = Instant::now();
                match self.store(&source.record, &marks, is_done).await {
                    Ok(()) if is_done => drop(self.mine.lock().remove(&id)),
                    Ok(()) => stored = marks,
                    Err(why) => self.context.observer.failed("publish", &why),
                }
            }
            match step {
                Step::Busy => {}
                Step::Waits(until) => sleep_until(until).await,
                Step::Idle => sleep_until(Instant::now() + STORE_EVERY).await,
            }
        }
        id
    }

    /// The record of an incarnation as membership gave it last. None if it is not this node's to publish.
    fn newest(&self, id: &IncarnationId) -> Option<IncarnationRecord> {
        self.mine.lock().get(id).cloned()
    }

    async fn store(&self, record: &IncarnationRecord, marks: &[Seq], is_done: bool) -> Result<(), RefDbError> {
        let refdb = &self.context.refdb;
        if !is_done {
            return refdb.incarnations.raise_published(&record.site, &record.id, marks).await;
        }
        refdb.incarnations.drained(&record.site, &record.id, marks).await?;
        tracing::info!(incarnation = %record.id, "everything that this incarnation left is published");
        Ok(())
    }
}
