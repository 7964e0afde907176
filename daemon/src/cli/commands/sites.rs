//! `lockstep sites` and `lockstep site role`: the sites with their roles, from any site, and a change of role.

use http::Method;
use lockstep_proto::SiteId;
use lockstep_proto::failover::{Failover, Role, RoleRequest, SiteStatus, SitesStatus};

use super::CliError;
use super::failover_text::summary;
use super::site_table::site_table;
use super::table::Table;
use super::target::{OperatorTarget, Target};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep sites\n  lockstep sites --json | jq '.sites[] | {site, role, epoch}'")]
pub(super) struct SitesArgs {
    #[command(flatten)]
    target: Target,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum SiteCommand {
    /// Make a site active or standby, outside of a failover
    #[command(
        after_help = "Examples:\n  lockstep site role muc-1 standby --expect-epoch 4 --reason 'one active site'\n  \
                            lockstep site role eu-aws standby --expect-epoch 7 --reason 'back after the failover'"
    )]
    Role(RoleArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct RoleArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Name of the site
    site: SiteId,
    /// New role: active or standby
    #[arg(value_parser = role)]
    role: Role,
    /// Epoch of the site, as `lockstep sites` shows it; with another epoch, nothing is changed
    #[arg(long)]
    expect_epoch: u64,
    /// Reason, for the audit trail
    #[arg(long)]
    reason: String,
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "active" => Ok(Role::Active),
        "standby" => Ok(Role::Standby),
        _ => Err(format!("{text:?} is not a role that can be given; write active or standby")),
    }
}

pub(super) async fn show(args: SitesArgs) -> Result<(), CliError> {
    let status: SitesStatus = args.target.get("/v1/sites").await?;
    let text = if args.json { super::json(&status)? } else { render(&status) };
    Ok(out::put(&text)?)
}

pub(super) async fn run(command: SiteCommand) -> Result<(), CliError> {
    let SiteCommand::Role(args) = command;
    let request = RoleRequest { role: args.role, expect_epoch: args.expect_epoch, reason: args.reason };
    let path = format!("/v1/sites/{}/role", args.site);
    let status: SitesStatus = args.target.ask(Method::PUT, path, &request).await?;
    Ok(out::put(&render(&status))?)
}

fn render(status: &SitesStatus) -> String {
    let failover = status.failover.as_ref().map(last).unwrap_or_default();
    format!("sites\n{}nodes\n{}{failover}", site_table(&status.sites), nodes(&status.sites))
}

fn nodes(sites: &[SiteStatus]) -> String {
    let mut table = Table::new(&["node", "site", "heartbeat", "takes writes", "behind other sites by"]);
    for (site, node) in sites.iter().flat_map(|site| site.nodes.iter().map(move |node| (site, node))) {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        table.row(vec![
            node.node.to_string(),
            site.site.to_string(),
            if node.lives { "moves" } else { "stands still" }.to_owned(),
            yes(node.takes_writes),
            format!("{} slots", node.behind),
        ]);
    }
    table.render()
}

fn last(failover: &Failover) -> String {
    format!("last failover\n  {}\n", summary(failover))
}
