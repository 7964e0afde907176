//! The parts that all operations of a run share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::git::borrow_objects;
use lockstep_loadtest::load::ledger::Ended;
use lockstep_loadtest::load::profile::Profile;
use lockstep_tests::e2e::gerrit::rest::Login;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::told::{Fact, Told};
use super::world::World;

/// A site, as its clients see it. The generator runs on the site's machine, so it also sees the repositories.
#[derive(Clone, Debug)]
pub struct Place {
    /// The name of the site's node.
    pub name: String,
    /// The address of Gerrit's HTTP listener.
    pub http: SocketAddr,
    /// The root of the repositories.
    pub root: PathBuf,
}

impl Place {
    /// The repository of a project.
    #[must_use]
    pub fn repository(&self, project: &str) -> PathBuf {
        self.root.join(format!("{project}.git"))
    }

    /// The URL of a project for a user.
    #[must_use]
    pub fn url(&self, who: Login<'_>, project: &str) -> String {
        format!("http://{}:{}@{}/a/{project}", who.0, who.1, self.http)
    }
}

/// The site at which a client was told a fact, and when, by the mark of the event that tells of it.
pub type Answered = BTreeMap<String, (usize, Instant)>;

/// The shared parts.
pub struct Shared {
    /// The profile.
    pub profile: Profile,
    /// The sites.
    pub places: Vec<Place>,
    /// Projects and open changes.
    pub world: World,
    /// Every fact that a client was told so far.
    pub told: Mutex<Vec<Told>>,
    /// Permits for git processes.
    pub git: Semaphore,
    /// The folder of the clients' own repositories.
    pub clients: PathBuf,
    /// Serialises the creation of the clients' repositories.
    pub creating: Mutex<()>,
    /// The facts that clients were told for sure.
    pub answered: Mutex<Answered>,
}

impl Shared {
    /// The repository of clients who push to a project of a site. It borrows the objects of the site's.
    pub fn pusher(&self, site: usize, project: &str) -> Fallible<PathBuf> {
        let (place, _creating) = (&self.places[site], self.creating.lock());
        let path = self.clients.join(&place.name).join(format!("{project}.git"));
        borrow_objects(&path, &place.repository(project))?;
        Ok(path)
    }

    /// The repository of clients who read a project of a site. It borrows nothing.
    pub fn reader(&self, site: usize, project: &str) -> Fallible<PathBuf> {
        let _creating = self.creating.lock();
        let path = self.clients.join(format!("{}-readers", self.places[site].name)).join(format!("{project}.git"));
        if !path.join("HEAD").exists() {
            git2::Repository::init_bare(&path)?;
        }
        Ok(path)
    }

    /// Notes a fact, and how sure its client is.
    pub fn tell(&self, site: usize, ended: Ended, fact: Fact) {
        if let Some(mark) = fact.mark().filter(|_| ended == Ended::Committed) {
            self.answered.lock().insert(mark, (site, Instant::now()));
        }
        self.told.lock().push(Told { site, ended, fact });
    }
}
