//! `lockstep support-bundle`: an archive with the state of this node, for those who help. Every part goes through the
//! same place on its way into the archive, where its secrets are taken out. The first part has an index of all others,
//! with the reason for each that is missing.
//!
//! | file | idea |
//! |---|---|
//! | `sources` | the parts: the sidecar's answers, configuration, metrics, versions, sizes |
//! | `secrets` | the secrets that are known at this node |
//! | `redact` | takes secrets out of a text |

mod redact;
mod secrets;
mod sources;

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::config::ConfigArgs;
use super::target::Target;
use super::{CliError, json, new_file};
use crate::base::clock::{Clock, SystemClock};
use crate::cli::out;
use crate::node::config;
use redact::Redactor;
use sources::Part;

/// The folder in the archive.
const FOLDER: &str = "lockstep-support";
/// The most bytes of one part. A status with many debts fits.
const MOST_BYTES: usize = 16 << 20;
/// The note that explains an archive to its reader.
const README: &str = "This archive was made by `lockstep support-bundle`. Keys, passwords, tokens, cookies and the \
users in URLs were taken out and read REDACTED. Names of projects, refs, users and hosts are in it: look through it \
before you give it away.\n";
/// The warning in an archive that was made while the configuration was wrong.
const SECRETS_UNKNOWN: &str = "The configuration is wrong, so the contents of the secret files that it names are not \
known. They were not looked for in the parts.\n";

#[derive(Debug, clap::Args)]
#[command(after_help = "Look through the archive before you give it away: it has names of projects, users and \
                        hosts.\n\nExample:\n  lockstep support-bundle --to /tmp/muc-1-0.tar.gz")]
pub(super) struct BundleArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    config: ConfigArgs,
    /// Path of the new archive, which ends in .tar.gz
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Print the parts as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The output: the parts of the archive with their sizes in bytes.
#[derive(Debug, Serialize)]
struct Written {
    to: PathBuf,
    parts: Vec<WrittenPart>,
}

