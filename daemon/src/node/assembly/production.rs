//! Builds the seams of a configuration. Beside `provision`, this is the only file that names adapters.
//!
//! With `[embedded]`, the emulators run in this process, and the AWS adapters reach them on the loopback interface.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use lockstep_proto::SiteId;
use lockstep_proto::site_list::StreamPlace;

use super::metered::{MeteredBlobs, MeteredEventLog, MeteredRepositories, metered};
use super::{NodeDependencies, NodeSettings, ProbeSet};
use crate::base::clock::{Clock, Entropy, SeededEntropy, SystemClock};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::base::observer::Observer;
use crate::node::config::Settings;
use crate::node::config::settings::{Gerrit as GerritSettings, GerritRefresh, Peer, Probes, Refdb};
use crate::seams::aws::{Identities, Links, Way};
use crate::seams::blob::BlobStore;
use crate::seams::blob::object::{ObjectBlobs, OpenError};
use crate::seams::eventlog::EventLog;
use crate::seams::eventlog::kinesis::{self, ClientSettings, KinesisEventLog, KinesisSettings, consumer_name};
use crate::seams::eventlog::per_region::RoutedEventLog;
use crate::seams::gerrit::Gerrit;
use crate::seams::gerrit::rest::{RestGerrit, RestSettings};
use crate::seams::git::{LocalRepositories, Repositories};
use crate::seams::peers::http::{Address, HttpPeer};
use crate::seams::peers::{FallbackPeers, Peers, Siblings};
use crate::seams::probe::git::{GitProbe, GitSettings};
use crate::seams::probe::page::PageProbe;
use crate::seams::probe::ssh::SshProbe;
use crate::seams::probe::{Group, Probe, ProbeError};
use crate::seams::refdb::dynamo::{self, Connection, DynamoRefDb, DynamoTables, TableSettings, Warm};
use crate::seams::refdb::{RefDb, Tables};
use crate::seams::signing::{KeyFileError, SiteSigner};
use crate::seams::tls::Credentials;
use crate::seams::volume::StoreError;
use crate::seams::volume::disk::DiskStore;
use crate::seams::volume::lock;
use crate::stages::events::EventLimits;
use crate::stages::refresh::queue::QueueLimits;
use crate::stages::refresh::{COMMIT_SLACK, RefreshSettings};
use crate::stages::share::ShareSettings;
use crate::telemetry::metrics::Metrics;

/// The embedded emulators. They run until this value is dropped.
pub struct Embedded {
    #[cfg(feature = "embedded")]
    dynamo: crate::seams::embedded::dynamo::EmbeddedDynamo,
    #[cfg(feature = "embedded")]
    kinesis: crate::seams::embedded::kinesis::EmbeddedKinesis,
}

/// The seams to the outside of a node's volume. All nodes of one process share them.
pub struct Seams {
    /// The global ref database.
    pub refdb: Arc<DynamoRefDb>,
    /// Opens other tables of the same database.
    pub tables: Arc<dyn Tables>,
    /// The event logs of all sites.
    pub eventlog: Arc<dyn EventLog>,
    /// The blob store for large packs.
    pub blobs: Arc<dyn BlobStore>,
    /// The endpoints of AWS with their circuits, and the credentials.
    pub links: Arc<Links>,
}

#[cfg(feature = "embedded")]
impl Embedded {
    /// Starts the emulators. The database of the DynamoDB emulator is a file in `folder`.
    ///
    /// # Errors
    /// The folder cannot be written, or a port cannot be bound.
    pub async fn start(folder: &Path) -> std::io::Result<Self> {
        Self::start_with(folder, &Default::default()).await
    }

    /// Like [`Embedded::start`], with other settings of the Kinesis emulator.
    ///
    /// # Errors
    /// As [`Embedded::start`].
    pub async fn start_with(
        folder: &Path,
        kinesis: &crate::seams::embedded::kinesis::EmbeddedKinesisSettings,
    ) -> std::io::Result<Self> {
        use crate::seams::embedded::{dynamo::EmbeddedDynamo, kinesis::EmbeddedKinesis};
        std::fs::create_dir_all(folder)?;
        let dynamo = EmbeddedDynamo::on_file(&folder.join("dynamodb.sqlite")).await?;
        let kinesis = EmbeddedKinesis::start(kinesis).await?;
        Ok(Self { dynamo, kinesis })
    }

