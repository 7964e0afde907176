//! The rules for imports. A folder of `daemon/src` is a layer. A layer imports only the layers before it in this table.
//! Stages know each other only through their ports.

use crate::exports::{Exports, module, named};
use crate::paths::code;
use crate::{Finding, Source};

/// The imports that the rooms of one layer may have of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// A room may import the rooms before it in the list.
    Order,
    /// Every room may import this one only.
    Only(&'static str),
    /// Only these pairs: the first may import the second.
    Pairs(&'static [(&'static str, &'static str)]),
}

/// The layers, lowest first, each with its rooms: the files and folders in it.
const LAYERS: &[(&str, &[&str], Within)] = &[
    (
        "base",
        &[
            "clock",
            "tasks",
            "backoff",
            "budget",
            "time_text",
            "ref_names",
            "base_paths",
            "observer",
            "faults",
            "transaction_builder",
        ],
        Within::Order,
    ),
    (
        "seams",
        &[
            "aws", "refdb", "eventlog", "blob", "git", "volume", "copy", "gerrit", "handover", "oidc", "probe", "tls",
            "signing", "peers", "embedded",
        ],
        // The adapters of AWS know what their resources should have, and what a denied call needs. A pack is a payload
        // of the blob store, and so is the long form of a transaction. Peers give packs of repositories, over TLS. A
        // checkpoint is a position of the event log. The emulated event log keeps the limits of Kinesis. Copies of a
        // volume lie in the sidecar's own folder of it.
        Within::Pairs(&[
            ("refdb", "aws"),
            ("eventlog", "aws"),
            ("blob", "aws"),
            ("git", "blob"),
            ("refdb", "blob"),
            ("peers", "blob"),
            ("peers", "git"),
            ("peers", "tls"),
            ("volume", "eventlog"),
            ("embedded", "eventlog"),
            ("copy", "volume"),
        ]),
    ),
    (
        "state",
        &[
            "gerrit_session",
            "site_roles",
            "bootstrap",
            "coming_back",
            "gone_nodes",
            "went_back",
            "bound_refdb",
            "signing",
            "journal",
            "version_map",
            "quiesce",
            "operator_locks",
            "operator_run",
            "known_folders",
            "plain_slots",
            "materialize",
            "durability",
            "low_water_extent",
            "low_water",
            "committed_requests",
            "debts",
            "context",
        ],
        Within::Order,
    ),
    ("telemetry", &["status_board", "metrics", "logs", "traces"], Within::Order),
    (
        "stages",
        &[
            "ports",
            "api",
            "commit",
            "publish",
            "consume",
            "share",
            "apply",
            "arrival",
            "refresh",
            "events",
            "reconcile",
            "resync",
            "rebuild",
            "seed",
            "verify",
            "handshake",
            "failover",
            "locks",
            "handover",
            "membership",
            "capacity",
            "console",
        ],
        Within::Only("ports"),
    ),
    ("clients", &["api_client", "git_hooks"], Within::Order),
    ("node", &["config", "doctor", "silent_drill", "assembly"], Within::Order),
    ("cli", &["out", "demo", "shadow", "cost", "commands"], Within::Order),
];

/// Crates that only some rooms may name. Rooms are given as the beginning of a path below `daemon/src/`.
const CONFINED: &[(&str, &[&str])] = &[
    ("aws_sdk_dynamodb", &["seams/refdb/dynamo", "seams/embedded", "node/assembly"]),
    ("aws_sdk_kinesis", &["seams/eventlog/kinesis", "seams/embedded", "node/assembly"]),
    ("aws_config", &["seams/aws/"]),
    ("aws_credential_types", &["seams/aws/", "seams/refdb/dynamo"]),
    ("aws_smithy_runtime_api", &["seams/aws/"]),
    ("aws_smithy_types", &["seams/aws/"]),
    ("dynoxide", &["seams/embedded"]),
    ("ferrokinesis", &["seams/embedded"]),
    ("git2", &["seams/git/", "seams/copy/"]),
    ("object_store", &["seams/blob/", "node/assembly"]),
    ("redb", &["seams/volume/"]),
    ("rustls", &["seams/tls/", "seams/signing/"]),
    ("rcgen", &["seams/tls/", "seams/signing/"]),
    ("aws_lc_rs", &["seams/signing/", "seams/tls/", "seams/oidc/"]),
    ("jsonwebtoken", &["seams/oidc/"]),
    ("x509_parser", &["seams/tls/"]),
];

/// The implementations of each seam. Above the seams, only the assembly may name them.
const IMPLEMENTATIONS: &[(&str, &[&str])] = &[
    ("refdb", &["dynamo", "memory", "staged"]),
    ("eventlog", &["kinesis", "memory"]),
    ("blob", &["object", "memory"]),
    ("volume", &["disk", "memory"]),
    ("gerrit", &["rest", "recording"]),
    ("git", &["local", "model"]),
    ("peers", &["fallback", "http"]),
];

/// The place of a file: its layer's index in the table, and its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place<'a> {
    layer: usize,
    room: &'a str,
}

