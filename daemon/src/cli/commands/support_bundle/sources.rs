//! The parts of a support bundle: the answers of the sidecar, and the facts of this machine. A part that is missing
//! says why.

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
use crate::node::config::{ConfigError, Settings};
use crate::seams::probe::git_version::git_version;

/// A part of a bundle: its name, and its text before secrets are taken out, or the reason why it is missing.
pub(super) type Part = (&'static str, Result<String, String>);

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

/// Everything that is in a bundle. Every part is in the list, the missing ones included.
pub(super) async fn collect(args: &BundleArgs, loaded: &Result<Settings, ConfigError>) -> Vec<Part> {
    let mut parts = vec![("configuration.toml", file(&args.config.config)), ("environment.txt", Ok(environment()))];
    parts.extend(findings(doctor::diagnose(&args.target, &args.config).await));
    for (name, path) in CALLS {
        let answer: Result<Value, CliError> = args.target.get(path).await;
        parts.push((name, answer.and_then(|value| json(&value)).map_err(|why| why.to_string())));
    }
    parts.push(("events.txt", events(&args.target).await));
    parts.push(("versions.txt", Ok(versions().await)));
    let (metrics, sizes) = match loaded {
        Ok(settings) => (metrics(settings.health_listen).await, sizes(&settings.state)),
        Err(error) => {
            let needs = |setting: &str| Err(format!("it needs {setting}, and the configuration is wrong: {error}"));
            (needs("health.listen"), needs("state"))
        }
    };
    parts.extend([("metrics.txt", metrics), ("sizes.txt", sizes)]);
    parts
}

fn file(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
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
    match diagnosis.map_err(|why| why.to_string()) {
        Ok(diagnosis) => [
            ("doctor.json", json(&diagnosis).map_err(|why| why.to_string())),
            ("doctor.txt", Ok(doctor::render(&diagnosis))),
        ],
        Err(why) => [("doctor.json", Err(why.clone())), ("doctor.txt", Err(why))],
    }
}

/// The events of the status board, oldest first, one per line.
async fn events(target: &Target) -> Result<String, String> {
    let status: Result<NodeStatus, CliError> = target.get("/v1/status").await;
    let status = status.map_err(|why| why.to_string())?;
    let mut text = String::new();
    for error in status.last_errors.iter().rev() {
        let _ = writeln!(text, "{} {}: {}", error.at_ms, error.stage, error.message);
    }
    Ok(text)
}

async fn versions() -> String {
    let git = git_version(LOOK).await.unwrap_or_else(|error| format!("git: not available: {error}"));
    let kernel = file(Path::new("/proc/version")).unwrap_or_else(|error| format!("kernel: not available: {error}"));
    format!("lockstep {}\n{}\n{}\n", env!("CARGO_PKG_VERSION"), git.trim(), kernel.trim())
}

/// The page of metrics. An address that means every address of the machine is asked on the loopback interface.
async fn metrics(mut address: SocketAddr) -> Result<String, String> {
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
    asked.await.map_err(|error: reqwest::Error| format!("http://{address}/metrics: {}", error.without_url()))
}

/// The files of the node's own state with their sizes in bytes.
fn sizes(state: &Path) -> Result<String, String> {
    let entries = std::fs::read_dir(state).map_err(|error| format!("{}: {error}", state.display()))?;
    let mut lines: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.file_name())))
        .map(|(found, name)| {
            let kind = if found.is_dir() { "folder" } else { "file" };
            format!("{kind} {} {}\n", name.display(), found.len())
        })
        .collect();
    lines.sort();
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_state_are_listed_with_their_sizes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("node.redb"), [0; 7]).unwrap();
        assert_eq!(sizes(folder.path()).as_deref(), Ok("file node.redb 7\n"));
        let why = sizes(&folder.path().join("gone")).unwrap_err();
        assert!(why.starts_with(&format!("{}: ", folder.path().join("gone").display())), "{why}");
    }
}
