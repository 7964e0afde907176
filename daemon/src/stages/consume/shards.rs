//! Which shards to read, and from where: a pure function of the stream and the checkpoints.

use std::collections::BTreeMap;

use lockstep_proto::SiteId;

use crate::seams::eventlog::{Position, StreamInfo};
use crate::seams::volume::ShardId;

/// The id of a shard of a stream.
#[must_use]
pub fn shard_id(site: &SiteId, info: &StreamInfo, shard: &str) -> ShardId {
    ShardId { site: site.clone(), created: info.created.clone(), shard: shard.to_owned() }
}

/// The shards that can be read now, with the position to go on from: those that have not ended here, and whose parents
/// all have (or are no longer kept).
#[must_use]
pub fn readable(
    site: &SiteId,
    info: &StreamInfo,
    checkpoints: &BTreeMap<ShardId, Position>,
    parents_first: bool,
) -> Vec<(ShardId, Position)> {
    let at = |shard: &str| checkpoints.get(&shard_id(site, info, shard));
    let is_kept = |shard: &str| info.shards.iter().any(|one| one.id == shard);
    let has_ended = |shard: &String| at(shard) == Some(&Position::End) || !is_kept(shard);
    info.shards
        .iter()
        .filter(|shard| at(&shard.id) != Some(&Position::End))
        .filter(|shard| !parents_first || shard.parents.iter().all(has_ended))
        .map(|shard| (shard_id(site, info, &shard.id), at(&shard.id).cloned().unwrap_or(Position::Start)))
        .collect()
}

/// Checkpoints of this site's stream that describe shards which are no longer there.
#[must_use]
pub fn obsolete(site: &SiteId, info: &StreamInfo, checkpoints: &BTreeMap<ShardId, Position>) -> Vec<ShardId> {
    let is_there = |id: &ShardId| id.created == info.created && info.shards.iter().any(|shard| shard.id == id.shard);
    checkpoints.keys().filter(|id| id.site == *site && !is_there(id)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::eventlog::ShardInfo;

    fn info() -> StreamInfo {
        let shard = |id: &str, parents: &[&str]| ShardInfo {
            id: id.to_owned(),
            parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
        };
        StreamInfo { created: "t1".into(), shards: vec![shard("0", &[]), shard("1", &[]), shard("2", &["0", "1"])] }
    }

    #[test]
    fn a_child_waits_for_all_its_parents() {
        let (site, info) = ("a".parse().unwrap(), info());
        let id = |shard| shard_id(&site, &info, shard);
        let mut checkpoints = BTreeMap::from([(id("0"), Position::End)]);
        let names = |checkpoints: &BTreeMap<ShardId, Position>| {
            readable(&site, &info, checkpoints, true).into_iter().map(|(id, _)| id.shard).collect::<Vec<_>>()
        };
        assert_eq!(names(&checkpoints), ["1"]);
        checkpoints.insert(id("1"), Position::End);
        assert_eq!(names(&checkpoints), ["2"]);
    }

    #[test]
    fn a_parent_that_is_no_longer_kept_blocks_nobody() {
        let site = "a".parse().unwrap();
        let mut info = info();
        info.shards.remove(0);
        let checkpoints = BTreeMap::from([(shard_id(&site, &info, "1"), Position::End)]);
        assert_eq!(readable(&site, &info, &checkpoints, true).len(), 1);
    }

    #[test]
    fn a_stream_made_again_is_another_one() {
        let site: SiteId = "a".parse().unwrap();
        let info = info();
        let old = ShardId { site: site.clone(), created: "t0".into(), shard: "0".into() };
        let checkpoints = BTreeMap::from([(old.clone(), Position::After("7".into()))]);
        assert_eq!(readable(&site, &info, &checkpoints, true)[0].1, Position::Start);
        assert_eq!(obsolete(&site, &info, &checkpoints), vec![old]);
    }
}
