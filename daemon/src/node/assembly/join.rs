//! Joins a started node to the others: registers it, reconciles it if necessary, opens an incarnation, and catches up.
//!
//! Each step is retried until it succeeds, so the refdb and the event log may be unavailable for any length of time.
//! The local repositories can be read meanwhile.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use lockstep_proto::rebuild::RefdbIdentity;
use lockstep_proto::{LaneId, ProjectKey, ProjectName, ProjectPhase, Seq};
use tokio_util::sync::CancellationToken;

use super::follow_sites::FollowSites;
use super::front::Front;
use super::left_blobs;
use super::probes::NodeProbes;
use super::stages::Stages;
use super::streams_away;
use super::term::CurrentTerm;
use super::unremembered_requests;
use crate::base::backoff::Backoff;
use crate::base::tasks::Tasks;
use crate::seams::git::GitError;
use crate::seams::refdb::{MOST_NEEDS, NodeAnswer, NodeRecord, RefDbError};
use crate::seams::volume::{BlobsUnderWay, StoreError, VolumeFacts};
use crate::stages::api::readiness::Latch;
use crate::stages::membership::{EnrollError, OpenError, enroll, will_beat};
use crate::stages::ports::{Behind, CatchUpError, Probes};
use crate::state::bound_refdb::{self, Verdict};
use crate::state::debts::Begun;
use crate::state::low_water_extent::Extent;
use crate::state::materialize::MaterializeError;
use crate::state::went_back::{self, Evidence};

