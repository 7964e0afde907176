//! An estate on this machine: an emulated AWS, and a sidecar per site, each in a process of its own. All of them end
//! with this value.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lockstep::clients::api_client::{Call, Client};
use lockstep::seams::refdb::dynamo::Connection;
use lockstep_proto::failover::{FailoverPlan, Role, SitesStatus};
use lockstep_proto::status::NodeStatus;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::aws::{Aws, stop_or_go};
use super::child::{PATIENCE, Process, tail};
use super::{Estate, Routes, Site, refdb};
use crate::Fallible;
use crate::load::profile::{Fault, FaultKind};

/// The prefix of tables and streams.
const PREFIX: &str = "load";
/// The reason that operators of a load test give.
const REASON: [&str; 2] = ["--reason", "load test"];

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
    /// The most batches of agents that a sidecar commits at the same time. With 0, its default.
    pub agents_running: usize,
    /// The round trip to AWS, in milliseconds.
    pub round_trip_ms: u64,
    /// The faults to come.
    pub faults: Vec<Fault>,
}

/// The processes of a local estate.
pub struct Local {
    settings: LocalSettings,
    aws: Aws,
    sidecars: Mutex<Vec<Option<Process>>>,
    burden: Mutex<Option<Process>>,
    names: Vec<String>,
}

impl Local {
    /// Starts everything, and waits until all sites are ready.
    ///
    /// # Errors
    /// A process does not start, or is not ready in time. The end of its log is in the error.
    pub async fn start(settings: LocalSettings) -> Fallible<Estate> {
        let folder = settings.folder.clone();
        std::fs::create_dir_all(folder.join("blobs"))?;
        let names: Vec<String> = (0..settings.sites).map(|number| format!("site-{number}")).collect();
        let aws = Aws::start(&settings.own, &folder).await?;
        let (sidecars, burden) = (Mutex::default(), Mutex::default());
        let mut local = Self { aws, sidecars, burden, names, settings };
        let mut sites = Vec::new();
        for number in 0..local.settings.sites {
            let urls = local.way(number).await?;
            sites.push(local.add(number, &urls)?);
        }
        for (number, site) in sites.iter().enumerate() {
            local.ready(number, site).await?;
        }
        // The generator reads the refdb at the end, wherever the refdb is by then.
        let urls = local.way(local.settings.sites).await?;
        let routes = Routes::new(sites.len());
        for fault in local.settings.faults.iter().filter(|fault| fault.kind == FaultKind::Failover) {
            local.stand_by(fault.to, fault.site).await?;
            local.ready(fault.to, &sites[fault.to]).await?;
            routes.lead(fault.to, fault.site);
        }
        let description = format!("{} sites on this machine, over emulators in processes of their own", sites.len());
        let refdb = refdb(&Connection::emulator(&urls[0]), PREFIX).await;
        Ok(Estate { sites, refdb, routes, local: Some(local), description })
    }

    /// The URLs of AWS for a site, or for the generator. They lead through a forwarder if a fault needs one.
    async fn way(&mut self, number: usize) -> Fallible<Vec<String>> {
        let needs = |fault: &Fault| match fault.kind {
            FaultKind::KillRefdb => true,
            kind => kind.needs_endpoint() && fault.site == number,
        };
        let round_trip_ms = if number < self.settings.sites { self.settings.round_trip_ms } else { 0 };
        if self.settings.faults.iter().any(needs) || round_trip_ms > 0 {
            return self.aws.open_endpoint(number, round_trip_ms).await;
        }
        Ok(self.aws.urls())
    }

    fn add(&self, number: usize, urls: &[String]) -> Fallible<Site> {
        let home = self.home(number);
        std::fs::create_dir_all(home.join("git"))?;
        let health = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
        std::fs::write(home.join("lockstep.toml"), self.configuration(number, urls, &health))?;
        let sidecar = self.spawn(number)?;
        self.sidecars.lock().push(Some(sidecar));
        let root = home.join("git");
        Ok(Site {
            name: self.names[number].clone(),
            client: Client::new(&self.socket(number)),
            url: format!("file://{}", root.display()),
            root,
            health: Some(health),
        })
    }

    fn home(&self, number: usize) -> PathBuf {
        self.settings.folder.join(&self.names[number])
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.home(number).join("run/api.sock")
    }

    /// The program of the sidecar, without the settings of the caller.
    fn lockstep(&self, number: usize) -> Command {
        let mut command = Command::new(&self.settings.lockstep);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCKSTEP_")) {
            command.env_remove(name);
        }
        command.env("HOME", self.home(number)).env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    fn spawn(&self, number: usize) -> Fallible<Process> {
        let (home, mut command) = (self.home(number), self.lockstep(number));
        command.arg("run").arg("--config").arg(home.join("lockstep.toml"));
        Process::start(command, &home.join("log"))
    }

