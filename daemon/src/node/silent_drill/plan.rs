//! The plan is all that the child is told. Its configuration is made from it.
//!
//! The configuration is made from the plan, field by field. It is not the configuration of the node less some fields:
//! a field that is added there cannot reach the child by itself, because this file does not compile without it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_proto::{NodeId, ProjectName, SiteId};
use serde::{Deserialize, Serialize};

use crate::base::base_paths::BasePaths;
use crate::node::config::Settings;
use crate::node::config::settings::{
    Api, Apply, Aws, Commit, CopyBy, Drill, Eventlog, Gerrit, GerritRefresh, Handover, Lease, LogFormat, Probes, Refdb,
    SilentDrill, Stream, Telemetry,
};
use crate::seams::aws::EndpointKind;
use crate::seams::eventlog::kinesis::ReadingMode;
use crate::seams::git::FsckObjects;
use crate::seams::refdb::WriteMode;
use crate::stages::api::deadlines::DEFAULT_DEADLINE;
use crate::stages::api::server::DEFAULT_REQUESTS;
use crate::stages::api::turns::TurnLimits;
use crate::stages::verify::BackgroundSettings;

/// The most bytes of the path of a Unix socket.
pub(in crate::node) const MOST_SOCKET_BYTES: usize = 107;
/// The bound of one command of a probe.
const PROBE: Duration = Duration::from_secs(20);

/// Everything that the child knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::node) struct Plan {
    pub(in crate::node) site: SiteId,
    pub(in crate::node) node: NodeId,
    /// The active site over which the copy is promoted.
    pub(in crate::node) from: SiteId,
    /// The folder of the copy. The child writes nowhere else.
    pub(in crate::node) folder: PathBuf,
    /// The root of the repositories, in that folder.
    pub(in crate::node) root: PathBuf,
    /// The folder of the node's own state, in that folder.
    pub(in crate::node) state: PathBuf,
    /// The most memory of the child, in bytes.
    pub(in crate::node) memory: u64,
    pub(in crate::node) all_users: ProjectName,
    pub(in crate::node) all_projects: ProjectName,
    pub(in crate::node) gerrit: Option<OwnGerrit>,
}

/// The Gerrit on the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::node) struct OwnGerrit {
    /// The program that starts it.
    pub(in crate::node) program: PathBuf,
    /// Its folder, in the folder of the copy.
    pub(in crate::node) site: PathBuf,
    /// The URL at which it listens.
    pub(in crate::node) url: String,
}

/// The socket of the child, in the folder of the copy.
pub(in crate::node) fn socket(folder: &Path) -> PathBuf {
    folder.join("run/api.sock")
}

/// The configuration of the child.
pub(in crate::node) fn settings(plan: &Plan) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        site: plan.site.clone(),
        node: plan.node.clone(),
        sites: BTreeSet::from([plan.site.clone()]),
        base_paths: BasePaths::at(&plan.root),
        state: plan.state.clone(),
        api: Api {
            socket: socket(&plan.folder),
            // Neither this nor the health listener is bound.
            operators_socket: plan.folder.join("run/none"),
            operators: Vec::new(),
            tcp: None,
            most_requests: DEFAULT_REQUESTS,
        },
        turns: turns(),
        // For the canary alone: existing repositories have no hooks in the copy.
        install_hooks: true,
        fsck_objects: FsckObjects::AsConfigured,
        health_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        aws: Aws { endpoints: EndpointKind::default(), renew_ahead: 120 * second },
        refdb: Refdb {
            prefix: "drill".to_owned(),
            region: None,
            endpoint: None,
            connect_timeout: second,
            attempt_timeout: 2 * second,
            warm_throughput: None,
            // It is in memory, and nobody else reads it.
            verify_share: 100,
            writes: WriteMode::Auto,
        },
        eventlog: eventlog(),
        blobs_url: "memory:".to_owned(),
        verify: BackgroundSettings::default(),
        commit: Commit { lanes: 1, window: 64, inline_pack_bytes: 128 << 10, deadline: DEFAULT_DEADLINE },
        apply: Apply { workers: 2, batch: 256, parked_bytes: 16 << 20, parked_age: 3_600 * second },
        lease: Lease {
            heartbeat: second,
            expires_after: 30 * second,
            adopted_elsewhere_after: 120 * second,
            expelled_after: 86_400 * second,
        },
        gerrit: Gerrit {
            refresh: if plan.gerrit.is_some() { GerritRefresh::Bridge } else { GerritRefresh::None },
            all_users: plan.all_users.clone(),
            all_projects: plan.all_projects.clone(),
            hold_own: 2 * second,
            commit_within: 300 * second,
        },
        telemetry: Telemetry { otlp_endpoint: None, log_format: LogFormat::Text, log_filter: "warn".to_owned() },
        handover: Handover { program: None, webhook: None, token_file: None, pod_label: None, timeout: second },
        probes: probes(),
        drill: Drill {
            every: None,
            to: None,
            silent: SilentDrill {
                copy: CopyBy::Reflink,
                memory: plan.memory,
                within: second,
                every: None,
                gerrit: None,
            },
        },
        tls: None,
        signing_key: None,
        operators: None,
        console: None,
        siblings: None,
        peers: BTreeMap::new(),
        embedded_dir: None,
    }
}

