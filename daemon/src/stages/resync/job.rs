//! Takes the projects of a resync one by one, and reports.

use std::sync::Arc;

use lockstep_proto::ProjectName;
use lockstep_proto::resync::{MOST_NOT_WHOLE, NotWhole, Resync, ResyncScope};

use super::project::Righted;
use super::{ResyncError, Resyncer};
use crate::seams::peers::Peers;

impl Resyncer {
    /// Runs a resync to its end. `sources` send the objects.
    pub(super) async fn take_all(self, scope: ResyncScope, sources: Arc<dyn Peers>) {
        let (names, only) = match scope {
            ResyncScope::Project { project, key } => (vec![project], key),
            ResyncScope::Site | ResyncScope::All => (self.all().await, None),
        };
        self.run.report(|report| report.projects = names.len() as u64);
        for name in names {
            self.run.report(|report| report.now = Some(name.to_string()));
            let ended = self.right(&name, only.as_ref(), sources.as_ref()).await;
            self.run.report(|report| take(report, &name, &ended));
        }
        let ended_ms = self.clock.now_ms();
        self.run.report(|report| {
            report.now = None;
            report.ended_ms = Some(ended_ms);
            let Resync { number, by, done, refetched, refs_set, strays, failures, .. } = &*report;
            tracing::warn!(number, actor = %by, done, refetched, refs_set, strays, failures, "a resync has ended");
        });
    }

    /// The projects of this node, those that only the refdb had included. A list that cannot be read is a failure.
    async fn all(&self) -> Vec<ProjectName> {
        if let Err(why) = self.catch_up.projects().await {
            self.run.report(|report| failed(report, "(projects that only the refdb has)", &why.into()));
        }
        match self.versions.projects() {
            Ok(projects) => projects.into_keys().collect(),
            Err(why) => {
                self.run.report(|report| failed(report, "(projects of this node)", &why.into()));
                Vec::new()
            }
        }
    }
}

/// Adds the end of one project.
fn take(report: &mut Resync, name: &ProjectName, ended: &Result<Righted, ResyncError>) {
    report.done += 1;
    match ended {
        Ok(righted) => {
            report.refetched += u64::from(righted.refetched);
            report.garbled += righted.garbled;
            report.refs_set += righted.refs_set;
            report.strays += righted.strays;
        }
        Err(why) => failed(report, name.as_str(), why),
    }
}

fn failed(report: &mut Resync, project: &str, why: &ResyncError) {
    tracing::warn!(project, %why, "a resync could not bring a project to the refdb's state");
    report.failures += 1;
    if report.failed.len() < MOST_NOT_WHOLE {
        let (project, retry) = (project.to_owned(), why.retry_helps());
        report.failed.push(NotWhole { project, why: why.to_string(), retry });
    }
}
