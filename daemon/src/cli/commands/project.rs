//! `lockstep project` and `lockstep head`: creates and deletes projects, and sets their `HEAD`, as commits.

use http::Method;
use lockstep_proto::bridge::{CreateProjectRequest, DeleteProjectRequest, ProjectResponse, SetHeadRequest};
use lockstep_proto::debt::Repair;
use lockstep_proto::{ProjectName, RefName};

use super::CliError;
use super::target::{self, OperatorTarget, Target};
use crate::clients::api_client::project_path;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ProjectCommand {
    /// Create a project at every site
    #[command(after_help = "Example:\n  lockstep project create tools/build --head refs/heads/main")]
    Create {
        #[command(flatten)]
        target: Target,
        /// Name of the project
        name: ProjectName,
        /// Branch that HEAD points to, by its full name; it need not exist
        #[arg(long, default_value = "refs/heads/main")]
        head: RefName,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Bring a degraded project up to date at this node now
    #[command(after_help = "Example:\n  lockstep project retry tools/build")]
    Retry {
        #[command(flatten)]
        target: OperatorTarget,
        /// Name of the project
        name: ProjectName,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Delete a project at every site
    #[command(after_help = "Example:\n  lockstep project delete tools/build --yes")]
    Delete {
        #[command(flatten)]
        target: Target,
        /// Name of the project
        name: ProjectName,
        /// Confirm the deletion; without this flag nothing is deleted
        #[arg(long)]
        yes: bool,
        /// Token of the lock of the project (`lockstep lock acquire`)
        #[arg(long, value_name = "TOKEN", env = "LOCKSTEP_LOCK")]
        lock: Option<String>,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum HeadCommand {
    /// Point HEAD at a branch
    #[command(after_help = "Example:\n  lockstep head set --project tools/build refs/heads/main")]
    Set {
        #[command(flatten)]
        target: Target,
        /// Name of the project
        #[arg(long)]
        project: ProjectName,
        /// Branch that HEAD points to, by its full name; it need not exist
        head: RefName,
        /// Token of the lock of the project (`lockstep lock acquire`)
        #[arg(long, value_name = "TOKEN", env = "LOCKSTEP_LOCK")]
        lock: Option<String>,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: ProjectCommand) -> Result<(), CliError> {
    let request_id = target::request_id();
    match command {
        ProjectCommand::Create { target, name, head, json } => {
            let body = CreateProjectRequest { request_id, head };
            let answer = target.change(Method::PUT, project_path(&name, ""), &body).await?;
            conclude(json, &format!("project {name}"), &answer)
        }
        ProjectCommand::Retry { target, name, json } => {
            super::quarantine::end(&target, json, Repair::RetryProject { project: name }).await
        }
        ProjectCommand::Delete { name, yes: false, .. } => Err(CliError::Usage(format!(
            "this deletes project {name} with all its refs at every site; give --yes to confirm"
        ))),
        ProjectCommand::Delete { target, name, yes: true, lock, json } => {
            let body = DeleteProjectRequest { request_id, lock };
            let answer = target.change(Method::DELETE, project_path(&name, ""), &body).await?;
            conclude(json, &format!("deletion of project {name}"), &answer)
        }
    }
}

pub(super) async fn head(command: HeadCommand) -> Result<(), CliError> {
    let HeadCommand::Set { target, project, head, lock, json } = command;
    let what = format!("HEAD of {project} at {head}");
    let body = SetHeadRequest { request_id: target::request_id(), head, lock };
    let answer = target.change(Method::PUT, project_path(&project, "/head"), &body).await?;
    conclude(json, &what, &answer)
}

fn conclude(json: bool, what: &str, answer: &ProjectResponse) -> Result<(), CliError> {
    target::conclude(json, answer, target::project_verdict(what, answer))
}
