//! `lockstep operators`: tokens for operators over the network.

use std::path::{Path, PathBuf};

use super::super::CliError;
use super::super::new_file;
use crate::base::clock::SeededEntropy;
use crate::cli::out;
use crate::stages::api::operator_tokens::{Holder, new_token};
use crate::stages::ports::OperatorRole;

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum OperatorsCommand {
    /// Make a token: the token goes into a file for its holder, the line for operators.token_file to standard output
    #[command(
        after_help = "Example:\n  lockstep operators token alice --out alice.token >> /etc/lockstep/operators\n\n\
                            With --role viewer, the holder sees the state of all sites and changes nothing. With \
                            --role approver, the holder also resumes a failover that --pause-before has paused. \
                            Keep the file out of the reach of the sidecar's own user, unless api.operators lists that \
                            user. Its last line must end with a newline before another one is appended. Both tokens of \
                            a holder are accepted until the line of the old one is removed. The sidecar needs no \
                            restart."
    )]
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct TokenArgs {
    /// Name of the holder, as the audit trail shows it
    holder: Holder,
    /// Calls that the holder may make: a viewer sees the state of all sites, and changes nothing; an approver resumes a
    /// failover that is paused for an approval, too
    #[arg(long, default_value = "operator")]
    role: RoleName,
    /// New file for the token
    #[arg(long)]
    out: PathBuf,
    /// Print all fields as JSON instead of the line; the token is in the file alone
    #[arg(long)]
    json: bool,
}

/// The role of a holder, as the option writes it.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RoleName {
    Viewer,
    Approver,
    Operator,
}

impl From<RoleName> for OperatorRole {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Viewer => Self::Viewer,
            RoleName::Approver => Self::Approver,
            RoleName::Operator => Self::Operator,
        }
    }
}

/// The token that was made, for `--json`.
#[derive(serde::Serialize)]
struct Made<'a> {
    holder: String,
    role: &'static str,
    /// The line for `operators.token_file`, with the hash of the token.
    line: &'a str,
    /// The file with the token.
    token_file: &'a Path,
}

pub(in super::super) fn run(command: OperatorsCommand) -> Result<(), CliError> {
    let OperatorsCommand::Token(TokenArgs { holder, role, out, json }) = command;
    let role = OperatorRole::from(role);
    let made = new_token(&holder, role, &SeededEntropy::from_machine());
    new_file::write(&out, &format!("{}\n", made.token), 0o600)?;
    let text = match json {
        true => {
            let (holder, role) = (holder.to_string(), role.name());
            super::super::json(&Made { holder, role, line: &made.line, token_file: &out })?
        }
        false => format!("{}\n", made.line),
    };
    Ok(out::put(&text)?)
}
