//! The emulated AWS of an estate on this machine: DynamoDB and Kinesis in a process each, and an endpoint per site,
//! through which the site reaches both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_sdk_kinesis::types::ScalingType;
use lockstep::node::assembly::stop_signal;
use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::embedded::kinesis::EmbeddedKinesis;
use lockstep::seams::eventlog::kinesis::{ClientSettings, client, stream_name};
use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::{Process, printed};
use super::forward::Control;
use crate::Fallible;

/// The folder for the emulators' files, if it exists. It is in memory, because the emulators stand for services behind
/// a network, which do not share the disk of the sites.
const MEMORY: &str = "/dev/shm";
/// The region that the emulators claim to be.
const REGION: &str = "us-east-1";
/// The time in which new shards must be there.
const RESHARD: Duration = Duration::from_secs(30);

/// An emulator that runs as a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Emulator {
    /// DynamoDB, with its tables in a file.
    Dynamodb,
    /// Kinesis, in memory.
    Kinesis,
}

/// Runs an emulator in this process until it is told to stop. Prints its URL.
///
/// # Errors
/// A port cannot be bound, or the folder cannot be written.
pub async fn emulator(which: Emulator, folder: &Path) -> Fallible<()> {
    match which {
        Emulator::Dynamodb => {
            let emulator = EmbeddedDynamo::on_file(&folder.join("dynamodb.sqlite")).await?;
            println!("{}", emulator.endpoint());
            stop_signal().await;
        }
        Emulator::Kinesis => {
            let emulator = EmbeddedKinesis::start(&Default::default()).await?;
            println!("{}", emulator.endpoint());
            stop_signal().await;
        }
    }
    Ok(())
}

/// The way of one client to AWS.
struct ControlEndpoint {
    process: Process,
    file: PathBuf,
    control: Mutex<Control>,
    urls: Vec<String>,
}

impl ControlEndpoint {
    async fn open(own: &Path, file: PathBuf, control: Control) -> Fallible<Self> {
        control.write(&file)?;
        let mut command = Command::new(own);
        command.arg("forward").arg(&file);
        let log = file.with_extension("log");
        let mut process = Process::start(command, &log)?;
        let urls = printed(&mut process, &log, control.targets.len()).await?;
        Ok(Self { process, file, control: Mutex::new(control), urls })
    }

    fn change(&self, change: impl FnOnce(&mut Control)) -> Fallible<()> {
        let mut control = self.control.lock();
        change(&mut control);
        control.write(&self.file)
    }
}

/// The emulated AWS.
pub(super) struct Aws {
    own: PathBuf,
    folder: PathBuf,
    memory: TempDir,
    dynamodb: Mutex<Option<Process>>,
    kinesis: Process,
    urls: Mutex<Vec<String>>,
    lives: Mutex<usize>,
    /// By the number of the site. The generator has a number after them.
    endpoints: BTreeMap<usize, ControlEndpoint>,
}