    /// How the limits of the streams answered so far.
    #[must_use]
    pub fn answered(&self) -> crate::seams::embedded::write_limits::Answered {
        self.kinesis.answered()
    }

    /// The URL of the DynamoDB emulator.
    #[must_use]
    pub fn dynamo_endpoint(&self) -> String {
        self.dynamo.endpoint()
    }

    /// The URL of the Kinesis emulator.
    #[must_use]
    pub fn kinesis_endpoint(&self) -> String {
        self.kinesis.endpoint()
    }
}

#[cfg(not(feature = "embedded"))]
impl Embedded {
    /// Fails, because this build has no emulators.
    ///
    /// # Errors
    /// Always.
    pub async fn start(_folder: &Path) -> std::io::Result<Self> {
        Err(std::io::Error::other("this build has no emulators: remove [embedded] from the configuration"))
    }

    fn dynamo_endpoint(&self) -> String {
        String::new()
    }

    fn kinesis_endpoint(&self) -> String {
        String::new()
    }
}

/// Whether an endpoint is on this machine. Such an endpoint is an emulator, which accepts made-up credentials.
fn is_local(endpoint: Option<&String>) -> bool {
    endpoint.is_some_and(|url| url.starts_with("http://127.0.0.1") || url.starts_with("http://localhost"))
}

/// Builds the shared seams. It opens no connection.
///
/// # Errors
/// The blob store's URL cannot be used.
pub async fn seams(settings: &Settings, embedded: Option<&Embedded>) -> Result<Seams, OpenError> {
    let refdb = &settings.refdb;
    let endpoint = embedded.map(Embedded::dynamo_endpoint).or_else(|| refdb.endpoint.clone());
    let way = way(settings);
    let client = dynamo::client_by(&connection(refdb, endpoint), &way).await;
    let created = TableSettings { warm: warm(refdb), writes: refdb.writes };
    let blobs = match &settings.embedded_dir {
        Some(folder) => ObjectBlobs::local(&folder.join("blobs")),
        None => ObjectBlobs::by(&settings.blobs_url, &way),
    };
    Ok(Seams {
        refdb: Arc::new(DynamoRefDb::new(&client, &refdb.prefix, created)),
        tables: Arc::new(DynamoTables::new(&client, &refdb.prefix, created)),
        eventlog: Arc::new(eventlog(settings, embedded, &way).await),
        blobs: Arc::new(blobs?),
        links: way.links,
    })
}

/// The way to AWS of a configuration, with circuits of its own.
pub(super) fn way(settings: &Settings) -> Way {
    let identities = Arc::new(Identities::renewed(settings.aws.renew_ahead));
    Way { kind: settings.aws.endpoints, links: Arc::new(Links::signed_by(identities)) }
}

/// Opens tables at the place of a configuration. It opens no connection.
pub(super) async fn tables(settings: &Settings, embedded: Option<&Embedded>) -> DynamoTables {
    let refdb = &settings.refdb;
    let endpoint = embedded.map(Embedded::dynamo_endpoint).or_else(|| refdb.endpoint.clone());
    let client = dynamo::client_by(&connection(refdb, endpoint), &way(settings)).await;
    DynamoTables::new(&client, &refdb.prefix, TableSettings { warm: warm(refdb), writes: refdb.writes })
}

/// The way to the tables at an endpoint. None: the endpoint of the Region.
pub(super) fn connection(refdb: &Refdb, endpoint: Option<String>) -> Connection {
    let local = is_local(endpoint.as_ref());
    Connection {
        region: refdb.region.clone().or_else(|| local.then(|| "us-east-1".to_owned())),
        made_up_credentials: local,
        endpoint,
        connect_timeout: refdb.connect_timeout,
        call_timeout: refdb.attempt_timeout,
    }
}

/// The warm throughput of new tables.
pub(super) fn warm(refdb: &Refdb) -> Option<Warm> {
    refdb.warm_throughput.map(units)
}

/// Reads and writes per second, as DynamoDB counts them.
pub(super) fn units((reads, writes): (u64, u64)) -> Warm {
    Warm { reads: signed(reads), writes: signed(writes) }
}

