//! Reads `[drill]` and `[drill.silent]`.

use std::path::{Component, PathBuf};
use std::time::Duration;

use figment::value::Value;

use super::fields::{folder, name, time, url_address};
use super::raw::{self, Leaf};
use super::report::{Problems, scalar};
use super::settings::{CopyBy, Drill, DrillGerrit, SilentDrill};
use super::value;

/// The shortest pause between two drills. One takes some seconds, and two dozen writes of the refdb.
const OFTEN: Duration = Duration::from_secs(60);
/// The shortest pause between two silent drills of a node: each copies a volume.
const OFTEN_SILENT: Duration = Duration::from_secs(600);
/// The least memory of a sidecar on a copy, in bytes.
const LEAST_MEMORY: u64 = 256 << 20;

/// A site in `drill.to` may have joined after the first configuration, so the schedule looks for it in the refdb.
pub(super) fn read(raw: &raw::Drill, to: &mut Problems) -> Drill {
    Drill {
        every: to.optional("drill.every", &raw.every, at_most_every(OFTEN)),
        to: to.optional("drill.to", &raw.to, name("muc-1")),
        silent: silent(&raw.silent, to),
    }
}

fn at_most_every(least: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let every = time(text)?;
        if every >= least { Ok(every) } else { Err(format!("write at least {least:?}")) }
    }
}

fn silent(raw: &raw::Silent, to: &mut Problems) -> SilentDrill {
    let command = to.optional("drill.silent.command", &raw.command, folder);
    let memory = |text: &str| {
        let bytes = value::size(text)?;
        if bytes >= LEAST_MEMORY { Ok(bytes) } else { Err("write at least 256MiB".to_owned()) }
    };
    SilentDrill {
        copy: copy(raw, command, to),
        memory: to.or("drill.silent.memory", &raw.memory, 1 << 30, memory),
        within: to.or("drill.silent.within", &raw.within, Duration::from_secs(600), time),
        every: to.optional("drill.silent.every", &raw.every, at_most_every(OFTEN_SILENT)),
        gerrit: gerrit(raw, to),
    }
}

fn copy(raw: &raw::Silent, command: Option<PathBuf>, to: &mut Problems) -> CopyBy {
    let known = |text: &str| match text {
        "reflink" | "full" | "command" => Ok(text.to_owned()),
        _ => Err("write \"reflink\", \"full\" or \"command\"".to_owned()),
    };
    let copy = to.or("drill.silent.copy", &raw.copy, "reflink".to_owned(), known);
    match (copy.as_str(), command) {
        ("command", Some(program)) => CopyBy::Command(program),
        ("command", None) if raw.command.is_none() => {
            let remedy = "drill.silent.copy = \"command\" needs it: name a program that makes and removes a copy";
            to.wrong("drill.silent.command", &raw.command, remedy);
            CopyBy::Reflink
        }
        (_, Some(_)) => {
            to.wrong("drill.silent.command", &raw.command, "it is used with drill.silent.copy = \"command\" alone");
            CopyBy::Reflink
        }
        ("full", None) => CopyBy::Full,
        (_, None) => CopyBy::Reflink,
    }
}

/// The second Gerrit. Its program, its folder and its address belong together.
fn gerrit(raw: &raw::Silent, to: &mut Problems) -> Option<DrillGerrit> {
    let program = to.optional("drill.silent.gerrit_command", &raw.gerrit_command, folder);
    let site = to.optional("drill.silent.gerrit_site", &raw.gerrit_site, folder);
    let url = to.optional("drill.silent.gerrit_url", &raw.gerrit_url, loopback_url);
    let keep = paths(&raw.gerrit_keep, to);
    let all = [
        ("drill.silent.gerrit_command", &raw.gerrit_command),
        ("drill.silent.gerrit_site", &raw.gerrit_site),
        ("drill.silent.gerrit_url", &raw.gerrit_url),
    ];
    if all.iter().any(|(_, leaf)| leaf.is_some()) {
        for (field, leaf) in all.iter().filter(|(_, leaf)| leaf.is_none()) {
            to.wrong(field, leaf, "a Gerrit on the copy needs gerrit_command, gerrit_site and gerrit_url");
        }
    } else if raw.gerrit_keep.is_some() {
        to.wrong("drill.silent.gerrit_keep", &raw.gerrit_keep, "it needs drill.silent.gerrit_command");
    }
    Some(DrillGerrit { program: program?, site: site?, url: url?, keep })
}

