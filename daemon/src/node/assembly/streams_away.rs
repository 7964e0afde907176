//! Catches up from the refdb when streams are away.
//!
//! A node is ready when it has read every stream to its end once. A stream that is away would keep every node that
//! restarts from serving, at every site. So after a while the node brings every project up to the refdb instead, which
//! has everything that the streams have. Records that the stream brings later are skipped by version.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::stages::Stages;
use crate::stages::api::readiness::Latch;

/// The interval of the looks at the streams.
const LOOK: Duration = Duration::from_secs(2);
/// A stream that does not answer for this long is away.
const AWAY: Duration = Duration::from_secs(10);

/// The sites whose streams were not read to their ends yet.
pub(super) type Behind = Arc<Mutex<BTreeSet<SiteId>>>;

/// Waits until every stream that was not read to its end is away, then catches up from the refdb and opens the latch.
/// Returns as soon as the latch is open.
pub(super) async fn catch_up(stages: Arc<Stages>, behind: Behind, latch: Latch) {
    let mut since = None;
    loop {
        sleep(LOOK).await;
        let left = behind.lock().clone();
        if left.is_empty() {
            return;
        }
        if any_answers(&stages, &left).await {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= AWAY {
            tracing::warn!(streams = ?left, "the streams do not answer: catching up from the refdb instead");
            match stages.catch_up.everything().await {
                Ok(()) => {
                    behind.lock().clear();
                    return latch.open();
                }
                Err(why) => stages.deps.observer.failed("join", &format!("catch up without streams: {why}")),
            }
        }
    }
}

async fn any_answers(stages: &Stages, sites: &BTreeSet<SiteId>) -> bool {
    for site in sites {
        if stages.deps.eventlog.describe(site).await.is_ok() {
            return true;
        }
    }
    false
}
