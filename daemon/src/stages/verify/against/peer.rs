//! Asks one peer. A peer that refuses because it is busy is asked again a few times.

use lockstep_proto::digests::{DigestsPage, DigestsRequest, MOST_DIGESTS, MOST_KEYS, RefLook, RefsRequest};
use lockstep_proto::rebuild::{VersionsCursor, VersionsEntry, VersionsRequest};
use lockstep_proto::{ProjectKey, ProjectName, RefKey};
use tokio::time::sleep;

use crate::seams::peers::{PeerError, Peers};
use crate::seams::volume::RefRecord;
use crate::stages::verify::judge::Look;
use crate::stages::verify::project::{CompareError, PAUSE};

/// How often a peer is asked before its refusal counts.
const TRIES: u32 = 3;

/// One peer of this node.
pub(super) struct Peer<'a> {
    peers: &'a dyn Peers,
    /// Its name in `[peers]`.
    pub(super) name: &'a str,
}

/// The records of a project after a key, up to the key `until`, or to the end for none.
pub(super) struct Range {
    pub(super) records: Vec<(RefKey, RefRecord)>,
    pub(super) until: Option<RefKey>,
}

impl<'a> Peer<'a> {
    pub(super) fn new(peers: &'a dyn Peers, name: &'a str) -> Self {
        Self { peers, name }
    }

    async fn ask<T, C>(&self, call: impl Fn() -> C) -> Result<T, CompareError>
    where
        C: Future<Output = Result<T, PeerError>>,
    {
        let mut tries = 1;
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(PeerError::NotNow(why)) if tries >= TRIES => return Err(CompareError::Peer(why)),
                Err(error @ PeerError::Missing(_)) => return Err(CompareError::Peer(error.to_string())),
                Err(PeerError::NotNow(_)) => tries += 1,
            }
            sleep(PAUSE).await;
        }
    }

    fn disorder(&self) -> CompareError {
        let name = self.name;
        CompareError::Peer(format!("peer {name} sends answers that are not in order, or not those that were asked for"))
    }

    /// A page of its digests. A peer is not trusted: the names must be in order, behind those of the page before.
    pub(super) async fn digests(
        &self,
        after: Option<&ProjectName>,
        only: Option<&ProjectName>,
        disk: bool,
    ) -> Result<DigestsPage, CompareError> {
        let request = DigestsRequest { after: after.cloned(), only: only.cloned(), disk };
        let page = self.ask(|| self.peers.digests(self.name, &request)).await?;
        let mut last = after;
        for project in &page.projects {
            let name = &project.state.project.name;
            if last.is_some_and(|last| name <= last) || only.is_some_and(|only| name != only) {
                return Err(self.disorder());
            }
            last = Some(name);
        }
        // A page without projects must be the last one.
        let goes_on = page.next.as_ref().is_none_or(|next| !page.projects.is_empty() && Some(next) == last);
        if goes_on && page.projects.len() <= MOST_DIGESTS { Ok(page) } else { Err(self.disorder()) }
    }

    /// Records of a project after a key.
    pub(super) async fn range(&self, project: &ProjectKey, after: Option<&RefKey>) -> Result<Range, CompareError> {
        let key = after.cloned().unwrap_or(RefKey::State);
        let after = VersionsCursor { project: project.name.clone(), key };
        let request = VersionsRequest { after: Some(after.clone()), only: Some(project.name.clone()) };
        let page = self.ask(|| self.peers.versions(self.name, &request)).await?;
        let mut records: Vec<(RefKey, RefRecord)> = Vec::with_capacity(page.entries.len());
        let mut last = after.key;
        for entry in page.entries {
            // A peer of an earlier release goes on with the projects behind this one.
            if entry.project.name != project.name {
                break;
            }
            if entry.project != *project {
                // The project was created anew: nothing of this incarnation is there.
                return Ok(Range { until: None, records: Vec::new() });
            }
            if entry.key <= last {
                return Err(self.disorder());
            }
            last = entry.key.clone();
            let (key, record) = record(entry);
            records.push((key, record));
        }
        let goes_on = page.next.is_some_and(|next| next.project == project.name);
        if goes_on && records.is_empty() {
            return Err(self.disorder());
        }
        Ok(Range { until: goes_on.then_some(last), records })
    }

    /// Refs of a project, as the peer has them after a catch-up, if one is asked for. The second part of the result is
    /// why the peer could not catch up.
    pub(super) async fn looks(
        &self,
        project: &ProjectKey,
        keys: &[RefKey],
        catch_up: bool,
    ) -> Result<(Vec<Look>, Option<String>), CompareError> {
        let (mut looks, mut behind) = (Vec::with_capacity(keys.len()), None);
        for keys in keys.chunks(MOST_KEYS) {
            let request = RefsRequest { project: project.clone(), keys: keys.to_vec(), catch_up };
            let answer = self.ask(|| self.peers.refs(self.name, &request)).await?;
            if !answer.refs.iter().map(|look| &look.key).eq(keys) {
                return Err(self.disorder());
            }
            behind = answer.behind.or(behind);
            looks.extend(answer.refs.into_iter().map(|RefLook { key, record: found, disk }| {
                let here = found.map(|found| record(found).1);
                Look { key, refdb: None, here, disk }
            }));
        }
        Ok((looks, behind))
    }
}

fn record(entry: VersionsEntry) -> (RefKey, RefRecord) {
    let VersionsEntry { key, version, value, txn, .. } = entry;
    (key, RefRecord { version, value, txn })
}
