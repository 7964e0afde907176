//! Which nodes could commit, and whether the clients' attempts at them do.

use lockstep::seams::refdb::Role;
use lockstep_proto::bridge::{Outcome, RefResult, RefTransactionResponse, RefusalCode};
use lockstep_proto::{NodeId, ProjectName, SiteId};

use super::check::availability::{Attempt, Ended};
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

/// The end of an attempt that was answered.
pub(super) fn ended(response: &RefTransactionResponse) -> Ended {
    let is_committed =
        |result: &RefResult| matches!(result.outcome, Outcome::Committed | Outcome::CommittedNotYetVisible);
    let is_unable = |result: &RefResult| {
        let code = result.refusal.as_ref().map(|refusal| refusal.code);
        result.outcome == Outcome::Unknown || code.is_some_and(|code| refused(code) == Ended::Failed)
    };
    match response.results.iter().any(is_committed) {
        true => Ended::Committed,
        false if response.results.iter().any(is_unable) => Ended::Failed,
        false => Ended::Refused,
    }
}

/// The end of an attempt that was refused: it failed if the node cannot commit now, or waits for somebody else.
pub(super) fn refused(code: RefusalCode) -> Ended {
    match code {
        RefusalCode::NotServing | RefusalCode::Unavailable | RefusalCode::Locked => Ended::Failed,
        _ => Ended::Refused,
    }
}