async fn eventlog(settings: &Settings, embedded: Option<&Embedded>, way: &Way) -> RoutedEventLog {
    let prefix = settings.eventlog.prefix.clone();
    let streams = KinesisSettings {
        shards: u16::try_from(settings.eventlog.shards).unwrap_or(u16::MAX),
        // The emulator's streams are on this machine, and nobody is away.
        retention: if embedded.is_some() { Duration::ZERO } else { settings.eventlog.retention },
        ready_poll: Duration::from_millis(if embedded.is_some() { 20 } else { 500 }),
        polled_by: polled_by(settings.eventlog.poll_interval),
        consumer: consumer_name(&prefix, &settings.site, &settings.node),
        ..KinesisSettings::default()
    };
    let mut routes: BTreeMap<SiteId, (Arc<dyn EventLog>, StreamPlace)> = BTreeMap::new();
    for (site, stream) in &settings.eventlog.streams {
        let endpoint = embedded.map(Embedded::kinesis_endpoint).or_else(|| stream.endpoint.clone());
        let place = StreamPlace { region: stream.region.clone(), endpoint };
        let own = KinesisSettings { reading: stream.reading, ..streams.clone() };
        let log = stream_log(place.clone(), prefix.clone(), own, way.clone()).await;
        routes.insert(site.clone(), (log, place));
    }
    let usual = settings.eventlog.usual.clone();
    let streams = KinesisSettings { reading: usual.reading, ..streams };
    let way = way.clone();
    let reach = move |place: StreamPlace| {
        let place = StreamPlace {
            region: place.region.or_else(|| usual.region.clone()),
            endpoint: place.endpoint.or_else(|| usual.endpoint.clone()),
        };
        stream_log(place, prefix.clone(), streams.clone(), way.clone()).boxed()
    };
    RoutedEventLog::new(routes, Box::new(reach))
}

/// The number of nodes that can poll a shard at this interval: Kinesis allows five reads per second for all of them.
fn polled_by(interval: Duration) -> usize {
    usize::try_from(interval.as_millis() * 5 / 1_000).unwrap_or(usize::MAX).max(1)
}

/// The event log that has the streams of a place.
async fn stream_log(place: StreamPlace, prefix: String, streams: KinesisSettings, way: Way) -> Arc<dyn EventLog> {
    Arc::new(KinesisEventLog::new(kinesis::client_by(&streams_at(place), &way).await, prefix, streams))
}

