//! Keeps the updates that this node had begun to commit, and that nobody committed, because its site was fenced
//! meanwhile. Each value is kept as a stray, so that nothing collects it, and is told to the observer, which lists it.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::status::UncommittedUpdate;
use lockstep_proto::{Oid, RefKey, RefValue, SiteId, Transaction};
use tokio::time::timeout;

use super::refusals::fenced;
use super::work::{Ended, Verdict, Work};
use crate::base::clock::Clock;
use crate::base::observer::Observer;
use crate::seams::refdb::{RefDb, Role};
use crate::state::context::{NodeContext, NodeState};
use crate::state::materialize::Materializer;
use crate::state::site_roles::SiteRoles;

/// Time limit of one call of the refdb.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the updates of one incarnation that nobody committed. Clones share one state.
#[derive(Clone)]
pub(super) struct Uncommitted {
    site: SiteId,
    /// The epoch of the site under which the incarnation was opened.
    epoch: u64,
    refdb: RefDb,
    roles: Arc<SiteRoles>,
    materializer: Materializer,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
}

impl Uncommitted {
    pub(super) fn new(context: &NodeContext, state: &NodeState, epoch: u64) -> Self {
        let NodeContext { site, refdb, clock, observer, .. } = context.clone();
        let NodeState { roles, materializer, .. } = state.clone();
        Self { site, epoch, refdb, roles, materializer, clock, observer }
    }

    /// Whether the site is known to have another role than the one under which the incarnation was opened. A site that
    /// drains ends its commits in order.
    fn is_known_over(&self) -> bool {
        self.roles.of(&self.site).is_some_and(|own| own.epoch > self.epoch && own.role != Role::Draining)
    }

    /// The same, as the refdb says. It is asked only if this node does not know it yet. None if it does not answer.
    pub(super) async fn is_over(&self) -> Option<bool> {
        if !self.is_known_over() {
            let answered = timeout(PATIENCE, self.refdb.sites.sites()).await;
            self.roles.note(answered.ok()?.ok()?);
        }
        Some(self.is_known_over())
    }

    /// Keeps those updates of a batch that the fence refused. A ref whose outcome is not known is left to the in-doubt
    /// resolver.
    pub(super) async fn keep_refused(&self, work: &Work, ended: &Ended) {
        let refused = work.intents.iter().zip(&ended.verdicts).filter(|(_, verdict)| is_fenced(verdict));
        let updates = refused.filter_map(|(intent, _)| {
            let old = intent.expected.as_ref().and_then(RefValue::oid);
            self.update(work, &intent.key, old, intent.new.oid())
        });
        self.keep(updates.collect()).await;
    }

    fn update(&self, work: &Work, key: &RefKey, old: Option<Oid>, new: Option<Oid>) -> Option<UncommittedUpdate> {
        let (project, name) = (work.project.name.clone(), key.as_ref_name()?.clone());
        Some(UncommittedUpdate { project, name, old, new, actor: work.actor.clone(), at_ms: self.clock.now_ms() })
    }

    /// Keeps the new values as strays, and tells the observer. A value whose objects are gone is told nevertheless.
    pub(super) async fn keep(&self, updates: Vec<UncommittedUpdate>) {
        for update in updates {
            if let Some(value) = update.new
                && let Err(error) = self.materializer.keep_stray(&update.project, &update.name, value).await
            {
                self.observer.failed("commit", &error);
            }
            self.observer.uncommitted(&update);
        }
    }
}

fn is_fenced(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(refusal) if *refusal == fenced())
}

/// The updates of a transaction.
pub(super) fn updates_of(transaction: &Transaction) -> Vec<UncommittedUpdate> {
    let updates = transaction.commands.iter().filter_map(|command| {
        Some(UncommittedUpdate {
            project: transaction.project.name.clone(),
            name: command.key.as_ref_name()?.clone(),
            old: command.old.oid(),
            new: command.new.oid(),
            actor: transaction.actor.clone(),
            at_ms: transaction.committed_at_ms,
        })
    });
    updates.collect()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use lockstep_proto::{Command, ProjectKey, TxnId};
    use parking_lot::Mutex;

    use super::super::InDoubtResolver;
    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;
    use crate::state::journal::{Journal, JournalLimits};

    const LATE: &str = "refs/heads/late";

    #[derive(Default)]
    struct Told(Mutex<Vec<UncommittedUpdate>>);

    impl Observer for Told {
        fn uncommitted(&self, update: &UncommittedUpdate) {
            self.0.lock().push(update.clone());
        }
    }

    /// A transaction is in doubt while its incarnation is poisoned, because the site was fenced, or because the node
    /// itself gave the transaction up.
    #[tokio::test]
    async fn the_updates_of_a_fenced_site_that_nobody_committed_are_kept_and_told() {
        for is_fenced in [true, false] {
            let (model, told) = (ModelRepositories::new(InjectedBugs::default()), Arc::new(Told::default()));
            let observer = Arc::clone(&told) as Arc<dyn Observer>;
            let repositories = Arc::new(model.clone());
            let context = NodeContext { repositories, observer, ..NodeContext::in_memory() };
            let state = NodeState::load(&context, Duration::from_secs(1)).unwrap();
            let incarnation = context.open_incarnation().await;
            let project: ProjectKey = "p#1".parse().unwrap();
            model.create(&project.name, &"refs/heads/main".parse().unwrap()).await.unwrap();
            let value = model.add_object(&project.name, &[], 1);
            let limits = JournalLimits { lanes: 1, window: 8, cache_bytes: 0 };
            let journal = Arc::new(Journal::new(incarnation.id, limits));
            let slot = journal.take(journal.lane_of(&project.name)).await;
            let id = TxnId { slot, attempt: 7 };
            let command = Command::creation(LATE.parse().unwrap(), RefValue::Oid(value));
            let transaction = Transaction {
                commands: vec![command],
                actor: "alice".to_owned(),
                committed_at_ms: 5,
                ..Transaction::empty(id, context.site.clone(), project.clone())
            };
            if is_fenced {
                let sites = context.refdb.sites.sites().await.unwrap();
                context.refdb.sites.change_role(&sites[0], Role::Fenced).await.unwrap();
            }
            let resolver = InDoubtResolver::new(&context, &state, journal, incarnation.epoch);
            let inside = state.quiesce.enter(&project.name).await;
            resolver.resolve_later(&transaction, transaction.encode(), Vec::new(), inside);
            resolver.resolve_rest().await;
            assert_eq!(resolver.open(), 0);
            let expected = if is_fenced { updates_of(&transaction) } else { Vec::new() };
            assert_eq!(*told.0.lock(), expected);
            let strays = state.materializer.strays(&project.name).await.unwrap();
            let kept: Vec<(String, Oid)> = strays.into_iter().map(|one| (one.name.to_string(), one.value)).collect();
            assert_eq!(kept, expected.iter().map(|_| (LATE.to_owned(), value)).collect::<Vec<_>>());
            // A batch that comes to its end late keeps the project from being closed no longer.
            let late = state.quiesce.enter(&project.name).await;
            resolver.resolve_later(&transaction, transaction.encode(), Vec::new(), late);
            assert!(state.quiesce.empty(&project.name).now_or_never().is_some());
        }
    }
}
