//! Starts three sidecars and the emulators. Each site has its own folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_proto::SiteId;
use tokio::time::{Instant, sleep};

use super::DemoError;
use super::console::ConsoleAccess;
use crate::node::assembly::{Embedded, Seams, Sidecar, git_settings, seams};
use crate::node::config::{self, Settings};

/// The names of the sites: one in AWS, two on premises.
const NAMES: [&str; 3] = ["eu-aws", "muc-1", "muc-2"];
/// The pause between two reads of the emulated event log. On AWS, all nodes share five reads per second and shard.
const POLL: &str = "100ms";
/// How long the sites may take to become ready.
const READY: Duration = Duration::from_secs(60);
/// How long a site may take to stop.
const GRACE: Duration = Duration::from_secs(5);

/// One site: its sidecar and the folders that the demo needs.
pub(super) struct Site {
    pub(super) name: SiteId,
    pub(super) root: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) sidecar: Sidecar,
}

/// All sites, and the emulators that they share.
pub(super) struct Sites {
    pub(super) sites: Vec<Site>,
    pub(super) shared: Seams,
    /// The token for the console of each site.
    token: String,
    _embedded: Embedded,
}

impl Sites {
    /// Starts the emulators and the sidecars. The sidecars join in the background.
    pub(super) async fn start(folder: &Path) -> Result<Self, DemoError> {
        let embedded = Embedded::start(&folder.join("aws")).await.map_err(DemoError::of)?;
        let access = ConsoleAccess::prepare(folder)?;
        let first = settings(folder, NAMES[0], &access)?;
        let shared = seams(&first, Some(&embedded)).await.map_err(DemoError::of)?;
        let mut sites = Vec::new();
        for name in NAMES {
            let settings = settings(folder, name, &access)?;
            let git = git_settings(&settings).map_err(DemoError::of)?;
            let sidecar = Sidecar::start(&settings, &shared, git, None).await.map_err(DemoError::of)?;
            sites.push(Site {
                name: settings.site.clone(),
                root: settings.base_paths.root().to_owned(),
                socket: settings.api.socket,
                sidecar,
            });
        }
        Ok(Self { sites, shared, token: access.token, _embedded: embedded })
    }

    /// Waits until every site is ready.
    pub(super) async fn ready(&self) -> Result<(), DemoError> {
        let end = Instant::now() + READY;
        while !self.sites.iter().all(|site| site.sidecar.node.is_ready()) {
            if Instant::now() >= end {
                let waiting: Vec<String> = self.sites.iter().map(Site::state).collect();
                return Err(DemoError(format!("the sites are not ready after {READY:?}: {}", waiting.join(", "))));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The text that tells the user how to push and where to look.
    pub(super) fn welcome(&self, clone: &Path) -> String {
        let mut text = "Three sites are in lockstep. Push to any of them:\n\n".to_owned();
        for site in &self.sites {
            text.push_str(&format!("  {:8} {}\n", site.name.as_str(), site.repository().display()));
        }
        let clone = clone.display();
        text.push_str(&format!(
            "\nA clone to play with is in {clone}; its remotes have the sites' names:\n  cd {clone}\n  \
             git commit --allow-empty -m hello && git push muc-1 HEAD:refs/heads/hello\n  \
             git ls-remote eu-aws refs/heads/hello\n"
        ));
        if let (Some(site), Ok(lockstep)) = (self.sites.last(), std::env::current_exe()) {
            let (lockstep, socket) = (lockstep.display(), site.socket.display());
            text.push_str(&format!("\nTo see the status of a site:\n  {lockstep} status --socket {socket}\n"));
        }
        text.push_str("\nTo see all sites in a browser, which does not know the demo's certificate:\n");
        for site in &self.sites {
            if let Some(address) = site.sidecar.operators {
                text.push_str(&format!("  {:8} https://{address}/console\n", site.name.as_str()));
            }
        }
        text.push_str(&format!("  token    {}\n", self.token));
        text.push_str("\nThe demo also pushes some commits itself. Ctrl-C stops everything.\n\n");
        text
    }

    /// Stops all sites in an orderly way, and waits until their tasks have ended.
    pub(super) async fn stop(self) {
        futures::future::join_all(self.sites.into_iter().map(|site| site.sidecar.stop(GRACE))).await;
    }
}

impl Site {
    /// The path of the demo's repository at this site.
    pub(super) fn repository(&self) -> PathBuf {
        self.root.join("demo.git")
    }

    fn state(&self) -> String {
        format!("{} is waiting for {:?}", self.name, self.sidecar.node.latches().closed())
    }
}

/// A site's configuration, as an operator would write it.
fn settings(folder: &Path, name: &str, access: &ConsoleAccess) -> Result<Settings, DemoError> {
    let home = folder.join(name);
    let text = format!(
        r#"
site = "{name}"
node = "{name}-0"
sites = ["eu-aws", "muc-1", "muc-2"]
root = "{home}/git"
state = "{home}/git/.lockstep"
[api]
socket = "{home}/api.sock"
[git]
install_hooks = true
[refdb]
prefix = "demo"
[eventlog]
prefix = "demo"
poll_interval = "{POLL}"
[blobs]
url = "file://{folder}/aws/blobs"
{console}"#,
        console = access.settings,
        home = home.display(),
        folder = folder.display(),
    );
    for folder in [&home, &folder.join("aws/blobs")] {
        std::fs::create_dir_all(folder).map_err(DemoError::of)?;
    }
    std::fs::write(home.join("lockstep.toml"), &text).map_err(DemoError::of)?;
    config::parse(&text).map_err(DemoError::of)
}
