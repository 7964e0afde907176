//! `lockstep stray`: lists, adopts and discards strays. A stray is a value that Gerrit's `init` or somebody else wrote
//! to a ref without the sidecar, and that gave way to the committed value, or one that a fenced site could not commit.

use http::Method;
use lockstep_proto::bridge::ProjectResponse;
use lockstep_proto::gerrit::{Stray, StrayEnd, StrayRequest};
use lockstep_proto::{Oid, ProjectName, RefName};

use super::CliError;
use super::table::Table;
use super::target::{self, OperatorTarget, Target};
use crate::cli::out;
use crate::clients::api_client::project_path;

#[derive(Debug, clap::Subcommand)]
pub(super) enum StrayCommand {
    /// List the strays of a project
    #[command(after_help = "Example:\n  lockstep stray list All-Projects\n  git -C All-Projects.git log VALUE")]
    List {
        #[command(flatten)]
        target: Target,
        /// Name of the project
        project: ProjectName,
        /// Print all fields as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Commit a stray, so that it becomes the value at every site
    #[command(after_help = "Example:\n  lockstep stray adopt All-Projects refs/meta/config")]
    Adopt(Which),
    /// Discard a stray: this node no longer keeps its value
    #[command(after_help = "Example:\n  lockstep stray discard All-Projects refs/meta/config")]
    Discard(Which),
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    target: OperatorTarget,
    /// Name of the project
    project: ProjectName,
    /// Full name of the ref
    name: RefName,
    /// Value of the stray; needed only if the ref has several
    value: Option<Oid>,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: StrayCommand) -> Result<(), CliError> {
    match command {
        StrayCommand::List { target, project, json } => {
            let strays = list(&target, &project).await?;
            let mut table = Table::new(&["value", "ref"]);
            for stray in &strays {
                table.row(vec![stray.value.to_string(), stray.name.to_string()]);
            }
            Ok(out::put(&if json { super::json(&strays)? } else { table.render() })?)
        }
        StrayCommand::Adopt(which) => end(which, StrayEnd::Adopt).await,
        StrayCommand::Discard(which) => end(which, StrayEnd::Discard).await,
    }
}

async fn list(target: &Target, project: &ProjectName) -> Result<Vec<Stray>, CliError> {
    target.get(&project_path(project, "/strays")).await
}

async fn end(which: Which, end: StrayEnd) -> Result<(), CliError> {
    let Which { target, project, name, value, json } = which;
    let fits = |stray: &Stray| stray.name == name && value.is_none_or(|value| value == stray.value);
    let found: Vec<Stray> = list(&target.target, &project).await?.into_iter().filter(fits).collect();
    let [stray] = &found[..] else {
        let values: Vec<String> = found.iter().map(|stray| stray.value.to_string()).collect();
        let found = if values.is_empty() { "no stray".to_owned() } else { format!("strays {}", values.join(", ")) };
        return Err(CliError::Usage(format!(
            "{name} of {project} has {found}; give a ref and a value that `lockstep stray list {project}` shows"
        )));
    };
    let done = match end {
        StrayEnd::Adopt => format!("{name} at {}", stray.value),
        StrayEnd::Discard => format!("stray {} of {name} discarded", stray.value),
    };
    let body = StrayRequest { request_id: target::request_id(), stray: stray.clone(), end };
    let answer: ProjectResponse = target.change(Method::POST, project_path(&project, "/strays"), &body).await?;
    let verdict = target::project_verdict(&done, &answer);
    target::conclude(json, &answer, verdict)
}
