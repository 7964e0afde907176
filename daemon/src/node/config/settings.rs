//! The validated configuration. Code that has one of these values does not need to check it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_proto::{NodeId, ProjectName, SiteId};

use crate::base::base_paths::BasePaths;
use crate::seams::aws::EndpointKind;
use crate::seams::eventlog::kinesis::ReadingMode;
use crate::seams::git::FsckObjects;
use crate::seams::handover::pod_label::PodLabelSettings;
use crate::seams::probe::Login;
use crate::seams::probe::ssh::SshKey;
use crate::seams::refdb::WriteMode;
use crate::seams::tls::{PeerName, TlsFiles};
use crate::stages::api::operator_listener::OperatorListenerSettings;
use crate::stages::api::peer_listener::PeerListenerSettings;
use crate::stages::api::turns::TurnLimits;
use crate::stages::capacity::AutoscaleSettings;
use crate::stages::console::ConsoleSettings;
use crate::stages::verify::BackgroundSettings;

/// All settings of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of this site.
    pub site: SiteId,
    /// The name of this node, unique over all sites.
    pub node: NodeId,
    /// The names of the sites with which the list of sites begins, this one included.
    pub sites: BTreeSet<SiteId>,
    /// The git volume: the root, and the base paths of projects that lie elsewhere.
    pub base_paths: BasePaths,
    /// The folder of the node's own state, on the git volume's file system.
    pub state: PathBuf,
    /// The listeners of the bridge API.
    pub api: Api,
    /// The order of batches when more of them come than this node works on.
    pub turns: TurnLimits,
    /// Whether new repositories get the git hooks (plain git servers).
    pub install_hooks: bool,
    /// Which pushes are held against the rules of git's `fsck`.
    pub fsck_objects: FsckObjects,
    /// The address that serves `/livez`, `/startz`, `/readyz`, `/writez` and `/metrics`.
    pub health_listen: SocketAddr,
    /// The way to AWS.
    pub aws: Aws,
    /// The tables of the refdb, and the timeouts of its calls.
    pub refdb: Refdb,
    /// The streams of the event log.
    pub eventlog: Eventlog,
    /// The blob store's URL (`s3://bucket/prefix`, `file:///folder`).
    pub blobs_url: String,
    /// The verification in the background.
    pub verify: BackgroundSettings,
    /// The limits of the commit stage.
    pub commit: Commit,
    /// The limits of the apply stage.
    pub apply: Apply,
    /// Heartbeats, and the periods after which a silent node is adopted or expelled.
    pub lease: Lease,
    /// The Gerrit on this machine.
    pub gerrit: Gerrit,
    /// The format and filter of logs, and the collector of traces.
    pub telemetry: Telemetry,
    /// The receivers that are told when the role of the site changes.
    pub handover: Handover,
    /// How users reach this site.
    pub probes: Probes,
    /// When drills begin by themselves.
    pub drill: Drill,
    /// Mutual TLS with the sidecars of other sites.
    pub tls: Option<Tls>,
    /// The file with the key by which this site signs its transactions. Without it, this node does not sign.
    pub signing_key: Option<PathBuf>,
    /// The listener for operators, if this node has one. It uses the certificate of `tls`.
    pub operators: Option<OperatorListenerSettings>,
    /// The console, if the listener for operators serves it.
    pub console: Option<ConsoleSettings>,
    /// The way to the other nodes of this site, which the refdb lists.
    pub siblings: Option<SiblingsAt>,
    /// Other nodes' sidecars by name. Objects are requested from them in the order of their names.
    pub peers: BTreeMap<String, Peer>,
    /// The folder of the embedded emulators. If it is set, the node uses nothing outside of this machine.
    pub embedded_dir: Option<PathBuf>,
}

/// The listeners of the bridge API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The path of the Unix socket.
    pub socket: PathBuf,
    /// The path of the operators' Unix socket.
    pub operators_socket: PathBuf,
    /// The ids of the users that the operators' socket serves.
    pub operators: Vec<u32>,
    /// A loopback TCP address and the file with its tokens.
    pub tcp: Option<(SocketAddr, PathBuf)>,
    /// Number of requests in progress at most. Excess requests are refused, and may be retried.
    pub most_requests: NonZeroUsize,
}

/// The address of a peer's sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A Unix socket on this machine.
    Socket(PathBuf),
    /// `host:port`, and the file with a token of the peer.
    Tcp(String, PathBuf),
    /// The peer's listener for mutual TLS.
    Tls {
        /// `host:port`.
        address: String,
        /// The name that the peer's certificate must have.
        identity: PeerName,
    },
}

/// The listeners for mutual TLS of the nodes of this site. `{node}` stands for the name of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiblingsAt {
    /// `host:port`.
    pub address: String,
    /// The name that the certificate of a node must have.
    pub identity: String,
}

impl SiblingsAt {
    /// The part of the texts that stands for the name of a node.
    pub const NODE: &str = "{node}";

