//! One move of the running refdb to other tables, from its checks to its end.
//!
//! The identity of the old refdb is the fence and the pointer. `moving` closes the refdb: no incarnation is opened in
//! it. Then every incarnation ends, and its window is poisoned, so nothing can land any more. A copy that begins then
//! is final. `moved` names the new tables, and is the point of no return: one write, under the condition that the
//! identity has the revision of this run. The new refdb is opened after that, by the mover or by the first node that
//! follows. So at every moment at most one of the two takes commits.
//!
//! A run that dies is repeated, at any node: each step looks at the refdb alone. Until `moved`, an operator may abort.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{
    Builder, EPOCHS, KnownSite, LEAP, MOST_LISTED, Rebuild, RebuildRequest, RefdbIdentity, RefdbMove, RefdbState,
    SourceVolume, VersionsEntry,
};
use lockstep_proto::refdb_move::MoveStep;
use lockstep_proto::{NodeId, ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue, SiteId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::checks::{self, Lineage};
use super::error::RebuildError;
use super::merge::Merge;
use super::records;
use super::target::{Retry, Target, is_empty, wanted};
use crate::base::clock::Entropy;
use crate::base::faults::failpoint;
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::refdb::{Document, IncarnationRecord, IncarnationState, NodeRecord, Rebuilt, RefDb, RefItem, Tables};
use crate::stages::ports::Fencing;
use crate::state::bound_refdb::{self, BoundRefdb};
use crate::state::gone_nodes::GoneNodes;
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::WentBack;

/// The pause between two looks at the incarnations and nodes.
const LOOK: Duration = Duration::from_millis(500);
/// How long the owners have to end their incarnations themselves. After that, the mover fences those that are left.
const GRACE: Duration = Duration::from_secs(10);
/// The items of a page of the old refdb.
const PAGE: usize = 500;

/// A move with everything that it needs.
pub(super) struct MoveJob {
    pub(super) site: SiteId,
    pub(super) node: NodeId,
    pub(super) refdb: RefDb,
    pub(super) went_back: WentBack,
    pub(super) bound: Arc<BoundRefdb>,
    pub(super) roles: Arc<SiteRoles>,
    /// The nodes whose heartbeat stands still. They are not waited for.
    pub(super) gone: GoneNodes,
    pub(super) tables: Arc<dyn Tables>,
    pub(super) fencing: Arc<dyn Fencing>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Defects that a test has switched on.
    pub(super) bugs: InjectedBugs,
    pub(super) request: RebuildRequest,
    /// The report, which others read meanwhile.
    pub(super) report: Arc<Mutex<Rebuild>>,
}

impl MoveJob {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It was refused, or it failed: see [`RebuildError`].
    pub(super) async fn run(&self) -> Result<(), RebuildError> {
        let Some((revision, found)) = self.retry().call(|| bound_refdb::read(&self.refdb)).await? else {
            return Err(RebuildError::NotMovable("it has no identity yet: wait until a node has joined".to_owned()));
        };
        let aborts = self.request.moves.as_ref().is_some_and(|moves| moves.abort);
        match found.state {
            RefdbState::Moving => self.is_to_the_same_place(&found)?,
            RefdbState::Moved if !aborts => {
                self.is_to_the_same_place(&found)?;
                return if self.request.dry_run { Ok(()) } else { self.follow(&found).await };
            }
            RefdbState::Moved => return Err(RebuildError::HasMoved(self.request.place())),
            RefdbState::Ready | RefdbState::Building if aborts => return Err(RebuildError::NothingMoves),
            RefdbState::Ready => self.may_move(&found).await?,
            RefdbState::Building => {
                return Err(RebuildError::NotMovable("it is still being built".to_owned()));
            }
        }
        match aborts {
            _ if self.request.dry_run => Ok(()),
            true => self.abort(revision, found).await,
            false => self.go(revision, found).await,
        }
    }

    /// Moves the refdb, from its first step or from the step that an earlier run has reached.
    async fn go(&self, revision: u64, found: RefdbIdentity) -> Result<(), RebuildError> {
        let to = self.new_tables(&found).await?;
        self.step(MoveStep::Fence);
        let (revision, moving) = self.close(revision, found).await?;
        failpoint::reach("move.closed");
        self.fence(revision).await?;
        failpoint::reach("move.fenced");
        self.step(MoveStep::Drain);
        self.drain(revision).await?;
        failpoint::reach("move.drained");
        self.step(MoveStep::Copy);
        let target = self.copy(to, &moving).await?;
        failpoint::reach("move.copied");
        let moved = RefdbIdentity { state: RefdbState::Moved, ..moving };
        self.write(revision, &moved).await?;
        failpoint::reach("move.moved");
        self.step(MoveStep::Follow);
        target.complete().await
    }

    /// Ends a move whose mover died after the point of no return.
    async fn follow(&self, moved: &RefdbIdentity) -> Result<(), RebuildError> {
        self.step(MoveStep::Follow);
        let to = self.tables.at(&self.request.place());
        match self.retry().call(|| bound_refdb::open_moved(&to, &moved.id)).await? {
            true => Ok(()),
            false => Err(RebuildError::NotEmpty(self.request.into.clone())),
        }
    }

    /// Lets the old refdb take commits again. The new tables stay as they are, and no node uses them.
    async fn abort(&self, revision: u64, found: RefdbIdentity) -> Result<(), RebuildError> {
        let mut tables_before = found.tables_before.clone();
        // Their name must not be used again: they hold a part of this refdb.
        tables_before.extend(found.moves.as_ref().map(|moves| moves.to.prefix.clone()));
        let open = RefdbIdentity { state: RefdbState::Ready, moves: None, tables_before, ..found };
        self.write(revision, &open).await?;
        self.step(MoveStep::Aborted);
        Ok(())
    }

    /// Checks that nobody would be left behind, and that nothing else changes the refdb as a whole.
    async fn may_move(&self, found: &RefdbIdentity) -> Result<(), RebuildError> {
        let refuse = |why: String| Err(RebuildError::NotMovable(why));
        if let Some(evidence) = self.went_back.evidence() {
            return refuse(evidence.told());
        }
        if let Some(declared) = self.retry().call(|| self.refdb.documents.went_back()).await? {
            return refuse(format!("node {} has found out that it went back: {}", declared.by, declared.why));
        }
        if self.request.into == self.tables.current() {
            return refuse("it is in these tables already: if a move made them, that move is complete".to_owned());
        }
        checks::prefix(&self.request.into, &self.tables.current(), &self.lineage(found))?;
        if let Some(to) = self.roles.takes_over() {
            return refuse(format!("a failover to site {to} is in progress: end it, or abort it, first"));
        }
        let nodes = self.retry().call(|| self.refdb.nodes.nodes()).await?;
        of_earlier_release(&nodes).map_or(Ok(()), refuse)
    }

    /// Checks that the move in progress has the target of this request.
    fn is_to_the_same_place(&self, found: &RefdbIdentity) -> Result<(), RebuildError> {
        match found.moves.as_ref().map(|moves| &moves.to) {
            Some(to) if *to != self.request.place() => Err(RebuildError::OtherMove(to.clone())),
            _ => Ok(()),
        }
    }

    /// The new tables. They are empty, or of an earlier run of this move.
    async fn new_tables(&self, old: &RefdbIdentity) -> Result<RefDb, RebuildError> {
        let (to, into) = (self.tables.at(&self.request.place()), || self.request.into.clone());
        self.retry().call(|| to.setup.prepare(true)).await?;
        match self.retry().call(|| bound_refdb::read(&to)).await? {
            None if self.retry().call(|| is_empty(&to)).await? => Ok(to),
            Some((_, found)) if found.state == RefdbState::Building && found.covers(&old.id) => Ok(to),
            Some((_, found)) if found.state != RefdbState::Building => {
                Err(RebuildError::Complete { table: into(), id: found.id })
            }
            None | Some(_) => Err(RebuildError::NotEmpty(into())),
        }
    }

    /// Closes the refdb: from now on no incarnation is opened. Earlier runs of the move write nothing any more.
    async fn close(&self, revision: u64, found: RefdbIdentity) -> Result<(u64, RefdbIdentity), RebuildError> {
        let by = Builder { node: self.node.clone(), run: self.entropy.next() };
        let moves = Some(RefdbMove { to: self.request.place(), by });
        let moving = RefdbIdentity { state: RefdbState::Moving, moves, ..found };
        Ok((self.write(revision, &moving).await?, moving))
    }

    /// Writes the identity of the old refdb over this revision. Returns the new revision.
    async fn write(&self, revision: u64, identity: &RefdbIdentity) -> Result<u64, RebuildError> {
        let (revision, stored) = self.retry().call(|| bound_refdb::write(&self.refdb, revision, identity)).await?;
        if stored != *identity {
            return Err(RebuildError::Superseded);
        }
        self.bound.see(Some(identity));
        Ok(revision)
    }

    /// Checks that no other run, and no abort, has changed the identity since.
    async fn is_this_run(&self, revision: u64) -> Result<(), RebuildError> {
        let found = self.retry().call(|| bound_refdb::read(&self.refdb)).await?;
        match found.is_some_and(|(now, _)| now == revision) {
            true => Ok(()),
            false => Err(RebuildError::Superseded),
        }
    }

    /// Waits until nothing can be committed: every incarnation is poisoned. Owners that live end theirs in good order.
    /// The others are fenced. The refdb was closed before the first look, so no incarnation is missed.
    async fn fence(&self, revision: u64) -> Result<(), RebuildError> {
        let began = Instant::now();
        loop {
            self.is_this_run(revision).await?;
            let records = self.retry().call(|| self.refdb.incarnations()).await?;
            let open: Vec<&IncarnationRecord> = records.iter().filter(|one| one.may_commit()).collect();
            self.waits_for(open.iter().map(|one| format!("incarnation {}: it may commit still", one.id)).collect());
            if open.is_empty() {
                return Ok(());
            }
            if began.elapsed() >= GRACE {
                for one in open {
                    self.retry().call(|| self.fencing.fence(&one.site, &one.id)).await?;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until everything is published, and applied at every node that lives. The new refdb has no journal, so the
    /// objects of a transaction must be in the repositories by then.
    async fn drain(&self, revision: u64) -> Result<(), RebuildError> {
        loop {
            self.is_this_run(revision).await?;
            let records = self.retry().call(|| self.refdb.incarnations()).await?;
            let nodes = self.retry().call(|| self.refdb.nodes.nodes()).await?;
            let waits = not_drained(&records, &nodes, &self.gone.all());
            self.waits_for(waits.clone());
            if waits.is_empty() {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Copies refs and records into the new tables. Their identity keeps every node out.
    async fn copy(&self, to: RefDb, old: &RefdbIdentity) -> Result<Target, RebuildError> {
        let mut target = self.claim(&to, old).await?;
        let (mut merge, mut after) = (Merge::of_refdb(&self.site, &self.node), None::<ProjectName>);
        loop {
            let page = self.retry().call(|| self.refdb.refs.projects(after.as_ref(), PAGE)).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (name, item) in page {
                self.copy_project(&mut merge, &mut target, &name, item).await?;
            }
        }
        self.retry().call(|| records::copy(&self.refdb, &to)).await?;
        let sites = self.retry().call(|| self.refdb.sites.sites()).await?;
        let raised = sites.iter().map(KnownSite::from);
        let raised: Vec<KnownSite> =
            raised.map(|site| KnownSite { epoch: site.epoch.saturating_add(EPOCHS), ..site }).collect();
        self.report.lock().sites = raised.clone();
        target.put(raised.into_iter().map(Rebuilt::Site).collect()).await?;
        let locks = self.retry().call(|| records::last_locks(&self.refdb)).await?;
        target.put(locks.map(|locks| Rebuilt::Document(Document::Locks, locks)).into_iter().collect()).await?;
        target.flush().await?;
        Ok(target)
    }

    async fn copy_project(
        &self,
        merge: &mut Merge,
        target: &mut Target,
        name: &ProjectName,
        item: RefItem,
    ) -> Result<(), RebuildError> {
        let RefValue::State(state) = &item.value else { return Ok(()) };
        let (project, is_deleted) = (ProjectKey::new(name, state.incarnation), state.phase == ProjectPhase::Deleted);
        self.copy_item(merge, target, &project, item).await?;
        if is_deleted {
            return Ok(());
        }
        let mut after: Option<RefKey> = None;
        loop {
            let page = self.retry().call(|| self.refdb.refs.scan(&project, after.as_ref(), PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for item in page {
                self.copy_item(merge, target, &project, item).await?;
            }
        }
    }

    /// Copies one ref. An item without a transaction is a directory mark alone, which follows from the refs.
    async fn copy_item(
        &self,
        merge: &mut Merge,
        target: &mut Target,
        project: &ProjectKey,
        item: RefItem,
    ) -> Result<(), RebuildError> {
        let RefItem { key, version, value, txn, lock, .. } = item;
        if let Some(lock) = lock {
            return Err(RebuildError::Locked { project: project.clone(), key, lock });
        }
        let Some(txn) = txn else { return Ok(()) };
        let entry = VersionsEntry { project: project.clone(), key, version, value, txn };
        let items = merge.step(vec![(0, entry)], &mut self.report.lock());
        target.put(items).await
    }

    /// Marks the new tables as being built by this run.
    async fn claim(&self, to: &RefDb, old: &RefdbIdentity) -> Result<Target, RebuildError> {
        let (entropy, nodes) = (&self.entropy, self.retry().call(|| self.refdb.nodes.nodes()).await?);
        let (id, run) = (format!("{:016x}{:016x}", entropy.next(), entropy.next()), entropy.next());
        let by = Builder { node: self.node.clone(), run };
        let floor = self.floor(old, &nodes).await?;
        let earlier = self.retry().call(|| bound_refdb::read(to)).await?;
        let mut sources = earlier.map(|(_, found)| found.sources).unwrap_or_default();
        for node in nodes.into_iter().filter(|node| !node.reconciles()) {
            let source = SourceVolume { node: node.node, volume: node.volume };
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        let wanted = RefdbIdentity { sources, ..wanted(&self.request.into, id, self.lineage(old), floor, by) };
        let target = Target::claim(to.clone(), Arc::clone(entropy), wanted, true, self.bugs).await?;
        self.report.lock().identity = Some(target.id().to_owned());
        Ok(target)
    }

    /// The floor of the new incarnation numbers: above every number of the old refdb.
    async fn floor(&self, old: &RefdbIdentity, nodes: &[NodeRecord]) -> Result<u64, RebuildError> {
        let records = self.retry().call(|| self.refdb.incarnations()).await?;
        let mut highest = records.iter().map(|one| one.id.number.0).max().unwrap_or(0).max(old.floor);
        for NodeRecord { site, node, .. } in nodes {
            let last = self.retry().call(|| self.refdb.incarnations.last_incarnation(site, node)).await?;
            highest = highest.max(last);
        }
        Ok((highest / LEAP).saturating_add(1).saturating_mul(LEAP))
    }

    /// The refdbs before the new one, the old one included.
    fn lineage(&self, old: &RefdbIdentity) -> Lineage {
        let tables: BTreeSet<String> = old.tables_before.iter().cloned().chain([self.tables.current()]).collect();
        let ids = old.succeeds.iter().chain([&old.id]).cloned().collect();
        Lineage { ids, tables, newest: Some(old.clone()) }
    }

    fn step(&self, step: MoveStep) {
        tracing::warn!(into = %self.request.place(), step = step.told(), "the move of the refdb");
        let mut report = self.report.lock();
        (report.step, report.waits) = (Some(step), Vec::new());
    }

    fn waits_for(&self, mut waits: Vec<String>) {
        waits.truncate(MOST_LISTED);
        self.report.lock().waits = waits;
    }

    fn retry(&self) -> Retry<'_> {
        Retry(&self.entropy)
    }
}

/// Why nodes of an earlier release keep the refdb from moving. None if there are none that could come back.
fn of_earlier_release(nodes: &[NodeRecord]) -> Option<String> {
    let named = |is_earlier: fn(&NodeRecord) -> bool| {
        let earlier = nodes.iter().filter(|node| !node.expelled && is_earlier(node));
        earlier.map(|node| node.node.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (stay, lock) = (
        named(|node: &NodeRecord| !node.follows_moves),
        named(|node: &NodeRecord| node.follows_moves && !node.fences_locks),
    );
    let all = [
        (stay, "would not follow it"),
        (lock, "would go on changing locks of operators in the old tables while they are copied"),
    ];
    let told = all.into_iter().filter(|(nodes, _)| !nodes.is_empty());
    let told: Vec<String> = told.map(|(nodes, deed)| format!("nodes of an earlier release {deed}: {nodes}")).collect();
    let remedy = "upgrade them first. A node that is gone for good is expelled after lease.expelled_after";
    (!told.is_empty()).then(|| format!("{}; {remedy}", told.join("; ")))
}

/// The incarnations that are not published to their ends, and the nodes that have not applied everything. Nodes that
/// are gone, or reconcile, are not waited for: they take the state from the new refdb. But one node must be whole.
fn not_drained(records: &[IncarnationRecord], nodes: &[NodeRecord], gone: &BTreeSet<NodeId>) -> Vec<String> {
    let left = records.iter().filter(|one| one.state != IncarnationState::Drained);
    let mut waits: Vec<String> =
        left.map(|one| format!("incarnation {}: its transactions are not all published yet", one.id)).collect();
    let lives = |node: &&NodeRecord| !node.expelled && !node.reconciles() && !gone.contains(&node.node);
    let living: Vec<&NodeRecord> = nodes.iter().filter(lives).collect();
    let ends = || records.iter().flat_map(|one| one.id.lanes(one.published.iter().copied()));
    let lacks = |node: &NodeRecord| ends().map(|(lane, end)| end.0.saturating_sub(node.mark(&lane).0)).sum::<u64>();
    for node in &living {
        let lacks = lacks(node);
        if lacks > 0 {
            waits.push(format!("node {}: it has not applied {lacks} slots yet", node.node));
        }
    }
    if living.is_empty() {
        waits.push("a node that has applied everything: none lives".to_owned());
    }
    waits
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Seq;

    use super::*;

    fn incarnation(state: IncarnationState, published: u64) -> IncarnationRecord {
        let open = IncarnationRecord::open("n.1".parse().unwrap(), "s".parse().unwrap(), 1, 8, 1);
        IncarnationRecord { state, settled: vec![Seq(published)], published: vec![Seq(published)], ..open }
    }

    fn applied(node: &str, mark: u64) -> NodeRecord {
        NodeRecord { low_water: [("n.1.0".parse().unwrap(), Seq(mark))].into(), ..NodeRecord::first(node, "s") }
    }

    #[test]
    fn a_node_that_would_not_follow_or_that_changes_locks_meanwhile_refuses_the_move() {
        let ready = NodeRecord::first("n", "s");
        let earliest = NodeRecord { follows_moves: false, fences_locks: false, ..NodeRecord::first("k", "s") };
        let earlier = NodeRecord { fences_locks: false, ..NodeRecord::first("m", "s") };
        let gone = NodeRecord { expelled: true, ..earlier.clone() };
        assert_eq!(of_earlier_release(&[ready.clone(), gone]), None);
        let remedy = "; upgrade them first. A node that is gone for good is expelled after lease.expelled_after";
        let lock = "nodes of an earlier release would go on changing locks of operators in the old tables while they \
                    are copied: m";
        assert_eq!(of_earlier_release(&[ready.clone(), earlier.clone()]), Some(format!("{lock}{remedy}")));
        let stay = "nodes of an earlier release would not follow it: k";
        assert_eq!(of_earlier_release(&[earlier, earliest, ready]), Some(format!("{stay}; {lock}{remedy}")));
    }

    #[test]
    fn a_move_waits_for_what_is_not_published_and_for_living_nodes() {
        let drained = [incarnation(IncarnationState::Drained, 9)];
        let waits = |records: &[IncarnationRecord], nodes: &[NodeRecord], gone: &[&str]| {
            not_drained(records, nodes, &gone.iter().map(|node| node.parse().unwrap()).collect())
        };
        assert!(waits(&drained, &[applied("n", 9), applied("m", 12)], &[]).is_empty());
        let behind = waits(&drained, &[applied("n", 9), applied("m", 7)], &[]);
        assert_eq!(behind, ["node m: it has not applied 2 slots yet"]);
        assert!(waits(&drained, &[applied("n", 9), applied("m", 7)], &["m"]).is_empty(), "it takes the state later");
        let expelled = NodeRecord { expelled: true, ..applied("m", 0) };
        let joining = NodeRecord { volume: NodeRecord::reconciling("v"), ..applied("k", 0) };
        assert!(waits(&drained, &[applied("n", 9), expelled, joining.clone()], &[]).is_empty());
        let left = waits(&[incarnation(IncarnationState::Poisoned, 9)], &[applied("n", 9)], &[]);
        assert!(left.len() == 1 && left[0].contains("not all published"), "{left:?}");
        assert_eq!(waits(&drained, &[joining, applied("n", 9)], &["n"]).len(), 1, "nobody is whole");
    }
}
