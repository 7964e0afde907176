//! Compares this node with peers, without the refdb: digests first, then the refs that differ.
//!
//! A peer is asked for the digests of its projects, page by page. A project whose records are equal at both nodes has
//! equal digests, and nothing else of it is read. Of the others the records are read, and those that differ are looked
//! at again, at both nodes and in the refdb, after both nodes have caught up with them. So a ref that is on its way is
//! no mismatch.
//!
//! A peer that does not answer, is of an earlier release, belongs to another refdb, or is reconciling is named. It is
//! never equal.
//!
//! | file | content |
//! |---|---|
//! | `choose` | the peers that the request names |
//! | `judge` | names the side that is right: a pure function |
//! | `peer` | asks one peer |
//! | `project` | compares one project of a peer |

mod choose;
mod judge;
mod peer;
mod project;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use lockstep_proto::digests::{DigestsHead, ProjectDigest, SET_DIGEST_FORMAT};
use lockstep_proto::verify::{ALL_PEERS, Estimate, PeerCompared, Right, VerifyRequest};
use lockstep_proto::{ProjectKey, ProjectName};

use super::Verifier;
use super::pace::Pace;
use super::project::CompareError;
use crate::seams::volume::RefRecord;
use peer::Peer;

/// Number of projects that are compared at the same time. A peer serves a few requests of each caller at once.
const AT_ONCE: usize = 4;

/// The first look at the digests of a peer.
#[derive(Default)]
struct Sorted {
    /// Projects that exist at one of the two nodes, and are not known to be equal.
    differ: BTreeSet<ProjectName>,
    /// Projects with equal digests, and their refs.
    equal: u64,
    refs: u64,
}

impl Verifier {
    /// Compares this node with each peer that the request names, one after the other.
    pub(super) async fn run_against(self, request: VerifyRequest, against: String) {
        for chosen in self.choose(&against).await {
            let compared = match &chosen.peer {
                Ok(name) => self.compare_with(&Peer::new(self.peers.as_ref(), name), &request).await,
                Err(why) => Err(CompareError::Peer(why.clone())),
            };
            if let Err(failure) = compared {
                self.log.lock().failed(chosen.label, &failure);
            }
        }
        self.log.lock().end(self.clock.now_ms());
        self.keep();
    }

    /// Compares the version map of this node with those of all peers that answer, beside the verifications that were
    /// asked for. The share is that of a partition's read units. Returns the projects in which this node may be wrong.
    pub(super) async fn differs_from_peers(&self, share: u32) -> BTreeSet<ProjectKey> {
        let against = Some(ALL_PEERS.to_owned());
        let request = VerifyRequest { against, maps_only: true, ..VerifyRequest::of_refdb(None, share) };
        let beside = Self { log: Arc::default(), ..self.clone() };
        let _ = beside.log.lock().begin(request.clone(), Estimate::default(), self.clock.now_ms());
        for chosen in beside.choose(ALL_PEERS).await {
            // A peer that does not answer says nothing. It compares itself, and its own figures tell how old that is.
            let Ok(name) = &chosen.peer else { continue };
            if let Err(why) = beside.compare_with(&Peer::new(self.peers.as_ref(), name), &request).await {
                tracing::info!(peer = name, %why, "a peer cannot be compared in the background");
            }
        }
        let Some(ended) = beside.log.lock().last.take() else { return BTreeSet::new() };
        for compared in ended.peers {
            self.log.lock().in_background(compared, self.clock.now_ms());
        }
        let wrong = ended.found.iter().filter(|one| one.right != Right::ThisNode);
        wrong.filter_map(|one| one.project.parse().ok()).collect()
    }

    /// Compares this node with one peer.
    async fn compare_with(&self, peer: &Peer<'_>, request: &VerifyRequest) -> Result<(), CompareError> {
        let (only, pace) = (request.project.as_ref(), &Pace::of_share(self.share_of(request)));
        let before = self.log.lock().bad();
        let (head, sorted) = self.sort(peer, only, !request.maps_only).await?;
        self.log.lock().equal(sorted.equal, sorted.refs);
        let projects = sorted.equal + sorted.differ.len() as u64;
        let compared = futures::stream::iter(sorted.differ)
            .map(|name| async move { (self.compare_at(peer, &name, pace, !request.maps_only).await, name) })
            .buffer_unordered(AT_ONCE);
        let note = async |(compared, name): (Result<_, CompareError>, ProjectName)| match compared {
            Ok((project, compared)) => self.log.lock().compared_with(&project, compared, self.clock.now_ms()),
            Err(failure) => self.log.lock().failed(format!("{name} (peer {})", peer.name), &failure),
        };
        compared.for_each(note).await;
        let mut log = self.log.lock();
        let (mismatches, failures) = log.bad();
        let compared = PeerCompared {
            peer: peer.name.to_owned(),
            site: head.site.to_string(),
            node: head.node.to_string(),
            projects,
            by_digest: sorted.equal,
            mismatches: mismatches - before.0,
            failures: failures - before.1,
        };
        log.with_peer(compared, self.clock.now_ms());
        Ok(())
    }