/// The way to the streams of a place.
pub(super) fn streams_at(place: StreamPlace) -> ClientSettings {
    let local = is_local(place.endpoint.as_ref());
    ClientSettings {
        region: place.region.or_else(|| local.then(|| "us-east-1".to_owned())),
        test_credentials: local,
        endpoint: place.endpoint,
        ..ClientSettings::default()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Translates a configuration into the settings of a node.
#[must_use]
pub fn node_settings(settings: &Settings) -> NodeSettings {
    let sites = settings.sites.iter().cloned().collect();
    let mut node = NodeSettings::new(settings.site.clone(), settings.node.clone(), sites);
    node.journal.lanes = settings.commit.lanes;
    node.journal.window = settings.commit.window;
    node.inline_pack_bytes = settings.commit.inline_pack_bytes;
    node.deadline = settings.commit.deadline;
    node.patience = settings.refdb.attempt_timeout;
    node.verify_share = settings.refdb.verify_share;
    node.background = Some(settings.verify);
    node.apply.batch = settings.apply.batch;
    // One budget. Half of it is for records that were read, so that parked and fetched ones never stop the reading.
    let half = settings.apply.parked_bytes / 2;
    (node.consume.open_bytes, node.apply.parked_bytes) = (half.max(1), settings.apply.parked_bytes - half);
    node.apply.parked_age = settings.apply.parked_age;
    node.consume.poll_interval = settings.eventlog.poll_interval;
    node.share = settings.eventlog.shares.then(|| ShareSettings::new(settings.eventlog.reads_within()));
    node.autoscale = settings.eventlog.autoscale.clone();
    node.member.beat = settings.lease.heartbeat;
    node.member.lease = settings.lease.expires_after;
    node.member.elsewhere = settings.lease.adopted_elsewhere_after;
    node.member.retention = settings.lease.expelled_after;
    node.refresh = refresh(&settings.gerrit);
    node.base_paths = Some(settings.base_paths.clone());
    if settings.gerrit.refresh == GerritRefresh::Bridge {
        node.of_init = [&settings.gerrit.all_projects, &settings.gerrit.all_users].into_iter().cloned().collect();
    }
    node.events = (settings.gerrit.refresh == GerritRefresh::Bridge).then(EventLimits::default);
    node
}

/// The REST client of a Gerrit without the bridge, if the configuration has one.
fn gerrit(settings: &GerritSettings) -> Option<Arc<dyn Gerrit>> {
    let GerritRefresh::Rest(rest) = &settings.refresh else { return None };
    let rest = RestSettings {
        address: rest.address.clone(),
        prefix: rest.prefix.clone(),
        user: rest.user.clone(),
        password_file: rest.password_file.clone(),
        timeout: rest.timeout,
    };
    Some(Arc::new(RestGerrit::new(rest, settings.all_projects.clone())))
}

fn refresh(gerrit: &GerritSettings) -> Option<RefreshSettings> {
    let gerrit_commits = match &gerrit.refresh {
        GerritRefresh::None => return None,
        GerritRefresh::Bridge => true,
        // A Gerrit without the bridge never commits through this node.
        GerritRefresh::Rest(_) => false,
    };
    let usual = RefreshSettings::default().queue;
    let queue = QueueLimits { hold_own: gerrit.hold_own, keep: gerrit.commit_within + COMMIT_SLACK, ..usual };
    Some(RefreshSettings { all_users: gerrit.all_users.clone(), gerrit_commits, queue })
}

/// The peers of a configuration, which are asked in the order of their names. The other nodes of this site come last.
fn peers(settings: &Settings, tls: Option<&Arc<Credentials>>, spill: &Path, most_bytes: u64) -> FallbackPeers {
    let (tls, spill) = (tls.map(Arc::clone), spill.to_owned());
    let reach = move |name: &str, peer: &Peer| {
        let address = address(peer, tls.as_ref())?;
        Some(Arc::new(HttpPeer::new(name.to_owned(), address, spill.clone(), most_bytes)) as Arc<dyn Peers>)
    };
    let listed = FallbackPeers::new(settings.peers.iter().filter_map(|(name, peer)| reach(name, peer)).collect());
    let Some(siblings) = settings.siblings.clone() else { return listed };
    let named: BTreeSet<String> = settings.peers.keys().cloned().collect();
    listed.with_siblings(Siblings::new(move |node| {
        // A section of [peers] with this name says how the node is reached.
        let is_named = named.contains(node.as_str());
        if is_named { None } else { reach(node.as_str(), &siblings.peer(node)?) }
    }))
}

/// The address of a peer. None without the certificate that it needs: the check of the configuration refuses that.
fn address(peer: &Peer, tls: Option<&Arc<Credentials>>) -> Option<Address> {
    Some(match peer {
        Peer::Socket(path) => Address::Socket(path.clone()),
        Peer::Tcp(address, token_file) => Address::Tcp(address.clone(), token_file.clone()),
        Peer::Tls { address, identity } => {
            let credentials = Arc::clone(tls?);
            Address::Tls { address: address.clone(), identity: identity.clone(), credentials }
        }
    })
}

/// The probes of a configuration.
fn probes(settings: &Settings) -> Result<ProbeSet, ProbeError> {
    let Probes { git, email, rest, session, ssh, login, key, timeout, interval } = settings.probes.clone();
    let mut probes: Vec<Arc<dyn Probe>> = Vec::new();
    if let Some(url) = git {
        let of_git =
            GitSettings { url, login: login.clone(), key: key.clone(), email, limit: timeout, group: Group::Own };
        probes.push(Arc::new(GitProbe::new(of_git, &settings.node)));
    }
    if let Some(url) = rest {
        probes.push(Arc::new(PageProbe::new(&url, login, timeout)?));
    }
    if let Some((url, file)) = session {
        probes.push(Arc::new(PageProbe::of_session(&url, file, timeout)?));
    }
    if let Some(((destination, port), key)) = ssh.zip(key) {
        probes.push(Arc::new(SshProbe { destination, port, key, limit: timeout }));
    }
    Ok(ProbeSet { probes, timeout, interval })
}

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The root folder cannot be created, or its repositories cannot be opened.
    #[error("root {}: {error}", root.display())]
    Root {
        /// The path of the folder, as set.
        root: PathBuf,
        /// The answer of the operating system.
        error: std::io::Error,
    },
    /// The folder of the node's own state cannot be created.
    #[error("state {}: {error}", state.display())]
    State {
        /// The path of the folder, as set.
        state: PathBuf,
        /// The answer of the operating system.
        error: std::io::Error,
    },
    /// The node's own store cannot be opened.
    #[error(transparent)]
    Store(StoreError),
    /// The key of `[signing]` cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A probe of `[probes]` cannot be built.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// Builds the dependencies of one node: the shared seams, and those to its own volume.
///
/// # Errors
/// The volume cannot be used.
pub fn dependencies(
    settings: &Settings,
    seams: &Seams,
    tls: Option<&Arc<Credentials>>,
    git: crate::seams::git::Settings,
    observer: Arc<dyn Observer>,
    metrics: &Metrics,
) -> Result<NodeDependencies, VolumeError> {
    let outside = Outside {
        refdb: RefDb::of(&seams.refdb),
        tables: Arc::clone(&seams.tables),
        eventlog: Arc::clone(&seams.eventlog),
        blobs: Arc::clone(&seams.blobs),
        peers: None,
    };
    on_volume(settings, outside, tls, git, observer, metrics)
}

/// The seams to the outside of a node's volume, of any implementation.
pub(super) struct Outside {
    pub(super) refdb: RefDb,
    pub(super) tables: Arc<dyn Tables>,
    pub(super) eventlog: Arc<dyn EventLog>,
    pub(super) blobs: Arc<dyn BlobStore>,
    /// None: the peers of the settings.
    pub(super) peers: Option<Arc<dyn Peers>>,
}

/// Builds the dependencies of one node on its own volume.
///
/// # Errors
/// The volume cannot be used.
pub(super) fn on_volume(
    settings: &Settings,
    outside: Outside,
    tls: Option<&Arc<Credentials>>,
    git: crate::seams::git::Settings,
    observer: Arc<dyn Observer>,
    metrics: &Metrics,
) -> Result<NodeDependencies, VolumeError> {
    let signer = settings.signing_key.as_deref().map(SiteSigner::load).transpose()?.map(Arc::new);
    let root = settings.base_paths.root();
    std::fs::create_dir_all(root).map_err(|error| VolumeError::Root { root: root.to_owned(), error })?;
    std::fs::create_dir_all(&settings.state)
        .map_err(|error| VolumeError::State { state: settings.state.clone(), error })?;
    let most_bytes = git.spilled.pack_bytes;
    let repositories = LocalRepositories::over(&settings.base_paths, git)
        .map_err(|error| VolumeError::Root { root: root.to_owned(), error })?;
    let store = DiskStore::open(&settings.state.join("node.redb")).map_err(VolumeError::Store)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::from_machine());
    Ok(NodeDependencies {
        refdb: metered(&outside.refdb, &metrics.refdb),
        tables: outside.tables,
        eventlog: Arc::new(MeteredEventLog::new(outside.eventlog, metrics.eventlog.clone())),
        blobs: Arc::new(MeteredBlobs::new(outside.blobs, metrics.blob.clone())),
        peers: outside.peers.unwrap_or_else(|| Arc::new(peers(settings, tls, &repositories.spill(), most_bytes))),
        repositories: Arc::new(MeteredRepositories::new(Arc::new(repositories), metrics.git.clone())),
        store: Arc::new(store),
        clock,
        entropy,
        gerrit: gerrit(&settings.gerrit),
        probes: probes(settings)?,
        observer,
        signer,
        boot: lock::boot_id().unwrap_or_default(),
        settings: node_settings(settings),
        bugs: InjectedBugs::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config;

    #[test]
    fn a_longer_poll_interval_serves_more_nodes() {
        let of = |milliseconds| polled_by(Duration::from_millis(milliseconds));
        assert_eq!([100, 1_000, 2_000].map(of), [1, 5, 10]);
    }

    #[test]
    fn records_that_were_read_and_those_that_wait_have_one_budget_together() {
        for bytes in [1, 1 << 20, (256 << 20) + 1] {
            let mut settings = config::parse(config::EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
            settings.apply.parked_bytes = bytes;
            let node = node_settings(&settings);
            assert!((bytes..=bytes + 1).contains(&(node.consume.open_bytes + node.apply.parked_bytes)));
            assert!(node.consume.open_bytes >= 1, "a reader without any room would wait for ever");
        }
    }
}
