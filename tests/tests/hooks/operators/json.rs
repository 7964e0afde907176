//! The answers of commands that change something, as JSON. No command of the command line is forgotten.

use std::collections::BTreeSet;

use async_trait::async_trait;
use clap::CommandFactory;
use lockstep::cli::commands::Cli;
use lockstep::stages::ports::Handshake;
use lockstep_proto::bridge::{ApiError, ProjectResponse, RefTransactionResponse};
use lockstep_proto::debt::RepairAnswer;
use lockstep_proto::drill::DrillReport;
use lockstep_proto::failover::{Failover, FailoverPlan, SitesStatus};
use lockstep_proto::gerrit::{HandshakeRequest, HandshakeResponse, Stray, StrayRequest};
use lockstep_proto::keys::{SigningStatus, SiteKey};
use lockstep_proto::silent::SilentReport;
use lockstep_proto::{Oid, ProjectName};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Desk, World, away};
use crate::fake::{LOCKSTEP, git, ok, quiet};

const STRAY: &str = "refs/heads/late";

#[async_trait]
impl Handshake for Desk {
    async fn admit(&self, _: HandshakeRequest) -> Result<HandshakeResponse, ApiError> {
        Err(away())
    }

    async fn strays(&self, _: &ProjectName) -> Result<Vec<Stray>, ApiError> {
        Ok(vec![Stray { name: STRAY.parse().unwrap(), value: Oid::Sha1([7; 20]) }])
    }

    async fn end_stray(&self, _: &ProjectName, _: StrayRequest) -> Result<ProjectResponse, ApiError> {
        Ok(ProjectResponse::committed(None))
    }
}

/// A plan without blockers.
pub(super) fn plan() -> FailoverPlan {
    let site = |name| json!({"site": name, "role": "active", "epoch": 1, "nodes": [], "unpublished": 0});
    let plan = json!({
        "kind": "planned", "from": "a", "to": "b", "sites": [site("a"), site("b")], "steps": [], "blockers": [],
        "warnings": [], "behind": 0, "hash": "abc"
    });
    serde_json::from_value(plan).unwrap()
}

fn failover(end: &Value) -> Failover {
    let failover = json!({
        "number": 7, "kind": "planned", "from": "a", "to": "b", "from_epoch": 1, "to_epoch": 2, "actor": "uid 0",
        "reason": "r", "requested_ms": 1, "steps": [], "end": end
    });
    serde_json::from_value(failover).unwrap()
}

/// The report of a drill on a canary.
pub(super) fn drill() -> DrillReport {
    let report = json!({
        "number": 1, "at_ms": 1, "by": "b-0", "actor": "uid 0",
        "request": {"kind": "planned", "from": "a", "to": "b", "reason": "r"}
    });
    serde_json::from_value(report).unwrap()
}

/// The report of a silent drill.
pub(super) fn silent() -> SilentReport {
    let report = json!({"id": "one", "site": "b", "node": "b-0", "at_ms": 1, "actor": "uid 0", "reason": "r"});
    serde_json::from_value(report).unwrap()
}

/// Reads a text as JSON of a type, and says why it is none.
type Reads = fn(&str) -> Result<(), serde_json::Error>;

fn is<T: DeserializeOwned>(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<T>(text).map(drop)
}

