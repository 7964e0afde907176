//! Invariant 6, second half: a child shard is read only after its parents.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::seams::eventlog::{Position, StreamInfo};
use lockstep::seams::volume::ShardId;
use lockstep_proto::SiteId;

use super::Verdict;

/// Judges the opening of a shard. `ended` are the shards whose end this life of the node has read.
///
/// # Errors
/// A parent is still listed, and the node has neither read its end nor recorded it.
pub fn opened(
    site: &SiteId,
    shard: &str,
    stream: &StreamInfo,
    ended: &BTreeSet<(SiteId, String)>,
    checkpoints: &BTreeMap<ShardId, Position>,
) -> Verdict {
    let Some(info) = stream.shards.iter().find(|info| info.id == shard) else { return Ok(()) };
    for parent in info.parents.iter().filter(|parent| stream.shards.iter().any(|kept| kept.id == **parent)) {
        let id = ShardId { site: site.clone(), created: stream.created.clone(), shard: parent.clone() };
        let recorded = checkpoints.get(&id) == Some(&Position::End);
        if !recorded && !ended.contains(&(site.clone(), parent.clone())) {
            return Err(format!("shard {shard} of {site} is read before the end of its parent {parent}"));
        }
    }
    Ok(())
}
