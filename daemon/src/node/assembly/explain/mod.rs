//! Explains one ref: what the refdb has, where its transaction is in the journal of its origin, and how far it has come
//! at each node. Nothing is changed, and nothing is caught up.
//!
//! The refdb is read before and after the nodes are asked. If the ref has moved meanwhile, all of it is read again, a
//! few times. So a node that is ahead of the first look is no finding.
//!
//! | file | idea |
//! |---|---|
//! | `here` | the part of this node |
//! | `judge` | the slot, why a node does not show the ref, and the last sentence: pure functions |

mod here;
mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;
use std::time::Duration;

use futures::future::join_all;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::explain::{
    ExplainRequest, Explanation, NodeExplained, RefAtNode, RefAtNodeRequest, RefCommitted, SiteExplained, SlotOfRef,
};
use lockstep_proto::peer::PeerStatus;
use lockstep_proto::{
    NodeId, ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue, SiteId, Transaction, TxnId, Version,
};
use tokio::time::timeout;

use super::stages::Stages;
use crate::seams::peers::PeerError;
use crate::seams::refdb::gone::may_be_gone;
use crate::seams::refdb::{IncarnationRecord, IncarnationState, NodeRecord, RefItem, SiteRecord, SlotState};
use crate::telemetry::status_board::StatusBoard;
pub(super) use here::checkpoint_status;
use judge::Truth;

/// How often everything is read again because the ref has moved meanwhile.
const TRIES: u32 = 3;
/// How long a peer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Explains refs at one node.
pub(super) struct Explainer<'a> {
    stages: &'a Stages,
    board: &'a StatusBoard,
    /// The closed latches of the node.
    closed: Vec<String>,
}

/// The records of sites, incarnations and nodes.
struct Records {
    sites: Vec<SiteRecord>,
    incarnations: Vec<IncarnationRecord>,
    nodes: Vec<NodeRecord>,
}

/// The answers of nodes: their parts, or why they were not reached.
type Answers = BTreeMap<NodeId, Result<RefAtNode, String>>;

impl<'a> Explainer<'a> {
    pub(super) fn new(stages: &'a Stages, board: &'a StatusBoard, closed: Vec<String>) -> Self {
        Self { stages, board, closed }
    }