impl Place<'_> {
    fn name(&self) -> String {
        format!("{}/{}", LAYERS[self.layer].0, self.room)
    }

    fn may_import(&self, other: &Place<'_>) -> bool {
        let (_, rooms, within) = LAYERS[self.layer];
        let index = |room: &str| rooms.iter().position(|it| *it == room);
        if other.layer != self.layer {
            return other.layer < self.layer;
        }
        self.room == other.room
            || self.room == "mod"
            || match within {
                Within::Order => index(other.room) < index(self.room),
                Within::Only(room) => other.room == room,
                Within::Pairs(pairs) => pairs.contains(&(self.room, other.room)),
            }
    }
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|(layer, _, _)| *layer == name)
}

fn place<'a>(name: &str, room: &'a str) -> Option<Place<'a>> {
    let layer = layer(name)?;
    LAYERS[layer].1.contains(&room).then_some(Place { layer, room })
}

pub fn check(file: &Source, exports: &Exports) -> Vec<Finding> {
    let Some(path) = file.path.strip_prefix("daemon/src/") else { return Vec::new() };
    let mut segments = path.trim_end_matches(".rs").split('/');
    let (first, second) = (segments.next().unwrap_or_default(), segments.next());
    // `lib.rs` and `main.rs` are the table of contents.
    let Some(room) = second else {
        let known = matches!(first, "lib" | "main");
        return (!known).then(|| file.finding(1, unplaced(first))).into_iter().collect();
    };
    // A layer's own tests belong to no room.
    if room == "tests" {
        return Vec::new();
    }
    // A layer's own `mod.rs` may use all of its rooms. Of other layers it may use those before it.
    let here = if room == "mod" { layer(first).map(|layer| Place { layer, room }) } else { place(first, room) };
    let Some(here) = here else {
        return vec![file.finding(1, unplaced(&format!("{first}/{room}")))];
    };
    let code = code(file);
    let module = module(path).unwrap_or_default();
    // `pub(in crate::node)` imports nothing.
    let is_visibility = |at: usize| code.iter().any(|(line, text)| *line == at && text.contains("pub(in "));
    let mut findings: Vec<Finding> = named(&code, &module)
        .iter()
        .filter(|(line, path)| path.len() > 1 || !is_visibility(*line))
        .filter_map(|(line, path)| {
            // A name that a `mod.rs` re-exports belongs to the file that defines it, too.
            import(file, &here, *line, path).or_else(|| import(file, &here, *line, &exports.follow(path)))
        })
        .collect();
    findings.extend(code.iter().filter_map(|(line, text)| Some(file.finding(*line, confined(path, text)?))));
    findings
}

fn unplaced(what: &str) -> String {
    let pages = PAGES.join(", ");
    format!("`{what}` is no layer or room of tests/tests/tidy/layers.rs: add it there, and to {pages}")
}

