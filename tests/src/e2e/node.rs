//! One sidecar: its configuration, its process, its socket and its command line.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Method;
use lockstep::base::base_paths::BasePaths;
use lockstep::clients::api_client::{Call, Client, ClientError};
use lockstep_proto::status::{NodeStatus, RefreshStatus};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::git::quiet;
use super::wire::Wire;
use super::{PATIENCE, until};

/// The longest time that a command of the binary may take. Some wait for others: a seed, a failover.
const COMMAND: Duration = Duration::from_secs(600);
/// The longest time in which a status is answered, if the machine is busy.
const STATUS: Duration = Duration::from_secs(30);

/// A node, running or not. Its process is killed when this is dropped.
pub struct Node {
    /// The name of its site.
    pub site: String,
    /// The name of the node.
    pub name: String,
    /// The node's folder. The git volume is `git` in it, unless the test puts it elsewhere.
    pub home: PathBuf,
    /// The root of the git volume.
    pub root: PathBuf,
    /// The folders of the projects: the root and the base paths.
    base_paths: BasePaths,
    /// The address of `/livez`, `/startz`, `/readyz`, `/writez` and `/metrics`.
    pub health: SocketAddr,
    /// The node's connection to the refdb.
    pub wire: Wire,
    /// The node's connection to the event log.
    pub streams: Wire,
    binary: PathBuf,
    child: Option<Child>,
}

/// The values that a node's configuration is made of.
pub struct Place<'a> {
    /// The name of its site.
    pub site: &'a str,
    /// The name of the node.
    pub name: &'a str,
    /// The names of all sites.
    pub sites: &'a [String],
    /// Every other node: its name and its folder.
    pub peers: &'a [(&'a str, PathBuf)],
    /// The folder of the node's configuration, socket and log.
    pub home: PathBuf,
    /// The root of the git volume.
    pub root: PathBuf,
    /// The endpoint of Kinesis.
    pub kinesis: &'a str,
    /// The folder of the blob store.
    pub blobs: &'a Path,
}

