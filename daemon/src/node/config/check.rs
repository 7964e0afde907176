//! Turns the raw configuration into validated settings. It reads every field and collects every problem before it
//! returns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use lockstep_proto::verify::DEFAULT_SHARE;
use lockstep_proto::{SiteId, limits};

use super::fields::{
    address, collector, deadline, flag, folder, http_url, loopback, name, percent, prefix, region, requests, store_url,
    throughput, time,
};
use super::raw::{self, Leaf, Raw};
use super::report::{Problems, number, path, scalar};
use super::settings::{Api, Apply, Aws, Commit, Eventlog, Lease, LogFormat, Refdb, Settings, Stream, Telemetry};
use super::{
    DEFAULT_SOCKET, LOG_FILTER, autoscale, base_paths, console, drill, gerrit, handover, operators, peers, probes,
    siblings, tls, turns, value, verify,
};
use crate::seams::aws::{AHEAD, EndpointKind};
use crate::seams::eventlog::kinesis::ReadingMode;
use crate::seams::git::FsckObjects;
use crate::seams::refdb::WriteMode;
use crate::stages::api::deadlines::DEFAULT_DEADLINE;
use crate::stages::api::server::DEFAULT_REQUESTS;

impl TryFrom<Raw> for Settings {
    type Error = Problems;

    fn try_from(raw: Raw) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let read = read(&raw, &mut problems);
        match read {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems),
        }
    }
}

/// Reads all sections. Returns `None` if a value without a default is wrong; `to` then has the problem.
fn read(raw: &Raw, to: &mut Problems) -> Option<Settings> {
    unknown(raw, to);
    let site = to.need("site", &raw.site, "name this site, `eu-aws` for example", name("muc-1"));
    let node = to.need("node", &raw.node, "name this node, `eu-aws-0` for example", name("muc-1-0"));
    let sites = sites(&raw.sites, to);
    if let (Some(site), Some(sites)) = (&site, &sites)
        && !sites.contains(site)
    {
        to.wrong("site", &raw.site, "name one of `sites`, or add this site to `sites`");
    }
    let base_paths = base_paths::read(raw, to);
    let state = to.need("state", &raw.state, "name a folder on the git volume for the node's own state", folder);
    let embedded_dir = to.optional("embedded.dir", &raw.embedded.dir, folder);
    alone_when_embedded(raw, sites.as_ref(), to);
    let api = api(&raw.api, to);
    let turns = turns::read(&raw.turns, &api, to);
    let install_hooks = to.or("git.install_hooks", &raw.git.install_hooks, false, flag);
    let fsck_objects = to.or("git.fsck_objects", &raw.git.fsck_objects, FsckObjects::AsConfigured, fsck_objects);
    let health_listen = to.or("health.listen", &raw.health.listen, SocketAddr::from(([127, 0, 0, 1], 7421)), address);
    let (aws, refdb) = (aws(&raw.aws, to), refdb(&raw.refdb, to));
    let eventlog = eventlog(&raw.eventlog, sites.as_ref(), to);
    let blobs_url = blobs(&raw.blobs, embedded_dir.as_ref(), to);
    let verify = verify::read(&raw.verify, to);
    let (commit, apply, lease) = (commit(&raw.commit, to), apply(&raw.apply, to), lease(&raw.lease, to));
    let (gerrit, telemetry) = (gerrit::read(&raw.gerrit, to), telemetry(&raw.telemetry, to));
    let handover = handover::read(&raw.handover, to);
    let drill = drill::read(&raw.drill, to);
    let probes = probes::read(&raw.probes, to);
    let tls = tls::read(&raw.tls, to);
    let signing_key = to.optional("signing.key_file", &raw.signing.key_file, folder);
    let operators = operators::read(raw, tls.as_ref(), to);
    let console = console::read(raw, to);
    let siblings = siblings::read(raw, to);
    let peers = peers::read(raw, node.as_ref(), &api, to);
    Some(Settings {
        site: site?,
        node: node?,
        sites: sites?,
        base_paths: base_paths?,
        state: state?,
        api,
        turns,
        install_hooks,
        fsck_objects,
        health_listen,
        aws,
        refdb,
        eventlog,
        blobs_url: blobs_url?,
        verify,
        commit,
        apply,
        lease,
        gerrit: gerrit?,
        telemetry,
        handover,
        probes,
        drill,
        tls,
        signing_key,
        operators,
        console,
        siblings,
        peers,
        embedded_dir,
    })
}

