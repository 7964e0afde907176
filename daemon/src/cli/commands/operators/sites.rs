//! `lockstep sites`, `lockstep site` and `lockstep node`: the sites with their roles and nodes, from any site; changes
//! of roles, of the list of sites, and of a site's nodes.

use http::Method;
use lockstep_proto::failover::{Failover, ModeRequest, Role, RoleRequest, SiteStatus, SitesStatus};
use lockstep_proto::site_list::{AddSiteRequest, RemoveNodeRequest, RemoveSiteRequest, SiteMode, StreamPlace};
use lockstep_proto::{NodeId, SiteId};

use super::super::CliError;
use super::super::table::Table;
use super::super::target::{Audit, OperatorTarget, Target};
use super::failover_text::summary;
use super::site_table::{heartbeat, site_table};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep sites\n  lockstep sites --json | jq '.sites[] | {site, role, epoch}'")]
pub(in super::super) struct SitesArgs {
    #[command(flatten)]
    target: Target,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum SiteCommand {
    /// Make a site active or standby, outside of a failover
    #[command(
        after_help = "Examples:\n  lockstep site role muc-1 standby --expect-epoch 4 --reason 'one active site'\n  \
                            lockstep site role eu-aws standby --expect-epoch 7 --reason 'back after the failover'"
    )]
    Role(RoleArgs),
    /// Switch Lockstep off at a site, so that its Gerrits write without it, and on again
    #[command(after_help = "Examples:\n  lockstep site mode muc-1 off --expect-epoch 4 --reason 'rollback'\n  \
                            lockstep site mode muc-1 active --role standby --expect-epoch 5 --reason \
                            'eu-aws took over'\n\nThen each \
                            node of the site compares its repositories with the committed state. It takes commits \
                            when no ref differs; `lockstep status` there shows the differences. End it with `lockstep \
                            seed --again` or `--set-aside`.")]
    Mode(ModeArgs),
    /// Add a site to the list of sites, as a standby; then start its nodes
    #[command(after_help = "Examples:\n  lockstep site add muc-2 --reason 'third region'\n  \
                            lockstep site add eu-west --stream eu-west-1 --reason 'second AWS region'")]
    Add(AddArgs),
    /// Remove a site that is not active from the list of sites; then stop its nodes
    #[command(after_help = "Example:\n  lockstep site remove muc-2 --expect-epoch 3 --reason 'closed'")]
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum NodeCommand {
    /// Remove a node that will not come back, so that nothing waits for it; stop it first
    #[command(after_help = "Example, after a site was scaled from three replicas to two:\n  lockstep node remove \
                            muc-1-2 --reason 'two replicas are enough'")]
    Remove(RemoveNodeArgs),
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct RemoveNodeArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Name of the node
    node: NodeId,
    /// Reason, for the log
    #[arg(long)]
    reason: String,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct AddArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Name of the site
    site: SiteId,
    /// Region of the site's stream [default: the usual Region of each node]
    #[arg(long, value_name = "REGION")]
    stream: Option<String>,
    /// Endpoint of the site's stream, if it is not the one of the Region
    #[arg(long, value_name = "URL")]
    stream_endpoint: Option<String>,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct RemoveArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Name of the site
    site: SiteId,
    /// Epoch of the site, as `lockstep sites` shows it; 0 if no node was ever started there
    #[arg(long)]
    expect_epoch: u64,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct RoleArgs {
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
    #[command(flatten)]
    audit: Audit,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct ModeArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Name of the site
    site: SiteId,
    /// New mode: active or off
    #[arg(value_parser = mode)]
    mode: SiteMode,
    /// Role of the site that is switched on: active or standby [default: active, if no other site is active]
    #[arg(long, value_parser = role)]
    role: Option<Role>,
    /// Epoch of the site, as `lockstep sites` shows it; with another epoch, nothing is changed
    #[arg(long)]
    expect_epoch: u64,
    #[command(flatten)]
    audit: Audit,
}

fn mode(text: &str) -> Result<SiteMode, String> {
    match text {
        "active" => Ok(SiteMode::Active),
        "off" => Ok(SiteMode::Off),
        _ => Err(format!("{text:?} is not a mode; write active or off")),
    }
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "active" => Ok(Role::Active),
        "standby" => Ok(Role::Standby),
        _ => Err(format!("{text:?} is not a role that can be given; write active or standby")),
    }
}

pub(in super::super) async fn show(args: SitesArgs) -> Result<(), CliError> {
    let status: SitesStatus = args.target.get("/v1/sites").await?;
    put(args.json, &status)
}

fn put(json: bool, status: &SitesStatus) -> Result<(), CliError> {
    Ok(out::put(&if json { super::super::json(status)? } else { render(status) })?)
}

pub(in super::super) async fn run(command: SiteCommand) -> Result<(), CliError> {
    let (json, status): (bool, SitesStatus) = match command {
        SiteCommand::Role(args) => {
            let request = RoleRequest { role: args.role, expect_epoch: args.expect_epoch, reason: args.audit.reason };
            (args.audit.json, args.target.ask(Method::PUT, format!("/v1/sites/{}/role", args.site), &request).await?)
        }
        SiteCommand::Mode(args) => {
            let ModeArgs { target, site, mode, role, expect_epoch, audit } = args;
            let request = ModeRequest { mode, role, expect_epoch, reason: audit.reason };
            (audit.json, target.ask(Method::PUT, format!("/v1/sites/{site}/mode"), &request).await?)
        }
        SiteCommand::Add(args) => {
            let stream = StreamPlace { region: args.stream, endpoint: args.stream_endpoint };
            let request = AddSiteRequest { stream, reason: args.audit.reason };
            (args.audit.json, args.target.ask(Method::PUT, format!("/v1/sites/{}", args.site), &request).await?)
        }
        SiteCommand::Remove(args) => {
            let request = RemoveSiteRequest { expect_epoch: args.expect_epoch, reason: args.audit.reason };
            (args.audit.json, args.target.ask(Method::DELETE, format!("/v1/sites/{}", args.site), &request).await?)
        }
    };
    put(json, &status)
}

pub(in super::super) async fn node(command: NodeCommand) -> Result<(), CliError> {
    let NodeCommand::Remove(args) = command;
    let request = RemoveNodeRequest { reason: args.reason };
    let status: SitesStatus = args.target.ask(Method::DELETE, format!("/v1/nodes/{}", args.node), &request).await?;
    put(args.json, &status)
}

fn render(status: &SitesStatus) -> String {
    let failover = status.failover.as_ref().map(last).unwrap_or_default();
    let removed: Vec<&str> = status.removed.iter().map(SiteId::as_str).collect();
    let removed = if removed.is_empty() { String::new() } else { format!("removed\n  {}\n", removed.join(", ")) };
    format!("sites\n{}{removed}nodes\n{}{failover}", site_table(&status.sites), nodes(&status.sites))
}

fn nodes(sites: &[SiteStatus]) -> String {
    let mut table = Table::new(&["node", "site", "heartbeat", "takes writes", "behind other sites by"]);
    for (site, node) in sites.iter().flat_map(|site| site.nodes.iter().map(move |node| (site, node))) {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        table.row(vec![
            node.node.to_string(),
            site.site.to_string(),
            heartbeat(node.expelled, node.lives).to_owned(),
            yes(node.takes_writes),
            node.bootstrap.as_ref().map_or_else(|| format!("{} slots", node.behind), |joins| format!("joins: {joins}")),
        ]);
    }
    table.render()
}

fn last(failover: &Failover) -> String {
    format!("last failover\n  {}\n", summary(failover))
}
