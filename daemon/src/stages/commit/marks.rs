//! The mark writer stores the settled and the published marks of the running incarnation, so that windows open.
//!
//! It is a reconciler and keeps nothing durable of its own. The answer that the incarnation is frozen or drained means
//! that it was fenced: the node stops.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{Seq, SiteId};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{MarkAnswer, RefDb};
use crate::state::context::{NodeContext, NodeState};
use crate::state::journal::Journal;
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::WentBack;

/// An idle node stores its unchanged marks once per this many paces.
const IDLE_PACES: u32 = 5;
/// Time limit of one call of the refdb.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stores the marks of the running incarnation.
pub struct MarkWriter {
    /// The site of the incarnation.
    site: SiteId,
    /// The refdb, which stores the marks.
    refdb: RefDb,
    /// The journal whose marks are stored.
    journal: Arc<Journal>,
    /// The epoch of the site under which the incarnation was opened.
    epoch: u64,
    /// The roles of all sites, as this node read them last.
    roles: Arc<SiteRoles>,
    /// Receives each failure to store the marks.
    observer: Arc<dyn Observer>,
    /// Whether the refdb is older than this node. Then no marks are stored.
    went_back: WentBack,
    /// Cancelled when the refdb says that this incarnation was frozen or drained.
    fenced: CancellationToken,
    /// The interval at which marks are stored, unless a lane has used up much of its window.
    pace: Duration,
    /// Cancelled when this node ends its incarnation, and so freezes it itself.
    ended: CancellationToken,
    /// The injected bugs that a test has switched on.
    bugs: InjectedBugs,
}

impl MarkWriter {
    /// Creates the writer of the marks of a journal, whose incarnation was opened under this epoch of the site. `ended`
    /// is cancelled when this node ends the incarnation itself.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        journal: Arc<Journal>,
        epoch: u64,
        ended: CancellationToken,
        pace: Duration,
    ) -> Self {
        let NodeContext { site, refdb, observer, went_back, fenced, bugs, .. } = context.clone();
        let roles = Arc::clone(&state.roles);
        Self { site, refdb, journal, epoch, roles, observer, went_back, fenced, pace, ended, bugs }
    }

    /// Writes marks until the task is aborted.
    pub async fn run(self) {
        let mut written: Vec<(Seq, Seq)> = Vec::new();
        let mut last = Instant::now();
        loop {
            let _ = timeout(self.pace, self.journal.changed()).await;
            let marks: Vec<(Seq, Seq)> =
                self.journal.marks().into_iter().map(|mark| (mark.settled, mark.published)).collect();
            let due = self.journal.is_pressed() || last.elapsed() >= self.pace;
            // An idle node writes too, to learn whether it was fenced meanwhile.
            let asks = last.elapsed() >= self.pace * IDLE_PACES;
            if !due || (marks == written && !asks) {
                continue;
            }
            if self.went_back.is_known() {
                sleep(self.pace).await;
            } else if self.write(&marks).await {
                written = marks;
                last = Instant::now();
            } else {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Whether the role of the site has changed since the incarnation was opened. Then the node ends the incarnation
    /// itself, and goes on.
    async fn is_deposed(&self) -> bool {
        if let Ok(Ok(sites)) = timeout(PATIENCE, self.refdb.sites.sites()).await {
            self.roles.note(sites);
        }
        self.roles.of(&self.site).is_some_and(|own| own.epoch > self.epoch)
    }

    async fn write(&self, marks: &[(Seq, Seq)]) -> bool {
        let (settled, published): (Vec<Seq>, Vec<Seq>) = marks.iter().copied().unzip();
        let answer =
            timeout(PATIENCE, self.refdb.incarnations.mark(&self.site, self.journal.id(), &settled, &published)).await;
        match answer {
            Ok(Ok(MarkAnswer::Written)) => {
                self.journal.stored(&settled);
                true
            }
            Ok(Ok(MarkAnswer::NotOpen(_))) if self.ended.is_cancelled() || self.is_deposed().await => false,
            Ok(Ok(MarkAnswer::NotOpen(state))) => {
                if self.bugs.has(InjectedBug::PausedNodeGoesOn) {
                    self.journal.stored(&settled);
                    return true;
                }
                let why = format!("incarnation {} is {state:?}: this node was fenced and stops", self.journal.id());
                self.observer.failed("marks", &why);
                self.fenced.cancel();
                false
            }
            Ok(Err(error)) => {
                self.observer.failed("marks", &error.to_string());
                false
            }
            Err(_) => false,
        }
    }
}
