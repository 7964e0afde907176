//! `lockstep update-ref`: creates, updates or deletes one ref by a commit, as `git update-ref` does in one repository.

use lockstep_proto::bridge::{Expected, RefCommand, RefTransactionRequest};
use lockstep_proto::{Oid, ProjectName, RefName};

use super::CliError;
use super::target::{self, Target};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lockstep update-ref --project tools/build refs/heads/main 5c3f...
  lockstep update-ref --project tools/build --old absent refs/tags/v1 5c3f...
  lockstep update-ref --project tools/build --delete refs/heads/old")]
pub(super) struct UpdateRefArgs {
    #[command(flatten)]
    target: Target,
    /// Name of the project
    #[arg(long)]
    project: ProjectName,
    /// Expected current value of the ref: an object id, `absent`, or `any`
    #[arg(long, default_value = "any", value_parser = expected)]
    old: Expected,
    /// Delete the ref; takes no new value
    #[arg(long, conflicts_with = "new")]
    delete: bool,
    /// Allow an update that is not a fast-forward
    #[arg(long)]
    force: bool,
    /// Message for the reflogs of the ref at all sites
    #[arg(short, long)]
    message: Option<String>,
    /// Token of the lock under which the ref moves (`lockstep lock acquire`)
    #[arg(long, value_name = "TOKEN", env = "LOCKSTEP_LOCK")]
    lock: Option<String>,
    /// Full name of the ref (refs/heads/main)
    #[arg(value_name = "REF")]
    name: RefName,
    /// New value of the ref: the full id of an object in the repository
    #[arg(required_unless_present = "delete")]
    new: Option<Oid>,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: UpdateRefArgs) -> Result<(), CliError> {
    let command = RefCommand { name: args.name.clone(), old: args.old, new: args.new, force: args.force };
    let request = RefTransactionRequest {
        request_id: target::request_id(),
        deadline_ms: None,
        atomic: true,
        commands: vec![command],
        actor: target::actor(),
        traceparent: None,
        message: args.message,
        lock: args.lock,
    };
    let response = args.target.submit(&args.project, &request).await?;
    let refusal = response.results.first().and_then(|result| result.refusal.as_ref());
    let verdict = target::verdict(args.name.as_str(), response.outcome, refusal);
    target::conclude(args.json, &response, verdict)
}

fn expected(text: &str) -> Result<Expected, String> {
    match text {
        "any" => Ok(Expected::Any),
        "absent" => Ok(Expected::Absent),
        oid => oid.parse().map(Expected::Oid).map_err(|error| format!("{error}; or give `absent` or `any`")),
    }
}
