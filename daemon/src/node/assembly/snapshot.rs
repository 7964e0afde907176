//! Whether a node's volume was put back to an earlier moment while the machine did not boot.

use super::join::{Join, JoinError};
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::NodeRecord;

impl Join {
    /// Whether this volume is a snapshot of an earlier moment: the refdb has had heartbeats that the volume does not
    /// know. The disk may then be as after a power cut, even without a boot, so it is repaired as after one.
    pub(super) async fn is_snapshot(&self, previous: Option<&NodeRecord>) -> Result<bool, JoinError> {
        let (deps, settings) = (&self.stages.deps, &self.stages.deps.settings);
        let here = deps.store.registered()?;
        let knows = here.node.is_some();
        let here = here.of(&settings.site, &settings.node);
        let is_snapshot = knows && previous.is_some_and(|before| before.beat > here.beat);
        if is_snapshot {
            tracing::warn!("the volume was restored from a snapshot: this node reconciles with the refdb");
            let report = deps.repositories.repair(true).await?;
            tracing::info!(?report, "the repair of the snapshot is complete");
        }
        if let Some(before) = previous.filter(|_| is_snapshot && deps.bugs.has(InjectedBug::SnapshotKeepsMarks)) {
            for one in deps.refdb.incarnations().await? {
                let lanes = one.id.lanes(one.published.iter().copied());
                let known: Vec<_> = lanes.map(|(lane, end)| (before.mark(&lane).min(end), lane)).collect();
                self.stages.state.low_water.transfer_state(known.into_iter().map(|(mark, lane)| (lane, mark)));
            }
            return Ok(false);
        }
        Ok(is_snapshot)
    }
}