fn fsck_objects(text: &str) -> Result<FsckObjects, String> {
    match text {
        "as-configured" => Ok(FsckObjects::AsConfigured),
        "always" => Ok(FsckObjects::Always),
        _ => Err("write \"as-configured\" or \"always\"".to_owned()),
    }
}

fn unknown(raw: &Raw, to: &mut Problems) {
    to.unknown("", &raw.unknown, Raw::FIELDS);
    to.unknown("api", &raw.api.unknown, raw::Api::FIELDS);
    to.unknown("turns", &raw.turns.unknown, raw::Turns::FIELDS);
    to.unknown("git", &raw.git.unknown, raw::Git::FIELDS);
    to.unknown("health", &raw.health.unknown, raw::Health::FIELDS);
    to.unknown("aws", &raw.aws.unknown, raw::Aws::FIELDS);
    to.unknown("refdb", &raw.refdb.unknown, raw::Refdb::FIELDS);
    to.unknown("eventlog", &raw.eventlog.unknown, raw::Eventlog::FIELDS);
    to.unknown("eventlog.autoscale", &raw.eventlog.autoscale.unknown, raw::Autoscale::FIELDS);
    for (site, stream) in &raw.eventlog.streams {
        to.unknown(&format!("eventlog.streams.{site}"), &stream.unknown, raw::Stream::FIELDS);
    }
    to.unknown("blobs", &raw.blobs.unknown, raw::Blobs::FIELDS);
    to.unknown("verify", &raw.verify.unknown, raw::Verify::FIELDS);
    to.unknown("commit", &raw.commit.unknown, raw::Commit::FIELDS);
    to.unknown("apply", &raw.apply.unknown, raw::Apply::FIELDS);
    to.unknown("lease", &raw.lease.unknown, raw::Lease::FIELDS);
    to.unknown("gerrit", &raw.gerrit.unknown, raw::Gerrit::FIELDS);
    to.unknown("telemetry", &raw.telemetry.unknown, raw::Telemetry::FIELDS);
    to.unknown("handover", &raw.handover.unknown, raw::Handover::FIELDS);
    to.unknown("probes", &raw.probes.unknown, raw::Probes::FIELDS);
    to.unknown("signing", &raw.signing.unknown, raw::Signing::FIELDS);
    to.unknown("drill", &raw.drill.unknown, raw::Drill::FIELDS);
    to.unknown("drill.silent", &raw.drill.silent.unknown, raw::Silent::FIELDS);
    to.unknown("tls", &raw.tls.unknown, raw::Tls::FIELDS);
    to.unknown("operators", &raw.operators.unknown, raw::Operators::FIELDS);
    to.unknown("console", &raw.console.unknown, raw::Console::FIELDS);
    to.unknown("console.oidc", &raw.console.oidc.unknown, raw::Oidc::FIELDS);
    to.unknown("siblings", &raw.siblings.unknown, raw::Siblings::FIELDS);
    for (name, peer) in &raw.peers {
        to.unknown(&format!("peers.{name}"), &peer.unknown, raw::Peer::FIELDS);
    }
    to.unknown("embedded", &raw.embedded.unknown, raw::Embedded::FIELDS);
}

