//! Catches up from the refdb when streams are away.
//!
//! A node is ready when it has read every stream to its end once. A stream that is away would keep every node that
//! restarts from serving, at every site. So after a while the node brings every project up to the refdb instead, which
//! has everything that the streams have. Records that the stream brings later are skipped by version.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectName, SiteId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::stages::Stages;
use crate::stages::api::readiness::Latch;
use crate::stages::ports::CatchUpError;

/// The interval of the looks at the streams.
const LOOK: Duration = Duration::from_secs(2);
/// A stream that does not answer for this long is away.
const AWAY: Duration = Duration::from_secs(10);

/// How often the node tries to bring every project up before it goes on with degraded ones.
const PATIENT_TRIES: u32 = 5;

/// The sites whose streams were not read to their ends yet.
pub(super) type Unread = Arc<Mutex<BTreeSet<SiteId>>>;

/// Why not every project is brought up, or owed.
#[derive(Debug, thiserror::Error)]
enum BringUpError {
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    #[error("{0} is behind: {1}")]
    Behind(ProjectName, Box<CatchUpError>),
    #[error("too many projects are behind")]
    TooMany,
}

/// Waits until every stream that was not read to its end is away, then catches up from the refdb and opens the latch.
/// Returns as soon as the latch is open.
pub(super) async fn catch_up(stages: Arc<Stages>, unread: Unread, latch: Latch) {
    let (mut since, mut tries) = (None, 0);
    loop {
        sleep(LOOK).await;
        let left = unread.lock().clone();
        if left.is_empty() {
            return;
        }
        if any_answers(&stages, &left).await {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= AWAY {
            tracing::warn!(streams = ?left, "the streams do not answer: catching up from the refdb instead");
            tries += 1;
            match bring_up(&stages, tries >= PATIENT_TRIES).await {
                Ok(()) => {
                    unread.lock().clear();
                    return latch.open();
                }
                Err(why) => stages.deps.observer.failed("join", &format!("catch up without streams: {why}")),
            }
        }
    }
}

/// Brings every project up to the refdb. A project that stays behind is owed: at once if no retry helps, else once the
/// patience is over. Nothing is owed that the node's record cannot name.
async fn bring_up(stages: &Stages, is_impatient: bool) -> Result<(), BringUpError> {
    let behind = stages.catch_up.everything().await?;
    let retried = behind.iter().find(|(_, why)| !is_impatient && why.retry_helps());
    if let Some((project, why)) = retried {
        return Err(BringUpError::Behind(project.clone(), Box::new(why.clone())));
    }
    let debts = &stages.state.debts;
    behind.iter().for_each(|(project, why)| debts.failed(project, why.failure(), None));
    if debts.all_are_named() { Ok(()) } else { Err(BringUpError::TooMany) }
}

async fn any_answers(stages: &Stages, sites: &BTreeSet<SiteId>) -> bool {
    for site in sites {
        if stages.deps.eventlog.describe(site).await.is_ok() {
            return true;
        }
    }
    false
}