impl Node {
    /// Writes the configuration. [`Node::start`] starts the process.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn new(binary: &Path, place: &Place<'_>, wire: Wire, streams: Wire) -> Self {
        let (home, root) = (place.home.clone(), place.root.clone());
        std::fs::create_dir_all(&home).expect("a folder");
        let health = free_port();
        let mut text = configuration(place, &home, &root, health, &wire.url());
        for site in place.sites {
            text.push_str(&format!("[eventlog.streams.{site}]\nendpoint = \"{}\"\n", place.kinesis));
        }
        for (peer, folder) in place.peers {
            text.push_str(&format!("[peers.{peer}]\nsocket = \"{}/run/api.sock\"\n", folder.display()));
        }
        std::fs::write(home.join("lockstep.toml"), text).expect("a configuration");
        let (site, name) = (place.site.to_owned(), place.name.to_owned());
        let base_paths = BasePaths::at(&root);
        Self { site, name, home, root, base_paths, health, wire, streams, binary: binary.to_owned(), child: None }
    }

    /// Has the node run emulators of its own in a folder, for the next start.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn set_embedded(&self, folder: &Path) {
        let path = self.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let lines = text.lines().filter(|line| !line.starts_with("endpoint = ") && !line.contains(".streams."));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, format!("{text}[embedded]\ndir = {folder:?}\n")).expect("a configuration");
    }

    /// Replaces the prefix of the refdb's tables, for the next start.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn set_refdb_prefix(&self, prefix: &str) {
        let path = self.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (before, after) = text.split_once("[refdb]\nprefix = ").expect("a section");
        let (_, after) = after.split_once('\n').expect("a line");
        std::fs::write(&path, format!("{before}[refdb]\nprefix = {prefix:?}\n{after}")).expect("a configuration");
    }

    /// Replaces the deadline of commits whose caller names none, for the next start.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn set_commit_deadline(&self, deadline: Duration) {
        let path = self.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let seconds = deadline.as_secs();
        let text = text.replace("deadline = \"10s\"\n", &format!("deadline = \"{seconds}s\"\n"));
        std::fs::write(&path, text).expect("a configuration");
    }

    /// Replaces a line of the configuration, for the next start.
    ///
    /// # Panics
    /// If there is no such line, or the configuration cannot be written.
    pub fn replace_setting(&self, line: &str, by: &str) {
        let path = self.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        assert!(text.contains(line), "no {line} in: {text}");
        std::fs::write(&path, text.replace(line, by)).expect("a configuration");
    }

    /// Adds sections to the configuration, for the next start.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn add_settings(&self, sections: &str) {
        let path = self.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(&path, format!("{text}{sections}")).expect("a configuration");
    }

    /// Replaces the settings of the section `[gerrit]`, for the next start.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn set_gerrit(&self, settings: &str) {
        let path = self.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let text = text.replace("[gerrit]\nrefresh = \"bridge\"\n", &format!("[gerrit]\n{settings}\n"));
        std::fs::write(&path, text).expect("a configuration");
    }

    /// Puts the repositories of some projects below other folders, for the next start. An empty list removes the
    /// setting.
    ///
    /// # Panics
    /// If the configuration cannot be written.
    pub fn set_base_paths(&mut self, others: &[(&str, &Path)]) {
        const GIT: &str = "install_hooks = true\n";
        let path = self.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (before, after) = text.split_once(GIT).expect("a section");
        let after = &after[after.find("[health]").expect("the next section")..];
        let lines: String = others.iter().map(|(one, path)| format!("{one:?} = {path:?}\n")).collect();
        std::fs::write(&path, format!("{before}{GIT}[git.base_paths]\n{lines}{after}")).expect("a configuration");
        let others = others.iter().map(|(projects, path)| ((*projects).to_owned(), path.to_path_buf()));
        self.base_paths = BasePaths::new(self.root.clone(), others.collect());
    }

    /// Starts the process, with a failpoint (`name:count`) if one is given.
    ///
    /// # Panics
    /// If it cannot be started, or is already running.
    pub fn start(&mut self, failpoint: Option<&str>) {
        assert!(self.child.is_none(), "{} is already running", self.name);
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = quiet(Command::new(&self.binary), &self.home);
        command.arg("run").arg("--config").arg(self.home.join("lockstep.toml"));
        // Another process may have taken the port of its last life while it was down.
        self.health = free_port();
        command.env("LOCKSTEP_HEALTH__LISTEN", self.health.to_string());
        if let Some(failpoint) = failpoint {
            command.env("LOCKSTEP_FAILPOINT", failpoint);
        }
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the sidecar starts"));
    }

    /// Runs a command of the sidecar's binary against its socket.
    ///
    /// # Panics
    /// If it cannot be run, or does not end.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let mut command = quiet(Command::new(&self.binary), &self.home);
        match timeout(COMMAND, command.args(args).env("LOCKSTEP_SOCKET", self.socket()).output()).await {
            Ok(output) => output.expect("the command runs"),
            Err(_) => panic!("lockstep {args:?} did not end within {COMMAND:?}\n{}", self.log_tail()),
        }
    }

    /// Runs a second process with the same configuration.
    ///
    /// # Panics
    /// If it cannot be run.
    pub async fn second(&self) -> Output {
        let mut command = quiet(Command::new(&self.binary), &self.home);
        command.arg("run").arg("--config").arg(self.home.join("lockstep.toml")).output().await.expect("it runs")
    }

    /// The sidecar's own status, if it answers.
    pub async fn status(&self) -> Option<NodeStatus> {
        let end = Instant::now() + STATUS;
        Client::new(&self.socket()).send(&Call::get("/v1/status"), end).await.ok()
    }

    /// Waits until a condition on its status holds.
    ///
    /// # Panics
    /// If it does not hold in time.
    pub async fn reports(&self, is_so: impl Fn(&NodeStatus) -> bool) {
        let came = until(async || self.status().await.filter(|status| is_so(status))).await;
        assert!(came.is_some(), "{:?}\n{}", self.status().await, self.log_tail());
    }

    /// Waits until a condition on the status of its refresh tasks holds.
    ///
    /// # Panics
    /// If it does not hold in time.
    pub async fn refreshes(&self, is_so: impl Fn(&RefreshStatus) -> bool) {
        self.reports(|status| status.refresh.as_ref().is_some_and(&is_so)).await;
    }

    /// Sends a JSON body to the bridge API.
    ///
    /// # Errors
    /// If the sidecar does not answer, or answers with an error.
    pub async fn call<Q: Serialize, A: DeserializeOwned>(&self, path: &str, body: &Q) -> Result<A, ClientError> {
        let call = Call::new(Method::POST, path, body).expect("a body");
        Client::new(&self.socket()).send(&call, Instant::now() + PATIENCE).await
    }

    /// Waits until the node takes commits and has caught up.
    ///
    /// # Panics
    /// If the process ended, or is not ready for too long.
    pub async fn ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if status.as_ref().is_some_and(|status| status.ready) {
                return;
            }
            if let Some(ended) = self.ended() {
                panic!("{} ended ({ended}) before it was ready\n{}", self.name, self.log_tail());
            }
            assert!(Instant::now() < end, "{} is not ready: {status:?}\n{}", self.name, self.log_tail());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The exit status, if the process has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a child")
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// If it does not end for too long, or was not started.
    pub async fn end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        match timeout(PATIENCE, child.wait()).await {
            Ok(status) => status.expect("a child"),
            Err(_) => panic!("{} is still running\n{}", self.name, self.log_tail()),
        }
    }

    /// Kills the process with SIGKILL. Does nothing if it is dead already.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it can be killed");
        }
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// If it is not running.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("a signal");
    }

    /// The id of the process.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn id(&self) -> Pid {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        Pid::from_raw(i32::try_from(id).expect("a process id")).expect("a process id")
    }

    /// Stops the process with SIGTERM, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end().await
    }

    /// The repository of a project at this node.
    #[must_use]
    pub fn repository(&self, project: &str) -> PathBuf {
        self.base_paths.git_dir(&project.parse().expect("a project's name"))
    }

    /// Waits until a ref has this value here. `None` stands for absence.
    ///
    /// # Panics
    /// If the ref does not get the value.
    pub async fn shows(&self, project: &str, name: &str, value: Option<&str>) {
        let repository = self.repository(project);
        let look = async || super::git::refs(&repository).await.map(|refs| refs.get(name).cloned());
        let shown = until(async || look().await.is_ok_and(|shown| shown.as_deref() == value).then_some(())).await;
        if shown.is_none() {
            let seen = look().await;
            panic!("{}: {name} did not become {value:?}, it is {seen:?}\n{}", self.name, self.log_tail());
        }
    }

    /// The path of the sidecar's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("run/api.sock")
    }

    /// The file with its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {}\n{}", self.name, lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}

