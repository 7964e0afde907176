//! Gathers the facts of this machine, of the names in the configuration, and of clocks. It changes nothing. Each look
//! outside is bounded in time, and one that fails is a fact of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustix::fs::statvfs;
use tokio::time::timeout;

use super::facts::{Access, Certificate, Facts, Folder, Host, NotSeen, OwnedFile, Process, Seen, ServerClock, Space};
use super::places::{self, Environment};
use super::shared::shared_settings;
use crate::base::clock::Clock;
use crate::node::config::Settings;
use crate::node::config::settings::{GerritRefresh, Peer};
use crate::seams::probe::git_version::git_version;
use crate::seams::probe::server_time::server_time;
use crate::seams::tls::Credentials;

/// The longest time of one look outside.
const LOOK: Duration = Duration::from_secs(3);
/// The most repositories whose owners are looked at.
const SAMPLE: usize = 100;
/// The most folders of objects in one repository whose owners are looked at. Gerrit makes them for pushed objects.
const OBJECTS: usize = 4;

/// The facts of this machine, as its files and its configuration tell them. Facts that a sidecar alone knows are not
/// seen, for the reason `away`.
pub async fn of_machine(settings: Arc<Settings>, clock: &dyn Clock, away: &NotSeen) -> Facts {
    let environment = Environment::of_process();
    let (hosts, servers) =
        tokio::join!(resolve(hosts(&settings, &environment)), clocks(&settings, &environment, clock));
    let tls = settings.tls.as_ref().map(|tls| Credentials::load(tls.files.clone()));
    Facts {
        now_ms: clock.now_ms(),
        process: process(),
        folders: folders(&settings),
        files: owners(&settings),
        certificate: tls.map(|loaded| loaded.map(|one| certificate(&one)).map_err(NotSeen::because)),
        hosts,
        git: git_version(LOOK).await.map_err(NotSeen::because),
        servers,
        calls: Err(away.clone()),
        streams: Err(away.clone()),
        peers: Err(away.clone()),
        programs: Err(away.clone()),
        gerrit: Err(away.clone()),
        shared: shared_settings(&settings),
        settings,
    }
}

/// The certificate of credentials in use.
#[must_use]
pub fn certificate(credentials: &Credentials) -> Certificate {
    let material = credentials.current();
    Certificate {
        names: material.names.iter().map(ToString::to_string).collect(),
        expires: material.expires,
        trust_expires: material.trust_expires,
        problem: credentials.problem().map(|problem| problem.to_string()),
    }
}

fn process() -> Seen<Process> {
    const STATUS: &str = "/proc/self/status";
    let text = std::fs::read_to_string(STATUS).map_err(|error| NotSeen(format!("{STATUS}: {error}")))?;
    let umask = umask_of(&text).ok_or_else(|| NotSeen(format!("{STATUS} tells no umask")))?;
    Ok(Process { uid: rustix::process::geteuid().as_raw(), umask })
}

/// The umask in the text of `/proc/self/status`.
fn umask_of(status: &str) -> Option<u32> {
    let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(digits.trim(), 8).ok()
}

fn folders(settings: &Settings) -> Vec<Folder> {
    let root = settings.base_paths.root();
    let others = settings.base_paths.all().into_iter().filter(|path| *path != root);
    let named = [("root", root), ("state", settings.state.as_path())].into_iter();
    named.chain(others.map(|path| ("git.base_paths", path))).map(|(setting, path)| folder(setting, path)).collect()
}

fn folder(setting: &'static str, path: &Path) -> Folder {
    let not_seen = |error: &dyn std::fmt::Display| NotSeen(format!("{} cannot be looked at: {error}", path.display()));
    let writes = rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok();
    let access = std::fs::metadata(path).map(|found| Access { mode: found.mode() & 0o777, writes });
    let space = statvfs(path)
        .map(|found| Space { blocks: (found.f_bavail, found.f_blocks), inodes: (found.f_favail, found.f_files) });
    Folder {
        setting,
        path: path.to_owned(),
        access: access.map_err(|error| not_seen(&error)),
        space: space.map_err(|error| not_seen(&error)),
    }
}

