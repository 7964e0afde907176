//! The unchecked configuration. Every field is optional and of any type, and unknown names are kept, so that the check
//! can report all problems at once.

use std::collections::BTreeMap;

use figment::value::Value;
use serde::Deserialize;

/// The sections and their field names. A test checks that the example has all of them.
#[cfg(test)]
pub(super) const SECTIONS: &[(&str, &[&str])] = &[
    ("", Raw::FIELDS),
    ("api", Api::FIELDS),
    ("turns", Turns::FIELDS),
    ("git", Git::FIELDS),
    ("health", Health::FIELDS),
    ("aws", Aws::FIELDS),
    ("refdb", Refdb::FIELDS),
    ("eventlog", Eventlog::FIELDS),
    ("eventlog.autoscale", Autoscale::FIELDS),
    ("eventlog.streams.*", Stream::FIELDS),
    ("blobs", Blobs::FIELDS),
    ("verify", Verify::FIELDS),
    ("commit", Commit::FIELDS),
    ("apply", Apply::FIELDS),
    ("lease", Lease::FIELDS),
    ("gerrit", Gerrit::FIELDS),
    ("telemetry", Telemetry::FIELDS),
    ("handover", Handover::FIELDS),
    ("probes", Probes::FIELDS),
    ("drill", Drill::FIELDS),
    ("drill.silent", Silent::FIELDS),
    ("tls", Tls::FIELDS),
    ("signing", Signing::FIELDS),
    ("operators", Operators::FIELDS),
    ("console", Console::FIELDS),
    ("console.oidc", Oidc::FIELDS),
    ("siblings", Siblings::FIELDS),
    ("peers.*", Peer::FIELDS),
    ("embedded", Embedded::FIELDS),
];

/// Field names that are sections.
#[cfg(test)]
pub(super) const TABLES: &[&str] = &[
    "api",
    "turns",
    "git",
    "base_paths",
    "health",
    "aws",
    "refdb",
    "eventlog",
    "autoscale",
    "streams",
    "blobs",
    "verify",
    "commit",
    "apply",
    "lease",
    "gerrit",
    "telemetry",
    "handover",
    "probes",
    "drill",
    "silent",
    "tls",
    "signing",
    "operators",
    "console",
    "oidc",
    "siblings",
    "peers",
    "embedded",
];

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        pub(super) struct $name {
            $(#[serde(default)] pub $field: $kind,)*
            #[serde(flatten)]
            pub unknown: BTreeMap<String, Value>,
        }

        impl $name {
            pub(super) const FIELDS: &[&str] = &[$(stringify!($field)),*];
        }
    };
}

/// The value of one field, if it is set.
pub(super) type Leaf = Option<Value>;