fn import(file: &Source, here: &Place<'_>, line: usize, path: &[String]) -> Option<Finding> {
    let path = path.strip_suffix(&["self".to_owned()]).unwrap_or(path);
    let layer = layer(path.first()?)?;
    let names_adapters = matches!(LAYERS[here.layer].0, "node" | "cli") || here.room == "embedded";
    let is_seam = || path.len() == 2 && IMPLEMENTATIONS.iter().any(|(seam, _)| *seam == path[1] && *seam != here.room);
    let is_layer = path.len() == 1;
    if (is_layer && layer == here.layer) || ((is_layer || is_seam()) && !names_adapters) {
        let rule = format!("`{}` imports all of `{}`: name the room, or the item in it", here.name(), path.join("/"));
        return Some(file.finding(line, rule));
    }
    // A name that a layer itself defines or re-exports stands in its `mod.rs`.
    let room = path.get(1).map_or("mod", String::as_str);
    let there = place(LAYERS[layer].0, room).unwrap_or(Place { layer, room: "mod" });
    if there.room == "mod" && layer == here.layer {
        return None;
    }
    if !here.may_import(&there) {
        let rule = format!("`{}` imports `{}`: see the layers in docs/ARCHITECTURE.md", here.name(), there.name());
        return Some(file.finding(line, rule));
    }
    let adapter = IMPLEMENTATIONS.iter().any(|(seam, all)| {
        *seam == there.room && there.room != here.room && path.get(2).is_some_and(|it| all.contains(&it.as_str()))
    });
    (adapter && !names_adapters).then(|| {
        let rule =
            format!("`{}` names `{}`: only node/assembly names adapters, take the trait", here.name(), path.join("::"));
        file.finding(line, rule)
    })
}

fn confined(path: &str, line: &str) -> Option<String> {
    CONFINED.iter().find_map(|(name, homes)| {
        let named = line.match_indices(name).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let word = !before.is_some_and(|before| before.is_ascii_alphanumeric() || before == '_' || before == '"');
            let path = line[at + name.len()..]
                .trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
            word && path.starts_with("::")
        });
        let at_home = homes.iter().any(|home| path.starts_with(home));
        (named && !at_home).then(|| format!("`{name}` outside of {}", homes.join(", ")))
    })
}

/// The pages that list the rooms of every layer.
pub const PAGES: [&str; 3] = ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md"];
/// The beginning of a line that goes on with the rooms of a layer, in the tree of README.md.
const CONTINUED: &str = "                ";

/// Such a page names every room of every layer, and no other, and the layers in their order.
pub fn rooms(page: &Source) -> Vec<Finding> {
    let listed = listed(page);
    let others = listed.iter().filter(|(_, layer, room)| !LAYERS[*layer].1.contains(room));
    let mut findings: Vec<Finding> = others
        .map(|(line, layer, room)| page.finding(*line, format!("`{room}` is no room of {}", LAYERS[*layer].0)))
        .collect();
    let disorder = listed.windows(2).filter(|pair| pair[1].1 < pair[0].1);
    findings.extend(disorder.map(|pair| {
        let [later, earlier] = [pair[0].1, pair[1].1].map(|layer| LAYERS[layer].0);
        page.finding(pair[1].0, format!("`{earlier}` stands behind `{later}`, which may import it: keep the order"))
    }));
    for (layer, (name, all, _)) in LAYERS.iter().enumerate() {
        let missing = all.iter().filter(|room| !listed.iter().any(|(_, of, it)| *of == layer && it == *room));
        findings.extend(missing.map(|room| page.finding(1, format!("the room {name}/{room} is not on this page"))));
    }
    findings
}

