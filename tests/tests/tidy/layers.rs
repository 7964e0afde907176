//! Who may import whom. Imports run one way, down the table; stages do not know each other.

use crate::{Finding, Source};

/// The modules of the daemon, lowest first. A module imports from lower rows only, except that adapters and
/// repositories of one row may share types where [`WITHIN`] says so.
const ROWS: &[(&str, &[&str])] = &[
    ("ground", &["clock", "failpoint", "names", "plant", "roots", "sessions", "tasks"]),
    ("help", &["backoff", "observe"]),
    ("seam", &["blob", "eventlog", "gerrit", "git", "peers", "refdb", "volume"]),
    ("backend", &["embedded"]),
    ("knowledge", &["gates", "journal", "links", "refs"]),
    ("durable", &["durability", "place"]),
    ("marks", &["low_water"]),
    ("observation", &["status", "telemetry"]),
    (
        "stage",
        &["api", "apply", "commit", "consume", "events", "hello", "publish", "reconcile", "refresh", "seed", "site"],
    ),
    ("tool", &["client", "hook"]),
    ("joint", &["app", "cli", "config", "demo", "main", "lib"]),
];

/// Imports inside a row: a pack is a payload of the blob store, peers give packs of repositories, a checkpoint a position of the event log, the
/// metrics show the board, the hook calls the bridge API.
const WITHIN: &[(&str, &str)] = &[
    ("git", "blob"),
    ("peers", "blob"),
    ("peers", "git"),
    ("volume", "eventlog"),
    ("telemetry", "status"),
    ("hook", "client"),
];

/// Crates that only some modules may name: by the path's beginning below `daemon/src/`.
const CONFINED: &[(&str, &[&str])] = &[
    ("aws_sdk_dynamodb", &["refdb/dynamo", "app", "embedded"]),
    ("aws_sdk_kinesis", &["eventlog/kinesis", "app", "embedded"]),
    ("aws_config", &["refdb/dynamo", "eventlog/kinesis", "app", "embedded"]),
    ("dynoxide", &["embedded"]),
    ("ferrokinesis", &["embedded"]),
    ("git2", &["git/"]),
    ("object_store", &["blob/", "app"]),
    ("redb", &["volume/"]),
];

/// Modules that hold the implementations of a seam: only joints, backends and the seam itself name them.
const IMPLEMENTATIONS: &[(&str, &[&str])] = &[
    ("refdb", &["dynamo", "memory"]),
    ("eventlog", &["kinesis", "memory"]),
    ("blob", &["object", "memory"]),
    ("volume", &["disk", "memory"]),
    ("gerrit", &["rest", "recording"]),
];

pub fn check(file: &Source) -> Vec<Finding> {
    let Some(path) = file.path.strip_prefix("daemon/src/") else { return Vec::new() };
    let module = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    let Some(row) = row_of(module) else {
        return vec![file.finding(1, format!("module `{module}` has no row in tests/tests/tidy/layers.rs: place it"))];
    };
    let mut findings = Vec::new();
    for (number, line) in code(file) {
        findings.extend(imports(module, row, line).map(|rule| file.finding(number, rule)));
        findings.extend(implementations(module, row, line).map(|rule| file.finding(number, rule)));
        findings.extend(confined(path, line).map(|rule| file.finding(number, rule)));
    }
    findings
}

/// The lines that are compiled into the product: no comments, and nothing behind the unit tests' `#[cfg(test)]`.
fn code(file: &Source) -> impl Iterator<Item = (usize, &str)> {
    let in_tests = file.path.ends_with("/tests.rs");
    file.lines()
        .take_while(move |(_, line)| !in_tests && line.trim_end() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|(_, modules)| modules.iter().any(|row| row == &module) || is_app(module, modules))
}

/// `app_x` is the app too.
fn is_app(module: &str, modules: &[&str]) -> bool {
    module.starts_with("app") && modules.contains(&"app")
}

/// The modules that a line names by `crate::`, and, for a list in braces, those in it.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").flat_map(|(at, start)| {
        let rest = &line[at + start.len()..];
        let list = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or(list));
        list.unwrap_or(rest).split(if list.is_some() { ',' } else { '\0' }).map(|path| first(path.trim()))
    })
}

