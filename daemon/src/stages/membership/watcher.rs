//! The watcher looks after nodes that seem to be gone: it fences their incarnations, decides who publishes what they
//! left, poisons the slots of locks that they left, and expels those that are away for too long. It does the same, at
//! once and for good, for the nodes of sites that were removed from the list.
//!
//! Safety never depends on its view. It runs apart from the heartbeats, so nothing that it waits for can stop them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::freeze_and_poison::Fencer;
use super::heir::{Gone, heir};
use super::lease::Leases;
use super::member::MemberLimits;
use super::met_locks::NotedLocks;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{IncarnationRecord, IncarnationState, NodeRecord, RefDb, RefDbError};
use crate::stages::ports::Leftovers;
use crate::state::bound_refdb::{self, BoundRefdb, Verdict};
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::gone_nodes::GoneNodes;
use crate::state::journal::Journal;
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::{Evidence, WentBack};

/// How long a node that has to start again serves its status still: an operator may wait for the end of the move.
const FAREWELL: Duration = Duration::from_secs(2);

/// The journal of the running incarnation, if one is open.
pub type Running = Arc<Mutex<Option<Arc<Journal>>>>;

/// Watches the other nodes on behalf of one node.
pub struct Watcher {
    /// The site of this node.
    site: SiteId,
    /// The name of this node.
    node: NodeId,
    /// The refdb with the registry of nodes and incarnations.
    refdb: RefDb,
    /// Learns from the records of other nodes which transactions they hold as bad.
    debts: Arc<Debts>,
    /// Fences the incarnations of nodes that are gone.
    fencer: Fencer,
    /// Publishes the slots that dead incarnations left.
    leftovers: Arc<dyn Leftovers>,
    /// The locks that stood in the way of a commit.
    locks: Arc<NotedLocks>,
    /// Receives each failure of a look.
    observer: Arc<dyn Observer>,
    /// The journal of this node's running incarnation, which the node publishes itself.
    running: Running,
    /// Cancelled when this node is fenced, and when it ends.
    fenced: CancellationToken,
    ended: CancellationToken,
    /// Whether the refdb is older than this node.
    went_back: WentBack,
    /// The refdb that this node's volume belongs to.
    bound: Arc<BoundRefdb>,
    /// Receives the nodes whose heartbeat stands still.
    gone: GoneNodes,
    /// Knows the sites that were removed from the list.
    roles: Arc<SiteRoles>,
    limits: MemberLimits,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

/// The heartbeats of all nodes as one watcher has seen them, against each of the three leases.
#[derive(Default)]
struct Views {
    lease: Leases,
    elsewhere: Leases,
    retention: Leases,
}

impl Watcher {
    /// Creates the watcher of a node.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        fencer: Fencer,
        leftovers: Arc<dyn Leftovers>,
        locks: Arc<NotedLocks>,
        running: Running,
        limits: MemberLimits,
    ) -> Self {
        let NodeContext { site, node, refdb, observer, fenced, went_back, bugs, .. } = context.clone();
        let (ended, debts, gone) = (context.tasks.cancelled(), Arc::clone(&state.debts), state.gone.clone());
        let roles = Arc::clone(&state.roles);
        let bound = Arc::clone(&state.bound);
        Self {
            site,
            node,
            refdb,
            debts,
            fencer,
            leftovers,
            locks,
            observer,
            running,
            fenced,
            ended,
            went_back,
            bound,
            gone,
            roles,
            limits,
            bugs,
        }
    }

    fn ends(&self) -> bool {
        self.fenced.is_cancelled() || self.ended.is_cancelled()
    }

    /// Watches until the task is aborted, the node is fenced, or it ends.
    pub async fn run(self) {
        let mut views = Views::default();
        while !self.ends() {
            // A look that fails says nothing, and holds up nothing else.
            if let Err(why) = self.look_at_identity().await {
                self.observer.failed("member", &why);
            }
            if let Err(why) = self.watch(&mut views).await {
                self.observer.failed("member", &why);
            }
            sleep(self.limits.beat).await;
        }
    }

