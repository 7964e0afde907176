//! A joined node follows the list of sites: it reads the stream of each, and begins or ends that when the list changes.
//!
//! The stream of a removed site is read until its incarnations are drained and everything of them is applied here. What
//! the stream loses after that, the journal has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use lockstep_proto::site_list::StreamPlace;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::stages::{Stages, streams};
use super::streams_away::Unread;
use crate::base::backoff::Backoff;
use crate::seams::refdb::{IncarnationState, RefDbError};
use crate::stages::api::readiness::Latch;

/// Reads the streams of the sites of the list.
pub(super) struct FollowSites {
    stages: Arc<Stages>,
    /// The streams that were not read to their ends yet.
    unread: Unread,
    /// Opened when none is left.
    caught_up: Latch,
    /// The streams that are being read, and their places. Cancelling ends that.
    reading: BTreeMap<SiteId, (StreamPlace, CancellationToken)>,
}

impl FollowSites {
    /// Begins to read the streams of all sites of the list, and of removed ones that are not over.
    ///
    /// # Errors
    /// The refdb did not answer.
    pub(super) async fn begin(stages: Arc<Stages>, caught_up: Latch) -> Result<Self, RefDbError> {
        let mut sites = streams(&stages);
        for site in stages.state.roles.removed() {
            if !is_over(&stages, &site).await? {
                sites.insert(site);
            }
        }
        let unread: Unread = Arc::new(Mutex::new(sites.clone()));
        let mut follows = Self { stages, unread, caught_up, reading: BTreeMap::new() };
        for site in sites {
            follows.read(site).await;
        }
        Ok(follows)
    }

    /// The streams that were not read to their ends yet.
    pub(super) fn unread(&self) -> Unread {
        Arc::clone(&self.unread)
    }

    /// Follows the list until the task is aborted.
    pub(super) async fn run(mut self) {
        let mut changes = self.stages.state.roles.changes();
        let pace = self.stages.deps.settings.sweep_pace;
        loop {
            // The sender lives as long as the state of the node.
            let _ = timeout(pace, changes.changed()).await;
            if let Err(why) = self.follow().await {
                self.stages.deps.observer.failed("sites", &why);
            }
        }
    }

    async fn follow(&mut self) -> Result<(), RefDbError> {
        let listed = streams(&self.stages);
        let reading: BTreeSet<SiteId> = self.reading.keys().cloned().collect();
        for site in listed.difference(&reading) {
            tracing::info!(%site, "the list of sites has a new site: reading its stream");
            self.read(site.clone()).await;
        }
        for site in reading.intersection(&listed) {
            let place = self.place(site);
            if self.reading.get(site).is_some_and(|(reads, _)| *reads != place) {
                tracing::warn!(%site, "the list of sites has another place for the stream of this site: reading that");
                if let Some((_, over)) = self.reading.remove(site) {
                    over.cancel();
                }
                self.read(site.clone()).await;
            }
        }
        for site in reading.difference(&listed) {
            if is_over(&self.stages, site).await? {
                tracing::info!(%site, "the site was removed from the list, and everything of it is applied here");
                self.end(site);
            }
        }
        Ok(())
    }

    /// Begins to read the stream of a site.
    async fn read(&mut self, site: SiteId) {
        let deps = &self.stages.deps;
        let place = self.place(&site);
        deps.eventlog.locate(&site, &place).await;
        if site == deps.settings.site {
            self.stages.context.tasks.spawn("ensure-stream", ensure(Arc::clone(&self.stages), site.clone()));
        }
        let over = CancellationToken::new();
        let (unread, latch) = (Arc::clone(&self.unread), self.caught_up.clone());
        let caught_up = move |site: &SiteId| has_read(&unread, site, &latch);
        let reading = Arc::clone(&self.stages.consumer).run(site.clone(), Arc::new(caught_up), over.clone());
        self.stages.context.tasks.spawn("consume", reading);
        self.reading.insert(site, (place, over));
    }

    /// The place of a site's stream in the list of sites.
    fn place(&self, site: &SiteId) -> StreamPlace {
        self.stages.state.roles.of(site).map(|record| record.stream).unwrap_or_default()
    }

    /// Ends the reading of a stream. A stream that is not read any more holds up no readiness.
    fn end(&mut self, site: &SiteId) {
        if let Some((_, over)) = self.reading.remove(site) {
            over.cancel();
        }
        has_read(&self.unread, site, &self.caught_up);
    }
}

/// Notes that a stream was read to its end once. The last one opens the latch.
fn has_read(unread: &Unread, site: &SiteId, latch: &Latch) {
    let mut unread = unread.lock();
    if unread.remove(site) && unread.is_empty() {
        latch.open();
    }
}

/// Whether every incarnation of a site is drained, and every slot of them is done here.
async fn is_over(stages: &Stages, site: &SiteId) -> Result<bool, RefDbError> {
    let records = stages.deps.refdb.incarnations.incarnations(site).await?;
    let low_water = &stages.state.low_water;
    Ok(records.iter().all(|one| {
        let mut lanes = one.id.lanes(one.published.iter().copied());
        one.state == IncarnationState::Drained && lanes.all(|(lane, end)| low_water.gaps(&lane, end, 1).is_empty())
    }))
}

/// The pause between two looks at the settings of the stream.
const COMPLAIN: Duration = Duration::from_secs(3_600);

/// Creates the stream of this site if it does not exist, and retries until it succeeds. Then tells from time to time
/// what an operator should change in its settings.
async fn ensure(stages: Arc<Stages>, site: SiteId) {
    let entropy = Arc::clone(&stages.deps.entropy);
    let mut backoff = Backoff::new(entropy, Duration::from_millis(100), Duration::from_secs(5));
    while let Err(error) = stages.deps.eventlog.ensure(&site).await {
        stages.deps.observer.failed("publish", &error);
        backoff.wait().await;
    }
    loop {
        match stages.deps.eventlog.complaint(&site).await {
            Ok(Some(complaint)) => stages.deps.observer.failed("event-log", &complaint),
            Ok(None) => {}
            Err(error) => stages.deps.observer.failed("event-log", &error),
        }
        tokio::time::sleep(COMPLAIN).await;
    }
}
