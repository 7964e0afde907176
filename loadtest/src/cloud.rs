//! The cloud of a benchmark: the emulators on a temporary folder, and the seams, which reach them as they reach AWS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep::node::assembly::{Embedded, Seams, seams};
use lockstep::node::config::{self, Settings};
use lockstep::seams::embedded::kinesis::EmbeddedKinesisSettings;
use lockstep::seams::embedded::write_limits::{Answered, WriteLimits};
use lockstep::seams::eventlog::kinesis::{ClientSettings, client as streams_client};
use lockstep::seams::refdb::dynamo::{Connection, client};
use tempfile::TempDir;

use crate::Fallible;

/// The names of all sites.
pub const SITES: [&str; 3] = ["eu-aws", "muc-1", "muc-2"];

/// Running emulators. Their files are deleted when this is dropped.
pub struct Cloud {
    /// Clients of the emulators, shared by all sites.
    pub seams: Seams,
    embedded: Embedded,
    folder: TempDir,
    _service: TempDir,
}

/// A node that has its own way to the emulators.
pub struct Apart<'a> {
    /// The site of the node.
    pub site: &'a str,
    /// The number of the node within its site.
    pub number: usize,
    /// The first sites.
    pub sites: &'a [&'a str],
    /// The URL at which it reaches the streams.
    pub kinesis: &'a str,
    /// The pause between two reads of a shard.
    pub poll: Duration,
    /// How it reads the streams: `polling` or `fan-out`.
    pub reading: &'a str,
    /// More sections of its configuration.
    pub more: &'a str,
}

impl Apart<'_> {
    /// The name of the node.
    pub fn name(&self) -> String {
        format!("{}-{}", self.site, self.number)
    }

    /// The folder of the node, below that of the cloud.
    pub fn home(&self, cloud: &Path) -> PathBuf {
        cloud.join(self.name())
    }
}

/// The folder for the emulators' files, if it exists. It is in memory, because the emulators stand for services behind
/// a network, which do not share the disk that the nodes sync.
const MEMORY: &str = "/dev/shm";

impl Cloud {
    /// Starts the emulators in this process, empty, on free ports.
    pub async fn start() -> Fallible<Self> {
        Self::start_behind(None).await
    }

    /// Starts the emulators, with limits of the streams.
    pub async fn start_behind(limits: Option<WriteLimits>) -> Fallible<Self> {
        let folder = tempfile::Builder::new().prefix("lockstep-bench-").tempdir()?;
        let mut service = tempfile::Builder::new();
        let service = service.prefix("lockstep-bench-");
        let service = if Path::new(MEMORY).is_dir() { service.tempdir_in(MEMORY)? } else { service.tempdir()? };
        let embedded = Embedded::start_with(
            service.path(),
            &EmbeddedKinesisSettings { limits, ..EmbeddedKinesisSettings::default() },
        )
        .await?;
        let settings = settings(folder.path(), SITES[0], Duration::from_millis(20), &SITES)?;
        Ok(Self { seams: seams(&settings, Some(&embedded)).await?, embedded, folder, _service: service })
    }

    /// How the limits of the streams answered so far.
    pub fn answered(&self) -> Answered {
        self.embedded.answered()
    }

    /// The folder of the emulators' files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of the DynamoDB emulator.
    pub fn dynamo_endpoint(&self) -> String {
        self.embedded.dynamo_endpoint()
    }

    /// The URL of the Kinesis emulator.
    pub fn kinesis_endpoint(&self) -> String {
        self.embedded.kinesis_endpoint()
    }

    /// A client of the DynamoDB emulator, with the settings of the refdb's adapter.
    pub async fn dynamo_client(&self) -> aws_sdk_dynamodb::Client {
        let connection = Connection {
            region: Some("us-east-1".to_owned()),
            endpoint: Some(self.dynamo_endpoint()),
            made_up_credentials: true,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
        };
        client(&connection).await
    }

    /// A client of the Kinesis emulator, as an operator has it.
    pub async fn kinesis_client(&self) -> aws_sdk_kinesis::Client {
        let settings = ClientSettings {
            endpoint: Some(self.kinesis_endpoint()),
            region: Some("us-east-1".to_owned()),
            test_credentials: true,
            ..ClientSettings::default()
        };
        streams_client(&settings).await
    }

    /// Seams of a node's own, as a process of its own has them.
    pub async fn seams_of(&self, settings: &Settings) -> Fallible<Seams> {
        Ok(seams(settings, None).await?)
    }

    /// The checked configuration of a node that reaches the emulators by their URLs, for [`Cloud::seams_of`].
    pub fn apart(&self, node: &Apart) -> Fallible<Settings> {
        let home = node.home(self.folder());
        std::fs::create_dir_all(&home)?;
        std::fs::create_dir_all(self.folder().join("aws/blobs"))?;
        Ok(config::parse(&format!(
            r#"
site = "{site}"
node = "{name}"
sites = {sites:?}
root = "{home}/git"
state = "{home}/git/.lockstep"
[api]
socket = "{home}/api.sock"
[refdb]
prefix = "bench"
region = "us-east-1"
endpoint = "{dynamo}"
[eventlog]
prefix = "bench"
region = "us-east-1"
endpoint = "{kinesis}"
poll_interval = "{poll}ms"
reading = "{reading}"
[blobs]
url = "file://{folder}/aws/blobs"
{more}"#,
            site = node.site,
            name = node.name(),
            sites = node.sites,
            home = home.display(),
            dynamo = self.dynamo_endpoint(),
            kinesis = node.kinesis,
            poll = node.poll.as_millis(),
            reading = node.reading,
            folder = self.folder().display(),
            more = node.more,
        ))?)
    }

    /// The checked configuration of `site`, which polls the event log every `poll` and knows the sites `sites`.
    pub fn settings(&self, site: &str, poll: Duration, sites: &[&str]) -> Fallible<Settings> {
        settings(self.folder(), site, poll, sites)
    }

    /// The same with more sections of the configuration file.
    pub fn settings_with(&self, site: &str, poll: Duration, sites: &[&str], more: &str) -> Fallible<Settings> {
        Ok(config::parse(&(text(self.folder(), site, poll, sites)? + more))?)
    }
}

/// The configuration of a site, as an operator would write it.
fn settings(folder: &Path, site: &str, poll: Duration, sites: &[&str]) -> Fallible<Settings> {
    Ok(config::parse(&text(folder, site, poll, sites)?)?)
}

fn text(folder: &Path, site: &str, poll: Duration, sites: &[&str]) -> Fallible<String> {
    let home = folder.join(site);
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(folder.join("aws/blobs"))?;
    Ok(format!(
        r#"
site = "{site}"
node = "{site}-0"
sites = {sites:?}
root = "{home}/git"
state = "{home}/git/.lockstep"
[api]
socket = "{home}/api.sock"
[refdb]
prefix = "bench"
[eventlog]
prefix = "bench"
poll_interval = "{poll}ms"
[blobs]
url = "file://{folder}/aws/blobs"
"#,
        home = home.display(),
        folder = folder.display(),
        poll = poll.as_millis(),
    ))
}
