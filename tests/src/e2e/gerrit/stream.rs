//! Gerrit's SSH: a key of a user, and the event stream that a CI server listens to.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::rest::{ADMIN, Login};
use super::server::Server;
use crate::e2e::git::{git, ok, quiet};
use crate::e2e::until;

/// An SSH key pair, and the folder that it is in.
#[derive(Clone, Debug)]
pub struct Key {
    folder: PathBuf,
    user: String,
}

impl Key {
    /// Creates a key, and adds it to the administrator's account at a site.
    ///
    /// # Panics
    /// If there is no `ssh-keygen`, or Gerrit refuses the key.
    pub async fn give(server: &Server, folder: &Path) -> Self {
        Self::give_to(ADMIN, server, folder).await
    }

    /// Creates a key, and adds it to this user's account at a site.
    ///
    /// # Panics
    /// If there is no `ssh-keygen`, or Gerrit refuses the key.
    pub async fn give_to(who: Login<'_>, server: &Server, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let key = Self { folder: folder.to_owned(), user: who.0.to_owned() };
        let mut command = quiet(Command::new("ssh-keygen"), folder);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key.file());
        let _ = ok(command.output().await.expect("ssh-keygen runs"));
        let public = std::fs::read_to_string(folder.join("key.pub")).expect("a key");
        let _ = server.rest_as(who, "POST", "/accounts/self/sshkeys", &json!(public)).await.json();
        key
    }

    /// Whether a site accepts the key.
    pub async fn opens(&self, server: &Server) -> bool {
        self.run(server, &["gerrit", "version"]).await.status.success()
    }

    /// Runs a command of Gerrit by SSH.
    ///
    /// # Panics
    /// If there is no `ssh`.
    pub async fn run(&self, server: &Server, command: &[&str]) -> Output {
        self.command(server, command).output().await.expect("ssh runs")
    }

    /// The file with the private key.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("key")
    }

    /// The command of `ssh` that runs a command of Gerrit. It dies with this process.
    #[must_use]
    pub fn command(&self, server: &Server, args: &[&str]) -> Command {
        let mut command = quiet(Command::new("ssh"), &self.folder);
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"] {
            command.args(["-F", "/dev/null", "-o", option]);
        }
        let to = format!("{}@127.0.0.1", self.user);
        command.arg("-i").arg(self.file()).args(["-p", &server.ssh.port().to_string(), &to]).args(args);
        command
    }
}

/// A listener that acts as a CI server does: it fetches the patch set of each event as soon as the event arrives.
pub struct Listener {
    heard: Arc<Mutex<Vec<Value>>>,
    lost: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
    _ssh: Child,
}

impl Listener {
    /// Starts to listen at a site, whose repositories are below `root`.
    ///
    /// # Panics
    /// If the site does not accept the key.
    pub async fn start(key: &Key, server: &Server, root: &Path) -> Self {
        let admit = until(async || key.opens(server).await.then_some(())).await;
        assert!(admit.is_some(), "{}", server.log_tail());
        let mut ssh =
            key.command(server, &["gerrit", "stream-events"]).stdout(Stdio::piped()).spawn().expect("ssh runs");
        let mut lines = BufReader::new(ssh.stdout.take().expect("a pipe")).lines();
        let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
        let lost: Arc<Mutex<Vec<String>>> = Arc::default();
        let (into, missing, root) = (Arc::clone(&heard), Arc::clone(&lost), root.to_owned());
        let folder = key.folder.join(format!("fetched-{}.git", server.ssh.port()));
        let url = server.clone_url("");
        let _ = ok(git(&key.folder, &["init", "-q", "--bare", &folder.display().to_string()]).await);
        let task = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let event: Value = serde_json::from_str(&line).expect("an event");
                if let Some(why) = look(&event, &root, &url, &folder).await {
                    missing.lock().push(format!("{why}: {event}"));
                }
                into.lock().push(event);
            }
        });
        Self { heard, lost, task, _ssh: ssh }
    }

    /// Waits for an event that `fits`, and returns all events that were received until then.
    ///
    /// # Panics
    /// If no such event is received for too long.
    pub async fn hears(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let found = until(async || self.heard().iter().any(&fits).then_some(())).await;
        assert!(found.is_some(), "no event for {what}; received: {:#?}", self.heard());
        self.heard()
    }

    /// The events that were received so far.
    ///
    /// # Panics
    /// Never: no code panics while it holds the lock.
    #[must_use]
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().clone()
    }

    /// Checks the events so far: none named an object that was missing at the site, and none was received twice.
    ///
    /// # Panics
    /// If one of them did or was.
    pub fn was_told_well(&self) {
        let lost = self.lost.lock();
        assert!(lost.is_empty(), "received before the objects were there: {lost:#?}");
        let mut heard: Vec<String> = self.heard().iter().map(ToString::to_string).collect();
        let all = heard.len();
        heard.sort_unstable();
        heard.dedup();
        assert_eq!(heard.len(), all, "received twice: {:#?}", self.heard());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks for the objects that an event names. Returns the one that is missing, if any.
async fn look(event: &Value, root: &Path, url: &str, folder: &Path) -> Option<String> {
    let patch_set = &event["patchSet"];
    if let (Some(name), Some(wanted), Some(project)) =
        (patch_set["ref"].as_str(), patch_set["revision"].as_str(), event["project"].as_str())
    {
        let fetched =
            git(folder, &["fetch", "-q", &format!("{url}{project}"), &format!("+{name}:refs/heads/it")]).await;
        let got = git(folder, &["rev-parse", "refs/heads/it"]).await;
        let fits = fetched.status.success() && String::from_utf8_lossy(&got.stdout).trim() == wanted;
        return (!fits).then(|| format!("{name} cannot be fetched"));
    }
    let update = &event["refUpdate"];
    let (new, project) = (update["newRev"].as_str()?, update["project"].as_str()?);
    if new.bytes().all(|digit| digit == b'0') {
        return None;
    }
    let there = git(&root.join(format!("{project}.git")), &["cat-file", "-e", new]).await;
    (!there.status.success()).then(|| format!("{new} is not there"))
}
