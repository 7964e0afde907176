//! The term of one incarnation: the stages that run while it is open, and their end.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::Seq;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::stages::Stages;
use crate::base::backoff::Backoff;
use crate::seams::refdb::{IncarnationRecord, IncarnationState};
use crate::stages::commit::{CommitLimits, CommitPorts, Committer, InDoubtResolver, MarkWriter};
use crate::stages::membership::RegistryBarrier;
use crate::stages::publish::Publisher;
use crate::state::journal::Journal;

/// The term of the open incarnation of a node, if there is one.
pub(super) type CurrentTerm = Arc<Mutex<Option<Term>>>;

/// The running stages of an open incarnation.
#[derive(Clone)]
pub struct Term {
    /// The commit stage of this incarnation.
    pub committer: Arc<Committer>,
    journal: Arc<Journal>,
    in_doubt: InDoubtResolver,
    /// Cancelled when this node ends the incarnation itself.
    closing: CancellationToken,
    /// Cancelled when the stages must end.
    over: CancellationToken,
}

impl Term {
    /// Starts the stages of an incarnation that was just opened. They end with the term, or with the node.
    pub(super) fn begin(stages: &Stages, incarnation: &IncarnationRecord) -> Self {
        let (context, settings) = (&stages.context, &stages.deps.settings);
        let journal = Arc::new(Journal::new(incarnation.id.clone(), settings.journal));
        *stages.journal.lock() = Some(Arc::clone(&journal));
        let (closing, over) = (context.tasks.cancelled().child_token(), CancellationToken::new());
        let in_doubt = InDoubtResolver::new(context, &stages.state, Arc::clone(&journal), incarnation.epoch);
        let marks = MarkWriter::new(
            context,
            &stages.state,
            Arc::clone(&journal),
            incarnation.epoch,
            closing.clone(),
            settings.mark_pace,
        );
        let publisher = Publisher::new(context, Arc::clone(&journal));
        context.tasks.spawn("in-doubt", until(over.clone(), in_doubt.clone().run()));
        context.tasks.spawn("marks", until(over.clone(), marks.run()));
        context.tasks.spawn("publish", until(over.clone(), publisher.run()));
        let barrier = RegistryBarrier::new(context, Arc::clone(&stages.state.beat));
        let limits = CommitLimits {
            patience: settings.patience,
            deadline: settings.deadline,
            inline_pack_bytes: settings.inline_pack_bytes,
            write_items: settings.write_items,
            barrier_patience: settings.barrier_patience,
            freeing_patience: settings.freeing_patience,
        };
        let (catch_up, locks) = (Arc::clone(&stages.catch_up), Arc::clone(&stages.locks) as _);
        let ports = CommitPorts { catch_up, barrier: Arc::new(barrier), locks };
        let resolver = in_doubt.clone();
        let committer = Committer::new(context, &stages.state, Arc::clone(&journal), resolver, ports, limits);
        Self { committer: Arc::new(committer), journal, in_doubt, closing, over }
    }

    /// Expects the end of the incarnation: that it is frozen is no reason for the node to stop any more.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Freezes and poisons the incarnation, so that no other node has to wait for it. The commit stage takes nothing
    /// any more.
    pub(super) async fn freeze(&self, stages: &Stages) {
        self.close();
        let entropy = Arc::clone(&stages.deps.entropy);
        let mut backoff = Backoff::new(entropy, Duration::from_millis(50), Duration::from_secs(2));
        let site = &stages.deps.settings.site;
        while !stages.context.went_back.is_known() {
            let found = |slot: &_, state| self.journal.found(slot, state);
            match stages.fencer.fence_once(site, self.journal.id(), found).await {
                Ok(()) => return,
                Err(why) => stages.deps.observer.failed("member", &why),
            }
            backoff.wait().await;
        }
    }

    /// Finds the outcome of every transaction in doubt, once the incarnation is poisoned.
    pub(super) async fn resolve_rest(&self) {
        self.in_doubt.resolve_rest().await;
    }

    /// Waits until every settled slot is in the event log.
    pub(super) async fn publish_rest(&self) {
        while self.journal.marks().iter().any(|mark| mark.published < mark.settled) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Records that everything of the ended incarnation is published, if it is.
    pub(super) async fn close_journal(&self, stages: &Stages) {
        if stages.context.went_back.is_known() {
            return;
        }
        let refdb = &stages.deps.refdb;
        let marks: Vec<Seq> = self.journal.marks().iter().map(|mark| mark.published).collect();
        let done = async {
            let site = &stages.deps.settings.site;
            let own = refdb.incarnations.incarnations(site).await?.into_iter().find(|one| one.id == *self.journal.id());
            match own.filter(|own| own.state == IncarnationState::Poisoned) {
                Some(own) if own.ends() == marks => refdb.incarnations.drained(site, &own.id, &marks).await,
                Some(own) => refdb.incarnations.raise_published(site, &own.id, &marks).await,
                None => Ok(()),
            }
        };
        if let Err(why) = done.await {
            stages.deps.observer.failed("member", &why);
        }
    }

    /// Ends the stages. The publisher of leftovers does the rest of their work.
    pub(super) fn end(&self, stages: &Stages) {
        self.over.cancel();
        let mut running = stages.journal.lock();
        if running.as_ref().is_some_and(|running| Arc::ptr_eq(running, &self.journal)) {
            *running = None;
        }
    }
}

/// Runs a task until a token is cancelled.
async fn until(over: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = over.cancelled() => {}
        () = task => {}
    }
}
