//! Compares one project with a peer whose digest of it differs.
//!
//! The records of both nodes are read side by side, page by page. Only the keys that differ are in memory, at most
//! [`MOST_DIFFERENT`]. They are looked at again as a comparison with the refdb does it: first after a pause, and then
//! twice after both nodes have caught up with them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{ProjectKey, ProjectName, RefKey};
use tokio::time::sleep;

use super::judge::{Behind, Pair, are_same, judge, stays};
use super::peer::Peer;
use super::{are_equal, key_of};
use crate::seams::volume::RefRecord;
use crate::stages::verify::Verifier;
use crate::stages::verify::pace::{PAGE, Pace};
use crate::stages::verify::project::{BATCH, CompareError, Compared, MOST_DIFFERENT, PAUSE, ROUNDS};

/// One comparison of a project with a peer.
struct Versus<'a> {
    peer: &'a Peer<'a>,
    pace: &'a Pace,
    /// Whether the disks are compared, too.
    disk: bool,
}

impl Verifier {
    /// Compares a project whose digests differ. Returns it with its incarnation here.
    pub(super) async fn compare_at(
        &self,
        peer: &Peer<'_>,
        name: &ProjectName,
        pace: &Pace,
        disk: bool,
    ) -> Result<(ProjectKey, Compared), CompareError> {
        let versus = Versus { peer, pace, disk };
        let any = ProjectKey::of_name(name);
        let state = BTreeSet::from([RefKey::State]);
        let mut compared = match self.pairs(&versus, &any, &state).await?.is_empty() {
            true => Compared::default(),
            false => self.rounds(&versus, &any, state).await?,
        };
        let own = self.versions.get(&any, &RefKey::State)?;
        let project = key_of(name, own.as_ref());
        let is_settled = compared.mismatches.is_empty();
        if !is_settled || project == any {
            return Ok((project, compared));
        }
        // Its refs may have arrived by now.
        let Some((there, refs)) = self.differing_digest(&versus, name).await? else {
            return Ok((project, Compared { on_their_way: compared.on_their_way.max(1), ..compared }));
        };
        let mut differ = there;
        let (from_records, records) = self.differing_records(peer, &project).await?;
        differ.extend(from_records);
        if differ.len() > MOST_DIFFERENT {
            return Err(CompareError::TooMany);
        }
        let rest = self.rounds(&versus, &project, differ).await?;
        compared.refs = records.max(refs);
        compared.on_their_way += rest.on_their_way;
        compared.repaired += rest.repaired;
        compared.mismatches.extend(rest.mismatches);
        Ok((project, compared))
    }

    /// Asks both nodes for the digest of one project again. None if the project is equal now. Otherwise the refs that
    /// one of the disks does not show, and the number of records here.
    async fn differing_digest(
        &self,
        versus: &Versus<'_>,
        name: &ProjectName,
    ) -> Result<Option<(BTreeSet<RefKey>, u64)>, CompareError> {
        let page = versus.peer.digests(None, Some(name), versus.disk).await?;
        let state = self.versions.get(&ProjectKey::of_name(name), &RefKey::State)?;
        let Some(state) = state else { return Ok(None) };
        let here = self.tell(name, state, versus.disk).await?;
        let there = page.projects.into_iter().next();
        if there.as_ref().is_some_and(|there| are_equal(&here, there)) {
            return Ok(None);
        }
        for (who, one) in [("this node", Some(&here)), (versus.peer.name, there.as_ref())] {
            if let Some(why) = one.and_then(|one| one.problem.as_ref()) {
                return Err(CompareError::Peer(format!("{who} cannot read its repository: {why}")));
            }
            // Those that are not named could not be looked at again.
            let unnamed = one.is_some_and(|one| one.off_disk > one.off_disk_refs.len() as u64);
            if unnamed {
                return Err(CompareError::TooMany);
            }
        }
        let off_disk = there.into_iter().chain([here.clone()]).flat_map(|one| one.off_disk_refs);
        Ok(Some((off_disk.collect(), here.refs)))
    }

