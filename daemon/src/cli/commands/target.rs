//! Selects the sidecar that a command calls, and turns its verdicts into exit codes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{
    OBJECTS_HISTORY, Outcome, ProjectResponse, RefTransactionRequest, RefTransactionResponse, Refusal, RefusalCode,
};
use lockstep_proto::status::NodeStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::CliError;
use super::remote::Given;
use crate::base::base_paths::BasePaths;
use crate::base::clock::{Entropy, SeededEntropy};
use crate::cli::out;
use crate::clients::api_client::{Call, Client, ClientError, project_path};

/// Deadline of a call.
const DEADLINE: Duration = Duration::from_secs(60);

/// Deadline of a call whose answer the command can do without.
const LOOK: Duration = Duration::from_secs(5);

/// The option that selects the sidecar, beside those of an operator over the network.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    // Comes first: it looks whether the user wrote the option of a socket, before that is taken out of the matches.
    #[command(flatten)]
    remote: Given,
    /// Path of the sidecar's socket (setting api.socket)
    #[arg(long, env = "LOCKSTEP_SOCKET", default_value = crate::node::config::DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// The options that select the sidecar for a command of an operator.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OperatorTarget {
    #[command(flatten)]
    pub target: Target,
    /// Path of the sidecar's socket for operators (setting api.operators_socket) [default: beside --socket]
    #[arg(long, env = "LOCKSTEP_OPERATORS_SOCKET")]
    operators_socket: Option<PathBuf>,
}

/// The options of a command that changes something: the reason, and the form of the answer.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Audit {
    /// Reason, for the audit trail
    #[arg(long)]
    pub reason: String,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    pub json: bool,
}

impl OperatorTarget {
    /// The sidecar, in the way that operators have to it.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        let default = || crate::node::config::operators_socket(&self.target.socket);
        let socket = || Client::new(&self.operators_socket.clone().unwrap_or_else(default));
        Ok(self.target.remote.client()?.unwrap_or_else(socket))
    }

    /// Sends a change, once. Another copy would be refused: the first one changes the state that it expects.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let call = Call::new(method, path, body).map_err(CliError::failed)?;
        match self.client()?.send(&call, Instant::now() + DEADLINE).await {
            Err(error @ ClientError::NotSent { .. }) => Err(not_reached(&error)),
            Err(ClientError::NoAnswer(why)) => {
                Err(CliError::Failed(format!("no answer: {why}; `lockstep sites` shows whether it was carried out")))
            }
            Err(ClientError::Answered(error)) if error.code == RefusalCode::Unavailable => {
                Err(CliError::Failed(format!("{}; look with `lockstep sites` before you ask again", error.message)))
            }
            answer => answer.map_err(CliError::from),
        }
    }

    /// Sends a change, and sends it again if no answer came. Copies of it do no harm.
    pub(super) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        match resend(&self.client()?, method, path, body).await? {
            Err(error @ ClientError::NotSent { .. }) => Err(not_reached(&error)),
            answer => answer.map_err(CliError::from),
        }
    }
}

/// Sends a change, and sends it again if no answer came. The outer error is that of a body that cannot be sent.
async fn resend<T: DeserializeOwned>(
    client: &Client,
    method: Method,
    path: String,
    body: &impl Serialize,
) -> Result<Result<T, ClientError>, CliError> {
    let call = Call::new(method, path, body).map_err(CliError::failed)?;
    Ok(client.resend(&call, Instant::now() + DEADLINE).await)
}

/// No sidecar was reached in the way that operators have.
fn not_reached(error: &ClientError) -> CliError {
    CliError::Failed(format!(
        "{error}; this command is for operators: give their socket with --operators-socket or \
         LOCKSTEP_OPERATORS_SOCKET, or a listener with --operator-url"
    ))
}