    /// Explains one ref, at every site.
    pub(super) async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ApiError> {
        let (settings, key) = (&self.stages.deps.settings, &request.key);
        let project = self.project(&request.project, key).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let refdb = self.committed(&project, key).await?;
            let records = self.records().await?;
            let slot = self.slot(&refdb.txn, key, &records).await?;
            let (txn, origin) = (refdb.txn.clone(), slot.site.clone());
            let asks = RefAtNodeRequest { project: project.clone(), key: key.clone(), txn, origin };
            let answers = self.answers(&asks).await?;
            let moved = self.committed(&project, key).await?.txn != refdb.txn;
            if moved && tries < TRIES {
                continue;
            }
            let truth = Truth { project: &project, key, committed: &refdb, slot: &slot, moved };
            let sites = sites(&truth, &records, &self.stages.state.roles.listed(), answers);
            let verdict = truth.verdict(&sites);
            let (by, at_ms) = (settings.node.clone(), self.stages.deps.clock.now_ms());
            return Ok(Explanation { project, key: key.clone(), by, at_ms, refdb, slot, sites, verdict });
        }
    }

    /// The present incarnation of a project, as the refdb has it.
    async fn project(&self, name: &ProjectName, key: &RefKey) -> Result<ProjectKey, ApiError> {
        let any = ProjectKey::of_name(name);
        let read = self.stages.deps.refdb.refs.read(&any, from_ref(&RefKey::State)).await;
        let item = read.map_err(ApiError::unavailable)?.into_iter().flatten().next();
        match item.map(|item| item.value) {
            Some(RefValue::State(state)) if state.phase != ProjectPhase::Deleted || *key == RefKey::State => {
                Ok(ProjectKey::new(name, state.incarnation))
            }
            Some(RefValue::State(_)) => Err(ApiError::invalid(format!(
                "project {name} was deleted at every site; `lockstep explain {name} @state` explains its deletion"
            ))),
            _ => Err(ApiError::invalid(format!("the refdb has no project {name}: check the name"))),
        }
    }

    /// A ref as the refdb has it.
    async fn committed(&self, project: &ProjectKey, key: &RefKey) -> Result<RefCommitted, ApiError> {
        let read = self.stages.deps.refdb.refs.read(project, from_ref(key)).await;
        let item = read.map_err(ApiError::unavailable)?.into_iter().flatten().next();
        match item.filter(|item| item.version != Version::NONE) {
            Some(RefItem { version, value, txn: Some(txn), lock, .. }) => {
                Ok(RefCommitted { version: version.0, value: text(&value), txn, locked_by: lock })
            }
            _ => Err(self.never_committed(project, key).await),
        }
    }

    /// The error for a ref that the refdb does not have.
    async fn never_committed(&self, project: &ProjectKey, key: &RefKey) -> ApiError {
        let name = &project.name;
        ApiError::invalid(match self.look(project, key).await.ok().and_then(|look| look.disk) {
            Some(value) => format!(
                "the refdb has no ref {key} in project {name}, and the disk of this node shows {value}: something \
                 other than Lockstep wrote it; look with `lockstep verify {name}`"
            ),
            None => format!("the refdb has no ref {key} in project {name}: check the name, and give it in full"),
        })
    }

    async fn records(&self) -> Result<Records, ApiError> {
        let refdb = &self.stages.deps.refdb;
        // The slots come first, so that the marks of the nodes are at least as new.
        let sites = refdb.sites.sites().await.map_err(ApiError::unavailable)?;
        let incarnations = refdb.incarnations().await.map_err(ApiError::unavailable)?;
        let nodes = refdb.nodes.nodes().await.map_err(ApiError::unavailable)?;
        Ok(Records { sites, incarnations, nodes })
    }

    /// The slot of a transaction.
    async fn slot(&self, txn: &TxnId, key: &RefKey, records: &Records) -> Result<SlotOfRef, ApiError> {
        let refdb = &self.stages.deps.refdb;
        let state = refdb.journal.slot(&txn.slot).await.map_err(ApiError::unavailable)?;
        let holds_it = matches!(&state, SlotState::Committed(id, _) if id == txn);
        let gone = !holds_it && may_be_gone(refdb, &txn.slot).await.map_err(ApiError::unavailable)?;
        let (content, bytes) = judge::content(txn, &state, gone);
        let transaction = bytes.and_then(|bytes| Transaction::outlined(bytes).ok());
        let owner = &txn.slot.lane.incarnation;
        let record = records.incarnations.iter().find(|one| one.id == *owner);
        let of_node = || records.nodes.iter().find(|one| one.node == owner.node).map(|one| one.site.clone());
        let site = transaction.as_ref().map(|one| one.site.clone()).or_else(|| record.map(|one| one.site.clone()));
        let predecessor = transaction.as_ref().and_then(|one| one.command(key)?.predecessor.clone());
        Ok(SlotOfRef {
            slot: txn.slot.to_string(),
            site: site.or_else(of_node),
            node: owner.node.clone(),
            incarnation: owner.number.0,
            content,
            committed_at_ms: transaction.as_ref().map(|one| one.committed_at_ms),
            actor: transaction.map(|one| one.actor),
            predecessor,
            published: gone || record.is_none_or(|record| is_published(record, txn)),
        })
    }

    /// The part of this node, and those of the peers.
    async fn answers(&self, request: &RefAtNodeRequest) -> Result<Answers, ApiError> {
        let mut answers: Answers = BTreeMap::new();
        answers.insert(self.stages.deps.settings.node.clone(), Ok(self.here(request).await?));
        let peers = self.stages.deps.peers.statuses().await;
        let asked: Vec<_> = peers.into_iter().map(|peer| self.ask(peer, request)).collect();
        for (node, answer) in join_all(asked).await {
            // The first peer of a name that answers counts, and none of them speaks for this node.
            if let Some(node) = node
                && !matches!(answers.get(&node), Some(Ok(_)))
            {
                answers.insert(node, answer);
            }
        }
        Ok(answers)
    }

    /// Asks a peer for its part. The name of its node is not known if it does not answer and is not named after it.
    async fn ask(&self, peer: PeerStatus, request: &RefAtNodeRequest) -> (Option<NodeId>, Result<RefAtNode, String>) {
        let PeerStatus { name, answer, problem, .. } = peer;
        let Some(introduced) = answer else {
            return (name.parse().ok(), Err(problem.unwrap_or_else(|| format!("peer {name} does not answer"))));
        };
        let answer = match timeout(ANSWER, self.stages.deps.peers.explain(&name, request)).await {
            Ok(Err(PeerError::NotNow(why))) => Err(why),
            Ok(Ok(here)) if here.node != introduced.node => Err(format!(
                "peer {name} is {} and then {}: give each node its own address in [peers]",
                introduced.node, here.node
            )),
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("peer {name} did not answer within {} s", ANSWER.as_secs())),
        };
        (Some(introduced.node), answer)
    }
}

/// Whether the published mark of a transaction's lane has passed it.
fn is_published(record: &IncarnationRecord, txn: &TxnId) -> bool {
    let mark = record.published.get(txn.slot.lane.lane.index());
    record.state == IncarnationState::Drained || mark.is_some_and(|mark| txn.slot.seq < *mark)
}

/// The sites of the list with their nodes, each node with its part and the finding about it.
fn sites(truth: &Truth<'_>, records: &Records, listed: &BTreeSet<SiteId>, mut answers: Answers) -> Vec<SiteExplained> {
    let txn = &truth.committed.txn;
    let mut one_node = |record: &NodeRecord| {
        let answer = answers.remove(&record.node);
        let answer = answer.unwrap_or_else(|| Err("no peer of this node is that one: see [peers]".to_owned()));
        let needs = record.needs.held.contains_key(txn) || record.needs.owed.contains(&truth.project.name);
        let marked = record.mark(&txn.slot.lane) > txn.slot.seq && !needs && !record.reconciles();
        let node = record.node.clone();
        match answer {
            Ok(here) => {
                let (lacks, next) = truth.finding(&here).map(|one| (one.lacks, one.next)).unzip();
                NodeExplained { node, here: Some(here), not_reached: None, marked, lacks, next }
            }
            Err(why) => NodeExplained { node, here: None, not_reached: Some(why), marked, lacks: None, next: None },
        }
    };
    let one_site = |site: &SiteRecord| SiteExplained {
        site: site.site.clone(),
        off: site.off,
        nodes: records.nodes.iter().filter(|one| one.site == site.site && !one.expelled).map(&mut one_node).collect(),
    };
    let mut sites: Vec<_> = records.sites.iter().filter(|site| !site.removed).map(one_site).collect();
    // A site that never started has no record.
    let unknown = listed.iter().filter(|site| !records.sites.iter().any(|one| one.site == **site));
    sites.extend(unknown.map(|site| SiteExplained { site: site.clone(), off: false, nodes: Vec::new() }));
    sites
}

/// A value as text; empty if there is none.
fn text(value: &RefValue) -> String {
    if value.is_absent() { String::new() } else { value.to_string() }
}
