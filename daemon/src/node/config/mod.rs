//! The configuration: a TOML file, overridden by environment variables (`LOCKSTEP_<SECTION>__<FIELD>`).
//!
//! The text is read into `raw`, where each field may hold any value. One pass turns it into validated [`Settings`], or
//! reports all wrong values at once, each with its field, its value and a valid alternative.
//!
//! | file | content |
//! |---|---|
//! | `raw` | the configuration as it was written |
//! | `check`, `report` | the pass over all fields, and the problems that it collects |
//! | `fields`, `value` | parse one field; times and sizes |
//! | `tls`, `operators`, `console`, `peers`, `siblings` | sections with rules of their own, about others |
//! | `autoscale` | the section of the autoscaler |
//! | `base_paths`, `gerrit`, `handover`, `probes`, `drill`, `turns`, `verify` | sections with rules of their own |
//! | `settings` | the validated configuration |
//! | `reference` | the page about all settings, made from the example and the check |
//! | `example.toml` | every field with its default; `lockstep config example` prints it |

mod autoscale;
mod base_paths;
mod check;
mod console;
mod drill;
mod fields;
mod gerrit;
mod handover;
mod operators;
mod peers;
mod probes;
mod raw;
pub mod reference;
mod report;
pub mod settings;
mod siblings;
mod tls;
mod turns;
pub mod value;
mod verify;

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};

pub use report::Problems;
pub use settings::Settings;

/// An example configuration with comments. It passes the check.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Default path of the bridge API's socket.
pub const DEFAULT_SOCKET: &str = "/run/lockstep/api.sock";

/// Default path of the operators' socket, beside the socket of the bridge API: `api-operators.sock` beside `api.sock`.
#[must_use]
pub fn operators_socket(socket: &Path) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let (stem, extension) = (part(socket.file_stem()).unwrap_or_default(), part(socket.extension()));
    let extension = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    socket.with_file_name(format!("{stem}-operators{extension}"))
}

/// Default log filter: Lockstep's own log at level `info`, and only problems of noisy libraries.
const LOG_FILTER: &str = "info,aws_config=error,opentelemetry_sdk=warn,dynoxide=error,ferrokinesis=warn";

/// Environment variables with Lockstep's prefix that are not settings.
const NO_SETTINGS: [&str; 10] = [
    "config",
    "socket",
    "operators_socket",
    "operator_url",
    "operator_token_file",
    "operator_cert",
    "operator_key",
    "operator_ca",
    "operator_identity",
    "failpoint",
];

/// An error that prevents the use of a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("configuration {} cannot be read: {source}; `lockstep config example` prints an example", path.display())]
    Unreadable {
        /// The path of the configuration file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The text is not TOML, or a section is not a table.
    #[error("configuration: {}; `lockstep config example` shows the format", form(.0))]
    Malformed(Box<figment::Error>),
    /// Some values are wrong, missing or unknown.
    #[error("{0}")]
    Wrong(Problems),
}

/// Reads and checks a configuration file, overridden by the environment.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let environment =
        Env::prefixed("LOCKSTEP_").ignore(&NO_SETTINGS).filter(|name| !is_service(name.as_str())).split("__");
    settings(&Figment::from(Toml::string(&text)).merge(environment))
}

/// Reads and checks a configuration text, without the environment.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse(text: &str) -> Result<Settings, ConfigError> {
    settings(&Figment::from(Toml::string(text)))
}

/// Whether Kubernetes created the variable. For a Service named `lockstep`, Kubernetes puts `LOCKSTEP_SERVICE_HOST`,
/// `LOCKSTEP_PORT` and others into every container of the namespace; for a Service named `lockstep-muc-1`, it puts
/// `LOCKSTEP_MUC_1_SERVICE_HOST` and so on.
fn is_service(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if ["port", "service_host", "service_port"].contains(&name.as_str()) || name.starts_with("service_port_") {
        return true;
    }
    // A field of a section has two underscores; none of the fields without a section looks like these.
    let is_field = name.contains("__");
    let ends = ["_port", "_service_host", "_service_port"];
    let parts = ["_service_port_", "_port_"];
    !is_field
        && (name.starts_with("port_")
            || ends.iter().any(|end| name.ends_with(end))
            || parts.iter().any(|part| name.contains(part)))
}

