//! A joined node follows the role of its site: it takes writes while the site is active, and serves reads always.
//! While the refdb moves to other tables, no node takes writes, whatever the role of its site is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::come_back::ComeBack;
use super::join::Join;
use super::term::Term;
use super::unremembered_requests;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{IncarnationRecord, RefDbError, Role};
use crate::stages::membership::OpenError;
use crate::state::signing::KeyError;

/// The pause between two looks of a node without the right key. A failover or an operator may end its need for one.
const KEY: Duration = Duration::from_secs(5);
/// How long a node that steps down looks for outcomes, and then publishes. Other nodes publish the rest.
const PUBLISH: Duration = Duration::from_secs(10);

/// Why a node that has joined takes no commits.
enum Closed {
    /// Its site is not active.
    NotActive,
    /// It may not sign for its site.
    Key(KeyError),
    /// The refdb moves to other tables.
    Moving,
}

impl Join {
    /// Opens an incarnation whenever the site becomes active, and ends it whenever the site stops being active. Returns
    /// when Lockstep is switched off at the site.
    pub(super) async fn follow_roles(&self) {
        let mut first = true;
        while let Some(incarnation) = self.open_when_active(&mut first).await {
            let term = self.take_writes(&incarnation).await;
            self.begin_to_serve(&mut first);
            self.until_deposed(&incarnation).await;
            self.front.close_by_role();
            self.step_down(&term).await;
        }
    }

    /// Opens an incarnation as soon as the site is active and the node may sign for it. Until then it serves reads.
    /// None if Lockstep is off.
    async fn open_when_active(&self, first: &mut bool) -> Option<IncarnationRecord> {
        loop {
            match self.until_ok("open an incarnation", || self.open_incarnation()).await {
                Ok(incarnation) => return Some(incarnation),
                Err(Closed::NotActive) if self.stages.state.roles.is_off(&self.stages.deps.settings.site) => {
                    return None;
                }
                Err(Closed::NotActive) => {
                    self.begin_to_serve(first);
                    self.follow_role().await;
                }
                Err(Closed::Moving) => {
                    self.begin_to_serve(first);
                    self.front.close_by_role();
                    self.stages.state.bound.until_moves(false).await;
                }
                Err(Closed::Key(why)) => {
                    self.begin_to_serve(first);
                    self.front.close_with(&why.to_string());
                    self.stages.deps.observer.failed("join", &why);
                    sleep(KEY).await;
                }
            }
        }
    }

    /// Waits until the site is active or off. Writers are told meanwhile which sites are active.
    async fn follow_role(&self) {
        self.front.close_by_role();
        let site = &self.stages.deps.settings.site;
        self.stages.state.roles.wait(site, |own| own.role == Role::Active || own.off).await;
    }

    /// Starts the stages of an incarnation that is open. From here on, the barrier of a project's deletion waits for
    /// it, and so does every new operator lock. So it must learn which projects are closing, deleted or locked, before
    /// it takes commits.
    async fn take_writes(&self, incarnation: &IncarnationRecord) -> Term {
        tracing::info!(incarnation = %incarnation.id, "the incarnation is open");
        self.until_ok("locks", || self.learn_locks()).await;
        self.until_ok("projects", || self.learn_states()).await;
        self.until_ok("requests", || unremembered_requests::recover_requests(&self.stages)).await;
        self.stages.events.open();
        let term = Term::begin(&self.stages, incarnation);
        *self.term.lock() = Some(term.clone());
        self.front.open(Arc::clone(&term.committer));
        term
    }

    /// Reads which projects and refs are locked.
    async fn learn_locks(&self) -> Result<(), RefDbError> {
        self.stages.lock_follower().look().await
    }

    /// Notes that the node has joined, and starts its periodic jobs, once.
    fn begin_to_serve(&self, first: &mut bool) {
        if !std::mem::take(first) {
            return;
        }
        self.joined.open();
        if self.stages.state.comes_back.is_so() {
            let (stages, latch) = (Arc::clone(&self.stages), self.came_back.clone());
            self.tasks.spawn("come-back", ComeBack { stages, latch }.run());
        }
        self.tasks.spawn("requests", self.stages.request_forgetter().run());
        self.tasks.spawn("sweep", self.stages.sweeper().run());
        self.tasks.spawn("collect", self.stages.collector().run());
        self.tasks.spawn("release", self.stages.releaser().run());
        self.tasks.spawn("restore", self.stages.repository_restorer().run());
        self.tasks.spawn("repay", self.stages.repayer().run());
        if let Some(background) = self.stages.background() {
            self.tasks.spawn("verify", background.run());
        }
    }

    /// Waits until the role of the site has changed, or the refdb moves. Every change of a role raises the epoch.
    async fn until_deposed(&self, incarnation: &IncarnationRecord) {
        if self.stages.deps.bugs.has(InjectedBug::FencedReopens) {
            return std::future::pending().await;
        }
        let site = &self.stages.deps.settings.site;
        tokio::select! {
            biased;
            () = self.stages.state.bound.until_moves(true) => {}
            () = self.stages.state.roles.wait(site, |own| own.epoch > incarnation.epoch) => {}
        }
    }

    /// Ends an incarnation whose site takes no commits any more, while the node goes on. The front is closed.
    async fn step_down(&self, term: &Term) {
        tracing::warn!("the site takes no commits any more, or the refdb moves: ending the incarnation of this node");
        term.close();
        self.stages.state.folders.end();
        self.front.drained().await;
        term.freeze(&self.stages).await;
        let _ = tokio::time::timeout(PUBLISH, term.resolve_rest()).await;
        let _ = tokio::time::timeout(PUBLISH, term.publish_rest()).await;
        term.close_journal(&self.stages).await;
        term.end(&self.stages);
        *self.term.lock() = None;
    }

    /// Opens an incarnation, unless nothing but a change of the site, of the node's key or of the refdb helps.
    async fn open_incarnation(&self) -> Result<Result<IncarnationRecord, Closed>, OpenError> {
        if self.stages.state.bound.moves() {
            return Ok(Err(Closed::Moving));
        }
        match self.stages.opener().open_incarnation().await {
            Ok(incarnation) => Ok(Ok(incarnation)),
            Err(OpenError::NotActive(own)) => {
                self.stages.state.roles.note(vec![own]);
                Ok(Err(Closed::NotActive))
            }
            Err(OpenError::Key(KeyError::RefDb(error))) => Err(error.into()),
            Err(OpenError::Key(why)) => Ok(Err(Closed::Key(why))),
            Err(error) => Err(error),
        }
    }
}
