//! The parts of a support bundle: what the sidecar tells, and what this machine has. A part that is not there says why.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lockstep_proto::doctor::Diagnosis;
use lockstep_proto::status::NodeStatus;
use serde_json::Value;

use super::super::target::Target;
use super::super::{CliError, doctor, json};
use super::BundleArgs;
use crate::node::config::Settings;
use crate::seams::probe::git_version::git_version;

/// A part of a bundle: its name, and its text before secrets are taken out.
pub(super) type Part = (&'static str, String);

/// The calls of the sidecar whose answers go into a bundle.
const CALLS: [(&str, &str); 8] = [
    ("status.json", "/v1/status"),
    ("overview.json", "/v1/overview"),
    ("quarantine.json", "/v1/quarantine"),
    ("parked.json", "/v1/parked"),
    ("refresh.json", "/v1/refresh"),
    ("peers.json", "/v1/peers"),
    ("history.json", "/v1/history"),
    ("verification.json", "/v1/verification"),
];

/// The longest time of one look of this machine.
const LOOK: Duration = Duration::from_secs(10);
/// The variables of the environment that are shown beside those of Lockstep.
const VARIABLES: [&str; 4] = ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"];

/// Everything that is in a bundle.
pub(super) async fn collect(args: &BundleArgs, settings: Option<&Settings>) -> Vec<Part> {
    let mut parts = vec![("configuration.toml", file(&args.config.config)), ("environment.txt", environment())];
    parts.extend(findings(doctor::diagnose(&args.target, &args.config).await));
    for (name, path) in CALLS {
        let answer: Result<Value, CliError> = args.target.get(path).await;
        parts.push((name, answer.and_then(|value| json(&value)).unwrap_or_else(absent)));
    }
    parts.push(("events.txt", events(&args.target).await));
    parts.push(("versions.txt", versions().await));
    if let Some(settings) = settings {
        parts.push(("metrics.txt", metrics(settings.health_listen).await));
        parts.push(("sizes.txt", sizes(&settings.state)));
    }
    parts
}

/// The text in the place of a part that is not there.
fn absent(why: impl std::fmt::Display) -> String {
    format!("not available: {why}\n")
}

fn file(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| absent(format!("{}: {error}", path.display())))
}

fn environment() -> String {
    let is_shown = |name: &str| name.starts_with("LOCKSTEP_") || VARIABLES.contains(&name);
    let mut lines: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_shown(name))
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    lines.sort();
    lines.concat()
}

fn findings(diagnosis: Result<Diagnosis, CliError>) -> [Part; 2] {
    match diagnosis {
        Ok(diagnosis) => {
            [("doctor.json", json(&diagnosis).unwrap_or_else(absent)), ("doctor.txt", doctor::render(&diagnosis))]
        }
        Err(why) => [("doctor.json", absent(&why)), ("doctor.txt", absent(&why))],
    }
}

/// The events of the status board, oldest first, one per line.
async fn events(target: &Target) -> String {
    let status: NodeStatus = match target.get("/v1/status").await {
        Ok(status) => status,
        Err(why) => return absent(why),
    };
    let mut text = String::new();
    for error in status.last_errors.iter().rev() {
        let _ = writeln!(text, "{} {}: {}", error.at_ms, error.stage, error.message);
    }
    text
}

async fn versions() -> String {
    let git = git_version(LOOK).await.unwrap_or_else(absent);
    let kernel = file(Path::new("/proc/version"));
    format!("lockstep {}\n{}\n{}\n", env!("CARGO_PKG_VERSION"), git.trim(), kernel.trim())
}

/// The page of metrics. An address that means every address of the machine is asked on the loopback interface.
async fn metrics(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let loopback: IpAddr = match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    let asked = async {
        let client = reqwest::Client::builder().timeout(LOOK).build()?;
        client.get(format!("http://{address}/metrics")).send().await?.text().await
    };
    asked.await.unwrap_or_else(|error: reqwest::Error| absent(error.without_url()))
}

/// The files of the node's own state with their sizes in bytes.
fn sizes(state: &Path) -> String {
    let entries = match std::fs::read_dir(state) {
        Ok(entries) => entries.flatten(),
        Err(error) => return absent(format!("{}: {error}", state.display())),
    };
    let mut lines: Vec<String> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.file_name())))
        .map(|(found, name)| {
            let kind = if found.is_dir() { "folder" } else { "file" };
            format!("{kind} {} {}\n", name.display(), found.len())
        })
        .collect();
    lines.sort();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_state_are_listed_with_their_sizes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("node.redb"), [0; 7]).unwrap();
        assert_eq!(sizes(folder.path()), "file node.redb 7\n");
        assert!(sizes(&folder.path().join("gone")).starts_with("not available: "));
    }
}