/// A part of the archive.
#[derive(Debug, Serialize)]
struct WrittenPart {
    name: &'static str,
    bytes: usize,
    /// The reason why the part is missing. The archive has the reason in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

pub(super) async fn run(args: BundleArgs) -> Result<(), CliError> {
    new_file::absent(&args.to)?;
    // A wrong configuration is a part of the bundle, and its problems are a finding of the doctor.
    let loaded = config::load(&args.config.config);
    let mut parts = sources::collect(&args, &loaded).await;
    parts.insert(0, ("README.txt", Ok(readme(&parts, loaded.is_ok()))));
    let variables = std::env::vars_os();
    let variables = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let redactor = Redactor::new(secrets::known(loaded.as_ref().ok(), variables));
    let file = new_file::create(&args.to, 0o600)?;
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", args.to.display()));
    let parts = archive(parts, &redactor, SystemClock.now_ms() / 1_000, &file).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let written = Written { to: args.to, parts };
    let text = match args.json {
        true => json(&written)?,
        false => told(&written),
    };
    Ok(out::put(&text)?)
}

/// The first part: a note for the reader, and the index of all other parts, with the reason for each that is missing.
fn readme(parts: &[Part], knows_secrets: bool) -> String {
    let warning = if knows_secrets { "" } else { SECRETS_UNKNOWN };
    let lines = parts.iter().map(|(name, part)| match part {
        Ok(_) => format!("  {name}\n"),
        Err(why) => missing(name, why),
    });
    format!("{README}{warning}\nParts:\n{}", lines.collect::<String>())
}

/// The line about a part that is missing.
fn missing(name: &str, why: &str) -> String {
    format!("  {name} is missing: {}\n", why.trim().replace('\n', "\n    "))
}

/// The archive for people: its place, the number of its parts, and those that are missing.
fn told(written: &Written) -> String {
    let lines = written.parts.iter().filter_map(|part| Some(missing(part.name, part.missing.as_ref()?)));
    let lines: Vec<String> = lines.collect();
    let there = written.parts.len() - lines.len();
    format!("{}: {there} parts, {} missing; look through it\n{}", written.to.display(), lines.len(), lines.concat())
}

/// Writes the parts as a compressed archive, without their secrets. The time is in seconds since 1970.
fn archive(parts: Vec<Part>, redactor: &Redactor, seconds: u64, to: impl Write) -> std::io::Result<Vec<WrittenPart>> {
    let mut builder = tar::Builder::new(GzEncoder::new(to, Compression::default()));
    let mut written = Vec::new();
    for (name, part) in parts {
        let missing = part.as_ref().err().map(|why| redactor.clean(why));
        let cleaned = match &missing {
            Some(why) => format!("not available: {why}\n"),
            None => redactor.clean(&part.unwrap_or_default()),
        };
        let bytes = bounded(&cleaned).as_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        builder.append_data(&mut header, format!("{FOLDER}/{name}"), bytes)?;
        written.push(WrittenPart { name, bytes: bytes.len(), missing });
    }
    builder.into_inner()?.finish()?.flush()?;
    Ok(written)
}

/// The first bytes of a text, up to the bound.
fn bounded(text: &str) -> &str {
    let end = text.floor_char_boundary(MOST_BYTES);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use clap::Parser;
    use flate2::read::GzDecoder;

    use super::super::{Cli, Command};
    use super::*;

    /// The names of all parts.
    const PARTS: [&str; 17] = [
        "README.txt",
        "configuration.toml",
        "environment.txt",
        "doctor.json",
        "doctor.txt",
        "status.json",
        "overview.json",
        "quarantine.json",
        "parked.json",
        "refresh.json",
        "peers.json",
        "history.json",
        "verification.json",
        "events.txt",
        "versions.txt",
        "metrics.txt",
        "sizes.txt",
    ];

    fn read(bytes: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(GzDecoder::new(bytes)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (mut text, path) = (String::new(), entry.path().unwrap().display().to_string());
            entry.read_to_string(&mut text).unwrap();
            found.insert(path, text);
        }
        found
    }

    /// Secrets of every form, planted in every part.
    #[test]
    fn no_part_carries_a_secret_into_the_archive() {
        let planted = "harmless-before\n\
            token = \"planted-one\"\n{\"password\": \"planted-two\", \"message\": \"https://u:planted-three@h/x\"}\n\
            authorization: Bearer planted-four\nit said known-secret here\n\
            -----BEGIN\u{20}PRIVATE KEY-----\nplanted-five\n-----END PRIVATE KEY-----\nAKIA\u{49}OSFODNN7EXAMPLE\n\
            AWS_SESSION_TOKEN=planted-six\nharmless-behind\n";
        let redactor = Redactor::new(["known-secret".to_owned()]);
        let part = |name: &'static str| {
            let text = planted.to_owned();
            (name, if name == "peers.json" { Err(text) } else { Ok(text) })
        };
        let parts: Vec<Part> = PARTS.into_iter().map(part).collect();
        let mut bytes = Vec::new();
        let written = archive(parts, &redactor, 1, &mut bytes).unwrap();
        let found = read(&bytes);
        assert_eq!((written.len(), found.len()), (PARTS.len(), PARTS.len()));
        let told = told(&Written { to: PathBuf::from("/b.tar.gz"), parts: written });
        assert!(told.starts_with("/b.tar.gz: 16 parts, 1 missing") && !told.contains("planted"), "{told}");
        for (path, text) in found {
            assert!(path.starts_with("lockstep-support/"), "{path}");
            for secret in ["planted", "known-secret", "AKIA"] {
                assert!(!text.contains(secret), "{path} has {secret}: {text}");
            }
            assert!(text.contains("harmless-before") && text.contains("harmless-behind"), "{path}: {text}");
        }
    }

    /// Neither the configuration nor the sidecar can be used.
    #[tokio::test]
    async fn the_index_names_each_part_that_is_missing_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let [config, socket, to] = ["wrong.toml", "gone.sock", "b.tar.gz"].map(|name| folder.path().join(name));
        std::fs::write(&config, "site = 3\n").unwrap();
        let [config, socket, to] = [config, socket, to].map(|path| path.display().to_string());
        let words = ["lockstep", "support-bundle", "--config", &config, "--socket", &socket, "--to", &to];
        let Command::SupportBundle(args) = Cli::try_parse_from(words).unwrap().command else { panic!("{words:?}") };
        let loaded = config::load(&args.config.config);
        let parts = sources::collect(&args, &loaded).await;
        let named: Vec<&str> = ["README.txt"].into_iter().chain(parts.iter().map(|(name, _)| *name)).collect();
        assert_eq!(named, PARTS);
        let index = readme(&parts, loaded.is_ok());
        assert!(index.contains(SECRETS_UNKNOWN) && index.contains("\n  configuration.toml\n"), "{index}");
        for (name, why) in [
            ("metrics.txt", "it needs health.listen, and the configuration is wrong: "),
            ("sizes.txt", "it needs state, and the configuration is wrong: "),
            ("status.json", ""),
            ("doctor.json", ""),
        ] {
            assert!(index.contains(&format!("\n  {name} is missing: {why}")), "{name}: {index}");
        }
        assert!(!readme(&[("a.txt", Ok(String::new()))], true).contains("missing"));
    }

    #[test]
    fn a_part_is_bounded() {
        assert_eq!(bounded("short"), "short");
        let long = "ä".repeat(MOST_BYTES);
        assert!(bounded(&long).len() <= MOST_BYTES);
    }
}
