//! `lockstep aws policy`: the least IAM policy of a site.

use super::SiteArgs;
use crate::cli::commands::config::ConfigArgs;
use crate::cli::commands::{CliError, json};
use crate::cli::out;
use crate::node::assembly::provision::{Account, resources};
use crate::node::config;
use crate::seams::aws::calls::Caller;
use crate::seams::aws::policy::policy;
use crate::seams::aws::{KeyArn, KmsKeys};

#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    sites: SiteArgs,
    /// Number of the AWS account that has the tables and streams
    #[arg(long, value_parser = account)]
    account: String,
    /// Partition of AWS: aws, aws-cn or aws-us-gov
    #[arg(long, default_value = "aws")]
    partition: String,
    /// Region of the resources for which the configuration names none
    #[arg(long, env = "AWS_REGION")]
    region: Option<String>,
    /// ARN of a KMS key that encrypts tables, streams or the bucket; may be repeated
    #[arg(long = "kms-key", value_name = "ARN")]
    keys: Vec<KeyArn>,
    /// The receiver: a sidecar (run), one that may create its tables and its stream (run-and-create), or operators who
    /// call `lockstep aws plan` and `check` (plan), `apply` (apply) or `lockstep refdb backup` (backup)
    #[arg(long = "for", default_value = "run", value_parser = caller, value_name = "WHO")]
    caller: Caller,
}

fn account(text: &str) -> Result<String, String> {
    let fits = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err("write the 12 digits of the account".to_owned()) }
}

fn caller(text: &str) -> Result<Caller, String> {
    match text {
        "run" => Ok(Caller::Run),
        "run-and-create" => Ok(Caller::RunAndCreate),
        "plan" => Ok(Caller::Plan),
        "apply" => Ok(Caller::Apply),
        "backup" => Ok(Caller::Backup),
        _ => Err("write run, run-and-create, plan, apply or backup".to_owned()),
    }
}

pub(super) fn run(args: &PolicyArgs) -> Result<(), CliError> {
    let settings = config::load(&args.config.config).map_err(|error| CliError::Usage(error.to_string()))?;
    let keys = KmsKeys::new(args.keys.clone()).map_err(|error| CliError::Usage(error.to_string()))?;
    let (partition, number, region) = (args.partition.clone(), args.account.clone(), args.region.clone());
    let of = resources(&settings, &args.sites.of(&settings), &keys, &Account { partition, number, region });
    let of = of.map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(out::put(&json(&policy(&of, args.caller))?)?)
}