/// The rooms on a page, with their line and layer. A layer is a heading with a row per room below it, or a row with its
/// rooms in code spans, or a line of a tree with its rooms between commas.
fn listed(page: &Source) -> Vec<(usize, usize, &str)> {
    let (mut section, mut branch) = (None, None);
    let mut rooms = Vec::new();
    for (number, line) in page.lines() {
        let leaf = line.strip_prefix("    ").and_then(|line| line.split_once("/ "));
        branch = match leaf {
            Some((name, _)) => layer(name),
            None => branch.filter(|_| line.starts_with(CONTINUED)),
        };
        if line.starts_with('#') {
            section = line.strip_prefix("### ").and_then(layer);
        } else if let Some((first, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            match (first.strip_suffix('/').and_then(layer), section) {
                (Some(layer), _) => rooms.extend(rest.split('`').skip(1).step_by(2).map(|room| (number, layer, room))),
                (None, Some(layer)) => rooms.push((number, layer, first)),
                (None, None) => {}
            }
        } else if let Some(layer) = branch {
            let names = leaf.map_or(line, |(_, names)| names).split([',', ';']).map(str::trim);
            rooms.extend(names.filter(|room| !room.is_empty()).map(|room| (number, layer, room)));
        }
    }
    rooms
}

#[cfg(test)]
fn rule(path: &str, line: &str) -> String {
    let file = Source::new(path, &format!("//! Essay.\n{line}\n"));
    let seam = Source::new("daemon/src/seams/git/mod.rs", "pub use local::LocalRepositories;\nmod local;\n");
    let exports = Exports::of("daemon/src/", &[seam]);
    check(&file, &exports).into_iter().map(|it| format!("{}: {}", it.line, it.rule)).collect()
}

#[test]
fn stages_meet_in_their_ports_alone() {
    let apply = |line: &str| rule("daemon/src/stages/apply/mod.rs", line);
    assert!(apply("use crate::stages::commit::X;").starts_with("2: `stages/apply` imports `stages/commit`"));
    assert!(apply("let x = crate::stages::membership::X;").starts_with("2: `stages/apply`"));
    assert!(apply("use crate::{seams::refdb::RefDb,\n    stages::publish::X};").contains("imports `stages/publish`"));
    assert_eq!(apply("use crate::{seams::refdb::RefDb, seams::git::X};"), "");
    assert_eq!(apply("use crate::stages::ports::CatchUp;"), "");
    assert_eq!(apply("//! see [`crate::stages::commit`]"), "");
}

#[test]
fn layers_do_not_look_up() {
    assert!(rule("daemon/src/seams/refdb/mod.rs", "use crate::stages::commit::X;").contains("`seams/refdb` imports"));
    assert!(rule("daemon/src/seams/git/mod.rs", "use crate::seams::refdb::X;").contains("imports `seams/refdb`"));
    assert!(rule("daemon/src/base/clock.rs", "use crate::base::tasks::X;").contains("imports `base/tasks`"));
    assert!(rule("daemon/src/cli/demo/mod.rs", "use crate::cli::commands::X;").contains("imports `cli/commands`"));
    assert!(rule("daemon/src/node/config/mod.rs", "use crate::node::assembly::X;").contains("imports `node/assembly`"));
    assert_eq!(rule("daemon/src/seams/git/mod.rs", "use crate::seams::blob::Payload;"), "");
    assert_eq!(rule("daemon/src/node/assembly/mod.rs", "use crate::stages::{commit::X, api::Y};"), "");
}

#[test]
fn only_the_assembly_names_adapters() {
    let dynamo = "use crate::seams::refdb::dynamo::X;";
    assert!(rule("daemon/src/stages/commit/mod.rs", dynamo).contains("only node/assembly names"));
    assert_eq!(rule("daemon/src/node/assembly/production.rs", dynamo), "");
    assert_eq!(rule("daemon/src/seams/refdb/dynamo/mod.rs", "use crate::seams::refdb::memory::X;"), "");
    let local = "use crate::seams::git::LocalRepositories;";
    assert!(rule("daemon/src/stages/commit/mod.rs", local).contains("names `seams::git::local::LocalRepositories`"));
    assert_eq!(rule("daemon/src/node/assembly/production.rs", local), "");
    for adapter in ["git::model", "peers::http", "peers::fallback", "refdb::staged"] {
        let line = format!("use crate::seams::{adapter}::X;");
        assert!(rule("daemon/src/stages/apply/mod.rs", &line).contains("only node/assembly names"), "{adapter}");
    }
}

#[test]
fn an_import_ends_at_no_layer_and_at_no_seam() {
    let apply = |line: &str| rule("daemon/src/stages/apply/mod.rs", line);
    assert!(apply("use crate::stages;\nfn f(it: stages::commit::X) {}").contains("imports all of `stages`"));
    assert!(apply("use crate::seams::refdb;\nfn f(it: refdb::dynamo::X) {}").contains("imports all of `seams/refdb`"));
    assert!(apply("use crate::seams::refdb::{self, RefDb};").contains("imports all of `seams/refdb`"));
    assert!(rule("daemon/src/cli/demo/mod.rs", "use crate::cli;").contains("imports all of `cli`"));
    assert_eq!(rule("daemon/src/node/assembly/run.rs", "use crate::telemetry;\nuse crate::seams::refdb;"), "");
    assert_eq!(rule("daemon/src/node/config/mod.rs", "pub(in crate::node) struct X;"), "");
    assert_eq!(apply("use crate::seams::refdb::RefDb;"), "");
}

#[test]
fn crates_stay_at_home() {
    let commit = |line: &str| rule("daemon/src/stages/commit/mod.rs", line);
    assert!(commit("use aws_sdk_dynamodb::Client;").contains("`aws_sdk_dynamodb` outside"));
    assert!(commit("use git2::Repository;").contains("`git2` outside of seams/git/"));
    assert!(rule("daemon/src/seams/refdb/mod.rs", "fn f(c: &aws_sdk_dynamodb::Client)").contains("outside"));
    assert!(rule("daemon/src/node/assembly/run.rs", "ferrokinesis::serve()").contains("outside of seams/embedded"));
    assert_eq!(rule("daemon/src/seams/refdb/dynamo/client.rs", "use aws_sdk_dynamodb::Client;"), "");
    assert_eq!(rule("daemon/src/seams/git/objects.rs", "use git2::Repository;"), "");
}

#[test]
fn a_path_through_super_is_an_import_too() {
    assert!(rule("daemon/src/stages/publish.rs", "use super::commit::X;").contains("imports `stages/commit`"));
    assert!(
        rule("daemon/src/stages/apply/plan.rs", "use super::super::commit::X;").contains("imports `stages/commit`")
    );
    assert_eq!(rule("daemon/src/stages/apply/plan.rs", "use super::event::X;"), "");
}

#[test]
fn the_list_of_a_layer_s_rooms_does_not_look_up() {
    let up = rule("daemon/src/telemetry/mod.rs", "use crate::stages::commit::X;");
    assert!(up.contains("`telemetry/mod` imports `stages/commit`"), "{up}");
    assert!(rule("daemon/src/base/clock.rs", "use crate::stages;").contains("imports all of `stages`"));
    assert_eq!(rule("daemon/src/telemetry/mod.rs", "use crate::telemetry::logs::X;\nuse crate::seams::git::Y;"), "");
}

#[test]
fn every_page_with_the_layers_names_the_rooms() {
    let page = |layer: fn(&str, &[&str]) -> String| -> String {
        LAYERS.iter().map(|(name, rooms, _)| layer(name, rooms)).collect()
    };
    let sections = page(|name, rooms| format!("### {name}\n| `{}` | job |\n", rooms.join("` | job |\n| `")));
    let table = page(|name, rooms| format!("| `{name}/` | tools: `{}` (new) |\n", rooms.join("`, `")));
    let tree = page(|name, rooms| format!("    {name}/    {}\n", rooms.join(&format!(",\n{CONTINUED}"))));
    let rules = |text: &str| rooms(&Source::new("README.md", text)).into_iter().map(|it| it.rule).collect::<Vec<_>>();
    for page in [sections, table, tree] {
        assert_eq!(rules(&page), [""; 0], "{page}");
        let other = page.replacen("clock", "watch", 1);
        let expected = ["`watch` is no room of base", "the room base/clock is not on this page"];
        assert_eq!(rules(&other), expected, "{other}");
        let twice = format!("{page}{page}");
        assert!(rules(&twice).iter().any(|rule| rule.starts_with("`base` stands behind `cli`")), "{twice}");
    }
    let after = rules("    cli/    out\nbridge/    the module,\n                of Gerrit\n");
    assert!(!after.iter().any(|rule| rule.contains("is no room")), "a line of the tree that is no layer: {after:?}");
}

#[test]
fn a_room_without_a_place_is_found() {
    assert!(rule("daemon/src/surprise/mod.rs", "").contains("`surprise/mod` is no layer or room"));
    assert!(rule("daemon/src/base/surprise.rs", "").contains("`base/surprise` is no layer or room"));
    assert_eq!(rule("daemon/src/base/mod.rs", ""), "");
}

#[test]
fn unit_tests_may_use_what_they_like() {
    assert_eq!(rule("daemon/src/stages/commit/mod.rs", "#[cfg(test)]\nuse crate::seams::refdb::memory::X;"), "");
}