/// Streams in memory, which the child alone reads.
fn eventlog() -> Eventlog {
    Eventlog {
        prefix: "drill".to_owned(),
        streams: BTreeMap::new(),
        usual: Stream { region: None, endpoint: None, reading: ReadingMode::Polling },
        shards: 1,
        poll_interval: Duration::from_millis(100),
        retention: Duration::from_secs(3_600),
        // It has no siblings.
        shares: false,
        autoscale: None,
    }
}

/// Nobody but the drill calls, so nobody waits.
fn turns() -> TurnLimits {
    TurnLimits {
        running: DEFAULT_REQUESTS,
        per_project: DEFAULT_REQUESTS,
        agents_running: DEFAULT_REQUESTS,
        waiting_per_user: 0,
        waiting_per_class: 0,
        patience: Duration::from_secs(1),
        people_weight: 1,
        agents: Vec::new(),
    }
}

/// The probe of the canary. Nothing else is probed.
fn probes() -> Probes {
    Probes {
        git: None,
        email: "drill@localhost".to_owned(),
        rest: None,
        session: None,
        ssh: None,
        login: None,
        key: None,
        timeout: PROBE,
        interval: Duration::from_millis(200),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node with every way out that there is.
    const NODE: &str = r#"
site = "b"
node = "b-0"
sites = ["a", "b"]
root = "/volume/git"
state = "/volume/git/.lockstep"
[api]
socket = "/run/out/api.sock"
listen = "127.0.0.1:7401"
token_file = "/out/token"
[health]
listen = "0.0.0.0:7402"
[refdb]
prefix = "out-refdb"
region = "out-region-1"
endpoint = "http://out.example.org:1"
[eventlog]
prefix = "out-streams"
endpoint = "http://out.example.org:2"
[blobs]
url = "s3://out-bucket/prefix"
[gerrit]
refresh = "rest"
url = "http://127.0.0.1:7403"
user = "out"
password_file = "/out/gerrit"
[telemetry]
otlp_endpoint = "http://out.example.org:4318"
[handover]
program = "/out/handover"
webhook = "https://out.example.org/"
token_file = "/out/handover-token"
pod_label = "lockstep/out"
pod = "out/out-0"
pod_uid = "out"
kubernetes_url = "https://out.example.org"
service_account = "/out/account"
[probes]
git = "https://out.example.org/probe"
rest = "https://out.example.org/page"
ssh = "out@out.example.org:29418"
key_file = "/out/key"
known_hosts_file = "/out/hosts"
[drill]
every = "1d"
[drill.silent]
every = "1d"
[tls]
certificate_file = "/out/tls.crt"
key_file = "/out/tls.key"
trust_file = "/out/ca.crt"
listen = "0.0.0.0:7404"
allow = ["spiffe://lockstep/out/*"]
[siblings]
url = "https://{node}.out.example.org:7422"
[peers.a-0]
url = "https://out.example.org:7422"
"#;

    #[test]
    fn the_child_is_told_nothing_that_leads_out() {
        let node = crate::node::config::parse(NODE).unwrap_or_else(|error| panic!("{error}"));
        let told = format!("{node:?}");
        assert!(told.matches("out").count() > 20, "the node has ways out: {told}");
        let (copy, from) = (Path::new("/volume/git/.lockstep/drill/copy"), "a".parse().unwrap());
        let state = copy.join("git/.lockstep");
        let plan = super::super::parent::plan_of(&node, &from, copy, &state);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        let child = settings(&plan);
        let all = format!("{text} {child:?}").replace("timeout", "").replace("without", "");
        assert!(!all.contains("out") && !all.contains(":74"), "{all}");
        let paths = all.matches("\"/").count();
        assert_eq!(all.matches("\"/volume/git/.lockstep/drill/copy").count(), paths, "it writes there alone: {all}");
        assert!(child.peers.is_empty() && child.siblings.is_none() && child.tls.is_none());
        assert!(child.operators.is_none() && child.api.tcp.is_none());
        assert_eq!((child.gerrit.refresh, child.drill.every), (GerritRefresh::None, None));
    }
}
