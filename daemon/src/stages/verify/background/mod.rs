//! The verification in the background: goes through all refs, and through all objects, again and again, at a bounded
//! cost.
//!
//! It works in slices, and rests after each one in proportion to its duration. So it takes at most its share of one
//! core, and as little of the disk. Its progress is kept with the results of verifications, and a restart goes on from
//! there. A pass over all refs begins when half of `refs_within` has gone by since the one before began. Within the
//! other half it compares each project with the refdb, and then the version map with those of the peers. A pass over
//! all objects does the same with `objects_within`.
//!
//! A difference counts only if it outlives a catch-up (`super::project`), or a second look at an object. Then it is
//! repaired forward, along the chain of the ref: the node catches up, the disk gets the value of the version map, and a
//! value that gives way is kept as a stray. Objects come from peers, and damaged files are renamed, never deleted. A
//! difference that cannot be repaired stays open, raises an alarm, and is tried again. A project whose catch-up fails
//! becomes a debt.
//!
//! A peer is never repaired from here: it verifies itself.
//!
//! | file | idea |
//! |---|---|
//! | `kept` | the durable progress, and the open differences |
//! | `refs` | verifies and repairs the refs of a project |
//! | `objects` | verifies and repairs the objects of a project, slice by slice |
//! | `settings` | the times and the share of a core |

mod kept;
mod objects;
mod refs;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::verify::{BackgroundVerification, Part};
use lockstep_proto::{Oid, ProjectKey, ProjectName, ProjectPhase};
use tokio::time::{Instant, sleep};

use super::Verifier;
use super::pace::Pace;
use super::project::CompareError;
use crate::base::observer::Observer;
use crate::seams::volume::StoreError;
use crate::state::coming_back::ComesBack;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::went_back::WentBack;

pub(super) use kept::Kept;
pub use settings::BackgroundSettings;

/// The pause when there is nothing to do.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a failure that is not one of a single project.
const FAILED: Duration = Duration::from_secs(5);
/// The shortest pause between two slices.
const LEAST: Duration = Duration::from_millis(10);
/// The pause between two tries to repair what is open.
const RETRY: Duration = Duration::from_secs(300);
/// How often the progress is kept while nothing is found.
const KEEP: Duration = Duration::from_secs(10);
/// How often a slice of objects is tried before its project counts as one that cannot be verified.
const TRIES: u32 = 5;

/// The verification in the background of one node.
pub struct Background {
    verifier: Verifier,
    debts: Arc<Debts>,
    comes_back: ComesBack,
    went_back: WentBack,
    observer: Arc<dyn Observer>,
    settings: BackgroundSettings,
    /// The projects to which Gerrit's `init` writes while no Gerrit runs. The handshake decides about such writes, so
    /// nothing is repaired on the disk of these projects.
    of_init: BTreeSet<ProjectName>,
}

/// The memory of one life of the job.
struct Work {
    /// The part that had the last slice.
    last: Part,
    /// The projects of the passes in progress.
    refs: Option<BTreeSet<ProjectKey>>,
    objects: Option<BTreeSet<ProjectKey>>,
    /// How often the present slice of objects has failed.
    failures: u32,
    retry_at: Instant,
    keep_at: Instant,
}

impl Work {
    fn new() -> Self {
        let (retry_at, keep_at) = (Instant::now() + RETRY, Instant::now());
        Self { last: Part::Objects, refs: None, objects: None, failures: 0, retry_at, keep_at }
    }

    fn projects(&mut self, part: Part) -> &mut Option<BTreeSet<ProjectKey>> {
        match part {
            Part::Refs => &mut self.refs,
            Part::Objects => &mut self.objects,
        }
    }
}

impl Verifier {
    /// The state of the verification in the background.
    #[must_use]
    pub fn in_background(&self, settings: &BackgroundSettings) -> BackgroundVerification {
        let (log, now_ms) = (self.log.lock(), self.clock.now_ms());
        let status = |part| log.background.status(part, settings.within(part), now_ms);
        BackgroundVerification {
            share_of_core: settings.share_of_core,
            refs: status(Part::Refs),
            objects: status(Part::Objects),
        }
    }
}

