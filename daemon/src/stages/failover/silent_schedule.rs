//! Begins silent drills by itself. Every node with a schedule looks after its own volume.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::NodeId;
use lockstep_proto::failover::Role;
use lockstep_proto::silent::{SilentDrills, SilentRequest};
use tokio::time::sleep;

use super::desk::OperatorDesk;

/// The longest pause between two looks at the trend.
const LOOK: Duration = Duration::from_secs(60);

/// Begins a silent drill whenever the last one of this node is older than `every`, while its site is a standby.
pub struct SilentSchedule {
    /// The desk through which drills begin: it refuses them when the preflight is red.
    pub desk: Arc<OperatorDesk>,
    /// The age of the last drill from which the next one is due.
    pub every: Duration,
}

impl SilentSchedule {
    /// Runs until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.every.min(LOOK)).await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let silent = &self.desk.silent;
        let role = silent.roles.of(&silent.site).map(|site| site.role);
        let drills = match self.desk.silent_drills_now().await {
            Ok(drills) => drills,
            Err(error) => return tracing::warn!(why = error.message, "whether a silent drill is due is not known"),
        };
        if role != Some(Role::Standby) || !is_due(&drills, &silent.node, silent.clock.now_ms(), self.every) {
            return;
        }
        let actor = format!("schedule of {}", silent.node);
        let request = SilentRequest { reason: "scheduled".to_owned() };
        if let Err(error) = self.desk.begin_silent(&actor, request).await {
            self.desk.note_silent_refused(&error.message).await;
        }
    }
}

/// Whether the next silent drill of a node is due.
pub(super) fn is_due(drills: &SilentDrills, node: &NodeId, now_ms: u64, every: Duration) -> bool {
    let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let last = drills.past.iter().find(|report| report.node == *node);
    drills.running.is_none() && last.is_none_or(|last| now_ms.saturating_sub(last.at_ms) >= every_ms)
}
