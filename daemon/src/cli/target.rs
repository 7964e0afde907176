//! Which sidecar a command speaks to, and how its verdicts become exit codes.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{Outcome, ProjectResponse, RefTransactionRequest, RefTransactionResponse, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::CliError;
use crate::client::{Call, Client, ClientError, project_path};
use crate::clock::{Entropy, SeededEntropy};

/// How long a command waits for its answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// The sidecar's socket.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The sidecar's socket (setting api.socket)
    #[arg(long, env = "LOCKSTEP_SOCKET", default_value = crate::config::DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

impl Target {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = Client::new(&self.socket).send(&Call::get(path), Instant::now() + DEADLINE).await;
        answer.map_err(CliError::from)
    }

    /// Sends a change, again when the answer was lost.
    pub(super) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let call = Call::new(method, path, body).map_err(CliError::failed)?;
        Client::new(&self.socket).resend(&call, Instant::now() + DEADLINE).await.map_err(CliError::from)
    }

    pub(super) async fn submit(
        &self,
        project: &ProjectName,
        request: &RefTransactionRequest,
    ) -> Result<RefTransactionResponse, CliError> {
        self.change(Method::POST, project_path(project, "/ref-transactions"), request).await
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Answered(_) => Self::Refused(error.to_string()),
            ClientError::NotSent { .. } | ClientError::NoAnswer(_) => Self::failed(error),
        }
    }
}

/// A request id that no other request has.
pub(super) fn request_id() -> String {
    let entropy = SeededEntropy::from_machine();
    format!("cli-{:016x}{:016x}", entropy.next(), entropy.next())
}

/// Who runs the command, for people.
pub(super) fn actor() -> Option<String> {
    std::env::var("USER").ok()
}

/// Prints a verdict, or makes it an error.
pub(super) fn conclude(what: &str, outcome: Outcome, refusal: Option<&Refusal>) -> Result<(), CliError> {
    let why = refusal.map_or("no reason was given", |refusal| refusal.message.as_str());
    match outcome {
        Outcome::Committed => println!("{what}: committed"),
        Outcome::CommittedNotYetVisible => println!("{what}: committed; the local repository will show it soon"),
        Outcome::Refused => return Err(CliError::Refused(format!("{what}: refused: {why}"))),
        Outcome::Unknown => {
            return Err(CliError::Failed(format!("{what}: not known yet ({why}); look before you try again")));
        }
    }
    Ok(())
}

/// The same for an operation on a project.
pub(super) fn conclude_project(what: &str, response: &ProjectResponse) -> Result<(), CliError> {
    conclude(what, response.outcome, response.refusal.as_ref())
}