/// The owners of the node's store, of some repositories, and of some folders of their objects. The latter may be the
/// only files of Gerrit's own: the sidecar makes repositories.
fn owners(settings: &Settings) -> Vec<OwnedFile> {
    let entries = std::fs::read_dir(settings.base_paths.root()).into_iter().flatten().flatten();
    let is_repository = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "git");
    let with_objects = |path: PathBuf| {
        let objects = std::fs::read_dir(path.join("objects")).into_iter().flatten().flatten();
        std::iter::once(path).chain(objects.map(|entry| entry.path()).take(OBJECTS))
    };
    let repositories = entries.map(|entry| entry.path()).filter(is_repository).take(SAMPLE).flat_map(with_objects);
    let store = settings.state.join("node.redb");
    let owner = |path: PathBuf| {
        let uid = std::fs::symlink_metadata(&path).ok()?.uid();
        Some(OwnedFile { path, uid })
    };
    std::iter::once(store).chain(repositories).filter_map(owner).collect()
}

/// A host with its port, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    host: String,
    port: u16,
    setting: String,
}

/// The hosts that the configuration names, and those of AWS that the node calls, each once. Addresses are left out:
/// they need no name.
fn hosts(settings: &Settings, environment: &Environment) -> Vec<Named> {
    let mut urls: Vec<(String, String)> = Vec::new();
    let of_aws = places::tables(settings, environment).into_iter().chain(places::others(settings, environment));
    urls.extend(of_aws.map(|place| (place.setting, place.url)));
    let mut add = |setting: &str, url: Option<String>| urls.extend(url.map(|url| (setting.to_owned(), url)));
    add("handover.webhook", settings.handover.webhook.clone());
    add("telemetry.otlp_endpoint", settings.telemetry.otlp_endpoint.clone());
    let probes = &settings.probes;
    add("probes.git", probes.git.clone());
    add("probes.rest", probes.rest.clone());
    add("probes.session", probes.session.as_ref().map(|(url, _)| url.clone()));
    add("probes.ssh", probes.ssh.as_ref().map(|(destination, port)| format!("ssh://{destination}:{port}/")));
    if let GerritRefresh::Rest(rest) = &settings.gerrit.refresh {
        add("gerrit.url", Some(format!("http://{}/", rest.address)));
    }
    for (name, peer) in &settings.peers {
        let address = match peer {
            Peer::Socket(_) => None,
            Peer::Tcp(address, _) | Peer::Tls { address, .. } => Some(format!("https://{address}/")),
        };
        add(&format!("peers.{name}.url"), address);
    }
    // The names of the other nodes are made in the same way as that of this one.
    let own = settings.siblings.as_ref().map(|siblings| format!("https://{}/", siblings.address(&settings.node)));
    add("siblings.url", own);
    let mut found: BTreeMap<String, Named> = BTreeMap::new();
    for one in urls.into_iter().filter_map(|(setting, url)| named(setting, &url)) {
        found.entry(one.host.clone()).or_insert(one);
    }
    found.into_values().collect()
}

fn named(setting: String, url: &str) -> Option<Named> {
    let uri = url.parse::<http::Uri>().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let is_address = host.parse::<IpAddr>().is_ok();
    (!is_address).then(|| Named { host, port: uri.port_u16().unwrap_or(443), setting })
}

