//! The options with which an operator reaches a sidecar over the network. They belong to `lockstep` itself, and hold
//! for each of its commands.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::CliError;
use crate::clients::api_client::{Client, OperatorAccess};
use crate::seams::tls::{ClientFiles, ClientMaterial, PeerName};

/// The options over the network.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Over the network, for operators")]
pub(super) struct Remote {
    /// URL of the sidecar's listener for operators (setting operators.listen): https://host:port
    #[arg(long, global = true, env = "LOCKSTEP_OPERATOR_URL", hide_short_help = true)]
    operator_url: Option<String>,
    /// File with your token; or give --cert and --key
    #[arg(long, global = true, env = "LOCKSTEP_OPERATOR_TOKEN_FILE", hide_short_help = true)]
    token_file: Option<PathBuf>,
    /// Your certificate, in PEM format
    #[arg(long, global = true, env = "LOCKSTEP_OPERATOR_CERT", hide_short_help = true)]
    cert: Option<PathBuf>,
    /// The private key of your certificate
    #[arg(long, global = true, env = "LOCKSTEP_OPERATOR_KEY", hide_short_help = true)]
    key: Option<PathBuf>,
    /// Authorities that you trust, in PEM format
    #[arg(long, global = true, env = "LOCKSTEP_OPERATOR_CA", hide_short_help = true)]
    ca: Option<PathBuf>,
    /// Name that the sidecar's certificate must have: a SPIFFE id or a host name [default: the host of the URL]
    #[arg(long, global = true, env = "LOCKSTEP_OPERATOR_IDENTITY", hide_short_help = true)]
    identity: Option<PeerName>,
}

/// The options of [`Remote`], read where a subcommand selects its sidecar. Clap hands global options down to it.
#[derive(Clone, Debug)]
pub(super) struct Given {
    remote: Remote,
    /// The option on the command line that selects a sidecar of this machine.
    socket: Option<&'static str>,
}

/// The options that select a sidecar of this machine, with their ids.
const SOCKETS: [(&str, &str); 2] = [("socket", "--socket"), ("operators_socket", "--operators-socket")];

/// The option with which this command selects a sidecar of this machine, if its user wrote it. The environment does not
/// count, because it may hold for many commands.
fn written(matches: &ArgMatches) -> Option<&'static str> {
    let is_written = |id: &str| {
        matches.try_contains_id(id).unwrap_or(false) && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    SOCKETS.into_iter().find(|(id, _)| is_written(id)).map(|(_, option)| option)
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { remote: Remote::from_arg_matches(matches)?, socket: written(matches) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.socket = written(matches);
        self.remote.update_from_arg_matches(matches)
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl Given {
    /// A client of the sidecar at the URL. None if no URL was given. The files are read each time, so they may be
    /// replaced while a command follows something.
    ///
    /// # Errors
    /// The options do not fit together, or a file cannot be used.
    pub(super) fn client(&self) -> Result<Option<Client>, CliError> {
        let Remote { operator_url, token_file, cert, key, ca, identity } = &self.remote;
        let Some(url) = operator_url else { return self.unused().map(|()| None) };
        let usage = |why: &str| CliError::Usage(format!("--operator-url {url}: {why}"));
        if let Some(socket) = self.socket {
            return Err(usage(&format!("{socket} names another sidecar; leave one of both out, or unset {URL}")));
        }
        let address = address(url).ok_or_else(|| usage("write https://host:port of the sidecar's operators.listen"))?;
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).trim_matches(['[', ']']);
        let identity = match identity {
            Some(identity) => identity.clone(),
            None => host.parse().map_err(|_| usage("give the name in the sidecar's certificate with --identity"))?,
        };
        let trust = ca.clone().ok_or_else(|| usage("give the authorities that you trust with --ca"))?;
        let own = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(usage("--cert and --key belong together; give both or none")),
        };
        if own.is_some() == token_file.is_some() {
            return Err(usage("give either --token-file, or --cert and --key"));
        }
        let tls = ClientMaterial::load(&ClientFiles { own, trust });
        let tls = tls.map_err(|error| CliError::Usage(error.to_string()))?;
        let token = token_file.as_ref().map(token).transpose()?;
        Ok(Some(Client::remote(OperatorAccess { address, identity, tls, token })))
    }
}

impl Given {
    /// Refuses options over the network without a URL: the command would go to a sidecar of this machine.
    fn unused(&self) -> Result<(), CliError> {
        let Remote { token_file, cert, key, ca, identity, .. } = &self.remote;
        let given = [
            ("--token-file", token_file.is_some()),
            ("--cert", cert.is_some()),
            ("--key", key.is_some()),
            ("--ca", ca.is_some()),
            ("--identity", identity.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(CliError::Usage(format!(
                "{option} (or its variable) is for a sidecar over the network: give --operator-url or {URL} too, or \
                 leave it out to call the sidecar of this machine"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a URL for a command that works on the repositories of this machine.
    ///
    /// # Errors
    /// A URL was given.
    pub(super) fn none(&self) -> Result<(), CliError> {
        match &self.remote.operator_url {
            Some(url) => Err(CliError::Usage(format!(
                "--operator-url {url}: this command works on the repositories of this machine, so it needs the sidecar \
                 of this machine; leave the URL out, or unset {URL}"
            ))),
            None => Ok(()),
        }
    }
}

/// The variable with the URL.
const URL: &str = "LOCKSTEP_OPERATOR_URL";

/// `host:port` of a URL.
fn address(url: &str) -> Option<String> {
    let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https"))?;
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    plain.then(|| Some(format!("{}:{}", uri.host()?, uri.port_u16()?)))?
}

/// The token in a file: its first line that is not empty.
fn token(path: &PathBuf) -> Result<String, CliError> {
    let usage = |why: String| CliError::Usage(format!("--token-file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty());
    token.map(str::to_owned).ok_or_else(|| usage("it is empty; `lockstep operators token` makes a token".to_owned()))
}