fn commands() -> [(&'static str, Reads); 37] {
    [
        ("site role a standby --expect-epoch 1 --reason r", is::<SitesStatus>),
        ("site mode a off --expect-epoch 1 --reason r", is::<SitesStatus>),
        ("site add c --reason r", is::<SitesStatus>),
        ("site remove c --expect-epoch 1 --reason r", is::<SitesStatus>),
        ("node remove c-0 --reason r", is::<SitesStatus>),
        ("signing require --reason r", is::<SigningStatus>),
        ("signing release --reason r", is::<SigningStatus>),
        ("keys retire 5b0c8a51d9e27f30 --reason r", is::<Vec<SiteKey>>),
        ("keys drop 5b0c8a51d9e27f30 --reason r", is::<Vec<SiteKey>>),
        ("stray list p", is::<Vec<Stray>>),
        ("stray adopt p refs/heads/late", is::<ProjectResponse>),
        ("stray discard p refs/heads/late", is::<ProjectResponse>),
        ("certs init --dir made-ca", is::<Value>),
        ("certs issue --dir made-ca --site a --node a-0 --out made-node", is::<Value>),
        ("certs issue --dir made-ca --operator carol --out made-carol", is::<Value>),
        ("failover pause --reason r", is::<Failover>),
        ("failover resume --reason r", is::<Failover>),
        ("failover abort --reason r", is::<Failover>),
        ("failover execute --from a --to b --reason r --yes --plan-hash abc --no-wait", is::<Failover>),
        ("drill --from a --to b --reason r", is::<DrillReport>),
        ("drill --silent --reason r", is::<SilentReport>),
        ("quarantine retry n.1.0.0.00c0ffee00c0ffee", is::<RepairAnswer>),
        ("quarantine accept n.1.0.0.00c0ffee00c0ffee", is::<RepairAnswer>),
        ("quarantine discard n.1.0.0.00c0ffee00c0ffee --yes", is::<RepairAnswer>),
        ("project create q", is::<ProjectResponse>),
        ("project retry q", is::<RepairAnswer>),
        ("head set --project q refs/heads/x", is::<ProjectResponse>),
        ("update-ref --project q refs/heads/x 0707070707070707070707070707070707070707", is::<RefTransactionResponse>),
        ("update-ref --project q --delete refs/heads/x", is::<RefTransactionResponse>),
        ("project delete q --yes", is::<ProjectResponse>),
        ("operators token carol --out made-token", is::<Value>),
        ("keys generate --out made-key", is::<Value>),
        ("bridge install --gerrit-version 3.13.5 --from jars --to lib", is::<Value>),
        ("hook install r.git --project r", is::<Value>),
        ("import r.git", is::<Value>),
        ("hook uninstall r.git", is::<Value>),
        ("import r.git --project r --no-report", is::<Value>),
    ]
}

/// Commands that wait for the end of a failover.
const WAITING: [&str; 3] = [
    "failover execute --from a --to b --reason r --yes --plan-hash abc",
    "failback execute --reason r --yes --plan-hash abc",
    "failover status --watch",
];

/// The other commands with `--json`: those that only look, and those whose answers another test reads, with its name.
const ELSEWHERE: [(&str, &str); 43] = [
    ("cost", "it only looks"),
    ("demo", "e2e demo"),
    ("seed", "e2e seed"),
    ("shadow report", "it only looks"),
    ("status", "it only looks"),
    ("topology", "it only looks"),
    ("verify", "it only looks"),
    ("await", "it only looks"),
    ("history", "it only looks"),
    ("parked", "it only looks"),
    ("quarantine", "it only looks"),
    ("quarantine list", "it only looks"),
    ("explain", "it only looks"),
    ("refresh", "it only looks"),
    ("peers", "it only looks"),
    ("keys list", "it only looks"),
    ("signing status", "it only looks"),
    ("sites", "it only looks"),
    ("failover plan", "it only looks"),
    ("refdb rebuild", "e2e rebuild"),
    ("refdb status", "it only looks"),
    ("failback plan", "it only looks"),
    ("drill history", "it only looks"),
    ("preflight", "it only looks"),
    ("aws plan", "it only looks"),
    ("aws check", "it only looks"),
    ("aws apply", "e2e aws::provision"),
    ("aws warm", "e2e aws::provision"),
    ("aws history", "it only looks"),
    ("doctor", "e2e doctor"),
    ("support-bundle", "e2e doctor"),
    ("refdb backup", "e2e refdb_check"),
    ("refdb check", "e2e refdb_check"),
    ("resync", "e2e resync"),
    ("replay", "e2e resync"),
    ("lock acquire", "e2e locks"),
    ("lock renew", "e2e locks"),
    ("lock release", "e2e locks"),
    ("lock list", "e2e locks"),
    ("lock break", "e2e locks"),
    ("maintenance on", "e2e locks"),
    ("maintenance off", "e2e locks"),
    ("maintenance list", "e2e locks"),
];

/// The commands below `command` that people call without a further subcommand, and that have `--json`.
fn with_json(command: &clap::Command, name: &str) -> BTreeSet<String> {
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    let mut found: BTreeSet<String> =
        shown.flat_map(|one| with_json(one, format!("{name} {}", one.get_name()).trim_start())).collect();
    let is_whole = !command.has_subcommands() || !command.is_subcommand_required_set();
    if is_whole && command.get_arguments().any(|argument| argument.get_long() == Some("json")) {
        found.insert(name.to_owned());
    }
    found
}

/// A test of the command line demands `--json` of every command. Here each of them is called, or has a reason.
#[test]
fn every_command_with_json_is_called_here_or_elsewhere() {
    let all = with_json(&Cli::command(), "");
    let lines: Vec<&str> = commands().iter().map(|(line, _)| *line).chain(WAITING).collect();
    let begins =
        |line: &str, name: &str| line == name || line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
    // The longest name counts: `drill history` is another command than `drill`.
    let command_of = |line: &str| all.iter().filter(|name| begins(line, name)).max_by_key(|name| name.len()).cloned();
    let called: BTreeSet<String> =
        lines.iter().map(|line| command_of(line).unwrap_or_else(|| panic!("{line}: no such command"))).collect();
    let elsewhere: BTreeSet<String> = ELSEWHERE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let both: Vec<&String> = called.intersection(&elsewhere).collect();
    assert!(both.is_empty(), "called here, and listed in ELSEWHERE: {both:?}");
    assert_eq!(called.union(&elsewhere).cloned().collect::<BTreeSet<_>>(), all, "the commands with --json");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_changes_something_prints_its_answer_as_json() {
    let world = World::start().await;
    let run = |line: &str| {
        let mut command = quiet(std::process::Command::new(LOCKSTEP), world.home.path());
        command.env("LOCKSTEP_SOCKET", world.path("run/api.sock"));
        ok(command.args(line.split(' ')).arg("--json").output().unwrap())
    };
    *world.desk.1.lock() = Some(failover(&Value::Null));
    ok(git(world.home.path(), &["init", "-q", "--bare", "-b", "main", "r.git"]));
    std::fs::create_dir(world.path("jars")).unwrap();
    std::fs::write(world.path("jars/lockstep-bridge-gerrit-3.13-0.1.0.jar"), "a jar").unwrap();
    for (line, reads) in commands() {
        let text = run(line);
        assert!(reads(&text).is_ok(), "{line}: {:?}: {text}", reads(&text));
    }
    let ended = failover(&json!({"outcome": "done", "at_ms": 2}));
    *world.desk.1.lock() = Some(ended.clone());
    for line in WAITING {
        let text = run(line);
        assert_eq!(serde_json::from_str::<Failover>(&text).ok(), Some(ended.clone()), "{line}: {text}");
    }
}