/// The text of the configuration. Its times are short, so that tests need not wait for them. The leases are long enough
/// that a busy machine does not miss every heartbeat of one.
fn configuration(place: &Place<'_>, home: &Path, root: &Path, health: SocketAddr, refdb: &str) -> String {
    format!(
        r#"
site = "{site}"
node = "{name}"
sites = {sites:?}
root = "{root}"
state = "{root}/.lockstep"
[api]
socket = "{home}/run/api.sock"
[git]
install_hooks = true
[health]
listen = "{health}"
[refdb]
prefix = "e2e"
endpoint = "{refdb}"
[eventlog]
prefix = "e2e"
poll_interval = "100ms"
[blobs]
url = "file://{blobs}"
[commit]
lanes = 2
window = 16
deadline = "10s"
[lease]
heartbeat = "500ms"
expires_after = "3s"
adopted_elsewhere_after = "6s"
[gerrit]
refresh = "bridge"
[telemetry]
log_format = "text"
"#,
        site = place.site,
        name = place.name,
        sites = place.sites,
        home = home.display(),
        root = root.display(),
        blobs = place.blobs.display(),
    )
}

/// A port that no process listens on at present, and that nobody gets by chance before its user listens: it is below
/// the range from which the kernel takes ports for connections and for listeners without a port, and this process hands
/// it out once.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const LOWEST: u32 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let above = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    let count = u32::saturating_sub(above, LOWEST);
    assert!(count > 1_000, "the kernel takes ports from {above} on for itself, which leaves too few below");
    // Test programs that run beside each other begin at different places.
    let begin = std::process::id().wrapping_mul(997);
    for _ in 0..count {
        let port = LOWEST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let listener = std::net::TcpListener::bind(("127.0.0.1", u16::try_from(port).expect("below 65,536")));
        if let Ok(listener) = listener {
            return listener.local_addr().expect("an address");
        }
    }
    panic!("no port from {LOWEST} to {above} is free");
}
