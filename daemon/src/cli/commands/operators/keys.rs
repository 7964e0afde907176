//! `lockstep keys` and `lockstep signing`: the keys by which sites sign their records, and whether they must.

use std::path::{Path, PathBuf};

use http::Method;
use lockstep_proto::KeyId;
use lockstep_proto::keys::{ChangeKeyRequest, KeyState, RequireSigningRequest, SigningStatus};

use super::super::CliError;
use super::super::new_file;
use super::super::table::Table;
use super::super::target::{Audit, OperatorTarget, Target};
use crate::cli::out;
use crate::seams::signing;

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum KeysCommand {
    /// Make the private key of a site, for signing.key_file of its nodes
    #[command(after_help = "Example:\n  lockstep keys generate --out /etc/lockstep/signing.key\n\n\
                            All nodes of a site may have the same key. Each site needs a key of its own. A node \
                            registers the public key in the refdb when it starts.")]
    Generate(GenerateArgs),
    /// List the public keys of all sites
    List(ShowArgs),
    /// Retire a key: it still verifies, and no node may sign with it any more
    #[command(after_help = "Example:\n  lockstep keys retire 5b0c8a51d9e27f30 --reason 'yearly rotation'")]
    Retire(KeyArgs),
    /// Drop a retired key, once nothing that it signed is needed any more
    #[command(after_help = "Example:\n  lockstep keys drop 5b0c8a51d9e27f30 --reason 'yearly rotation'")]
    Drop(KeyArgs),
}

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum SigningCommand {
    /// Show whether records must be signed, and which nodes do not sign
    Status(ShowArgs),
    /// Require that every record is signed: no site applies a record of anybody else in a stream
    #[command(after_help = "Example:\n  lockstep signing require --reason 'streams are shared with other teams'\n\n\
                            Each site ends its incarnations and opens new ones: pushes of that moment are refused \
                            and can be repeated. Nodes of releases that cannot sign commit nothing any more, even \
                            after `lockstep signing release`.")]
    Require(RequireArgs),
    /// No longer require signatures
    #[command(after_help = "Example:\n  lockstep signing release --reason 'a site lost its key'")]
    Release(RequireArgs),
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct GenerateArgs {
    /// New file for the private key; it gets mode 0600
    #[arg(long)]
    out: PathBuf,
    /// Print all fields as JSON instead of text; the private key is in the file alone
    #[arg(long)]
    json: bool,
}

/// The key that was made, for `--json`.
#[derive(serde::Serialize)]
struct Made<'a> {
    key: KeyId,
    key_file: &'a Path,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct ShowArgs {
    #[command(flatten)]
    target: Target,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct KeyArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Name of the key, as `lockstep keys list` shows it
    #[arg(value_name = "KEY")]
    signing_key: KeyId,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct RequireArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    audit: Audit,
}

pub(in super::super) async fn keys(command: KeysCommand) -> Result<(), CliError> {
    match command {
        KeysCommand::Generate(args) => {
            new_file::absent(&args.out)?;
            let key = signing::generate().map_err(CliError::failed)?;
            new_file::write(&args.out, &key, 0o600)?;
            let made = signing::SiteSigner::load(&args.out).map_err(CliError::failed)?;
            let text = match args.json {
                true => super::super::json(&Made { key: made.id(), key_file: &args.out })?,
                false => format!("key {}\n", made.id()),
            };
            Ok(out::put(&text)?)
        }
        KeysCommand::List(args) => {
            let status = status(&args).await?;
            Ok(out::put(&if args.json { super::super::json(&status.keys)? } else { key_table(&status) })?)
        }
        KeysCommand::Retire(args) => change(args, KeyState::Retired).await,
        KeysCommand::Drop(args) => change(args, KeyState::Dropped).await,
    }
}

pub(in super::super) async fn signing(command: SigningCommand) -> Result<(), CliError> {
    let (args, required) = match command {
        SigningCommand::Status(args) => {
            let status = status(&args).await?;
            return Ok(out::put(&if args.json { super::super::json(&status)? } else { render(&status) })?);
        }
        SigningCommand::Require(args) => (args, true),
        SigningCommand::Release(args) => (args, false),
    };
    let request = RequireSigningRequest { required, reason: args.audit.reason };
    let status: SigningStatus = args.target.change(Method::POST, "/v1/signing".to_owned(), &request).await?;
    Ok(out::put(&if args.audit.json { super::super::json(&status)? } else { render(&status) })?)
}

async fn status(args: &ShowArgs) -> Result<SigningStatus, CliError> {
    args.target.get("/v1/signing").await
}

async fn change(args: KeyArgs, state: KeyState) -> Result<(), CliError> {
    let request = ChangeKeyRequest { key: args.signing_key, state, reason: args.audit.reason };
    let status: SigningStatus = args.target.change(Method::POST, "/v1/signing/keys".to_owned(), &request).await?;
    Ok(out::put(&if args.audit.json { super::super::json(&status.keys)? } else { key_table(&status) })?)
}

fn render(status: &SigningStatus) -> String {
    let mut table = Table::new(&["site", "signatures", "epoch"]);
    for site in &status.sites {
        let required = if site.required { "required" } else { "not required" };
        table.row(vec![site.site.to_string(), required.to_owned(), site.epoch.to_string()]);
    }
    let unsigned = match status.unsigned_nodes.as_slice() {
        [] => "every node signs\n".to_owned(),
        nodes => format!("these nodes do not sign: {}\n", nodes.join(", ")),
    };
    format!("{}{unsigned}keys\n{}", table.render(), key_table(status))
}

fn key_table(status: &SigningStatus) -> String {
    let mut table = Table::new(&["key", "site", "state", "incarnations", "changed by"]);
    for key in &status.keys {
        table.row(vec![
            key.id.to_string(),
            key.site.to_string(),
            key.state.name().to_owned(),
            key.used_by.len().to_string(),
            key.changed.clone(),
        ]);
    }
    table.render()
}