impl Aws {
    /// Starts both emulators, with their logs in a folder. `own` is this program.
    pub(super) async fn start(own: &Path, folder: &Path) -> Fallible<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("lockstep-load-");
        let memory = if Path::new(MEMORY).is_dir() { builder.tempdir_in(MEMORY)? } else { builder.tempdir()? };
        let (dynamodb, first) = spawn(own, "dynamodb", memory.path(), &folder.join("dynamodb.log")).await?;
        let (kinesis, second) = spawn(own, "kinesis", memory.path(), &folder.join("kinesis.log")).await?;
        Ok(Self {
            own: own.to_owned(),
            folder: folder.to_owned(),
            memory,
            dynamodb: Mutex::new(Some(dynamodb)),
            kinesis,
            urls: Mutex::new(vec![first, second]),
            lives: Mutex::new(1),
            endpoints: BTreeMap::new(),
        })
    }

    /// The URLs of DynamoDB and Kinesis.
    pub(super) fn urls(&self) -> Vec<String> {
        self.urls.lock().clone()
    }

    /// Opens the endpoint of a site. Returns the URLs behind it.
    pub(super) async fn open_endpoint(&mut self, number: usize, round_trip_ms: u64) -> Fallible<Vec<String>> {
        let control = Control { targets: self.urls(), round_trip_ms, refused: 0.0 };
        let file = self.folder.join(format!("endpoint-{number}.json"));
        let endpoint = ControlEndpoint::open(&self.own, file, control).await?;
        let urls = endpoint.urls.clone();
        self.endpoints.insert(number, endpoint);
        Ok(urls)
    }

    fn endpoint(&self, number: usize) -> Fallible<&ControlEndpoint> {
        self.endpoints.get(&number).ok_or_else(|| format!("site {number} has no endpoint to AWS").into())
    }

    /// Stops an endpoint with SIGSTOP, or lets it go on.
    pub(super) fn cut_off(&self, endpoint: usize, stop: bool) -> Fallible<()> {
        self.endpoint(endpoint)?.process.signal(stop_or_go(stop))
    }

    /// Sets the share of calls that an endpoint refuses.
    pub(super) fn throttle(&self, endpoint: usize, share: f64) -> Fallible<()> {
        self.endpoint(endpoint)?.change(|control| control.refused = share)
    }

    /// Sets the round trip behind an endpoint.
    pub(super) fn move_away(&self, endpoint: usize, round_trip_ms: u64) -> Fallible<()> {
        self.endpoint(endpoint)?.change(|control| control.round_trip_ms = round_trip_ms)
    }

    /// Stops the emulators with SIGSTOP, or lets them go on.
    pub(super) fn pause(&self, stop: bool) -> Fallible<()> {
        if let Some(dynamodb) = &*self.dynamodb.lock() {
            dynamodb.signal(stop_or_go(stop))?;
        }
        self.kinesis.signal(stop_or_go(stop))
    }

    /// Kills DynamoDB with SIGKILL.
    pub(super) fn kill_refdb(&self) -> Fallible<()> {
        match self.dynamodb.lock().take() {
            Some(mut dynamodb) => dynamodb.kill(),
            None => Ok(()),
        }
    }

    /// Starts DynamoDB again on its file. The endpoints lead to its new address.
    pub(super) async fn restart_refdb(&self) -> Fallible<()> {
        let life = {
            let mut lives = self.lives.lock();
            *lives += 1;
            *lives
        };
        let log = self.folder.join(format!("dynamodb-{life}.log"));
        let (dynamodb, url) = spawn(&self.own, "dynamodb", self.memory.path(), &log).await?;
        *self.dynamodb.lock() = Some(dynamodb);
        self.urls.lock()[0].clone_from(&url);
        self.endpoints.values().try_for_each(|endpoint| endpoint.change(|control| control.targets[0].clone_from(&url)))
    }

    /// Doubles the shards of a site's stream.
    pub(super) async fn reshard(&self, prefix: &str, site: &str) -> Fallible<()> {
        let settings = ClientSettings {
            endpoint: Some(self.urls()[1].clone()),
            region: Some(REGION.to_owned()),
            test_credentials: true,
            call_timeout: RESHARD,
            ..ClientSettings::default()
        };
        let (client, stream) = (client(&settings).await, stream_name(prefix, &site.parse()?));
        let summary = client.describe_stream_summary().stream_name(&stream).send().await?;
        let shards = summary.stream_description_summary().map_or(1, |summary| summary.open_shard_count());
        let call = client.update_shard_count().stream_name(&stream).target_shard_count(shards * 2);
        let _ = call.scaling_type(ScalingType::UniformScaling).send().await?;
        Ok(())
    }

    /// The name and the process id of every emulator that runs.
    pub(super) fn processes(&self) -> Vec<(String, u32)> {
        let dynamodb = self.dynamodb.lock().as_ref().map(|process| ("dynamodb".to_owned(), process.pid()));
        dynamodb.into_iter().chain([("kinesis".to_owned(), self.kinesis.pid())]).collect()
    }
}

/// Starts an emulator. Returns its URL.
async fn spawn(own: &Path, name: &str, folder: &Path, log: &Path) -> Fallible<(Process, String)> {
    let mut command = Command::new(own);
    command.args(["emulator", name]).arg(folder);
    let mut process = Process::start(command, log)?;
    let urls = printed(&mut process, log, 1).await?;
    let url = urls.into_iter().next().ok_or_else(|| format!("{name} printed no URL"))?;
    Ok((process, url))
}

/// The signal that stops a process, or lets it go on.
pub(super) fn stop_or_go(stop: bool) -> Signal {
    if stop { Signal::STOP } else { Signal::CONT }
}