    /// Holds the digests of a peer against those of this node.
    async fn sort(
        &self,
        peer: &Peer<'_>,
        only: Option<&ProjectName>,
        disk: bool,
    ) -> Result<(DigestsHead, Sorted), CompareError> {
        let mut here: BTreeMap<ProjectName, RefRecord> = self.versions.states(only)?;
        let (mut sorted, mut after, mut first) = (Sorted::default(), None, None);
        loop {
            let page = peer.digests(after.as_ref(), only, disk).await?;
            self.check(peer, &page.head, first.as_ref())?;
            let first = first.get_or_insert(page.head);
            for there in page.projects {
                let name = there.state.project.name.clone();
                let mine = match here.remove(&name) {
                    Some(state) => Some(self.tell(&name, state, disk).await?),
                    None => None,
                };
                sorted.put(name, mine.as_ref(), Some(&there));
            }
            let Some(next) = page.next else {
                for (name, state) in here {
                    let mine = self.tell(&name, state, false).await?;
                    sorted.put(name, Some(&mine), None);
                }
                return Ok((first.clone(), sorted));
            };
            after = Some(next);
        }
    }

    /// Refuses a peer whose digests say nothing about this node, or that is another one than at the page before.
    fn check(&self, peer: &Peer<'_>, head: &DigestsHead, first: Option<&DigestsHead>) -> Result<(), CompareError> {
        let own = self.head()?;
        let (name, node) = (peer.name, &head.node);
        let why = match head {
            _ if first.is_some_and(|first| first.node != head.node) => {
                format!("peer {name} was another node at first, and is {node} now: give each node an entry of its own")
            }
            head if head.node == own.node => format!("peer {name} is this node itself"),
            head if head.format != SET_DIGEST_FORMAT => {
                format!("peer {name} has digests of another form, as its release is another one: upgrade the older one")
            }
            head if head.refdb != own.refdb => {
                let of = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".to_owned());
                let (there, here) = (of(&head.refdb), of(&own.refdb));
                format!("peer {name} belongs to the refdb {there}, and this node to {here}: versions tell nothing")
            }
            head if head.reconciles || own.reconciles => {
                let node = if head.reconciles { node } else { &own.node };
                format!("node {node} is reconciling, so that refs may be missing; try again when it is ready")
            }
            _ => return Ok(()),
        };
        Err(CompareError::Peer(why))
    }
}

impl Sorted {
    fn put(&mut self, name: ProjectName, here: Option<&ProjectDigest>, there: Option<&ProjectDigest>) {
        match (alive(here), alive(there)) {
            (None, None) => {}
            (Some(here), Some(there)) if are_equal(here, there) => {
                self.equal += 1;
                self.refs += here.refs;
            }
            _ => _ = self.differ.insert(name),
        }
    }
}

/// A project that is not deleted.
fn alive(project: Option<&ProjectDigest>) -> Option<&ProjectDigest> {
    project.filter(|project| super::listing::living(&project.state.project.name, &project.state.value).is_some())
}

/// Whether two nodes have the same records of a project, and both show them. A digest that is not there yet proves
/// nothing.
fn are_equal(here: &ProjectDigest, there: &ProjectDigest) -> bool {
    let state = |one: &ProjectDigest| (one.state.version, one.state.value.clone(), one.state.txn.clone());
    let is_shown = |one: &ProjectDigest| one.off_disk == 0 && one.problem.is_none();
    state(here) == state(there)
        && here.digest.is_some()
        && (&here.digest, here.refs) == (&there.digest, there.refs)
        && is_shown(here)
        && is_shown(there)
}

/// The key of a project for a result: with its incarnation if it lives.
fn key_of(name: &ProjectName, state: Option<&RefRecord>) -> ProjectKey {
    let living = state.and_then(|state| super::listing::living(name, &state.value));
    living.unwrap_or_else(|| ProjectKey::of_name(name))
}