fn sites(leaf: &Leaf, to: &mut Problems) -> Option<BTreeSet<SiteId>> {
    let remedy = "list the names of all sites, this one included: [\"eu-aws\", \"muc-1\"]";
    let Some(Value::Array(_, items)) = leaf else {
        to.wrong("sites", leaf, remedy);
        return None;
    };
    let site_name = name::<SiteId>("muc-1");
    let mut sites = BTreeSet::new();
    for item in items {
        match scalar(item).ok_or_else(|| remedy.to_owned()).and_then(|text| site_name(&text)) {
            Ok(site) if sites.insert(site.clone()) => {}
            Ok(site) => to.wrong("sites", leaf, format!("{site} is listed twice; list it once")),
            Err(why) => to.wrong("sites", leaf, why),
        }
    }
    if items.is_empty() {
        to.wrong("sites", leaf, remedy);
    }
    Some(sites)
}

fn api(raw: &raw::Api, to: &mut Problems) -> Api {
    let socket = to.or("api.socket", &raw.socket, PathBuf::from(DEFAULT_SOCKET), folder);
    let operators_socket =
        to.or("api.operators_socket", &raw.operators_socket, super::operators_socket(&socket), folder);
    if operators_socket == socket {
        to.wrong("api.operators_socket", &raw.operators_socket, "it is api.socket already; name another path");
    }
    let listen = to.optional("api.listen", &raw.listen, loopback);
    let token_file = to.optional("api.token_file", &raw.token_file, folder);
    if raw.listen.is_some() && raw.token_file.is_none() {
        to.wrong("api.token_file", &raw.token_file, "api.listen needs it: name a file, which is created if missing");
    }
    let most_requests = to.or("api.most_requests", &raw.most_requests, DEFAULT_REQUESTS, requests);
    Api { socket, operators_socket, operators: uids(&raw.operators, to), tcp: listen.zip(token_file), most_requests }
}

/// The user ids that the operators' socket serves: root and the sidecar's own, unless others are listed.
fn uids(leaf: &Leaf, to: &mut Problems) -> Vec<u32> {
    let items = match leaf {
        None => return vec![0, rustix::process::geteuid().as_raw()],
        Some(Value::Array(_, items)) => items.as_slice(),
        Some(_) => &[],
    };
    let uids: Vec<u32> = items.iter().filter_map(|item| scalar(item)?.parse().ok()).collect();
    if uids.is_empty() || uids.len() < items.len() {
        to.wrong("api.operators", leaf, "list the numeric ids of the users who may act as operators: [0, 1000]");
    }
    uids
}

fn aws(raw: &raw::Aws, to: &mut Problems) -> Aws {
    let fips = to.or("aws.fips", &raw.fips, false, flag);
    let dual_stack = to.or("aws.dual_stack", &raw.dual_stack, false, flag);
    let ahead = |text: &str| {
        let ahead = time(text)?;
        let is_useful = (Duration::from_secs(10)..=Duration::from_secs(600)).contains(&ahead);
        if is_useful { Ok(ahead) } else { Err("write 10s to 10m: some credentials are good for 15 minutes".to_owned()) }
    };
    let renew_ahead = to.or("aws.renew_ahead", &raw.renew_ahead, AHEAD, ahead);
    Aws { endpoints: EndpointKind { fips, dual_stack }, renew_ahead }
}

fn refdb(raw: &raw::Refdb, to: &mut Problems) -> Refdb {
    let connect_timeout = to.or("refdb.connect_timeout", &raw.connect_timeout, Duration::from_secs(1), time);
    let attempt_timeout = to.or("refdb.attempt_timeout", &raw.attempt_timeout, Duration::from_secs(2), time);
    if connect_timeout >= attempt_timeout {
        let remedy = format!(
            "a connection may take {connect_timeout:?}, and a whole attempt {attempt_timeout:?}: write less than \
             refdb.attempt_timeout, or raise that. Otherwise the circuit breaker sees no connection that fails"
        );
        to.wrong("refdb.connect_timeout", &raw.connect_timeout, remedy);
    }
    Refdb {
        prefix: to.or("refdb.prefix", &raw.prefix, "lockstep".to_owned(), prefix),
        region: to.optional("refdb.region", &raw.region, region),
        endpoint: to.optional("refdb.endpoint", &raw.endpoint, http_url),
        connect_timeout,
        attempt_timeout,
        warm_throughput: to.optional("refdb.warm_throughput", &raw.warm_throughput, throughput),
        verify_share: to.or("refdb.verify_share", &raw.verify_share, DEFAULT_SHARE, percent),
        writes: to.or("refdb.writes", &raw.writes, WriteMode::Auto, write_mode),
    }
}

