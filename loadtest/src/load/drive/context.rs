//! The parts that all operations share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use lockstep_proto::ProjectName;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::Fallible;
use crate::load::estate::{Estate, Site};
use crate::load::ledger::Entry;
use crate::load::measure::Recorder;
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
    /// The recorder.
    pub recorder: Recorder,
    /// Every request so far.
    pub ledger: Mutex<Vec<Entry>>,
    /// The start of the run. Before it, the beginning of the preparation.
    pub begun: Mutex<Instant>,
    /// Operations in progress.
    pub in_flight: AtomicUsize,
    /// Permits for git processes.
    pub git: Semaphore,
    /// The folder of the clients' own repositories.
    pub clients: PathBuf,
    /// Serialises the creation of the clients' repositories.
    pub creating: Mutex<()>,
}

impl Context {
    /// The run begins now.
    pub fn begin(&self) {
        *self.begun.lock() = Instant::now();
    }

    /// The start of the run.
    #[must_use]
    pub fn start(&self) -> Instant {
        *self.begun.lock()
    }

    /// The time since the start, in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start().elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The same as a signed number, for the ledger.
    #[must_use]
    pub fn ledger_us(&self) -> i64 {
        i64::try_from(self.now_us()).unwrap_or(i64::MAX)
    }

    /// The repository of a client who pushes to a project of a site. It borrows the objects of the site's, as if the
    /// client had just fetched.
    pub fn client(&self, site: &Site, project: &ProjectName) -> Fallible<PathBuf> {
        let path = self.clients.join(&site.name).join(format!("{project}.git"));
        let _creating = self.creating.lock();
        if !path.join("objects/info/alternates").exists() {
            git2::Repository::init_bare(&path)?;
            let borrowed = site.repository(project).join("objects");
            std::fs::create_dir_all(path.join("objects/info"))?;
            std::fs::write(path.join("objects/info/alternates"), format!("{}\n", borrowed.display()))?;
        }
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
