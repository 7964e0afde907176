//! Real Gerrits beside real sidecars, for `make gerrit-e2e`.
//!
//! The first site is initialised without the bridge and imported into the refdb. Every other site is a copy of the
//! first one's folder, over the repositories of its own sidecar. Then each Gerrit gets the bridge, and users come by
//! HTTP and git.
//!
//! | file | idea |
//! |---|---|
//! | `server` | one Gerrit: its site's folder, configuration, process |
//! | `login` | logins of its users |
//! | `rest` | its REST API, as the administrator |
//! | `waits` | waits until it shows something |
//! | `load` | users who edit changes, accounts and groups, and the ledger of their answers |
//! | `user` | a clone from which a user pushes changes |
//! | `stream` | its SSH: a key, and the stream of events |
//! | `between` | a proxy between a Gerrit and its sidecar that loses calls |
//! | `agree` | the checks at the end: refs are equal everywhere, and each index matches the refs |

pub mod agree;
pub mod between;
pub mod load;
pub mod login;
pub mod rest;
pub mod server;
pub mod stream;
pub mod user;
mod waits;

use std::path::{Path, PathBuf};

use super::cluster::Cluster;
use super::git::ok;
use server::Server;
use stream::{Key, Listener};
use user::User;

/// The projects that every Gerrit has before its first own project.
pub const FIRST_PROJECTS: [&str; 2] = ["All-Projects", "All-Users"];

/// The programs that a test runs, from the environment that `make gerrit-e2e` sets.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The release of Gerrit, such as 3.13.
    pub release: (u32, u32),
    /// The path of the `java` that runs Gerrit.
    pub java: PathBuf,
    /// The path of Gerrit's war.
    pub war: PathBuf,
    /// The bridge's jar for this release.
    pub bridge: PathBuf,
    /// The jar of the tests' plugin.
    pub plugin: PathBuf,
    /// The least level of the lines in a Gerrit's log, as Log4j names it.
    pub log_level: &'static str,
    /// The most memory of a Gerrit, as a value of `-Xmx`.
    pub heap: &'static str,
    /// A module that a Gerrit needs if its programs are those of another release.
    pub extra_module: Option<String>,
    /// More values for `gerrit.config` of every site. `{node}` in a value is the name of the site's node.
    pub settings: Vec<(&'static str, String)>,
}

impl Kit {
    /// Reads the kit from the environment.
    ///
    /// # Panics
    /// If a variable is not set.
    #[must_use]
    pub fn from_env() -> Self {
        Self::of("")
    }

    /// Reads the kit of the release that sites are upgraded to. `make gerrit-e2e-rolling` sets its variables.
    ///
    /// # Panics
    /// If a variable is not set.
    #[must_use]
    pub fn next_from_env() -> Self {
        Self::of("_NEXT")
    }

    /// Reads the kit from the variables whose names have this ending.
    fn of(end: &str) -> Self {
        let path = |name: &str| PathBuf::from(variable(&format!("{name}{end}")));
        let module = std::env::var(format!("LOCKSTEP_GERRIT_EXTRA_MODULE{end}"));
        Self {
            release: release(&variable(&format!("LOCKSTEP_GERRIT_VERSION{end}"))),
            java: variable("LOCKSTEP_GERRIT_JAVA").into(),
            war: path("LOCKSTEP_GERRIT_WAR"),
            bridge: path("LOCKSTEP_BRIDGE_JAR"),
            plugin: path("LOCKSTEP_GERRIT_PLUGIN"),
            log_level: "DEBUG",
            heap: "512m",
            extra_module: module.ok().filter(|module| !module.is_empty()),
            settings: Vec::new(),
        }
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make gerrit-e2e`"))
}

/// The first two numbers of a version.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().expect("a version of numbers"));
    (numbers.next().expect("a version"), numbers.next().expect("a version of more than one number"))
}

/// Sidecars, each with a Gerrit beside it.
pub struct Sites {
    /// The Gerrits, in the order of the nodes. They stop before the sidecars.
    pub servers: Vec<Server>,
    /// The sidecars, and the emulators that they share.
    pub cluster: Cluster,
}

impl Sites {
    /// Starts a sidecar and a Gerrit per name (`site-number`), and waits until all are ready.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(binary: &Path, names: &[&str]) -> Self {
        Self::of(&Kit::from_env(), binary, names).await
    }

    /// Like [`Sites::start`], with this kit.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn of(kit: &Kit, binary: &Path, names: &[&str]) -> Self {
        Self::with_gerrits(kit, binary, names, names.len()).await
    }

    /// Like [`Sites::of`], with a Gerrit beside the first `gerrits` nodes only.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn with_gerrits(kit: &Kit, binary: &Path, names: &[&str], gerrits: usize) -> Self {
        Self::over(kit, Cluster::start(binary, names).await, gerrits).await
    }

    /// Starts a Gerrit beside each of the first `gerrits` nodes of a cluster that has no project yet.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn over(kit: &Kit, cluster: Cluster, gerrits: usize) -> Self {
        let first = Server::found(kit, &cluster.nodes[0], &cluster.scratch("gerrit-0")).await;
        for project in FIRST_PROJECTS {
            let root = cluster.nodes[0].root.display().to_string();
            let _ = ok(cluster.nodes[0].cli(&["import", project, "--root", &root]).await);
            cluster.exists(project).await;
        }
        let mut servers = vec![first];
        for (at, node) in cluster.nodes.iter().enumerate().take(gerrits).skip(1) {
            servers.push(Server::copy(&servers[0], node, &cluster.scratch(&format!("gerrit-{at}"))).await);
        }
        for (server, node) in servers.iter_mut().zip(&cluster.nodes) {
            server.install_bridge(node).await;
            server.start();
        }
        for server in &mut servers {
            server.ready().await;
        }
        Self { servers, cluster }
    }

    /// The Gerrits of the first two sites.
    ///
    /// # Panics
    /// If there is only one site.
    #[must_use]
    pub fn two(&self) -> (&Server, &Server) {
        (&self.servers[0], &self.servers[1])
    }

    /// Starts a listener to the event stream of each of the first two sites.
    pub async fn listeners(&self, key: &Key) -> [Listener; 2] {
        let at = async |site: usize| Listener::start(key, &self.servers[site], &self.cluster.nodes[site].root).await;
        [at(0).await, at(1).await]
    }

    /// A user with a clone of a project at one of the sites.
    pub async fn user(&self, at: usize, project: &str) -> User {
        self.user_named(&format!("user-{at}"), at, project).await
    }

    /// Like [`Sites::user`], for several users at one site.
    pub async fn user_named(&self, name: &str, at: usize, project: &str) -> User {
        let folder = format!("{name}-{}", project.replace('/', "-"));
        User::clone(&self.servers[at], project, &self.cluster.scratch(&folder)).await
    }
}