section!(
    /// The file before any check: each field as it is written, none if it is absent.
    Raw {
        site: Leaf, node: Leaf, sites: Leaf, root: Leaf, state: Leaf,
        api: Api, turns: Turns, git: Git, health: Health, aws: Aws, refdb: Refdb, eventlog: Eventlog, blobs: Blobs,
        verify: Verify, commit: Commit, apply: Apply, lease: Lease, gerrit: Gerrit, telemetry: Telemetry,
        handover: Handover, probes: Probes, drill: Drill, tls: Tls, signing: Signing, operators: Operators,
        console: Console, siblings: Siblings, peers: BTreeMap<String, Peer>, embedded: Embedded,
    }
);
section!(Api {
    socket: Leaf,
    operators_socket: Leaf,
    operators: Leaf,
    listen: Leaf,
    token_file: Leaf,
    most_requests: Leaf
});
section!(Turns {
    running: Leaf,
    per_project: Leaf,
    agents_running: Leaf,
    waiting_per_user: Leaf,
    waiting_per_class: Leaf,
    patience: Leaf,
    people_weight: Leaf,
    agents: Leaf,
});
section!(Git { install_hooks: Leaf, fsck_objects: Leaf, base_paths: BTreeMap<String, Value> });
section!(Health { listen: Leaf });
section!(Aws { fips: Leaf, dual_stack: Leaf, renew_ahead: Leaf });
section!(Refdb {
    prefix: Leaf,
    region: Leaf,
    endpoint: Leaf,
    connect_timeout: Leaf,
    attempt_timeout: Leaf,
    warm_throughput: Leaf,
    verify_share: Leaf,
    writes: Leaf,
});
section!(Eventlog {
    prefix: Leaf, region: Leaf, endpoint: Leaf, shards: Leaf, poll_interval: Leaf, reading: Leaf, sharing: Leaf,
    retention: Leaf, autoscale: Autoscale, streams: BTreeMap<String, Stream>,
});
section!(Autoscale {
    mode: Leaf,
    least_shards: Leaf,
    most_shards: Leaf,
    target: Leaf,
    settle: Leaf,
    interval: Leaf,
    peaks: Leaf,
});
section!(Stream { region: Leaf, endpoint: Leaf, reading: Leaf });
section!(Blobs { url: Leaf });
section!(Verify { refs_within: Leaf, objects_within: Leaf, share_of_core: Leaf, fsck: Leaf });
section!(Commit { lanes: Leaf, window: Leaf, inline_pack_bytes: Leaf, deadline: Leaf });
section!(Apply { workers: Leaf, batch: Leaf, parked_bytes: Leaf, parked_age: Leaf });
section!(Lease { heartbeat: Leaf, expires_after: Leaf, adopted_elsewhere_after: Leaf, expelled_after: Leaf });
section!(Gerrit {
    refresh: Leaf,
    all_users: Leaf,
    all_projects: Leaf,
    hold_own: Leaf,
    commit_within: Leaf,
    url: Leaf,
    user: Leaf,
    password_file: Leaf,
    timeout: Leaf,
});
section!(Telemetry { otlp_endpoint: Leaf, log_format: Leaf, log_filter: Leaf });
section!(Handover {
    program: Leaf,
    webhook: Leaf,
    token_file: Leaf,
    pod_label: Leaf,
    pod: Leaf,
    pod_uid: Leaf,
    kubernetes_url: Leaf,
    service_account: Leaf,
    timeout: Leaf,
});
section!(Probes {
    git: Leaf,
    email: Leaf,
    rest: Leaf,
    session: Leaf,
    session_file: Leaf,
    ssh: Leaf,
    user: Leaf,
    password_file: Leaf,
    key_file: Leaf,
    known_hosts_file: Leaf,
    timeout: Leaf,
    interval: Leaf,
});
section!(Drill { every: Leaf, to: Leaf, silent: Silent });
section!(Silent {
    copy: Leaf,
    command: Leaf,
    memory: Leaf,
    within: Leaf,
    every: Leaf,
    gerrit_command: Leaf,
    gerrit_site: Leaf,
    gerrit_url: Leaf,
    gerrit_keep: Leaf,
});
section!(Tls {
    certificate_file: Leaf,
    key_file: Leaf,
    trust_file: Leaf,
    listen: Leaf,
    allow: Leaf,
    requests_per_peer: Leaf,
});
section!(Signing { key_file: Leaf });
section!(Operators { listen: Leaf, token_file: Leaf, allow: Leaf });
section!(Console { enabled: Leaf, changes: Leaf, oidc: Oidc });
section!(Oidc {
    issuer: Leaf,
    client_id: Leaf,
    client_secret_file: Leaf,
    trust_file: Leaf,
    url: Leaf,
    scopes: Leaf,
    name_claim: Leaf,
    groups_claim: Leaf,
    operators: Leaf,
    approvers: Leaf,
    viewers: Leaf,
});
section!(Siblings { url: Leaf, identity: Leaf });
section!(Peer { url: Leaf, identity: Leaf, token_file: Leaf, socket: Leaf });
section!(Embedded { dir: Leaf });