    /// The address of a node.
    #[must_use]
    pub fn address(&self, node: &NodeId) -> String {
        self.address.replace(Self::NODE, node.as_str())
    }

    /// The way to a node. None if its name is too long for a host or for an id.
    #[must_use]
    pub fn peer(&self, node: &NodeId) -> Option<Peer> {
        let identity = self.identity.replace(Self::NODE, node.as_str()).parse().ok()?;
        Some(Peer::Tls { address: self.address(node), identity })
    }
}

/// The receivers that are told when the role of the site changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// A program on this machine.
    pub program: Option<PathBuf>,
    /// The URL of a service.
    pub webhook: Option<String>,
    /// The file with a bearer token for that service.
    pub token_file: Option<PathBuf>,
    /// The label on this node's pod, in Kubernetes.
    pub pod_label: Option<PodLabelSettings>,
    /// Timeout of one notice.
    pub timeout: Duration,
}

/// How users reach this site. A failover probes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// The URL of a project that the probe may push to and fetch from.
    pub git: Option<String>,
    /// The e-mail address of the commits that the probe pushes.
    pub email: String,
    /// The URL of a page that must answer.
    pub rest: Option<String>,
    /// The URL of a page that only a signed-in user gets, and the file with the cookie of a session.
    pub session: Option<(String, PathBuf)>,
    /// `user@host` and the port of Gerrit's SSH server.
    pub ssh: Option<(String, u16)>,
    /// The user of HTTP URLs.
    pub login: Option<Login>,
    /// The key of the user of SSH, and the hosts that it knows.
    pub key: Option<SshKey>,
    /// The bound of one command.
    pub timeout: Duration,
    /// The pause between two rounds.
    pub interval: Duration,
}

/// When drills begin by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// The age of the last drill from which the next one is due. None: only by command.
    pub every: Option<Duration>,
    /// The site to which they move. None: the first standby.
    pub to: Option<SiteId>,
    /// Drills on a copy of this node's volume.
    pub silent: SilentDrill,
}

/// Drills on a copy of this node's volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentDrill {
    /// How the copy is made.
    pub copy: CopyBy,
    /// The most memory of the sidecar on the copy, in bytes, and of each git that it starts.
    pub memory: u64,
    /// How long the drill may take once the copy is made.
    pub within: Duration,
    /// The age of this node's last silent drill from which the next one is due. None: only by command.
    pub every: Option<Duration>,
    /// The Gerrit that is started on the copy.
    pub gerrit: Option<DrillGerrit>,
}

/// How the copy of a volume is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyBy {
    /// By references to the same blocks (`FICLONE`), which take no space.
    Reflink,
    /// Byte by byte, with the space of the original.
    Full,
    /// By this program: a snapshot, or the clone of a volume.
    Command(PathBuf),
}

/// A second Gerrit, on the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillGerrit {
    /// The program that starts it and runs until it ends.
    pub program: PathBuf,
    /// The folder of this node's Gerrit, of which configuration, index and chosen libraries are copied.
    pub site: PathBuf,
    /// The URL at which the second one listens, on this machine.
    pub url: String,
    /// Files below `lib/` and `plugins/` that the second one has too.
    pub keep: Vec<PathBuf>,
}

/// Mutual TLS with the sidecars of other sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The node's certificate and key, and the authorities that it trusts.
    pub files: TlsFiles,
    /// The listener for peers, if this node serves them.
    pub listener: Option<PeerListenerSettings>,
}

/// The way to AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aws {
    /// The kind of AWS's own endpoints. A configured endpoint is used as it is.
    pub endpoints: EndpointKind,
    /// How long before their expiry credentials are renewed.
    pub renew_ahead: Duration,
}

/// The tables of the refdb, and the timeouts of its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refdb {
    /// Prefix of the tables' names.
    pub prefix: String,
    /// The AWS Region. If it is not set, the environment decides.
    pub region: Option<String>,
    /// The endpoint, if it is not the one of the Region.
    pub endpoint: Option<String>,
    /// Timeout of a connection attempt. It is less than `attempt_timeout`: the circuit breaker counts connections that
    /// fail, and an attempt that ends first may have been sent.
    pub connect_timeout: Duration,
    /// Timeout of one attempt of a call. A commit without an answer is then sent once more.
    pub attempt_timeout: Duration,
    /// Reads and writes per second for which new tables are prepared (DynamoDB's warm throughput).
    pub warm_throughput: Option<(u64, u64)>,
    /// The share of a partition's read units that a verification takes at most, in percent: 1 to 100.
    pub verify_share: u32,
    /// Whether writes are transactions, or of one item each. Every node of the refdb must have the same setting.
    pub writes: WriteMode,
}

