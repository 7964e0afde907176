//! A project of the copy that is pushed to and fetched from by git, through the hooks, as users do.

use std::path::PathBuf;
use std::time::Duration;

use lockstep_proto::bridge::{CreateProjectRequest, Outcome};
use lockstep_proto::{NodeId, ProjectName};
use tokio::time::{Instant, sleep};

use super::super::Node;
use super::error::SilentError;
use crate::node::config::Settings;
use crate::seams::probe::git::{GitProbe, GitSettings};
use crate::seams::probe::{Group, Probe};

/// The beginning of its name.
const NAME: &str = "lockstep-drill";
/// How long a push that is refused is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The project, with the probe that pushes to it and fetches from it.
pub(super) struct Canary {
    probe: GitProbe,
    pause: Duration,
}

impl Canary {
    /// Creates the project, under a name that no project of the volume has.
    pub(super) async fn create(node: &Node, settings: &Settings) -> Result<Self, SilentError> {
        let name = free_name(node)?;
        let request = CreateProjectRequest { request_id: "silent-drill".to_owned(), head: "refs/heads/main".parse()? };
        let created = node.transactions().create_project(&name, request).await.map_err(SilentError::Refused)?;
        if created.outcome != Outcome::Committed {
            let why = created.refusal.map(|refusal| refusal.message).unwrap_or_default();
            return Err(SilentError::NoProject(name, created.outcome, why));
        }
        let repository: PathBuf = settings.base_paths.git_dir(&name);
        let (url, limit) = (repository.display().to_string(), settings.probes.timeout);
        let node: NodeId = settings.node.clone();
        // Its git ends with the child.
        let group = Group::OfThisProcess;
        let email = settings.probes.email.clone();
        let probe = GitProbe::new(GitSettings { url, login: None, key: None, email, limit, group }, &node);
        Ok(Self { probe, pause: settings.probes.interval })
    }

    /// Pushes and fetches, again until both are green.
    pub(super) async fn probe(&self) -> Result<(), SilentError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let results = self.probe.run().await;
            let red = results.iter().filter_map(|one| Some(format!("{}: {}", one.probe, one.red.as_ref()?)));
            let red: Vec<String> = red.collect();
            if red.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(SilentError::RedProbes(red.join("; ")));
            }
            sleep(self.pause).await;
        }
    }
}

fn free_name(node: &Node) -> Result<ProjectName, SilentError> {
    let taken = node.stages().deps.store.projects()?;
    let is_free = |name: &ProjectName| !taken.iter().any(|(other, _)| other == name);
    let names = std::iter::once(NAME.to_owned()).chain((1..=taken.len()).map(|number| format!("{NAME}-{number}")));
    let free = names.filter_map(|name| name.parse().ok()).find(is_free);
    free.ok_or(SilentError::NoName(NAME))
}
