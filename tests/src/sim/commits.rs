//! Which nodes could commit, and whether the clients' attempts at them do.

use lockstep::seams::refdb::Role;
use lockstep_proto::bridge::{Outcome, RefResult, RefTransactionResponse, RefusalCode};
use lockstep_proto::{NodeId, ProjectName, SiteId};

use super::check::availability::Attempt;
use super::faults::{Seam, Throttle};
use super::world::{World, name};

impl World {
    /// Notes the nodes that cannot commit now, and the projects that are throttled. A node needs no streams to commit.
    pub(super) fn note_cut_off(&self) {
        if !self.scenario.judges_commits() {
            return;
        }
        let takes_writes = |site: &SiteId| {
            let known = self.watch.known();
            known.facts.sites.get(site).is_some_and(|record| record.role == Role::Active && !record.removed)
        };
        let is_cut = |node: &NodeId| [Seam::RefDb, Seam::Blobs].iter().any(|seam| self.faults.is_cut(node, *seam));
        for (node, site) in self.everywhere() {
            let is_away = self.life(&node).is_none() || self.faults.is_paused(&node);
            if is_away || is_cut(&node) || !takes_writes(&site) {
                self.watch.cut_off(&node);
            }
        }
        for number in 0..self.scenario.projects {
            let project: ProjectName = name(&format!("p{number}"));
            if self.faults.is_throttled(&Throttle::Partition(project.clone())) {
                self.watch.throttled(&project);
            }
        }
    }

    /// Judges the end of a client's attempt to commit.
    pub(super) fn attempted(&self, attempt: Attempt<'_>) {
        if self.scenario.judges_commits() {
            self.watch.attempted(attempt);
        }
    }
}

/// Whether an answer is the end of an attempt at a node that is able to commit: something is committed, or the reasons
/// of the refusal are those of the request.
pub(super) fn ended_well(response: &RefTransactionResponse) -> bool {
    let is_committed =
        |result: &RefResult| matches!(result.outcome, Outcome::Committed | Outcome::CommittedNotYetVisible);
    let is_unable = |result: &RefResult| {
        let code = result.refusal.as_ref().map(|refusal| refusal.code);
        result.outcome == Outcome::Unknown || code.is_some_and(is_of_the_node)
    };
    response.results.iter().any(is_committed) || !response.results.iter().any(is_unable)
}

/// Whether a refusal says that the node cannot commit now, or that it waits for somebody else.
pub(super) fn is_of_the_node(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::NotServing | RefusalCode::Unavailable | RefusalCode::Locked)
}
