//! The file that names an estate, and the safety lock: a load test writes, so it must not meet an estate by mistake.
//! Every address must be a loopback one, or be listed in `allow`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep::clients::api_client::Client;
use lockstep::seams::refdb::dynamo::Connection;
use serde::Deserialize;

use super::{Estate, Routes, Site, refdb};
use crate::Fallible;

/// An estate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstateFile {
    /// The hosts, beside loopback addresses, that the load test may write to.
    #[serde(default)]
    allow: Vec<String>,
    refdb: RefDbSection,
    sites: Vec<SiteSection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefDbSection {
    prefix: String,
    region: String,
    #[serde(default)]
    endpoint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteSection {
    name: String,
    socket: PathBuf,
    root: PathBuf,
    #[serde(default)]
    git: Option<String>,
    #[serde(default)]
    health: Option<String>,
}

impl EstateFile {
    /// Reads an estate, and applies the safety lock.
    ///
    /// # Errors
    /// The file cannot be read, a field is unknown or missing, or an address is neither a loopback one nor listed.
    pub fn read(path: &Path) -> Fallible<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|why| format!("{}: {why}", path.display()).into())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.sites.is_empty() {
            return Err("sites is empty: name at least one site".to_owned());
        }
        for (field, address) in file.addresses() {
            let host = host(&address);
            if !is_loopback(&host) && !file.allow.contains(&host) {
                return Err(format!(
                    "{field} = {address:?}: {host} is no loopback address and is not in `allow`. The load test writes \
                     projects and refs: add \"{host}\" to `allow` only if it may"
                ));
            }
        }
        Ok(file)
    }

    /// Every address, with the field that has it.
    fn addresses(&self) -> Vec<(String, String)> {
        let usual = || format!("https://dynamodb.{}.amazonaws.com", self.refdb.region);
        let mut all = vec![("refdb.endpoint".to_owned(), self.refdb.endpoint.clone().unwrap_or_else(usual))];
        for site in &self.sites {
            all.extend(site.git.iter().map(|url| (format!("git of {}", site.name), url.clone())));
            all.extend(site.health.iter().map(|address| (format!("health of {}", site.name), address.clone())));
        }
        all
    }

    /// The number of sites.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sites.len()
    }

    /// Connects to the estate.
    pub async fn open(&self) -> Estate {
        let site = |one: &SiteSection| Site {
            name: one.name.clone(),
            client: Client::new(&one.socket),
            url: one.git.clone().unwrap_or_else(|| format!("file://{}", one.root.display())),
            root: one.root.clone(),
            health: one.health.clone(),
        };
        let endpoint = self.refdb.endpoint.clone();
        let connection = Connection {
            region: Some(self.refdb.region.clone()),
            made_up_credentials: endpoint.as_ref().is_some_and(|endpoint| is_loopback(&host(endpoint))),
            endpoint,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
        };
        let sites: Vec<Site> = self.sites.iter().map(site).collect();
        let description = format!("{} sites that a file names", sites.len());
        let (refdb, routes) = (refdb(&connection, &self.refdb.prefix).await, Routes::new(sites.len()));
        Estate { sites, refdb, routes, local: None, description }
    }
}

/// The host of a URL or of `host:port`. Empty for a path.
fn host(address: &str) -> String {
    if address.starts_with("file://") || address.starts_with('/') {
        return String::new();
    }
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(inside) = authority.strip_prefix('[') {
        return inside.split(']').next().unwrap_or(inside).to_owned();
    }
    authority.split(':').next().unwrap_or(authority).to_owned()
}

/// Whether a host is this machine. An empty one is a path.
fn is_loopback(host: &str) -> bool {
    host.is_empty() || host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estate(allow: &str, endpoint: &str, git: &str) -> Result<EstateFile, String> {
        let text = format!(
            "allow = [{allow}]\n[refdb]\nprefix = \"x\"\nregion = \"eu-central-1\"\n{endpoint}\n\
             [[sites]]\nname = \"muc-1\"\nsocket = \"/s\"\nroot = \"/r\"\n{git}\n"
        );
        EstateFile::parse(&text)
    }

    #[test]
    fn only_loopback_and_listed_hosts_are_written_to() {
        let emulator = "endpoint = \"http://127.0.0.1:8000\"";
        assert!(estate("", emulator, "").is_ok());
        assert!(estate("", emulator, "git = \"file:///r\"").is_ok());
        assert!(estate("", emulator, "git = \"http://[::1]:80/x\"").is_ok());
        let why = estate("", "", "").unwrap_err();
        assert!(why.contains("dynamodb.eu-central-1.amazonaws.com is no loopback address"), "{why}");
        assert!(estate("\"dynamodb.eu-central-1.amazonaws.com\"", "", "").is_ok());
        let why = estate("", emulator, "git = \"ssh://ci@git.example.org:29418/\"").unwrap_err();
        assert!(why.contains("git of muc-1") && why.contains("add \"git.example.org\" to `allow`"), "{why}");
        assert!(estate("\"git.example.org\"", emulator, "git = \"ssh://ci@git.example.org:29418/\"").is_ok());
        assert!(estate("", emulator, "git = \"http://127.0.0.1.example.org/\"").is_err());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let why = estate("", "endpoint = \"http://127.0.0.1:1\"", "roots = \"/x\"").unwrap_err();
        assert!(why.contains("unknown field `roots`"), "{why}");
    }
}
