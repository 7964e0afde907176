//! The parts that all operations share.

use std::path::PathBuf;
use std::sync::Arc;

use lockstep_proto::ProjectName;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::pace::Pace;
use crate::Fallible;
use crate::load::estate::{Estate, Site};
use crate::load::git;
use crate::load::ledger::Entry;
use crate::load::profile::Profile;
use crate::load::world::{Places, World};

/// The shared parts of a run.
pub struct Context {
    /// The profile.
    pub profile: Profile,
    /// The estate.
    pub estate: Arc<Estate>,
    /// The world.
    pub world: World,
    /// The start, the operations in progress, and their recorder.
    pub pace: Arc<Pace>,
    /// Every request so far.
    pub ledger: Mutex<Vec<Entry>>,
    /// Permits for git processes.
    pub git: Semaphore,
    /// The folder of the clients' own repositories.
    pub clients: PathBuf,
    /// Serialises the creation of the clients' repositories.
    pub creating: Mutex<()>,
}

impl Context {
    /// The start of the run.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.pace.start()
    }

    /// The time since the start, in microseconds, for the ledger.
    #[must_use]
    pub fn ledger_us(&self) -> i64 {
        i64::try_from(self.pace.now_us()).unwrap_or(i64::MAX)
    }

    /// The repository of a client who pushes to a project of a site. It borrows the objects of the site's, as if the
    /// client had just fetched.
    pub fn client(&self, site: &Site, project: &ProjectName) -> Fallible<PathBuf> {
        let path = self.clients.join(&site.name).join(format!("{project}.git"));
        let _creating = self.creating.lock();
        git::borrow_objects(&path, &site.repository(project))?;
        Ok(path)
    }

    /// The repository of a client who only reads. It borrows nothing.
    pub fn reader(&self, site: &Site, project: &ProjectName) -> Fallible<PathBuf> {
        let path = self.clients.join(format!("{}-readers", site.name)).join(format!("{project}.git"));
        let _creating = self.creating.lock();
        if !path.join("HEAD").exists() {
            git2::Repository::init_bare(&path)?;
        }
        Ok(path)
    }

    /// The places of the repositories for an operation.
    pub fn places(&self, site: &Site, project: &ProjectName, git: bool) -> Fallible<Places> {
        let refs = site.repository(project);
        let objects = if git { self.client(site, project)? } else { refs.clone() };
        Ok(Places { refs, objects })
    }
}
