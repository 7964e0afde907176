//! An estate on this machine: the emulators of DynamoDB and Kinesis in one process, and a sidecar per site, each in a
//! process of its own. All of them end with this value.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lockstep::clients::api_client::{Call, Client};
use lockstep::node::assembly::{Embedded, stop_signal};
use lockstep::seams::refdb::dynamo::Connection;
use lockstep_proto::status::NodeStatus;
use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::child::Process;
use super::{Estate, Site, refdb};
use crate::Fallible;

/// How long a process may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(120);
/// The folder for the emulators' files, if it exists. It is in memory, because the emulators stand for services behind
/// a network, which do not share the disk of the sites.
const MEMORY: &str = "/dev/shm";
/// The prefix of tables and streams.
const PREFIX: &str = "load";

/// The choices for a local estate.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// The `lockstep` program.
    pub lockstep: PathBuf,
    /// This program, which also runs the emulators.
    pub own: PathBuf,
    /// The folder of all sites.
    pub folder: PathBuf,
    /// The number of sites.
    pub sites: usize,
    /// The pause between two reads of a shard, in milliseconds.
    pub poll_ms: u64,
    /// The sites that a fault cuts off.
    pub cut_off: Vec<usize>,
}

/// The processes of a local estate.
pub struct Local {
    settings: LocalSettings,
    emulators: Process,
    forwarders: Vec<Option<Process>>,
    sidecars: Mutex<Vec<Option<Process>>>,
    names: Vec<String>,
    _memory: TempDir,
}

/// Runs the emulators in this process until it is told to stop. Prints both endpoints, one per line.
///
/// # Errors
/// A port cannot be bound, or the folder cannot be written.
pub async fn emulators(folder: &Path) -> Fallible<()> {
    let emulators = Embedded::start(folder).await?;
    println!("{}\n{}", emulators.dynamo_endpoint(), emulators.kinesis_endpoint());
    stop_signal().await;
    Ok(())
}