/// The streams of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eventlog {
    /// Prefix of the streams' names.
    pub prefix: String,
    /// The stream of each site of the configuration.
    pub streams: BTreeMap<SiteId, Stream>,
    /// The streams of other sites of the list. The list may name another Region or endpoint.
    pub usual: Stream,
    /// Number of shards of a stream that this node creates.
    pub shards: u32,
    /// The pause between two reads of a shard.
    pub poll_interval: Duration,
    /// How long the streams should keep records. The sidecar checks it, and does not change it.
    pub retention: Duration,
    /// Whether one node of this site reads a shard for the others, where nodes of the site are among the peers.
    pub shares: bool,
    /// The autoscaler of this site's stream. None if it is switched off.
    pub autoscale: Option<AutoscaleSettings>,
}

impl Eventlog {
    /// The interval within which a reader has read a shard. A reader to which records are sent waits a second for them,
    /// so two of its reads in a row take two seconds.
    #[must_use]
    pub fn reads_within(&self) -> Duration {
        let sent = Duration::from_millis(1_500);
        if self.may_fan_out() { self.poll_interval.max(sent) } else { self.poll_interval }
    }

    /// The fewest shards that a provisioned stream should have. An autoscaler that makes changes may have fewer than
    /// `shards`.
    #[must_use]
    pub fn least_shards(&self) -> u32 {
        let autoscale = self.autoscale.as_ref().filter(|of| !of.dry_run);
        autoscale.map_or(self.shards, |of| of.limits.least)
    }

    /// Whether a stream may be read by enhanced fan-out.
    #[must_use]
    pub fn may_fan_out(&self) -> bool {
        let mut streams = self.streams.values().chain([&self.usual]);
        streams.any(|stream| stream.reading != ReadingMode::Polling)
    }
}

/// The place of one site's stream, and how it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The AWS Region. If it is not set, the environment decides.
    pub region: Option<String>,
    /// The endpoint, if it is not the one of the Region.
    pub endpoint: Option<String>,
    /// How this node reads it.
    pub reading: ReadingMode,
}

/// The limits of the commit stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Number of lanes of an incarnation, 1 to 64.
    pub lanes: u8,
    /// Number of slots above its settled mark that a lane may use.
    pub window: u64,
    /// Size of the largest pack that travels inside a transaction, in bytes.
    pub inline_pack_bytes: usize,
    /// Deadline of a request whose caller gives none.
    pub deadline: Duration,
}

/// The limits of the apply stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Number of projects that are applied concurrently.
    pub workers: usize,
    /// Number of transactions between two calls of `syncfs` at most.
    pub batch: usize,
    /// Bytes of all transactions in memory that were read, fetched or parked: half for those that were read, half for
    /// the others. A project with a parked one beyond it gets a state transfer.
    pub parked_bytes: u64,
    /// How long a transaction may be parked. After that, its project gets a state transfer.
    pub parked_age: Duration,
}

/// Heartbeats and leases. These values decide when a step is taken. Safety never depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The pause between two heartbeats.
    pub heartbeat: Duration,
    /// A node without a heartbeat for this long may be adopted by another node of its site.
    pub expires_after: Duration,
    /// A node without a heartbeat for this long may be adopted by a node of any site.
    pub adopted_elsewhere_after: Duration,
    /// A node without a heartbeat for this long is expelled: nothing is kept for it any more.
    pub expelled_after: Duration,
}

/// The Gerrit on this machine, and the way in which its index and caches are refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gerrit {
    /// The way in which Gerrit's index and caches are refreshed.
    pub refresh: GerritRefresh,
    /// The project of accounts and groups.
    pub all_users: ProjectName,
    /// The project from which all others inherit.
    pub all_projects: ProjectName,
    /// The delay before a refresh after this node's own commits, because Gerrit refreshes these itself.
    pub hold_own: Duration,
    /// How long Gerrit may keep index updates in memory only (the longest `index.*.commitWithin`).
    pub commit_within: Duration,
}

/// The ways in which Gerrit's index and caches are refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GerritRefresh {
    /// There is no Gerrit, so nothing is refreshed.
    None,
    /// The bridge inside Gerrit asks the sidecar for refresh tasks.
    Bridge,
    /// The sidecar refreshes a Gerrit without the bridge by REST calls.
    Rest(GerritRest),
}

/// The REST API of a Gerrit, and the user of the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GerritRest {
    /// `host:port` on this machine.
    pub address: String,
    /// Prefix of the paths: empty, or for example `/gerrit`.
    pub prefix: String,
    /// The name of the user.
    pub user: String,
    /// The file with the user's HTTP password or token.
    pub password_file: PathBuf,
    /// Timeout of one call.
    pub timeout: Duration,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text that is easy to read.
    Text,
    /// One JSON object per line.
    Json,
}

/// The format and filter of logs, and the collector of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The address of the trace collector (OTLP over HTTP). Without it, no traces are sent.
    pub otlp_endpoint: Option<String>,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The filter of log lines (`info,lockstep=debug`).
    pub log_filter: String,
}