fn write_mode(text: &str) -> Result<WriteMode, String> {
    match text {
        "auto" => Ok(WriteMode::Auto),
        "transactions" => Ok(WriteMode::Transactions),
        "single_item" => Ok(WriteMode::SingleItem),
        _ => Err("write auto, transactions or single_item".to_owned()),
    }
}

fn reading(text: &str) -> Result<ReadingMode, String> {
    match text {
        "auto" => Ok(ReadingMode::Auto),
        "polling" => Ok(ReadingMode::Polling),
        "fan-out" => Ok(ReadingMode::FanOut),
        _ => Err("write \"auto\", \"polling\" or \"fan-out\"".to_owned()),
    }
}

fn sharing(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(true),
        "off" => Ok(false),
        _ => Err("write \"auto\" or \"off\"".to_owned()),
    }
}

/// How long streams should keep records if nothing is set: longer than nodes may be away.
const RETENTION: Duration = Duration::from_secs(7 * 86_400);

fn eventlog(raw: &raw::Eventlog, sites: Option<&BTreeSet<SiteId>>, to: &mut Problems) -> Eventlog {
    let usual_region = to.optional("eventlog.region", &raw.region, region);
    let endpoint = to.optional("eventlog.endpoint", &raw.endpoint, http_url);
    let usual_reading = to.or("eventlog.reading", &raw.reading, ReadingMode::Polling, reading);
    let usual = Stream { region: usual_region.clone(), endpoint: endpoint.clone(), reading: usual_reading };
    let mut streams: BTreeMap<SiteId, Stream> =
        sites.into_iter().flatten().map(|site| (site.clone(), usual.clone())).collect();
    for (name, stream) in &raw.streams {
        let section = format!("eventlog.streams.{name}");
        let own = Stream {
            region: to.optional(&path(&section, "region"), &stream.region, region).or(usual_region.clone()),
            endpoint: to.optional(&path(&section, "endpoint"), &stream.endpoint, http_url).or(endpoint.clone()),
            reading: to.or(&path(&section, "reading"), &stream.reading, usual_reading, reading),
        };
        match name.parse().ok().and_then(|site: SiteId| streams.get_mut(&site)) {
            Some(entry) => *entry = own,
            None => to.wrong(&section, &Some(Value::from(name.as_str())), "name one of `sites`"),
        }
    }
    let shards = to.or("eventlog.shards", &raw.shards, 1, number(1..=1_000));
    Eventlog {
        prefix: to.or("eventlog.prefix", &raw.prefix, "lockstep".to_owned(), prefix),
        streams,
        usual,
        shards,
        poll_interval: to.or("eventlog.poll_interval", &raw.poll_interval, Duration::from_secs(1), time),
        retention: to.or("eventlog.retention", &raw.retention, RETENTION, time),
        shares: to.or("eventlog.sharing", &raw.sharing, true, sharing),
        autoscale: autoscale::read(&raw.autoscale, shards, to),
    }
}

/// Checks that a node with embedded emulators is the only one. No other process can reach its emulators, so other sites
/// and peers would wait forever.
fn alone_when_embedded(raw: &Raw, sites: Option<&BTreeSet<SiteId>>, to: &mut Problems) {
    let has_peers = !raw.peers.is_empty() || raw.siblings.url.is_some();
    let has_others = sites.is_some_and(|sites| sites.len() > 1) || has_peers;
    if raw.embedded.dir.is_some() && has_others {
        let remedy = "its emulators serve this node alone: keep only this site in `sites` and remove [peers] and \
                      [siblings], or remove [embedded] and use AWS";
        to.wrong("embedded.dir", &raw.embedded.dir, remedy);
    }
}