impl Local {
    /// Starts everything, and waits until all sites are ready.
    ///
    /// # Errors
    /// A process does not start, or is not ready in time. The end of its log is in the error.
    pub async fn start(settings: LocalSettings) -> Fallible<Estate> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("lockstep-load-");
        let memory = if Path::new(MEMORY).is_dir() { builder.tempdir_in(MEMORY)? } else { builder.tempdir()? };
        let folder = settings.folder.clone();
        std::fs::create_dir_all(folder.join("blobs"))?;
        let log = folder.join("emulators.log");
        let mut command = Command::new(&settings.own);
        command.arg("emulators").arg(memory.path());
        let mut emulators = Process::start(command, &log)?;
        let urls = printed(&mut emulators, &log, 2).await?;
        let names: Vec<String> = (0..settings.sites).map(|number| format!("site-{number}")).collect();
        let connection = Connection::emulator(&urls[0]);
        let mut local =
            Self { emulators, forwarders: Vec::new(), sidecars: Mutex::default(), names, _memory: memory, settings };
        let mut sites = Vec::new();
        for number in 0..local.settings.sites {
            sites.push(local.add(number, &urls).await?);
        }
        for (number, site) in sites.iter().enumerate() {
            local.ready(number, site).await?;
        }
        let description = format!("{} sites on this machine, over emulators in a process of their own", sites.len());
        Ok(Estate { sites, refdb: refdb(&connection, PREFIX).await, local: Some(local), description })
    }

    async fn add(&mut self, number: usize, urls: &[String]) -> Fallible<Site> {
        let home = self.home(number);
        std::fs::create_dir_all(home.join("git"))?;
        let mut urls = urls.to_vec();
        let forwarder = if self.settings.cut_off.contains(&number) {
            let mut command = Command::new(&self.settings.own);
            command.arg("forward").args(&urls);
            let mut forwarder = Process::start(command, &home.join("forwarder.log"))?;
            urls = printed(&mut forwarder, &home.join("forwarder.log"), 2).await?;
            Some(forwarder)
        } else {
            None
        };
        self.forwarders.push(forwarder);
        let health = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
        std::fs::write(home.join("lockstep.toml"), self.configuration(number, &urls, &health))?;
        let sidecar = self.spawn(number)?;
        self.sidecars.lock().push(Some(sidecar));
        let root = home.join("git");
        Ok(Site {
            name: self.names[number].clone(),
            client: Client::new(&home.join("run/api.sock")),
            url: format!("file://{}", root.display()),
            root,
            health: Some(health),
        })
    }

    fn home(&self, number: usize) -> PathBuf {
        self.settings.folder.join(&self.names[number])
    }

    fn spawn(&self, number: usize) -> Fallible<Process> {
        let home = self.home(number);
        let mut command = Command::new(&self.settings.lockstep);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCKSTEP_")) {
            command.env_remove(name);
        }
        command.env("HOME", &home).env("GIT_CONFIG_NOSYSTEM", "1");
        command.arg("run").arg("--config").arg(home.join("lockstep.toml"));
        Process::start(command, &home.join("log"))
    }

    async fn ready(&self, number: usize, site: &Site) -> Fallible<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let call = Call::get("/v1/status");
            let status = site.client.send::<NodeStatus>(&call, Instant::now() + Duration::from_secs(2)).await;
            if status.is_ok_and(|status| status.ready) {
                return Ok(());
            }
            let has_ended = self.sidecars.lock()[number].as_mut().is_none_or(Process::has_ended);
            if has_ended || Instant::now() >= end {
                let log = self.home(number).join("log");
                return Err(format!("the sidecar of {} is not ready: {}", site.name, tail(&log)).into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The name and the process id of every process that runs.
    #[must_use]
    pub fn processes(&self) -> Vec<(String, u32)> {
        let mut all = vec![("emulators".to_owned(), self.emulators.pid())];
        for (number, sidecar) in self.sidecars.lock().iter().enumerate() {
            all.extend(sidecar.as_ref().map(|sidecar| (format!("sidecar {}", self.names[number]), sidecar.pid())));
        }
        all
    }

    /// Kills the sidecar of a site with SIGKILL.
    pub fn kill(&self, site: usize) -> Fallible<()> {
        match self.sidecars.lock()[site].take() {
            Some(mut sidecar) => sidecar.kill(),
            None => Ok(()),
        }
    }

    /// Starts the sidecar of a site again.
    pub fn restart(&self, site: usize) -> Fallible<()> {
        let sidecar = self.spawn(site)?;
        self.sidecars.lock()[site] = Some(sidecar);
        Ok(())
    }

    /// Stops the sidecar of a site with SIGSTOP, or lets it go on.
    pub fn pause(&self, site: usize, stop: bool) -> Fallible<()> {
        match &self.sidecars.lock()[site] {
            Some(sidecar) => sidecar.signal(stop_or_go(stop)),
            None => Ok(()),
        }
    }

    /// Stops the connections of a site to the refdb and the streams, or lets them go on.
    pub fn cut_off(&self, site: usize, stop: bool) -> Fallible<()> {
        match &self.forwarders[site] {
            Some(forwarder) => forwarder.signal(stop_or_go(stop)),
            None => Err("this site has no forwarder".into()),
        }
    }

    /// Stops the emulators with SIGSTOP, or lets them go on.
    pub fn pause_cloud(&self, stop: bool) -> Fallible<()> {
        self.emulators.signal(stop_or_go(stop))
    }

    fn configuration(&self, number: usize, urls: &[String], health: &str) -> String {
        let home = self.home(number);
        let peers = self.names.iter().enumerate().filter(|(other, _)| *other != number);
        let peer = |(other, name): (usize, &String)| {
            format!("[peers.{name}-0]\nsocket = \"{}/run/api.sock\"\n", self.home(other).display())
        };
        format!(
            r#"site = "{site}"
node = "{site}-0"
sites = {sites:?}
root = "{home}/git"
state = "{home}/git/.lockstep"
[api]
socket = "{home}/run/api.sock"
[turns]
agents = ["ci-*", "bot-*"]
[git]
install_hooks = true
[health]
listen = "{health}"
[refdb]
prefix = "{PREFIX}"
endpoint = "{dynamo}"
[eventlog]
prefix = "{PREFIX}"
endpoint = "{kinesis}"
poll_interval = "{poll}ms"
[blobs]
url = "file://{blobs}"
[telemetry]
log_format = "text"
log_filter = "warn"
{peers}"#,
            site = self.names[number],
            sites = self.names,
            home = home.display(),
            dynamo = urls[0],
            kinesis = urls[1],
            poll = self.settings.poll_ms,
            blobs = self.settings.folder.join("blobs").display(),
            peers = peers.map(peer).collect::<String>(),
        )
    }
}

fn stop_or_go(stop: bool) -> Signal {
    if stop { Signal::STOP } else { Signal::CONT }
}

/// Waits until a process has printed this many URLs.
async fn printed(process: &mut Process, log: &Path, count: usize) -> Fallible<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(log)?;
        // A line that is not whole yet has no end.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let urls: Vec<String> = whole.lines().filter(|line| line.starts_with("http://")).map(str::to_owned).collect();
        if urls.len() >= count {
            return Ok(urls);
        }
        if process.has_ended() || Instant::now() >= end {
            return Err(format!("a process did not start: {}", tail(log)).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