    /// The keys whose records differ at first sight, and the number of records here.
    async fn differing_records(
        &self,
        peer: &Peer<'_>,
        project: &ProjectKey,
    ) -> Result<(BTreeSet<RefKey>, u64), CompareError> {
        let (mut differ, mut after, mut count) = (BTreeSet::new(), None, 0);
        loop {
            let range = peer.range(project, after.as_ref()).await?;
            let mut there: BTreeMap<RefKey, RefRecord> = range.records.into_iter().collect();
            let mut from = after.clone();
            'range: loop {
                let page = self.versions.page(project, from.as_ref(), PAGE)?;
                let is_last = page.len() < PAGE;
                for (key, record) in page {
                    if range.until.as_ref().is_some_and(|until| key > *until) {
                        break 'range;
                    }
                    count += 1;
                    if !are_same(Some(&record), there.remove(&key).as_ref()) {
                        differ.insert(key.clone());
                    }
                    from = Some(key);
                }
                if differ.len() > MOST_DIFFERENT {
                    return Err(CompareError::TooMany);
                }
                if is_last {
                    break;
                }
            }
            differ.extend(there.into_iter().filter(|(_, record)| !are_same(None, Some(record))).map(|(key, _)| key));
            if differ.len() > MOST_DIFFERENT {
                return Err(CompareError::TooMany);
            }
            let Some(until) = range.until else { return Ok((differ, count)) };
            after = Some(until);
        }
    }

    /// Looks at refs that differ until they are equal, or differ in the same way after catch-ups of both nodes.
    async fn rounds(
        &self,
        versus: &Versus<'_>,
        project: &ProjectKey,
        mut differ: BTreeSet<RefKey>,
    ) -> Result<Compared, CompareError> {
        let mut compared = Compared::default();
        let (mut before, mut looks, mut behind) = (BTreeMap::new(), BTreeMap::new(), Behind::default());
        for round in 0..=ROUNDS {
            if differ.is_empty() {
                return Ok(compared);
            }
            if project.incarnation != 0 && self.versions.is_past(project)? {
                compared.on_their_way += differ.len() as u64;
                return Ok(compared);
            }
            if round > 0 {
                behind = self.both_catch_up(versus, project, &differ).await?;
            }
            sleep(PAUSE).await;
            before = std::mem::replace(&mut looks, self.pairs(versus, project, &differ).await?);
            let equal = (differ.len() - looks.len()) as u64;
            if round > 0 {
                compared.repaired += equal;
            } else {
                compared.on_their_way += equal;
            }
            differ = looks.keys().cloned().collect();
        }
        for (key, pair) in &looks {
            let found = match before.get(key) {
                Some(before) if stays(before, pair) => judge(project, pair, &behind, versus.peer.name),
                _ => None,
            };
            match found {
                Some(found) => compared.mismatches.push(found),
                None => compared.on_their_way += 1,
            }
        }
        Ok(compared)
    }

    /// Has this node and the peer catch up with refs.
    async fn both_catch_up(
        &self,
        versus: &Versus<'_>,
        project: &ProjectKey,
        keys: &BTreeSet<RefKey>,
    ) -> Result<Behind, CompareError> {
        let list: Vec<RefKey> = keys.iter().cloned().collect();
        let here = self.catch_up(project, keys, versus.pace).await;
        let (_, there) = versus.peer.looks(project, &list, true).await?;
        Ok(Behind { here, there })
    }

    /// Looks at refs at both nodes and in the refdb, and returns those that differ between the nodes.
    async fn pairs(
        &self,
        versus: &Versus<'_>,
        project: &ProjectKey,
        keys: &BTreeSet<RefKey>,
    ) -> Result<BTreeMap<RefKey, Pair>, CompareError> {
        let keys: Vec<RefKey> = keys.iter().cloned().collect();
        let mut found = BTreeMap::new();
        for batch in keys.chunks(BATCH) {
            let (theirs, _) = versus.peer.looks(project, batch, false).await?;
            let mut pairs: Vec<Pair> = Vec::with_capacity(batch.len());
            for (key, there) in batch.iter().zip(theirs) {
                pairs.push(Pair { here: self.own_look(project, key).await?, there, disk: versus.disk });
            }
            pairs.retain(Pair::differs);
            // The refdb is read last, and for these refs alone. A commit in between looks like a ref that is behind.
            let differ: Vec<RefKey> = pairs.iter().map(|pair| pair.here.key.clone()).collect();
            if differ.is_empty() {
                continue;
            }
            let items = self.refdb.refs.read(project, &differ).await?;
            versus.pace.take(differ.len() as u64).await;
            found.extend(pairs.into_iter().zip(items).map(|(pair, item)| (pair.here.key.clone(), pair.with(item))));
        }
        Ok(found)
    }
}