/// Reads the URL of the blob store. The default in embedded mode is a folder beside the emulators.
fn blobs(raw: &raw::Blobs, embedded: Option<&PathBuf>, to: &mut Problems) -> Option<String> {
    match (&raw.url, embedded) {
        (None, Some(dir)) => Some(format!("file://{}/blobs", dir.display())),
        (leaf, _) => to.need("blobs.url", leaf, "name the blob store: s3://bucket/prefix or file:///folder", store_url),
    }
}

fn commit(raw: &raw::Commit, to: &mut Problems) -> Commit {
    let inline = |text: &str| {
        let bytes = usize::try_from(value::size(text)?).unwrap_or(usize::MAX);
        let most = limits::INLINE_PACK_BYTES;
        if bytes <= most { Ok(bytes) } else { Err(format!("write at most {most} bytes, the limit of an item")) }
    };
    Commit {
        lanes: to.or("commit.lanes", &raw.lanes, 8, number(1..=64)),
        window: to.or("commit.window", &raw.window, 64, number(1..=4_096)),
        inline_pack_bytes: to.or("commit.inline_pack_bytes", &raw.inline_pack_bytes, limits::INLINE_PACK_BYTES, inline),
        deadline: to.or("commit.deadline", &raw.deadline, DEFAULT_DEADLINE, deadline),
    }
}

fn apply(raw: &raw::Apply, to: &mut Problems) -> Apply {
    Apply {
        workers: to.or("apply.workers", &raw.workers, 8, number(1..=256)),
        batch: to.or("apply.batch", &raw.batch, 256, number(1..=10_000)),
        parked_bytes: to.or("apply.parked_bytes", &raw.parked_bytes, 256 << 20, value::size),
        parked_age: to.or("apply.parked_age", &raw.parked_age, Duration::from_secs(3_600), time),
    }
}

fn lease(raw: &raw::Lease, to: &mut Problems) -> Lease {
    let lease = Lease {
        heartbeat: to.or("lease.heartbeat", &raw.heartbeat, Duration::from_secs(5), time),
        expires_after: to.or("lease.expires_after", &raw.expires_after, Duration::from_secs(30), time),
        adopted_elsewhere_after: to.or(
            "lease.adopted_elsewhere_after",
            &raw.adopted_elsewhere_after,
            Duration::from_secs(120),
            time,
        ),
        expelled_after: to.or("lease.expelled_after", &raw.expelled_after, Duration::from_secs(6 * 86_400), time),
    };
    if lease.expires_after < lease.heartbeat * 3 {
        let (heartbeat, least) = (lease.heartbeat, lease.heartbeat * 3);
        let remedy = format!("write at least {least:?}, or lower lease.heartbeat ({heartbeat:?})");
        to.wrong("lease.expires_after", &raw.expires_after, remedy);
    }
    if lease.adopted_elsewhere_after < lease.expires_after {
        let remedy = "write at least lease.expires_after";
        to.wrong("lease.adopted_elsewhere_after", &raw.adopted_elsewhere_after, remedy);
    }
    if lease.expelled_after <= lease.expires_after {
        to.wrong("lease.expelled_after", &raw.expelled_after, "write more than lease.expires_after");
    }
    lease
}

fn telemetry(raw: &raw::Telemetry, to: &mut Problems) -> Telemetry {
    let format = |text: &str| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("write text or json".to_owned()),
    };
    let filter = |text: &str| match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; write `info` or `info,lockstep=debug`")),
    };
    Telemetry {
        otlp_endpoint: to.optional("telemetry.otlp_endpoint", &raw.otlp_endpoint, collector),
        log_format: to.or("telemetry.log_format", &raw.log_format, LogFormat::Json, format),
        log_filter: to.or("telemetry.log_filter", &raw.log_filter, LOG_FILTER.to_owned(), filter),
    }
}