    /// Looks whether the tables still hold the refdb of this node's volume. Before the node has joined, its volume may
    /// belong to none. A node that has seen a record of a later refdb may be about to follow a move.
    async fn look_at_identity(&self) -> Result<(), RefDbError> {
        let looks = matches!(self.went_back.evidence(), None | Some(Evidence::Succeeded { .. }));
        let Some(volume) = self.bound.refdb().filter(|_| looks) else { return Ok(()) };
        let found = bound_refdb::read(&self.refdb).await?.map(|(_, found)| found);
        self.bound.see(found.as_ref());
        let bound = bound_refdb::Volume { refdb: Some(&volume), id: "", has_memory: true };
        match bound_refdb::judge(bound, found.as_ref()) {
            Verdict::Refuse(evidence) => self.went_back.tell(evidence),
            Verdict::Move(found) => {
                self.went_back.tell(Evidence::OtherRefdb { volume: volume.id, found: Some(found.id) });
            }
            Verdict::Follow(to) => {
                tracing::warn!(%to, "the refdb has moved to other tables: the node ends, and its next start follows");
                sleep(FAREWELL).await;
                self.fenced.cancel();
            }
            Verdict::Same | Verdict::Propose | Verdict::Bind(_) => {}
        }
        Ok(())
    }

    /// One round. A step that fails for one node is tried again in the next round, and holds up no other step.
    async fn watch(&self, views: &mut Views) -> Result<(), RefDbError> {
        if self.went_back.is_known() {
            self.leftovers.publish(Vec::new());
            return Ok(());
        }
        if let Some(declared) = self.refdb.documents.went_back().await? {
            self.went_back.tell(Evidence::Declared { by: declared.by, why: declared.why });
            return Ok(());
        }
        let nodes = self.refdb.nodes.nodes().await?;
        self.debts.seen(&self.node, &nodes);
        let (now, limits) = (Instant::now(), &self.limits);
        let others = |gone: Vec<NodeId>| gone.into_iter().filter(|node| *node != self.node).collect::<BTreeSet<_>>();
        let gone = Gone {
            lately: others(views.lease.expired(&nodes, now, limits.lease)),
            long: others(views.elsewhere.expired(&nodes, now, limits.elsewhere)),
        };
        self.gone.set(gone.lately.clone());
        let away = others(views.retention.expired(&nodes, now, limits.retention));
        self.poison_locks(&gone).await;
        let records = self.refdb.incarnations().await?;
        let removed = self.removed().await?;
        let adopted = self.adopt(&records, &gone, &removed).await;
        let leaves = |node: &&NodeRecord| away.contains(&node.node) || removed.contains(&node.site);
        for node in nodes.iter().filter(|node| !node.expelled && node.node != self.node).filter(leaves) {
            if let Err(why) = self.expel(node, &records, removed.contains(&node.site)).await {
                self.observer.failed("member", &why);
            }
        }
        let records = if adopted { self.refdb.incarnations().await? } else { records };
        let left = records.into_iter().filter(|one| one.state == IncarnationState::Poisoned);
        let own = self.running.lock().as_ref().map(|journal| journal.id().clone());
        let mine = left.filter(|one| own != Some(one.id.clone()) && heir(one, &nodes, &gone) == Some(&self.node));
        self.leftovers.publish(if self.ends() { Vec::new() } else { mine.collect() });
        Ok(())
    }

    /// The sites that are removed now. Ask this after nodes and incarnations were read: a site that was added again has
    /// records that look the same. Nothing else may have read the list for hours, while this node joins.
    async fn removed(&self) -> Result<BTreeSet<SiteId>, RefDbError> {
        if self.roles.removed().is_empty() {
            return Ok(BTreeSet::new());
        }
        let sites = self.refdb.sites.sites().await?;
        Ok(sites.into_iter().filter(|one| one.removed).map(|one| one.site).collect())
    }

    /// Fences the incarnations of siblings that are gone, of nodes elsewhere that are gone for long, and of removed
    /// sites. Answers whether there were any.
    async fn adopt(&self, records: &[IncarnationRecord], gone: &Gone, removed: &BTreeSet<SiteId>) -> bool {
        let mut adopted = false;
        for one in records.iter().filter(|one| one.may_commit()) {
            let dead = if one.site == self.site { &gone.lately } else { &gone.long };
            let is_left = one.site != self.site && self.bugs.has(InjectedBug::NobodyElseAdopts);
            let is_over = dead.contains(&one.id.node) || removed.contains(&one.site);
            if !is_over || is_left {
                continue;
            }
            tracing::warn!(incarnation = %one.id, "the node of this incarnation, or its site, is gone; adopting it");
            adopted = true;
            if let Err(why) = self.fencer.fence_once(&one.site, &one.id, |_, _| {}).await {
                self.observer.failed("member", &why);
            }
        }
        adopted
    }