impl Background {
    /// Creates the job. It compares and repairs through `verifier`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, verifier: Verifier, settings: BackgroundSettings) -> Self {
        let NodeContext { observer, went_back, .. } = context.clone();
        let NodeState { debts, comes_back, .. } = state.clone();
        Self { verifier, debts, comes_back, went_back, observer, settings, of_init: BTreeSet::new() }
    }

    /// Leaves the disk of these projects to the handshake with Gerrit.
    #[must_use]
    pub fn leaving(self, of_init: BTreeSet<ProjectName>) -> Self {
        Self { of_init, ..self }
    }

    /// Runs until the task is aborted.
    pub async fn run(self) {
        self.set_out();
        let mut work = Work::new();
        loop {
            let pause = self.step(&mut work).await;
            sleep(pause).await;
        }
    }

    /// Notes the time from which the age counts, the first time.
    fn set_out(&self) {
        let now_ms = self.verifier.clock.now_ms();
        let is_new = self.noting(|kept| {
            let is_new = kept.since_ms == 0;
            if is_new {
                kept.since_ms = now_ms;
            }
            is_new
        });
        if is_new {
            self.verifier.keep();
        }
    }

    /// Does one slice of work. Returns the pause after it.
    async fn step(&self, work: &mut Work) -> Duration {
        let (began, pace) = (Instant::now(), Pace::of_share(self.verifier.share));
        let done = match self.may_work() {
            Ok(true) => self.slice(work, &pace).await,
            Ok(false) => return LOOK,
            Err(error) => Err(error.into()),
        };
        if Instant::now() >= work.keep_at {
            work.keep_at = Instant::now() + KEEP;
            self.verifier.keep();
        }
        match done {
            Ok(true) => {
                let busy = began.elapsed().saturating_sub(pace.waited());
                self.settings.pause_after(busy).max(LEAST)
            }
            Ok(false) => LOOK,
            Err(why) => {
                self.observer.failed("verify", &why);
                FAILED
            }
        }
    }

    /// Whether the node is in a state in which its disk and the refdb may be compared, and the disk be repaired.
    fn may_work(&self) -> Result<bool, StoreError> {
        let is_away = self.comes_back.forbids_moves() || self.comes_back.is_so() || self.went_back.is_known();
        Ok(!is_away && !self.verifier.store.facts()?.reconciles)
    }

    /// Does one slice of the part whose turn it is. Returns whether there was one.
    async fn slice(&self, work: &mut Work, pace: &Pace) -> Result<bool, CompareError> {
        self.mend_met(pace).await?;
        if Instant::now() >= work.retry_at {
            work.retry_at = Instant::now() + RETRY;
            self.retry(pace).await?;
        }
        let Some(part) = self.due(work.last) else { return Ok(false) };
        work.last = part;
        let now_ms = self.verifier.clock.now_ms();
        let begins = self.noting(|kept| kept.pass_mut(part).begin(now_ms));
        let projects = work.projects(part);
        if begins || projects.is_none() {
            *projects = Some(self.verifier.here(None)?);
        }
        let next = projects.as_ref().and_then(|projects| self.noting(|kept| kept.pass(part).next(projects)));
        match (part, next) {
            (Part::Refs, Some(project)) => self.refs_of(&project, pace, true).await?,
            (Part::Objects, Some(project)) => self.objects_of(&project, pace, &mut work.failures).await?,
            (part, None) => self.end(part, work, pace).await?,
        }
        Ok(true)
    }

    /// The part whose turn it is: both take turns if both have work.
    fn due(&self, last: Part) -> Option<Part> {
        let now_ms = self.verifier.clock.now_ms();
        let order = if last == Part::Refs { [Part::Objects, Part::Refs] } else { [Part::Refs, Part::Objects] };
        let log = self.verifier.log.lock();
        order.into_iter().find(|part| log.background.is_due(*part, self.settings.within(*part), now_ms))
    }

    /// Ends a pass that is done with all projects.
    async fn end(&self, part: Part, work: &mut Work, pace: &Pace) -> Result<(), CompareError> {
        let here = work.projects(part).clone().unwrap_or_default();
        if part == Part::Refs {
            self.end_refs(&here, pace).await?;
        }
        *work.projects(part) = None;
        let now_ms = self.verifier.clock.now_ms();
        self.noting(|kept| kept.pass_mut(part).end(now_ms));
        self.verifier.keep();
        Ok(())
    }

    /// Tries again to repair what is open.
    async fn retry(&self, pace: &Pace) -> Result<(), CompareError> {
        for name in self.noting(|kept| Vec::from_iter(kept.pass(Part::Refs).open.keys().cloned())) {
            match self.verifier.versions.project_key(&name)? {
                Some(project) => self.refs_of(&project, pace, false).await?,
                None => self.noting(|kept| kept.pass_mut(Part::Refs).is_clean(&name)),
            }
        }
        let open = self.noting(|kept| kept.pass(Part::Objects).open.clone());
        for (name, open) in open {
            match self.verifier.versions.project_key(&name)? {
                Some(_) if self.leaves_objects(&name)? => {}
                Some(project) if open.objects.is_empty() => self.objects_again(&project, pace).await?,
                Some(project) => {
                    self.mend_objects(&project, Vec::from_iter(open.objects)).await;
                    // A repair that stopped half-way has set aside more than these objects.
                    if self.noting(|kept| !kept.pass(Part::Objects).open.contains_key(&name)) {
                        self.objects_again(&project, pace).await?;
                    }
                }
                None => self.noting(|kept| kept.pass_mut(Part::Objects).is_clean(&name)),
            }
        }
        self.verifier.keep();
        Ok(())
    }

    /// Whether a project is left out for now: the repository restorer creates its repository anew.
    fn is_left_out(&self, project: &ProjectName) -> Result<bool, StoreError> {
        Ok(self.verifier.store.facts()?.restoring.contains(project))
    }

    /// Whether the objects of a project are left alone for now. While it is being seeded, no peer has what its refs
    /// need: a file that was set aside could not be replaced.
    fn leaves_objects(&self, project: &ProjectName) -> Result<bool, StoreError> {
        let is_open = self.verifier.versions.project(project)?.is_some_and(|it| it.phase == ProjectPhase::Active);
        Ok(!is_open || self.is_left_out(project)?)
    }

    /// Reads or changes the progress.
    fn noting<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.verifier.log.lock().background)
    }

    /// Notes a project with differences that are not repaired, or that cannot be verified.
    fn stays_open(&self, part: Part, project: &ProjectName, why: &str, objects: &[Oid]) {
        tracing::error!(%project, part = part.as_str(), why, "the verification in the background cannot repair this");
        self.noting(|kept| kept.pass_mut(part).stays_open(project, why, objects));
        self.verifier.keep();
    }
}