fn loopback_url(text: &str) -> Result<String, String> {
    let remedy = || "write http://127.0.0.1:PORT/ with a port that is free: nobody else reaches this Gerrit".to_owned();
    let address = url_address("http", text).ok_or_else(remedy)?;
    let address: std::net::SocketAddr = address.parse().map_err(|_| remedy())?;
    let is_plain = text == format!("http://{address}/");
    if address.ip().is_loopback() && is_plain { Ok(text.to_owned()) } else { Err(remedy()) }
}

/// Files below `lib/` and `plugins/`.
fn paths(leaf: &Leaf, to: &mut Problems) -> Vec<PathBuf> {
    let items = match leaf {
        None => return Vec::new(),
        Some(Value::Array(_, items)) => items.as_slice(),
        Some(_) => &[],
    };
    let paths: Vec<PathBuf> = items.iter().filter_map(scalar).map(PathBuf::from).collect();
    let fits = |path: &PathBuf| {
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        plain && path.components().count() == 2 && (path.starts_with("lib") || path.starts_with("plugins"))
    };
    if paths.is_empty() || paths.len() < items.len() || !paths.iter().all(fits) {
        to.wrong("drill.silent.gerrit_keep", leaf, "list files: [\"lib/lockstep-bridge.jar\", \"plugins/x.jar\"]");
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};
    use super::*;

    fn with(section: &str) -> Result<SilentDrill, String> {
        let text = EXAMPLE.replace("[drill.silent] ", &format!("[drill.silent]\n{section}\n#"));
        parse(&text).map(|settings| settings.drill.silent).map_err(|error| error.to_string())
    }

    #[test]
    fn a_silent_drill_makes_reflinks_unless_another_copy_is_set() {
        let usual = with("").unwrap();
        assert_eq!((usual.copy, usual.memory, usual.every, usual.gerrit), (CopyBy::Reflink, 1 << 30, None, None));
        assert_eq!(with("copy = \"full\"").unwrap().copy, CopyBy::Full);
        let clone = with("copy = \"command\"\ncommand = \"/etc/clone\"").unwrap();
        assert_eq!(clone.copy, CopyBy::Command("/etc/clone".into()));
        for (section, part) in [
            ("copy = \"clone\"", "drill.silent.copy = \"clone\": write \"reflink\", \"full\" or \"command\""),
            ("copy = \"command\"", "drill.silent.command is not set"),
            ("command = \"/x\"", "it is used with drill.silent.copy = \"command\" alone"),
            ("memory = \"1MiB\"", "write at least 256MiB"),
            ("every = \"1m\"", "write at least 600s"),
            ("evry = \"1d\"", "did you mean drill.silent.every?"),
        ] {
            let error = with(section).unwrap_err();
            assert!(error.contains(part), "{section}: {error}");
        }
    }

    #[test]
    fn a_gerrit_on_the_copy_is_set_as_a_whole_and_listens_on_this_machine() {
        const ALL: &str = "gerrit_command = \"/c\"\ngerrit_site = \"/s\"\n";
        let gerrit = with(&format!("{ALL}gerrit_url = \"http://127.0.0.1:8099/\"\ngerrit_keep = [\"lib/b.jar\"]"));
        assert_eq!(gerrit.unwrap().gerrit.unwrap().keep, [PathBuf::from("lib/b.jar")]);
        for (section, part) in [
            (ALL.to_owned(), "drill.silent.gerrit_url is not set"),
            (format!("{ALL}gerrit_url = \"http://10.0.0.1:80/\""), "write http://127.0.0.1:PORT/"),
            ("gerrit_keep = [\"lib/b.jar\"]".to_owned(), "it needs drill.silent.gerrit_command"),
            ("gerrit_keep = [\"../lib/b.jar\"]".to_owned(), "list files"),
        ] {
            let error = with(&section).unwrap_err();
            assert!(error.contains(part), "{section}: {error}");
        }
    }
}