/// Why a step of joining failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    /// A call of the refdb failed. A retry may help.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The node's record in the refdb is now another one.
    #[error("the node's record has changed meanwhile: {0:?}")]
    Changed(Box<NodeRecord>),
    /// The refdb is older than this node, or not its own, so this node writes nothing into it.
    #[error("{}", .0.told())]
    WentBack(Box<Evidence>),
    /// The site of the node is not in the list of sites, or the list could not be read.
    #[error(transparent)]
    List(#[from] EnrollError),
    /// The refdb was rebuilt from the one of this volume, or has moved, which the node could not tell at its start.
    #[error("the refdb was rebuilt, or has moved to other tables: this node has to start again, to follow it")]
    Rebuilt,
    /// Earlier incarnations of this node could not be fenced.
    #[error(transparent)]
    Fence(#[from] OpenError),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation on a repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The refs of a repository could not be compared with the version map, or moved.
    #[error(transparent)]
    Materialize(#[from] MaterializeError),
    /// The node could not catch up.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// Some projects are behind, and a retry may help.
    #[error("{count} projects are behind, {first} first: {why}")]
    Behind {
        /// The number of projects.
        count: usize,
        /// The first of them, by name.
        first: ProjectName,
        /// Why it is behind.
        why: Box<CatchUpError>,
    },
    /// More projects are degraded than the node's record can name, so their journal could be lost.
    #[error("more than {MOST_NEEDS} projects cannot be brought up to date; see `degraded` in `lockstep status`")]
    TooManyDebts,
}

/// How often the node tries to bring every project up to date before it goes on with degraded ones.
const PATIENT_TRIES: u32 = 5;
/// Why a node whose site is in the list refuses commits before it has joined.
const TAKES_PART: &str = "\
    it joins the other nodes, and may have to take everything from the refdb and from peers first; `lockstep sites` \
    shows how far it is";

pub(super) struct Join {
    pub(super) stages: Arc<Stages>,
    pub(super) front: Arc<Front>,
    pub(super) term: CurrentTerm,
    pub(super) joined: Latch,
    pub(super) caught_up: Latch,
    /// Closed while the node comes back from a time in which its site was off.
    pub(super) came_back: Latch,
    pub(super) tasks: Tasks,
    pub(super) fenced: CancellationToken,
    pub(super) facts: VolumeFacts,
    /// Projects of unrecognised base paths: folders that are new, or that changed since this node last stopped. Their
    /// repositories may differ from the version map.
    pub(super) unrecognized: Vec<ProjectName>,
    /// The number of times that projects were behind although a retry might have helped.
    pub(super) impatience: AtomicU32,
    /// Whether this node looks after the others already.
    pub(super) watches: AtomicBool,
}

impl Join {
    pub(super) async fn run(self) {
        // Nothing is published or fenced in a refdb that is older than this node.
        self.until_ok("register", || self.first_look()).await;
        let record = self.until_ok("register", || self.register()).await;
        self.tasks.spawn("member", self.stages.member(record).run());
        let left = self.until_ok("requests", || self.recover_requests()).await;
        self.tasks.spawn("left-blobs", left_blobs::delete(Arc::clone(&self.stages), left));
        if let Err(error) = self.stages.applier.resume(self.stages.deps.store.as_ref()).await {
            tracing::error!(%error, "the parked transactions cannot be read from the node's store: the node stops");
            self.fenced.cancel();
            return;
        }
        self.consume().await;
        self.stages.forward_events();
        self.tasks.spawn("roles", self.stages.role_reader().run());
        self.tasks.spawn("locks", self.stages.lock_follower().run());
        self.tasks.spawn("failover", self.stages.failover_driver(self.probes()).run());
        self.follow_roles().await;
        self.leave().await;
    }

    /// Ends the node, because Lockstep was switched off at its site. The next start takes no part, and moves no refs.
    async fn leave(&self) {
        tracing::warn!("Lockstep was switched off at this site: the node ends, and its next start takes no part");
        self.front.close_out(&EnrollError::Off(self.stages.deps.settings.site.clone()).to_string());
        self.stages.state.comes_back.site_is_off(true);
        self.stages.state.durability.wait_durable().await;
        self.fenced.cancel();
    }

    fn probes(&self) -> Arc<dyn Probes> {
        Arc::new(NodeProbes { stages: Arc::clone(&self.stages), front: Arc::clone(&self.front) })
    }

    /// Applies every project's state. A project whose state cannot be applied takes no commits here.
    pub(super) async fn learn_states(&self) -> Result<(), JoinError> {
        let behind = self.stages.catch_up.projects().await?;
        self.may_go_on(&behind)?;
        let debts = &self.stages.state.debts;
        for (project, why) in &behind {
            debts.failed(project, why.failure(), Some(true));
        }
        let known = self.stages.state.versions.projects()?.into_keys();
        known.filter(|name| !behind.contains_key(name)).for_each(|name| debts.open(&name));
        Ok(())
    }

    /// Decides whether the node goes on with these projects degraded: at once if no retry helps, else after some tries.
    fn may_go_on(&self, behind: &Behind) -> Result<(), JoinError> {
        let retried = behind.iter().find(|(_, why)| why.retry_helps());
        let Some((first, why)) = retried else { return Ok(()) };
        if self.impatience.fetch_add(1, Ordering::SeqCst) + 1 < PATIENT_TRIES {
            let (count, first, why) = (behind.len(), first.clone(), Box::new(why.clone()));
            return Err(JoinError::Behind { count, first, why });
        }
        Ok(())
    }

    /// Retries a step until it succeeds, and reports each failure with the step's name.
    pub(super) async fn until_ok<T, E: Display, F>(&self, what: &'static str, step: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, E>>,
    {
        let entropy = Arc::clone(&self.stages.deps.entropy);
        let mut backoff = Backoff::new(entropy, Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match step().await {
                Ok(done) => return done,
                Err(why) => self.stages.deps.observer.failed("join", &format!("{what}: {why}")),
            }
            backoff.wait().await;
        }
    }

    /// Writes this node's record. If the record is missing, says that the node was expelled, or is of another volume,
    /// the node reconciles with the refdb: first positions, then values with versions. Meanwhile its record marks it as
    /// reconciling.
    async fn register(&self) -> Result<NodeRecord, JoinError> {
        let (deps, settings) = (&self.stages.deps, &self.stages.deps.settings);
        self.prepare().await?;
        let nodes = deps.refdb.nodes.nodes().await?;
        self.compare(&nodes).await?;
        self.bind().await?;
        self.enroll().await?;
        self.watch_others();
        let sites = self.stages.state.roles.changes().borrow().clone();
        self.stages.state.bound.note_sites(deps.store.as_ref(), &sites).await?;
        self.stages.state.debts.seen(&settings.node, &nodes);
        self.stages.state.low_water.listed(&deps.refdb.incarnations().await?);
        let previous = nodes.into_iter().find(|node| node.node == settings.node);
        // The low-water marks stay valid after a boot, because everything below them was synced.
        let is_continued = previous.as_ref().is_some_and(|before| {
            before.volume == self.facts.id && before.starts < self.facts.starts && !before.expelled
        }) && !self.is_snapshot(previous.as_ref()).await?;
        let reconciles = !is_continued || self.facts.reconciles;
        let starts = previous.as_ref().map_or(0, |before| before.starts).max(self.facts.starts - 1) + 1;
        let Extent { low_water, whole } = match is_continued {
            true => self.stages.state.low_water.extent(),
            false => Extent::default(),
        };
        let mut record = NodeRecord {
            node: settings.node.clone(),
            site: settings.site.clone(),
            volume: if reconciles { NodeRecord::reconciling(&self.facts.id) } else { self.facts.id.clone() },
            starts,
            beat: previous.as_ref().map_or(0, |before| before.beat) + 1,
            expelled: false,
            low_water,
            whole,
            needs: self.stages.state.debts.needs(),
            frees_names: true,
            obeys_locks: 0,
            follows_moves: true,
            fences_locks: true,
        };
        self.put(&record, previous.as_ref()).await?;
        if reconciles {
            // The notes may be of another moment than the refdb.
            deps.store.forget_blobs()?;
            // A node that never had an incarnation has committed nothing, so its memory lacks nothing.
            if deps.refdb.incarnations.last_incarnation(&settings.site, &settings.node).await? > 0 {
                self.stages.state.requests.skipped_some();
            }
            self.reconcile_and_beat(&mut record, starts).await?;
            if let Some(evidence) = self.stages.context.went_back.evidence() {
                return Err(JoinError::WentBack(Box::new(evidence)));
            }
            let Extent { low_water, whole } = self.stages.state.low_water.extent();
            let done = NodeRecord {
                volume: self.facts.id.clone(),
                beat: record.beat + 1,
                low_water,
                whole,
                needs: self.stages.state.debts.needs(),
                ..record.clone()
            };
            record = self.put_after_beats(done, &record).await?;
        }
        self.stages.context.went_back.recognize(true);
        Ok(record)
    }

    /// Recovers the requests that this node committed and did not durably remember. It fences the node's earlier
    /// incarnations first, so that nothing can come into their slots any more. No low-water mark may move before. A
    /// mark above such a transaction hides it from the next start, if this one ends early. Returns the blobs that the
    /// last process left.
    async fn recover_requests(&self) -> Result<BlobsUnderWay, JoinError> {
        self.stages.opener().fence_earlier().await?;
        unremembered_requests::recover_requests(&self.stages).await?;
        Ok(left_blobs::of_last_process(&self.stages)?)
    }

    pub(super) async fn put(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<(), JoinError> {
        will_beat(self.stages.deps.store.as_ref(), record).await?;
        match self.stages.deps.refdb.nodes.put_node(record, previous).await? {
            NodeAnswer::Written => Ok(()),
            NodeAnswer::Gone => Err(JoinError::WentBack(Box::new(Evidence::NoRecord))),
            NodeAnswer::Differs(now) => Err(JoinError::Changed(Box::new(now))),
        }
    }

    /// Compares the refdb with this node before any task of the node acts on it.
    async fn first_look(&self) -> Result<(), JoinError> {
        self.prepare().await?;
        self.compare(&self.stages.deps.refdb.nodes.nodes().await?).await
    }

    /// Checks the tables. A node whose volume belongs to a refdb creates none: they would be empty.
    async fn prepare(&self) -> Result<(), JoinError> {
        let is_new = self.stages.state.bound.refdb().is_none();
        Ok(self.stages.deps.refdb.setup.prepare(is_new).await?)
    }

    /// Whether the refdb is the one of this volume. `Err` with evidence if the node must not use it.
    async fn verdict(&self) -> Result<Verdict, JoinError> {
        let (deps, volume) = (&self.stages.deps, self.stages.state.bound.refdb());
        let has_memory = bound_refdb::has_memory(deps.store.as_ref())?;
        let found = bound_refdb::read(&deps.refdb).await?.map(|(_, found)| found);
        self.stages.state.bound.see(found.as_ref());
        let volume = bound_refdb::Volume { refdb: volume.as_ref(), id: &self.facts.id, has_memory };
        Ok(bound_refdb::judge(volume, found.as_ref()))
    }

    /// Binds a volume that belongs to no refdb yet to this one. The first node gives the refdb its identity.
    async fn bind(&self) -> Result<(), JoinError> {
        let deps = &self.stages.deps;
        let mut verdict = self.verdict().await?;
        if verdict == Verdict::Propose {
            let id = format!("{:016x}{:016x}", deps.entropy.next(), deps.entropy.next());
            // Another node may have been faster. Then this is its identity.
            let (_, stored) = bound_refdb::write(&deps.refdb, 0, &RefdbIdentity::first(id)).await?;
            let has_memory = bound_refdb::has_memory(deps.store.as_ref())?;
            let volume = bound_refdb::Volume { refdb: None, id: &self.facts.id, has_memory };
            verdict = bound_refdb::judge(volume, Some(&stored));
        }
        let found = match verdict {
            Verdict::Same => return Ok(()),
            Verdict::Bind(found) => found,
            Verdict::Move(_) | Verdict::Follow(_) | Verdict::Propose => return Err(JoinError::Rebuilt),
            Verdict::Refuse(evidence) => return Err(JoinError::WentBack(Box::new(evidence))),
        };
        tracing::info!(refdb = found.id, "this volume belongs to this refdb from now on");
        Ok(self.stages.state.bound.bind(deps.store.as_ref(), found).await?)
    }

    /// Compares the refdb with the knowledge of this node's volume, before anything is written into the refdb.
    async fn compare(&self, nodes: &[NodeRecord]) -> Result<(), JoinError> {
        let (deps, settings) = (&self.stages.deps, &self.stages.deps.settings);
        let went_back = &self.stages.context.went_back;
        match self.verdict().await? {
            Verdict::Refuse(evidence) => {
                went_back.tell(evidence.clone());
                return Err(JoinError::WentBack(Box::new(evidence)));
            }
            Verdict::Move(_) | Verdict::Follow(_) => {
                self.fenced.cancel();
                return Err(JoinError::Rebuilt);
            }
            Verdict::Same | Verdict::Propose | Verdict::Bind(_) => {}
        }
        let mine = nodes.iter().find(|one| one.node == settings.node);
        let (id, reconciling) = (&self.facts.id, NodeRecord::reconciling(&self.facts.id));
        went_back.recognize(mine.is_some_and(|one| one.volume == *id || one.volume == reconciling));
        let here = deps.store.registered()?.of(&settings.site, &settings.node);
        let applied = deps.store.low_water()?;
        let highest = deps.refdb.incarnations.last_incarnation(&settings.site, &settings.node).await?;
        let mut found = went_back::own_record(&settings.node, &here, mine, highest);
        if let Some(declared) = deps.refdb.documents.went_back().await? {
            found = found.or(Some(Evidence::Declared { by: declared.by, why: declared.why }));
        }
        if found.is_none() {
            let records = deps.refdb.incarnations().await?;
            found = went_back::lanes(&applied, &records);
        }
        match found {
            None => went_back.clear(),
            Some(evidence) => {
                went_back.tell(evidence.clone());
                return Err(JoinError::WentBack(Box::new(evidence)));
            }
        }
        Ok(())
    }

    /// Reconciles with the refdb. It fences this node's earlier incarnations first: then the state that it reads has
    /// all their commits. Their requests are recovered before the marks are raised. It reads the positions before the
    /// state. The end of the reconciliation becomes durable together with the state.
    pub(super) async fn reconcile(&self, starts: u64) -> Result<(), JoinError> {
        let deps = &self.stages.deps;
        let begun = self.stages.state.debts.begins();
        self.recover_requests().await?;
        self.stages.state.bootstrap.begin(self.count_projects().await?);
        let mut positions: Vec<(LaneId, Seq)> = Vec::new();
        for one in deps.refdb.incarnations().await? {
            positions.extend(one.id.lanes(one.published.iter().copied()));
        }
        self.remove_deleted().await?;
        let mut behind = self.stages.catch_up.projects().await?;
        let closed: BTreeSet<ProjectName> = behind.keys().cloned().collect();
        self.bring_back().await?;
        behind.extend(self.stages.catch_up.everything().await?);
        self.may_go_on(&behind)?;
        self.go_on_without(&behind, &closed, begun)?;
        for key in self.living_unrecognized()? {
            self.stages.make_known(&key).await?;
        }
        for name in &self.facts.of_other_refdb {
            if deps.repositories.exists(name).await? {
                self.stages.state.materializer.release_contained(name).await?;
            }
        }
        self.stages.state.low_water.transfer_state(positions);
        let word = super::life(&self.facts.id, starts);
        self.stages.state.durability.change_facts(|facts| {
            (facts.starts, facts.reconciles) = (starts, false);
            facts.of_other_refdb.clear();
        })?;
        self.stages.state.durability.wait_durable().await;
        Ok(deps.repositories.stamp(&word).await?)
    }

    /// Notes the projects that stay behind as debts, before the marks of a reconciliation pass their transactions. A
    /// project that was behind before and is not now has no debt any more, unless more was missed since `begun`.
    fn go_on_without(&self, behind: &Behind, closed: &BTreeSet<ProjectName>, begun: Begun) -> Result<(), JoinError> {
        let debts = &self.stages.state.debts;
        for (project, why) in behind {
            debts.failed(project, why.failure(), Some(closed.contains(project)));
        }
        let due = debts.due();
        due.iter().filter(|project| !behind.contains_key(*project)).for_each(|project| debts.paid(project, begun));
        if debts.all_are_named() { Ok(()) } else { Err(JoinError::TooManyDebts) }
    }

    /// Removes repositories of deleted projects, which a base path has again if it was restored from an earlier copy.
    /// This comes first, because a new project of the same name would take such a repository for its own.
    async fn remove_deleted(&self) -> Result<(), JoinError> {
        let (versions, repositories) = (&self.stages.state.versions, &self.stages.deps.repositories);
        for name in &self.unrecognized {
            let state = versions.project(name)?;
            if state.is_some_and(|state| state.phase == ProjectPhase::Deleted) && repositories.exists(name).await? {
                tracing::warn!(
                    project = %name,
                    "the project was deleted, and a changed base path has its repository again: removing the repository"
                );
                repositories.delete(name).await?;
            }
        }
        Ok(())
    }

    /// Makes the repositories of unrecognised base paths equal to the version map, so that the next steps can build on
    /// it: fetches missing objects from a peer, and deletes the refs that the version map says are deleted.
    async fn bring_back(&self) -> Result<(), JoinError> {
        for key in self.living_unrecognized()? {
            let is_there = self.stages.deps.repositories.exists(&key.name).await?;
            if !is_there || self.stages.lacks(&key).await? {
                tracing::warn!(project = %key, "the repository is missing or outdated: fetching objects from a peer");
                self.stages.catch_up.refetch_objects(&key).await?;
            }
            self.stages.clear_deleted(&key).await?;
        }
        Ok(())
    }

    /// The projects of unrecognised base paths that are not deleted. A closing project still has its repository, so it
    /// is among them.
    fn living_unrecognized(&self) -> Result<Vec<ProjectKey>, StoreError> {
        let keys = self.unrecognized.iter().filter_map(|name| self.stages.state.versions.project_key(name).transpose());
        keys.collect()
    }

    /// Starts to read the streams. The node has caught up when each stream was read to its end once, or is away and the
    /// refdb was read instead.
    async fn consume(&self) {
        if self.stages.state.signing.is_required() {
            self.until_ok("keys", || self.stages.state.signing.read()).await;
        }
        self.tasks.spawn("keys", Arc::clone(&self.stages.state.signing).run());
        let begin = || FollowSites::begin(Arc::clone(&self.stages), self.caught_up.clone());
        let follows = self.until_ok("streams", begin).await;
        let without = streams_away::catch_up(Arc::clone(&self.stages), follows.unread(), self.caught_up.clone());
        self.tasks.spawn("catch-up", without);
        self.tasks.spawn("sites", follows.run());
    }

    /// Begins to look after the others, once. A node that reconciles fences its earlier incarnations and waits until a
    /// peer has their objects, so what they left must be published meanwhile. A node whose site is not in the list
    /// looks after nobody.
    fn watch_others(&self) {
        if !self.watches.swap(true, Ordering::SeqCst) {
            self.tasks.spawn("leftovers", self.stages.leftovers.clone().run());
            self.tasks.spawn("watcher", self.stages.watcher().run());
        }
    }

    /// The record of this node's site. While the site is not in the list, writers are told so.
    async fn enroll(&self) -> Result<(), EnrollError> {
        let (deps, roles) = (&self.stages.deps, &self.stages.state.roles);
        let configured = deps.settings.sites.iter().cloned().collect();
        let enrolled = enroll(&deps.refdb, &deps.settings.site, configured, roles).await;
        // An error of the refdb says nothing.
        if let Ok(_) | Err(EnrollError::Off(_)) = &enrolled {
            self.stages.state.comes_back.site_is_off(enrolled.is_err());
        }
        match enrolled {
            Ok(own) => {
                // Nothing was moved yet: from now on, values that were written meanwhile stay on the disk.
                if own.left > self.facts.came_back {
                    let why = "this site was off: the node takes no commits until its disk equals the committed state";
                    tracing::warn!(left = own.left, "{why}");
                    self.stages.state.comes_back.begin(own.left);
                    self.came_back.close();
                }
                // An earlier try may have told that the site is not in the list.
                self.front.close_with(TAKES_PART);
                Ok(())
            }
            Err(error) => {
                if matches!(error, EnrollError::Removed(_) | EnrollError::NotListed(_) | EnrollError::Off(_)) {
                    self.front.close_out(&error.to_string());
                }
                Err(error)
            }
        }
    }
}