    /// Poisons the slots of locks that a commit has met, and whose owner is gone. Then the locks are void, and the next
    /// commit that meets them removes them.
    async fn poison_locks(&self, gone: &Gone) {
        for lock in self.locks.take() {
            if !gone.lately.contains(&lock.slot.lane.incarnation.node) {
                continue;
            }
            tracing::warn!(%lock, "the node of a transaction that locks refs is gone; poisoning its slot");
            if let Err(why) = self.refdb.journal.poison(&lock.slot).await {
                self.observer.failed("member", &why);
            }
        }
    }

    /// Expels a node, for which nothing is kept any more. Its incarnations are fenced first, so that it notices.
    async fn expel(
        &self,
        away: &NodeRecord,
        records: &[IncarnationRecord],
        is_removed: bool,
    ) -> Result<(), RefDbError> {
        for one in records.iter().filter(|one| one.id.node == away.node && one.may_commit()) {
            self.fencer.fence_once(&away.site, &one.id, |_, _| {}).await?;
        }
        let why = if is_removed {
            "its site was removed from the list: it takes no part any more"
        } else {
            "away for too long: it reconciles when it comes back"
        };
        tracing::error!(node = %away.node, why, "expelling a node");
        let expelled = NodeRecord { expelled: true, ..away.clone() };
        self.refdb.nodes.put_node(&expelled, Some(away)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{Incarnation, IncarnationId};

    use super::*;
    use crate::seams::refdb::{Role, SiteAnswer, SiteRecord};

    struct Nobody;

    impl Leftovers for Nobody {
        fn publish(&self, _: Vec<IncarnationRecord>) {}
    }

    /// A node of site `x` with an open incarnation, in a site that was removed and added again before it joined.
    async fn back(refdb: &RefDb) -> IncarnationId {
        let site: SiteId = "x".parse().unwrap();
        let added = SiteRecord::new(site.clone(), Role::Standby, 1);
        let removed = SiteRecord { removed: true, ..SiteRecord::new(site.clone(), Role::Fenced, 2) };
        let again = SiteRecord::new(site.clone(), Role::Standby, 3);
        for (from, to) in [(None, &added), (Some(&added), &removed), (Some(&removed), &again)] {
            assert_eq!(refdb.sites.change_site(from, to, 0).await, Ok(SiteAnswer::Changed));
        }
        let active = refdb.sites.change_role(&again, Role::Active).await.unwrap();
        refdb.nodes.put_node(&NodeRecord::first("x-0", "x"), None).await.unwrap();
        let id = IncarnationId { node: "x-0".parse().unwrap(), number: Incarnation(1) };
        let record = IncarnationRecord::open(id.clone(), site, active.epoch, 8, 1);
        refdb.incarnations.open_incarnation(&record).await.unwrap();
        id
    }

    /// Nothing but the watcher may read the list while a node joins, so what was read at its start may be hours old.
    #[tokio::test]
    async fn a_site_that_was_added_again_is_left_alone_although_this_node_knows_it_as_removed() {
        let context = NodeContext::in_memory();
        let state = NodeState::load(&context, std::time::Duration::from_secs(1)).unwrap();
        let id = back(&context.refdb).await;
        let old = SiteRecord { removed: true, ..SiteRecord::new("x".parse().unwrap(), Role::Fenced, 2) };
        state.roles.note(vec![old]);
        let fencer = Fencer::new(&context);
        let (leftovers, locks) = (Arc::new(Nobody), Arc::new(NotedLocks::default()));
        let watcher =
            Watcher::new(&context, &state, fencer, leftovers, locks, Running::default(), MemberLimits::default());
        watcher.watch(&mut Views::default()).await.unwrap();
        let found = context.refdb.incarnations().await.unwrap();
        assert_eq!((&found[0].id, found[0].state), (&id, IncarnationState::Open));
        assert!(!context.refdb.nodes.nodes().await.unwrap()[0].expelled);
        let site = context.refdb.sites.sites().await.unwrap().remove(0);
        let fenced = context.refdb.sites.change_role(&site, Role::Fenced).await.unwrap();
        let removed = SiteRecord { removed: true, epoch: fenced.epoch + 1, ..fenced.clone() };
        let answer = context.refdb.sites.change_site(Some(&fenced), &removed, 0).await;
        assert_eq!(answer, Ok(SiteAnswer::Changed));
        watcher.watch(&mut Views::default()).await.unwrap();
        let found = context.refdb.incarnations().await.unwrap();
        assert_ne!(found[0].state, IncarnationState::Open, "it was removed again");
        assert!(context.refdb.nodes.nodes().await.unwrap()[0].expelled);
    }
}
