//! Decides which shards to read, and from where: a pure function of the stream and the checkpoints.

use std::collections::BTreeMap;

use lockstep_proto::SiteId;

use crate::seams::eventlog::{Position, StreamInfo};
use crate::seams::volume::ShardId;

/// The id of a shard of a stream. It includes the creation of the stream, so that a stream of the same name that was
/// deleted and created again is another one.
#[must_use]
pub fn shard_id(site: &SiteId, info: &StreamInfo, shard: &str) -> ShardId {
    ShardId { site: site.clone(), created: info.created.clone(), shard: shard.to_owned() }
}

/// The shards that can be read now, each with the position at which to continue. A shard can be read if it was not yet
/// read to its end here, and if each of its parents was, or is no longer kept. Without `parents_first`, parents do not
/// matter; only an injected bug asks for that.
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

/// The checkpoints of this site's stream whose shards no longer exist.
#[must_use]
pub fn obsolete(site: &SiteId, info: &StreamInfo, checkpoints: &BTreeMap<ShardId, Position>) -> Vec<ShardId> {
    let is_there = |id: &ShardId| id.created == info.created && info.shards.iter().any(|shard| shard.id == id.shard);
    checkpoints.keys().filter(|id| id.site == *site && !is_there(id)).cloned().collect()
}

/// Whether records of this stream may be gone that were not read here: a shard is no longer kept, and was not read to
/// its end. A node without any checkpoint of the stream is new, and has taken everything from the refdb before it
/// reads.
#[must_use]
pub fn has_lost(site: &SiteId, info: &StreamInfo, checkpoints: &BTreeMap<ShardId, Position>) -> bool {
    let is_kept = |shard: &str| info.shards.iter().any(|one| one.id == shard);
    let of_stream = || checkpoints.iter().filter(|(id, _)| id.site == *site && id.created == info.created);
    let has_ended = |shard: &str| checkpoints.get(&shard_id(site, info, shard)) == Some(&Position::End);
    let began_and_is_gone = of_stream().any(|(id, position)| *position != Position::End && !is_kept(&id.shard));
    // A shard that was begun here has a checkpoint. Before that, its parents were read to their ends.
    let unread = info.shards.iter().filter(|shard| !checkpoints.contains_key(&shard_id(site, info, &shard.id)));
    let mut parents = unread.flat_map(|shard| &shard.parents);
    let parent_is_gone = parents.any(|parent| !is_kept(parent) && !has_ended(parent));
    began_and_is_gone || (parent_is_gone && of_stream().next().is_some())
}

/// The shards of this stream that are not read to their ends.
#[must_use]
pub fn unfinished(site: &SiteId, info: &StreamInfo, checkpoints: &BTreeMap<ShardId, Position>) -> Vec<ShardId> {
    let ids = info.shards.iter().map(|shard| shard_id(site, info, &shard.id));
    ids.filter(|id| checkpoints.get(id) != Some(&Position::End)).collect()
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
    fn a_shard_that_is_gone_before_its_end_has_lost_records() {
        let site = "a".parse().unwrap();
        let mut info = info();
        let id = |info: &StreamInfo, shard: &str| shard_id(&site, info, shard);
        let lost = |info: &StreamInfo, checkpoints: &[(ShardId, Position)]| {
            has_lost(&site, info, &checkpoints.iter().cloned().collect())
        };
        info.shards.remove(0);
        let (gone, kept) = (id(&info, "0"), (id(&info, "1"), Position::After("9".into())));
        assert!(lost(&info, &[(gone.clone(), Position::After("7".into())), kept.clone()]));
        assert!(lost(&info, &[(gone.clone(), Position::Start), kept.clone()]));
        assert!(!lost(&info, &[(gone.clone(), Position::End), kept.clone()]), "it was read to its end");
        assert!(lost(&info, std::slice::from_ref(&kept)), "a parent of 2 that was never begun here is gone");
        assert!(!lost(&info, &[kept, (id(&info, "2"), Position::Start)]), "2 was begun after its parents");
        assert!(!lost(&info, &[]), "a new node has read nothing, and missed nothing");
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