impl Target {
    /// The sidecar: at the URL, if one was given, or else on the socket.
    ///
    /// # Errors
    /// The options over the network cannot be used.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        Ok(self.remote.client()?.unwrap_or_else(|| Client::new(&self.socket)))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.client()?.send(&Call::get(path), Instant::now() + DEADLINE).await;
        answer.map_err(CliError::from)
    }

    /// Sends a change, and sends it again if no answer came.
    pub(super) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        Ok(resend(&self.client()?, method, path, body).await??)
    }

    /// The project whose repository is at `git_dir` on the sidecar's volume, or `None` if the sidecar does not answer.
    ///
    /// # Errors
    /// The folder is not on the sidecar's volume, or is not where the sidecar keeps the repository of this project.
    pub(super) async fn project_of(&self, git_dir: &Path) -> Result<Option<ProjectName>, CliError> {
        self.remote.none()?;
        let status: NodeStatus = match self.client()?.send(&Call::get("/v1/status"), Instant::now() + LOOK).await {
            Ok(status) => status,
            Err(_) => return Ok(None),
        };
        let Some(base_paths) = BasePaths::of_status(&status) else { return Ok(None) };
        let (base_paths, git_dir) = (base_paths.seen(), canonical(git_dir)?);
        let Some((root, name)) = base_paths.at_path(&git_dir) else {
            let folders: Vec<String> =
                base_paths.all().iter().map(|root| format!("{}/PROJECT.git", root.display())).collect();
            return Err(CliError::Usage(format!(
                "{} is not on the git volume of the sidecar at {}, which serves the repositories {}; move it there, or \
                 give the socket of its own sidecar with --socket",
                git_dir.display(),
                self.socket.display(),
                folders.join(", ")
            )));
        };
        let project: ProjectName =
            name.parse().map_err(|error| CliError::Usage(format!("{}: {error}; rename it", git_dir.display())))?;
        if base_paths.of(&project) == root {
            return Ok(Some(project));
        }
        Err(CliError::Usage(format!(
            "{} is not the repository of {project}: by setting git.base_paths, that belongs at {}; move it there",
            git_dir.display(),
            base_paths.git_dir(&project).display()
        )))
    }

    /// The folders in which the sidecar keeps its repositories. `root`, if given, must be the root of its volume. Its
    /// other base paths need not be visible to this process.
    ///
    /// # Errors
    /// The sidecar does not answer, or `root` is not the root of its volume.
    pub(super) async fn base_paths_at(&self, root: Option<&Path>) -> Result<BasePaths, CliError> {
        let given = root.map(|root| format!("--root {}: ", root.display())).unwrap_or_default();
        let usage = |why: String| CliError::Usage(format!("{given}{why}"));
        self.remote.none()?;
        let status: NodeStatus = self.get("/v1/status").await?;
        let own = BasePaths::of_status(&status);
        let own = own.ok_or_else(|| usage("the sidecar does not report where its git volume is".to_owned()))?;
        let own = own.seen();
        match root {
            Some(root) if canonical(root)? != own.root() => {}
            Some(_) | None => return Ok(own),
        }
        Err(usage(format!(
            "the sidecar's git volume is {}; give that folder, or the socket of another sidecar with --socket",
            own.root().display()
        )))
    }

    /// Submits refs of an existing history, which is taken as it is. Waits as long as the request says.
    pub(super) async fn submit_history(
        &self,
        project: &ProjectName,
        request: &RefTransactionRequest,
    ) -> Result<RefTransactionResponse, CliError> {
        let call = Call::new(Method::POST, project_path(project, "/ref-transactions"), request);
        let call = call.map_err(CliError::failed)?.objects(OBJECTS_HISTORY);
        let wait = request.deadline_ms.map_or(DEADLINE, Duration::from_millis) + LOOK;
        self.client()?.resend(&call, Instant::now() + wait).await.map_err(CliError::from)
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
            ClientError::NotSent { .. } => Self::Failed(format!(
                "{error}; give another socket with --socket or LOCKSTEP_SOCKET, or --operator-url"
            )),
            ClientError::NoAnswer(_) => Self::failed(error),
        }
    }
}

/// The path with its symbolic links resolved, so that two paths can be compared.
fn canonical(path: &Path) -> Result<PathBuf, CliError> {
    path.canonicalize().map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

/// The project of a repository: the one that the volume shows (`found`), or else the one that the user gave (`asked`).
///
/// # Errors
/// Both are known and differ.
pub(super) fn same_project(
    path: &Path,
    asked: Option<ProjectName>,
    found: Option<ProjectName>,
) -> Result<Option<ProjectName>, CliError> {
    match (asked, found) {
        (Some(asked), Some(found)) if asked != found => Err(CliError::Usage(format!(
            "{} is the repository of project {found} on the sidecar's volume, not of {asked}; give --project {found}",
            path.display()
        ))),
        (asked, found) => Ok(found.or(asked)),
    }
}

/// A request id that no other request has.
pub(super) fn request_id() -> String {
    let entropy = SeededEntropy::from_machine();
    format!("cli-{:016x}{:016x}", entropy.next(), entropy.next())
}

/// The name of the user who runs the command. It is recorded with the change for information only.
pub(super) fn actor() -> Option<String> {
    std::env::var("USER").ok()
}

/// Prints the verdict on a change, or with `json` the whole answer, also of a change that was not made. A verdict that
/// is an error is that of the command.
pub(super) fn conclude(json: bool, answer: &impl Serialize, verdict: Result<String, CliError>) -> Result<(), CliError> {
    if json {
        out::put(&super::json(answer)?)?;
        return verdict.map(drop);
    }
    Ok(out::put(&(verdict? + "\n"))?)
}

/// The verdict on a change as text. Every outcome but a commit is an error.
pub(super) fn verdict(what: &str, outcome: Outcome, refusal: Option<&Refusal>) -> Result<String, CliError> {
    let why = refusal.map_or("no reason was given", |refusal| refusal.message.as_str());
    match outcome {
        Outcome::Committed => Ok(format!("{what}: committed")),
        Outcome::CommittedNotYetVisible => Ok(format!("{what}: committed; the local repository will show it soon")),
        Outcome::Refused => Err(CliError::Refused(format!("refused: {}", about(what, why)))),
        Outcome::Unknown => {
            Err(CliError::Failed(format!("{what}: outcome not known yet ({why}); check before you retry")))
        }
    }
}

/// The verdict on an operation on a project as text. Every outcome but a commit is an error.
pub(super) fn project_verdict(what: &str, response: &ProjectResponse) -> Result<String, CliError> {
    verdict(what, response.outcome, response.refusal.as_ref())
}

/// Prefixes a reason with its subject, unless it begins with the subject already.
pub(super) fn about(what: &str, why: &str) -> String {
    if why.starts_with(what) { why.to_owned() } else { format!("{what}: {why}") }
}
