//! A Gerrit without Lockstep, and one with it.

use std::path::PathBuf;

use lockstep_loadtest::Fallible;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::gerrit::{Kit, Sites};
use lockstep_tests::e2e::git::{git, ok};

/// The most memory of a Gerrit, which is enough for the largest project here.
const HEAP: &str = "2g";

/// The programs of both Gerrits.
pub fn kit() -> Kit {
    Kit { heap: HEAP, ..Kit::from_env() }
}

/// The sidecar: the production binary, which the Makefile builds beside this one.
pub fn sidecar() -> Fallible<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("lockstep");
    if binary.exists() {
        Ok(binary)
    } else {
        Err(format!("{} does not exist: run `make bench-gerrit`, which builds it", binary.display()).into())
    }
}

/// Both Gerrits. The one with the bridge is the only site of its installation, so that no other site uses the machine's
/// time.
pub struct Pair {
    /// The Gerrit without Lockstep.
    pub plain: Server,
    /// The Gerrit with the bridge, and its sidecar.
    pub sites: Sites,
}

impl Pair {
    /// Initialises and starts both, and waits until they serve.
    pub async fn start() -> Fallible<Self> {
        let kit = kit();
        let sites = Sites::of(&kit, &sidecar()?, &["a-0"]).await;
        let mut plain = Server::plain(&kit, "plain", &Self::plain_site(&sites.cluster)).await;
        plain.run().await;
        Ok(Self { plain, sites })
    }

    /// The folder of the site without Lockstep. Its repositories are in `git`.
    pub fn plain_site(cluster: &Cluster) -> PathBuf {
        cluster.scratch("plain")
    }

    /// Both Gerrits: without the bridge, and with it.
    pub fn servers(&self) -> [&Server; 2] {
        [&self.plain, &self.sites.servers[0]]
    }

    /// Packs the refs of a project at both, as a nightly garbage collection does.
    pub async fn pack_refs(&self, project: &str) {
        let plain = Self::plain_site(&self.sites.cluster).join("git").join(format!("{project}.git"));
        for repository in [plain, self.sites.cluster.nodes[0].repository(project)] {
            let _ = ok(git(&repository, &["pack-refs", "--all"]).await);
        }
    }

    /// A user at each Gerrit, with a clone of a project.
    pub async fn users(&self, project: &str) -> [User; 2] {
        let folder = self.sites.cluster.scratch(&format!("plain-user-{project}"));
        [User::clone(&self.plain, project, &folder).await, self.sites.user(0, project).await]
    }
}
