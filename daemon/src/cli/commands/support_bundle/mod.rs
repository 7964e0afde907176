//! `lockstep support-bundle`: an archive with the state of this node, for those who help. Every part goes through the
//! same place on its way into the archive, where its secrets are taken out.
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
}

pub(super) async fn run(args: BundleArgs) -> Result<(), CliError> {
    new_file::absent(&args.to)?;
    // A wrong configuration is a part of the bundle, and its problems are a finding of the doctor.
    let settings = config::load(&args.config.config).ok();
    let mut parts = vec![("README.txt", README.to_owned())];
    parts.extend(sources::collect(&args, settings.as_ref()).await);
    let variables = std::env::vars_os();
    let variables = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let redactor = Redactor::new(secrets::known(settings.as_ref(), variables));
    let file = new_file::create(&args.to, 0o600)?;
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", args.to.display()));
    let parts = archive(parts, &redactor, SystemClock.now_ms() / 1_000, &file).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let written = Written { to: args.to, parts };
    let text = match args.json {
        true => json(&written)?,
        false => format!("{}: {} parts; look through it\n", written.to.display(), written.parts.len()),
    };
    Ok(out::put(&text)?)
}

/// Writes the parts as a compressed archive, without their secrets. The time is in seconds since 1970.
fn archive(parts: Vec<Part>, redactor: &Redactor, seconds: u64, to: impl Write) -> std::io::Result<Vec<WrittenPart>> {
    let mut builder = tar::Builder::new(GzEncoder::new(to, Compression::default()));
    let mut written = Vec::new();
    for (name, text) in parts {
        let cleaned = redactor.clean(&text);
        let bytes = bounded(&cleaned).as_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        builder.append_data(&mut header, format!("{FOLDER}/{name}"), bytes)?;
        written.push(WrittenPart { name, bytes: bytes.len() });
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

    use flate2::read::GzDecoder;

    use super::*;

    /// The names of all parts.
    const PARTS: [&str; 16] = [
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
        let parts: Vec<Part> = PARTS.iter().map(|name| (*name, planted.to_owned())).collect();
        let mut bytes = Vec::new();
        let written = archive(parts, &redactor, 1, &mut bytes).unwrap();
        let found = read(&bytes);
        assert_eq!((written.len(), found.len()), (PARTS.len(), PARTS.len()));
        for (path, text) in found {
            assert!(path.starts_with("lockstep-support/"), "{path}");
            for secret in ["planted", "known-secret", "AKIA"] {
                assert!(!text.contains(secret), "{path} has {secret}: {text}");
            }
            assert!(text.contains("harmless-before") && text.contains("harmless-behind"), "{path}: {text}");
        }
    }

    #[test]
    fn a_part_is_bounded() {
        assert_eq!(bounded("short"), "short");
        let long = "ä".repeat(MOST_BYTES);
        assert!(bounded(&long).len() <= MOST_BYTES);
    }
}
