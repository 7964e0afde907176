//! The table of all sites.

use lockstep_proto::failover::{SiteNode, SiteStatus};

use super::table::Table;

/// A table of sites.
pub(super) fn site_table(sites: &[SiteStatus]) -> String {
    let mut table = Table::new(&["site", "role", "epoch", "nodes alive", "take writes", "not in the event log yet"]);
    for site in sites {
        let count = |is: fn(&SiteNode) -> bool| site.nodes.iter().filter(|node| is(node)).count();
        table.row(vec![
            site.site.to_string(),
            site.role.name().to_owned(),
            site.epoch.to_string(),
            format!("{} of {}", count(|node| node.lives), site.nodes.len()),
            count(|node| node.takes_writes && node.lives).to_string(),
            site.unpublished.to_string(),
        ]);
    }
    table.render()
}