async fn resolve(hosts: Vec<Named>) -> Vec<Host> {
    join_all(hosts.into_iter().map(|Named { host, port, setting }| async move {
        let problem = match timeout(LOOK, tokio::net::lookup_host((host.as_str(), port))).await {
            Ok(Ok(mut addresses)) => addresses.next().is_none().then(|| "it has none".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", LOOK.as_secs())),
        };
        Host { name: host, setting, problem }
    }))
    .await
}

/// This machine's clock beside that of the service of the tables.
async fn clocks(settings: &Settings, environment: &Environment, clock: &dyn Clock) -> Vec<ServerClock> {
    let Some(place) = places::tables(settings, environment) else { return Vec::new() };
    vec![beside(&place.url, clock).await]
}

/// This machine's clock beside that of the server at a URL. The server tells whole seconds, so half of one is added.
async fn beside(url: &str, clock: &dyn Clock) -> ServerClock {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    let server = host.unwrap_or_else(|| "the refdb".to_owned());
    let before = clock.now_ms();
    let told = server_time(url, LOOK).await;
    let middle = before.midpoint(clock.now_ms());
    let ahead = told.map(|told| signed(middle).saturating_sub(signed(told + 500)));
    let ahead_ms = ahead.map_err(|error| NotSeen(format!("{server} tells no time: {error}")));
    ServerClock { server, ahead_ms }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::examine;
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::node::config;
    use crate::seams::tls::{PeerName, authority};

    fn away() -> NotSeen {
        NotSeen("nobody answers".to_owned())
    }

    fn settings(folder: &Path, more: &str) -> Arc<Settings> {
        let folder = folder.display();
        let text = format!(
            "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"{folder}\"\nstate = \"{folder}/.lockstep\"\n\
             [blobs]\nurl = \"file:///blobs\"\n{more}"
        );
        Arc::new(config::parse(&text).unwrap_or_else(|error| panic!("{error}")))
    }

    /// A machine whose settings name local addresses only, so that a test asks no server outside.
    async fn machine(folder: &Path, more: &str) -> Facts {
        let local = "[refdb]\nendpoint = \"http://127.0.0.1:1\"\n[eventlog]\nendpoint = \"http://127.0.0.1:1\"\n";
        of_machine(settings(folder, &format!("{local}{more}")), &SystemClock, &away()).await
    }

    fn findings(facts: &Facts, check: &str) -> Vec<String> {
        let result = examine(facts).into_iter().find(|one| one.check == check).unwrap();
        result.findings.into_iter().map(|finding| format!("{}: {}", finding.subject, finding.text)).collect()
    }

    #[tokio::test]
    async fn a_name_that_no_dns_has_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let hook = "[handover]\nwebhook = \"https://gone.invalid/hook\"\n";
        let found = findings(&machine(folder.path(), hook).await, "dns");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("handover.webhook: the name gone.invalid leads to no address"), "{found:?}");
    }

    #[tokio::test]
    async fn a_pattern_of_siblings_under_which_no_dns_has_this_node_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let files = "[tls]\ncertificate_file = \"/c\"\nkey_file = \"/k\"\ntrust_file = \"/t\"\n";
        let more = format!("{files}[siblings]\nurl = \"https://{{node}}.gone.invalid:7422\"\n");
        let found = findings(&machine(folder.path(), &more).await, "dns");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("siblings.url: the name a-0.gone.invalid leads to no address"), "{found:?}");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_not_seen() {
        let folder = tempfile::tempdir().unwrap();
        let facts = machine(folder.path(), "").await;
        let state = facts.folders.iter().find(|one| one.setting == "state").unwrap();
        assert!(state.access.is_err() && state.space.is_err(), "{state:?}");
        let root = facts.folders.iter().find(|one| one.setting == "root").unwrap();
        assert!(root.access.as_ref().is_ok_and(|access| access.writes), "{root:?}");
    }

    #[tokio::test]
    async fn repositories_are_compared_with_the_user_of_the_process() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("p.git")).unwrap();
        std::fs::create_dir(folder.path().join("not-a-repository")).unwrap();
        assert_eq!(machine(folder.path(), "").await.files.len(), 1, "one repository without objects");
        std::fs::create_dir_all(folder.path().join("p.git/objects/4b")).unwrap();
        let mut facts = machine(folder.path(), "").await;
        let seen: Vec<&Path> = facts.files.iter().map(|file| file.path.as_path()).collect();
        assert_eq!(seen, [folder.path().join("p.git"), folder.path().join("p.git/objects/4b")]);
        assert_eq!(findings(&facts, "process"), [""; 0]);
        let process = facts.process.as_mut().unwrap();
        process.uid += 1;
        let found = findings(&facts, "process");
        assert!(found[0].starts_with("uid: the sidecar runs as user") && found[0].contains("p.git"), "{found:?}");
    }

    #[test]
    fn the_umask_is_read_as_the_kernel_writes_it() {
        assert_eq!(umask_of("Name:\tlockstep\nUmask:\t0077\nState:\tR\n"), Some(0o077));
        assert_eq!(umask_of("Name:\tlockstep\n"), None);
    }

    /// A server whose clock stands at one second of 1994, for so many requests.
    async fn old_server(requests: usize) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for _ in 0..requests {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let head = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
                let text = format!("{head}content-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        url
    }

    /// The machine's clock, put to one moment.
    struct At(u64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0
        }
    }

    #[tokio::test]
    async fn a_clock_is_compared_with_the_date_of_the_server_of_the_tables() {
        let folder = tempfile::tempdir().unwrap();
        let url = old_server(2).await;
        let settings = settings(folder.path(), &format!("[refdb]\nendpoint = \"{url}\"\n"));
        let of = async |now_ms: u64| {
            let servers = clocks(&settings, &Environment::default(), &At(now_ms)).await;
            findings(&Facts { servers, ..Facts::in_order() }, "clock")
        };
        assert_eq!(of(784_111_777_500).await, [""; 0]);
        let found = of(784_111_777_500 + 10_000).await;
        assert_eq!(found, ["clock: this machine's clock is 10 s ahead of that of 127.0.0.1"]);
    }

    #[tokio::test]
    async fn the_doctor_looks_at_the_endpoint_that_the_environment_names() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, url) = (settings(folder.path(), ""), old_server(1).await);
        let environment = Environment::of([("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", "eu-west-1")]);
        let seen = clocks(&settings, &environment, &At(784_111_777_500)).await;
        assert_eq!(seen, [ServerClock { server: "127.0.0.1".to_owned(), ahead_ms: Ok(0) }]);
        let environment = Environment::of([("AWS_ENDPOINT_URL", "http://aws.invalid:1/")]);
        let found = hosts(&settings, &environment);
        let found: Vec<(&str, &str)> = found.iter().map(|one| (one.host.as_str(), one.setting.as_str())).collect();
        assert_eq!(found, [("aws.invalid", "AWS_ENDPOINT_URL")]);
    }

    #[tokio::test]
    async fn a_certificate_whose_files_are_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let tls = "[tls]\ncertificate_file = \"/gone/c\"\nkey_file = \"/gone/k\"\ntrust_file = \"/gone/t\"\n";
        let found = findings(&machine(folder.path(), tls).await, "tls");
        assert!(found[0].contains("tls.certificate_file /gone/c"), "{found:?}");
    }

    #[tokio::test]
    async fn a_certificate_that_has_expired_is_an_error_and_a_new_one_is_in_order() {
        const DAY: Duration = Duration::from_secs(86_400);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let now = Duration::from_millis(SystemClock.now_ms());
        let names: [PeerName; 1] = ["spiffe://lockstep/a/a-0".parse().unwrap()];
        let found = async |name: &str, began: Duration| {
            let validity = |lifetime| authority::Validity { now: began, lifetime };
            let ca = authority::init("test", validity(DAY * 400)).unwrap();
            let pair = authority::issue(&ca, &names, validity(DAY * 100)).unwrap();
            let files = [("c", &pair.certificate), ("k", &pair.key), ("t", &ca.certificate)];
            let [own, key, trust] = files.map(|(kind, text)| write(&format!("{name}.{kind}"), text));
            let tls = format!("certificate_file = \"{own}\"\nkey_file = \"{key}\"\ntrust_file = \"{trust}\"\n");
            findings(&machine(folder.path(), &format!("[tls]\n{tls}")).await, "tls")
        };
        assert_eq!(found("new", now).await, [""; 0]);
        let expired = found("old", now - DAY * 200).await;
        assert!(expired.iter().any(|one| one.starts_with("tls.certificate_file: ")), "{expired:?}");
        let text = "the certificate of spiffe://lockstep/a/a-0 has expired";
        assert!(expired.iter().any(|one| one.contains(text)), "{expired:?}");
        let soon = found("soon", now - DAY * 90 - DAY / 2).await;
        assert!(soon.len() == 1 && soon[0].contains("expires in 9 days"), "{soon:?}");
    }

    #[test]
    fn each_host_is_looked_up_once_and_addresses_are_not() {
        let peer = "[peers.b-0]\nurl = \"http://localhost:7420\"\ntoken_file = \"/t\"\n";
        let more = format!(
            "[refdb]\nregion = \"eu-central-1\"\n[eventlog]\nendpoint = \"http://127.0.0.1:1\"\n\
             [handover]\nwebhook = \"http://localhost:9/hook\"\n{peer}"
        );
        let found = hosts(&settings(Path::new("/git"), &more), &Environment::default());
        let found: Vec<(&str, &str)> = found.iter().map(|one| (one.host.as_str(), one.setting.as_str())).collect();
        let tables = ("dynamodb.eu-central-1.amazonaws.com", "refdb.region");
        assert_eq!(found, [tables, ("localhost", "handover.webhook")]);
    }
}
