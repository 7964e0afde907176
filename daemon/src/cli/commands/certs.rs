//! `lockstep certs`: a small private authority for TLS between sites, and the certificates of its nodes and of
//! operators.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_proto::{NodeId, SiteId};

use super::CliError;
use super::new_file::{absent, write};
use crate::base::clock::{Clock, SystemClock};
use crate::cli::out;
use crate::seams::tls::PeerName;
use crate::seams::tls::authority::{self, Pair, Validity};
use crate::stages::api::operator_tokens::Holder;

/// The files of an authority, in its folder.
const AUTHORITY: [&str; 2] = ["ca.crt", "ca.key"];
/// The files of a node, in its folder: certificate, key and trust, as the setting `[tls]` names them.
const NODE: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum CertsCommand {
    /// Make a private authority: one key that signs the certificates of all nodes
    #[command(after_help = "Example:\n  lockstep certs init --dir authority")]
    Init(InitArgs),
    /// Issue the certificate of one node, or of one operator, signed by the authority
    #[command(after_help = "Example:\n  lockstep certs issue --dir authority --site muc-1 --node muc-1-0 \\\n    \
                            --host muc-1-0.gerrit.example.org --out muc-1-0\n  lockstep certs issue --dir \
                            authority --operator alice --out alice\n\nThe node's name in it is \
                            spiffe://<domain>/<site>/<node>. Put the three files where [tls] of its configuration \
                            names them. The operator's name is spiffe://<domain>/operator/<name>, for the setting \
                            operators.allow.")]
    Issue(IssueArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// Folder for the authority; keep it off the nodes
    #[arg(long)]
    dir: PathBuf,
    /// Days until the authority expires
    #[arg(long, default_value_t = 3_650)]
    days: u32,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct IssueArgs {
    /// Folder of the authority
    #[arg(long)]
    dir: PathBuf,
    /// Site of the node
    #[arg(long, requires = "node", required_unless_present = "operator")]
    site: Option<SiteId>,
    /// Name of the node
    #[arg(long, requires = "site")]
    node: Option<NodeId>,
    /// Name of an operator, in place of a node
    #[arg(long, conflicts_with_all = ["site", "node", "host"])]
    operator: Option<Holder>,
    /// Trust domain of the SPIFFE id
    #[arg(long, default_value = "lockstep")]
    domain: String,
    /// Host name or IP address of the node, in addition to its SPIFFE id; may be given several times
    #[arg(long)]
    host: Vec<PeerName>,
    /// Days until the certificate expires
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// Folder for the files of the node or operator
    #[arg(long)]
    out: PathBuf,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The files that were made, for `--json`.
#[derive(serde::Serialize)]
struct Made<'a> {
    /// The name in the certificate. None of an authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    days: u32,
    certificate: &'a Path,
    key: &'a Path,
    /// The certificate of the authority. None of an authority itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<&'a Path>,
}

pub(super) fn run(command: CertsCommand) -> Result<(), CliError> {
    match command {
        CertsCommand::Init(args) => init(&args),
        CertsCommand::Issue(args) => issue(&args),
    }
}

fn init(args: &InitArgs) -> Result<(), CliError> {
    let made = authority::init("Lockstep private authority", validity(args.days)?).map_err(CliError::failed)?;
    let [certificate, key] = AUTHORITY.map(|name| args.dir.join(name));
    create(&args.dir)?;
    write(&key, &made.key, 0o600)?;
    write(&certificate, &made.certificate, 0o644)?;
    if args.json {
        let made = Made { name: None, days: args.days, certificate: &certificate, key: &key, trust: None };
        return Ok(out::put(&super::json(&made)?)?);
    }
    let text = format!(
        "made {} and {}\nkeep the key secret and off the nodes; `lockstep certs issue` signs with it\n",
        certificate.display(),
        key.display()
    );
    Ok(out::put(&text)?)
}

/// The first part of the path in an operator's SPIFFE id. It is the name of no site.
const OPERATOR: &str = "operator";

fn issue(args: &IssueArgs) -> Result<(), CliError> {
    let [certificate, key] = AUTHORITY.map(|name| args.dir.join(name));
    let authority = Pair { certificate: read(&certificate)?, key: read(&key)? };
    let id = id(args)?;
    let validity = validity(args.days)?;
    let made = match &args.operator {
        Some(_) => authority::issue_operator(&authority, &id, validity),
        None => {
            let names: Vec<PeerName> = std::iter::once(id.clone()).chain(args.host.iter().cloned()).collect();
            authority::issue(&authority, &names, validity)
        }
    };
    let made = made.map_err(CliError::failed)?;
    create(&args.out)?;
    let [own, own_key, trust] = NODE.map(|name| args.out.join(name));
    [&own, &own_key, &trust].into_iter().try_for_each(|path| absent(path))?;
    write(&own_key, &made.key, 0o600)?;
    write(&own, &made.certificate, 0o644)?;
    write(&trust, &authority.certificate, 0o644)?;
    if args.json {
        let (name, days) = (Some(id.to_string()), args.days);
        let made = Made { name, days, certificate: &own, key: &own_key, trust: Some(&trust) };
        return Ok(out::put(&super::json(&made)?)?);
    }
    let (own, own_key, trust) = (own.display(), own_key.display(), trust.display());
    let usage = match &args.operator {
        Some(_) => format!("lockstep --operator-url https://HOST:PORT --cert {own} --key {own_key} --ca {trust} sites"),
        None => format!("[tls]\ncertificate_file = \"{own}\"\nkey_file = \"{own_key}\"\ntrust_file = \"{trust}\""),
    };
    Ok(out::put(&format!("{id}: valid for {} days\n{usage}\n", args.days))?)
}

/// The SPIFFE id of the node or operator.
fn id(args: &IssueArgs) -> Result<PeerName, CliError> {
    let path = match (&args.operator, &args.site, &args.node) {
        (Some(operator), ..) => format!("{OPERATOR}/{operator}"),
        (None, Some(site), _) if site.as_str() == OPERATOR => {
            let why = "its nodes would have the names of operators; issue their certificates with another authority";
            return Err(CliError::Usage(format!("--site {OPERATOR}: {why}")));
        }
        (None, Some(site), Some(node)) => format!("{site}/{node}"),
        (None, ..) => return Err(CliError::Usage("give --site and --node, or --operator".to_owned())),
    };
    let id = format!("spiffe://{}/{path}", args.domain);
    id.parse().map_err(|why| CliError::Usage(format!("{id}: {why}")))
}

fn validity(days: u32) -> Result<Validity, CliError> {
    if days == 0 {
        return Err(CliError::Usage("--days 0: give at least one day".to_owned()));
    }
    let lifetime = Duration::from_secs(u64::from(days) * 86_400);
    Ok(Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime })
}

fn create(folder: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(folder).map_err(|error| CliError::Failed(format!("{}: {error}", folder.display())))
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| {
        CliError::Usage(format!("{}: {error}; `lockstep certs init` makes an authority", path.display()))
    })
}