/// The identifier that a text begins with.
fn first(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or(text)
}

fn imports(module: &str, row: usize, line: &str) -> Option<String> {
    named(line).filter(|other| *other != module).find_map(|other| {
        let below = row_of(other)? < row;
        let (kind, _) = ROWS[row];
        let joint = kind == "joint";
        (!below && !joint && !WITHIN.contains(&(module, other)))
            .then(|| format!("{kind} `{module}` imports `{other}`: imports run one way, see ARCHITECTURE.md"))
    })
}

fn implementations(module: &str, row: usize, line: &str) -> Option<String> {
    if matches!(ROWS[row].0, "joint" | "backend") {
        return None;
    }
    let names = |seam: &str, name: &str| line.contains(&format!("crate::{seam}::{name}"));
    IMPLEMENTATIONS.iter().filter(|(seam, _)| *seam != module).find_map(|(seam, all)| {
        let name = all.iter().find(|name| names(seam, name))?;
        Some(format!("`{module}` names `{seam}::{name}`: only `app` names implementations, take the trait"))
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

#[cfg(test)]
fn rule(path: &str, line: &str) -> String {
    let file = Source::new(path, &format!("//! Essay.\n{line}\n"));
    check(&file).into_iter().map(|it| format!("{}: {}", it.line, it.rule)).collect()
}

#[test]
fn stages_do_not_import_each_other() {
    assert!(rule("daemon/src/apply/mod.rs", "use crate::commit::X;").starts_with("2: stage `apply` imports `commit`"));
    assert!(rule("daemon/src/apply/mod.rs", "let x = crate::site::X;").starts_with("2: stage"));
    assert!(rule("daemon/src/apply/mod.rs", "use crate::{refdb::RefDb, publish::X};").contains("imports `publish`"));
    assert_eq!(rule("daemon/src/apply/mod.rs", "use crate::{refdb::RefDb, git::X};"), "");
    assert_eq!(rule("daemon/src/apply/mod.rs", "//! see [`crate::commit`]"), "");
}

#[test]
fn seams_do_not_look_up() {
    assert!(rule("daemon/src/refdb/mod.rs", "use crate::commit::X;").contains("seam `refdb` imports `commit`"));
    assert!(rule("daemon/src/git/mod.rs", "use crate::refdb::X;").contains("imports `refdb`"));
    assert_eq!(rule("daemon/src/git/mod.rs", "use crate::blob::Payload;"), "");
    assert_eq!(rule("daemon/src/app.rs", "use crate::{commit::X, api::Y};"), "");
}

#[test]
fn only_the_app_names_implementations() {
    assert!(rule("daemon/src/commit/mod.rs", "use crate::refdb::dynamo::X;").contains("only `app` names"));
    assert_eq!(rule("daemon/src/app/adapters.rs", "use crate::refdb::dynamo::X;"), "");
    assert_eq!(rule("daemon/src/refdb/dynamo/mod.rs", "use crate::refdb::memory::X;"), "");
}

#[test]
fn crates_stay_at_home() {
    assert!(rule("daemon/src/commit/mod.rs", "use aws_sdk_dynamodb::Client;").contains("`aws_sdk_dynamodb` outside"));
    assert!(rule("daemon/src/refdb/mod.rs", "fn f(c: &aws_sdk_dynamodb::Client)").contains("outside"));
    assert!(rule("daemon/src/apply/mod.rs", "use git2::Repository;").contains("`git2` outside of git/"));
    assert!(rule("daemon/src/app.rs", "ferrokinesis::serve()").contains("outside of embedded"));
    assert_eq!(rule("daemon/src/refdb/dynamo/client.rs", "use aws_sdk_dynamodb::Client;"), "");
    assert_eq!(rule("daemon/src/git/objects.rs", "use git2::Repository;"), "");
}

#[test]
fn a_module_without_a_row_is_found() {
    assert!(rule("daemon/src/surprise/mod.rs", "").contains("`surprise` has no row"));
}

#[test]
fn unit_tests_may_use_what_they_like() {
    assert_eq!(rule("daemon/src/commit/mod.rs", "#[cfg(test)]\nuse crate::refdb::memory::MemoryRefDb;"), "");
}