    /// Runs a command of an operator at a site, and returns its output.
    async fn operate(&self, number: usize, args: &[&str]) -> Fallible<String> {
        let mut command = tokio::process::Command::from(self.lockstep(number));
        command.args(args).env("LOCKSTEP_SOCKET", self.socket(number)).stdin(std::process::Stdio::null());
        let output = command.kill_on_drop(true).output().await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let (name, why) = (&self.names[number], String::from_utf8_lossy(&output.stderr));
        Err(format!("lockstep {} at {name}: {}", args.join(" "), why.trim()).into())
    }

    /// Makes a site a standby, by a command at another one.
    async fn stand_by(&self, site: usize, asked: usize) -> Fallible<()> {
        let status: SitesStatus = serde_json::from_str(&self.operate(asked, &["sites", "--json"]).await?)?;
        let name = self.names[site].as_str();
        let known = status.sites.iter().find(|one| one.site.as_str() == name).ok_or("the site is not enrolled")?;
        if known.role == Role::Standby {
            return Ok(());
        }
        let epoch = known.epoch.to_string();
        let args = [&["site", "role", name, "standby", "--expect-epoch", &epoch], &REASON[..]].concat();
        self.operate(asked, &args).await.map(drop)
    }

    /// Moves the writes of a site to another one by force, by the commands of `docs/failover.md`.
    pub async fn fail_over(&self, from: usize, to: usize) -> Fallible<()> {
        let between = ["--from", &self.names[from], "--to", &self.names[to], "--forced"];
        let plan = self.operate(to, &[&["failover", "plan", "--json"], &between[..]].concat()).await?;
        let plan: FailoverPlan = serde_json::from_str(&plan)?;
        let confirmed = [&["--yes", "--plan-hash", &plan.hash], &REASON[..]].concat();
        self.operate(to, &[&["failover", "execute"], &between[..], &confirmed].concat()).await.map(drop)
    }

    /// A site that was replaced is started again, and becomes a standby of the one that replaced it.
    pub async fn return_as_standby(&self, site: &Site, number: usize, active: usize) -> Fallible<()> {
        self.restart(number)?;
        self.ready(number, site).await?;
        self.stand_by(number, active).await?;
        self.ready(number, site).await
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
        let mut all = self.aws.processes();
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

    /// Begins or ends a fault that needs nothing else than these processes.
    pub async fn set(&self, fault: &Fault, begins: bool) -> Fallible<()> {
        let site = fault.site;
        match (fault.kind, begins) {
            (FaultKind::Kill | FaultKind::Failover, true) => self.kill(site),
            (FaultKind::Kill, false) => self.restart(site),
            (FaultKind::Pause, stop) => match &self.sidecars.lock()[site] {
                Some(sidecar) => sidecar.signal(stop_or_go(stop)),
                None => Ok(()),
            },
            (FaultKind::CutOff, stop) => self.aws.cut_off(site, stop),
            (FaultKind::PauseCloud, stop) => self.aws.pause(stop),
            (FaultKind::KillRefdb, true) => self.aws.kill_refdb(),
            (FaultKind::KillRefdb, false) => self.aws.restart_refdb().await,
            (FaultKind::Throttle, begins) => self.aws.throttle(site, if begins { fault.share } else { 0.0 }),
            (FaultKind::Far, true) => self.aws.move_away(site, fault.round_trip_ms),
            (FaultKind::Far, false) => self.aws.move_away(site, self.settings.round_trip_ms),
            (FaultKind::Reshard, true) => self.aws.reshard(PREFIX, &self.names[site]).await,
            (FaultKind::SlowDisk, true) => {
                let mut command = Command::new(&self.settings.own);
                command.arg("burden").arg(&self.settings.folder);
                let burden = Process::start(command, &self.settings.folder.join("burden.log"))?;
                *self.burden.lock() = Some(burden);
                Ok(())
            }
            (FaultKind::SlowDisk, false) => {
                drop(self.burden.lock().take());
                Ok(())
            }
            (FaultKind::Reshard | FaultKind::Failover, false) => Ok(()),
        }
    }

    fn configuration(&self, number: usize, urls: &[String], health: &str) -> String {
        let home = self.home(number);
        let peers = self.names.iter().enumerate().filter(|(other, _)| *other != number);
        let peer = |(other, name): (usize, &String)| {
            format!("[peers.{name}-0]\nsocket = \"{}\"\n", self.socket(other).display())
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
{bound}[git]
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
            bound = match self.settings.agents_running {
                0 => String::new(),
                most => format!("agents_running = {most}\n"),
            },
            blobs = self.settings.folder.join("blobs").display(),
            peers = peers.map(peer).collect::<String>(),
        )
    }
}