/// Describes an error of the format: the text is not TOML, or a value stands where a section belongs.
fn form(error: &figment::Error) -> String {
    match &error.kind {
        figment::error::Kind::InvalidType(found, _) => {
            let path = error.path.join(".");
            format!("{path} is {found}, and must be a section: write [{path}], and its settings below it")
        }
        kind => kind.to_string(),
    }
}

fn settings(figment: &Figment) -> Result<Settings, ConfigError> {
    let raw: raw::Raw = figment.extract().map_err(|error| ConfigError::Malformed(Box::new(error)))?;
    Settings::try_from(raw).map_err(ConfigError::Wrong)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::seams::eventlog::kinesis::ReadingMode;

    #[test]
    fn the_example_passes_its_own_check() {
        let settings = parse(EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.sites.len(), 3);
        assert_eq!(settings.eventlog.streams.len(), 3);
    }

    #[test]
    fn the_example_names_every_field() {
        for (section, fields) in raw::SECTIONS {
            for field in fields.iter().filter(|field| !raw::TABLES.contains(field)) {
                let named = EXAMPLE
                    .lines()
                    .any(|line| line.trim_start_matches('#').trim_start().starts_with(&format!("{field} =")));
                assert!(named, "[{section}] {field} is not in the example");
            }
        }
    }

    #[test]
    fn a_site_may_be_stricter_than_git_is_configured() {
        use crate::seams::git::FsckObjects;

        let with = |value: &str| parse(&EXAMPLE.replace("# fsck_objects = \"as-configured\"", value));
        assert_eq!(with("").unwrap().fsck_objects, FsckObjects::AsConfigured);
        assert_eq!(with("fsck_objects = \"always\"").unwrap().fsck_objects, FsckObjects::Always);
        let error = with("fsck_objects = \"never\"").expect_err("it is no choice").to_string();
        assert!(error.contains("git.fsck_objects = \"never\": write \"as-configured\" or \"always\""), "{error}");
    }

    #[test]
    fn the_share_of_a_verification_is_a_percentage() {
        let with = |value: &str| parse(&EXAMPLE.replace("# verify_share = 20 ", &format!("verify_share = {value} ")));
        assert_eq!(parse(EXAMPLE).unwrap().refdb.verify_share, 20);
        assert_eq!(["1", "100"].map(|value| with(value).unwrap().refdb.verify_share), [1, 100]);
        for value in ["0", "101", "-5", "2.5", "\"20%\""] {
            let error = with(value).expect_err("it is no percentage").to_string();
            let remedy = format!("refdb.verify_share = {value}: write a percentage as a whole number from 1 to 100");
            assert!(error.contains(&remedy), "{error}");
        }
    }

    #[test]
    fn a_connection_must_not_take_as_long_as_an_attempt() {
        let with = |connect: &str, attempt: &str| {
            let text = EXAMPLE.replace("# connect_timeout = \"1s\"", connect);
            parse(&text.replace("# attempt_timeout = \"2s\"", attempt))
        };
        let refdb = with("connect_timeout = \"1900ms\"", "").unwrap().refdb;
        assert!(refdb.connect_timeout < refdb.attempt_timeout);
        let error =
            with("connect_timeout = \"3s\"", "attempt_timeout = \"3s\"").expect_err("they are equal").to_string();
        let told = "refdb.connect_timeout = \"3s\": a connection may take 3s, and a whole attempt 3s: write less than \
                    refdb.attempt_timeout, or raise that";
        assert!(error.contains(told), "{error}");
        let error = with("", "attempt_timeout = \"500ms\"").expect_err("the default is longer").to_string();
        let told = "refdb.connect_timeout is not set: a connection may take 1s, and a whole attempt 500ms: ";
        assert!(error.contains(told), "{error}");
    }

    #[test]
    fn a_listener_that_takes_tokens_has_an_address_of_this_machine() {
        for address in ["0.0.0.0:7420", "[::]:7420", "192.0.2.1:7420"] {
            let text = EXAMPLE.replace("listen = \"127.0.0.1:7420\"", &format!("listen = \"{address}\""));
            let error = parse(&text).expect_err("the token would be sent unencrypted").to_string();
            assert!(error.contains(&format!("api.listen = \"{address}\": write a loopback address")), "{error}");
        }
    }

    #[test]
    fn every_wrong_value_is_reported_at_once() {
        let text = EXAMPLE
            .replace("site = \"eu-aws\"", "site = \"EU\"")
            .replace("lanes = 8", "lanes = 0")
            .replace("# install_hooks = false", "install_hooks = \"maybe\"")
            .replace("listen = \"127.0.0.1:7420\"", "listen = \"everywhere\"\nsokcet = \"x\"")
            .replace("[commit]", "[comit]\nlanes = 2\n[commit]");
        let error = parse(&text).expect_err("it is wrong in six places").to_string();
        for part in [
            "site = \"EU\"",
            "commit.lanes = 0",
            "git.install_hooks = \"maybe\": write true or false",
            "api.listen = \"everywhere\"",
            "did you mean api.socket?",
            "did you mean commit?",
        ] {
            assert!(error.contains(part), "no {part:?} in:\n{error}");
        }
    }

    #[test]
    fn an_error_names_every_missing_field() {
        let error = parse("").expect_err("nothing is set").to_string();
        for field in ["site", "node", "sites", "root", "state"] {
            assert!(error.contains(&format!("\n  {field} is not set")), "{error}");
        }
    }

    #[test]
    fn a_wrong_name_or_lease_says_what_to_write() {
        let start = "site = \"muc_1\"\nnode = \"\"\nsites = [\"muc_1\"]\n";
        let error = parse(&format!("{start}[lease]\nheartbeat = \"1h\"\n")).expect_err("wrong values").to_string();
        let of_names = "write 1 to 48 of the characters a-z, 0-9 and '-', ";
        for (field, remedy) in [
            ("site = \"muc_1\": ", format!("{of_names}`muc-1` for example")),
            ("node = \"\": ", format!("{of_names}`muc-1-0` for example")),
            ("sites = [\"muc_1\"]: ", format!("{of_names}`muc-1` for example")),
            ("lease.expires_after is not set: ", "write at least 10800s, or lower lease.heartbeat (3600s)".to_owned()),
        ] {
            let is_told = error.lines().any(|line| line.trim().starts_with(field) && line.ends_with(&remedy));
            assert!(is_told, "{field}{remedy}: {error}");
        }
    }

    #[test]
    fn a_value_where_a_section_belongs_is_named() {
        for (text, part) in [("api = 3", "write [api]"), ("[peers]\na = 1", "write [peers.a]"), ("x = \"", "TOML")] {
            let error = parse(text).expect_err("malformed").to_string();
            assert!(error.contains(part) && !error.contains("struct"), "{error}");
        }
    }

    #[test]
    fn a_service_of_kubernetes_is_no_setting() {
        for name in [
            "SERVICE_HOST",
            "PORT",
            "PORT_7421_TCP_ADDR",
            "SERVICE_PORT_HEALTH",
            "MUC_1_WRITE_SERVICE_HOST",
            "MUC_1_WRITE_SERVICE_PORT",
            "MUC_1_WRITE_SERVICE_PORT_HTTP",
            "MUC_1_WRITE_PORT",
            "MUC_1_WRITE_PORT_8080_TCP_PROTO",
        ] {
            assert!(is_service(name), "{name}");
        }
        assert!(["NODE", "API__LISTEN", "TELEMETRY__X_PORT"].iter().all(|name| !is_service(name)));
    }

    #[test]
    fn embedded_emulators_serve_one_node() {
        let alone = "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n";
        let (embedded, peer) = ("[embedded]\ndir = \"/aws\"\n", "[peers.a-1]\nsocket = \"/api.sock\"\n");
        assert!(parse(&format!("{alone}{embedded}")).is_ok());
        let others = alone.replace("[\"a\"]", "[\"a\", \"b\"]");
        let siblings = "[siblings]\nurl = \"https://{node}.a.svc:7422\"\n";
        for text in
            [format!("{others}{embedded}"), format!("{alone}{embedded}{peer}"), format!("{alone}{embedded}{siblings}")]
        {
            let error = parse(&text).expect_err("no other process reaches it").to_string();
            assert!(error.contains("embedded.dir = \"/aws\": its emulators serve this node alone"), "{error}");
        }
    }

    #[test]
    fn each_stream_may_be_read_in_another_way_and_a_wrong_one_is_reported() {
        let text = "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\", \"b\"]\nroot = \"/git\"\n\
                    state = \"/git/.lockstep\"\n[blobs]\nurl = \"file:///blobs\"\n";
        let plain = parse(text).unwrap_or_else(|error| panic!("{error}")).eventlog;
        assert!(!plain.may_fan_out(), "nobody pays for consumers by an upgrade");
        let set = "[eventlog]\nreading = \"auto\"\n[eventlog.streams.b]\nreading = \"polling\"\n";
        let eventlog = parse(&format!("{text}{set}")).unwrap_or_else(|error| panic!("{error}")).eventlog;
        let of = |site: &str| eventlog.streams[&site.parse().unwrap()].reading;
        assert_eq!((of("a"), of("b")), (ReadingMode::Auto, ReadingMode::Polling));
        assert!(eventlog.may_fan_out() && eventlog.usual.reading == ReadingMode::Auto);
        let error = parse(&format!("{text}[eventlog]\nreading = \"push\"\n")).expect_err("no such way").to_string();
        assert!(error.contains("eventlog.reading = \"push\": write"), "{error}");
    }

    #[test]
    fn reads_are_shared_unless_that_is_switched_off_and_a_wrong_word_is_reported() {
        let text = "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\n\
                    state = \"/git/.lockstep\"\n[blobs]\nurl = \"file:///blobs\"\n";
        let of = |set: &str| parse(&format!("{text}[eventlog]\npoll_interval = \"200ms\"\n{set}"));
        let read = |set: &str| of(set).unwrap_or_else(|error| panic!("{error}")).eventlog;
        assert!(read("").shares && !read("sharing = \"off\"\n").shares);
        assert_eq!(read("").reads_within(), Duration::from_millis(200));
        assert_eq!(read("reading = \"fan-out\"\n").reads_within(), Duration::from_millis(1_500));
        let error = of("sharing = \"always\"\n").expect_err("no such word").to_string();
        assert!(error.contains("eventlog.sharing = \"always\": write"), "{error}");
    }

    #[test]
    fn an_empty_region_is_reported() {
        for (section, text) in [
            ("refdb.region", "[refdb]\nregion = \"\"\n"),
            ("eventlog.region", "[eventlog]\nregion = \" \"\n"),
            ("eventlog.streams.a.region", "[eventlog.streams.a]\nregion = \"eu central\"\n"),
        ] {
            let alone = "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n\
                         [blobs]\nurl = \"file:///blobs\"\n";
            assert!(parse(alone).is_ok());
            let error = parse(&format!("{alone}{text}")).expect_err("it is no Region").to_string();
            assert!(error.contains(section) && error.contains("the name of a Region"), "{error}");
        }
    }

    #[test]
    fn a_peer_that_is_the_node_itself_is_reported() {
        let node = "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n\
                    [blobs]\nurl = \"file:///blobs\"\n[api]\nsocket = \"/run/own.sock\"\nlisten = \"127.0.0.1:7420\"\n\
                    token_file = \"/etc/tokens\"\n";
        let tcp = "url = \"http://localhost:7420\"\ntoken_file = \"/etc/token\"\n";
        for (peer, wrong) in [
            ("[peers.a-1]\nsocket = \"/run/own.sock\"\n", true),
            (&format!("[peers.a-1]\n{tcp}"), true),
            (&format!("[peers.a-1]\n{}", tcp.replace("7420", "7520")), false),
            ("[peers.a-1]\nsocket = \"/run/other.sock\"\n", false),
        ] {
            let parsed = parse(&format!("{node}{peer}")).map(|_| ()).map_err(|error| error.to_string());
            assert_eq!(
                parsed.as_ref().is_err_and(|error| error.contains("the node itself")),
                wrong,
                "{peer}: {parsed:?}"
            );
        }
    }

    /// Replicas share one file, in which each of them is named.
    #[test]
    fn the_section_of_the_node_itself_is_checked_and_left_out() {
        let site = "site = \"a\"\nnode = \"a-1\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n\
                    [blobs]\nurl = \"file:///blobs\"\n[api]\nsocket = \"/run/own.sock\"\n";
        let shared = "[peers.a-0]\nsocket = \"/run/a-0.sock\"\n[peers.a-1]\nsocket = \"/run/own.sock\"\n";
        let settings = parse(&format!("{site}{shared}")).expect("a shared file");
        assert_eq!(settings.peers.keys().collect::<Vec<_>>(), ["a-0"]);
        let wrong = format!("{site}{}", shared.replace("socket = \"/run/own.sock\"\n", ""));
        assert!(parse(&wrong).expect_err("no way to it").to_string().contains("peers.a-1.url"));
    }

    #[test]
    fn a_site_must_be_one_of_the_sites() {
        let text = EXAMPLE.replace("site = \"eu-aws\"", "site = \"elsewhere\"");
        assert!(parse(&text).expect_err("no such site").to_string().contains("site = \"elsewhere\""));
    }
}
