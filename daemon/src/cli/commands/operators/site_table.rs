//! The table of all sites, and the words for a node's heartbeat.

use lockstep_proto::failover::{SiteNode, SiteStatus};

use super::super::table::Table;

/// A table of sites.
pub(in super::super) fn site_table(sites: &[SiteStatus]) -> String {
    let mut table = Table::new(&["site", "role", "epoch", "nodes alive", "take writes", "not in the event log yet"]);
    for site in sites {
        let count = |is: fn(&SiteNode) -> bool| site.nodes.iter().filter(|node| is(node)).count();
        table.row(vec![
            site.site.to_string(),
            if site.off { "off" } else { site.role.name() }.to_owned(),
            site.epoch.to_string(),
            format!("{} of {}", count(|node| node.lives), count(|node| !node.expelled)),
            count(|node| node.takes_writes && node.lives).to_string(),
            site.unpublished.to_string(),
        ]);
    }
    table.render()
}

/// The heartbeat of a node, in a word or two. An expelled node has none, and nothing waits for it.
pub(in super::super) fn heartbeat(expelled: bool, lives: bool) -> &'static str {
    match (expelled, lives) {
        (true, _) => "expelled",
        (false, true) => "moves",
        (false, false) => "stands still",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expelled_node_is_not_counted() {
        let node = |name: &str, lives: bool, expelled: bool| {
            serde_json::json!({
                "node": name, "lives": lives, "expelled": expelled, "takes_writes": lives, "behind": 0,
            })
        };
        let site = serde_json::json!({
            "site": "a", "role": "active", "epoch": 1, "unpublished": 0,
            "nodes": [node("a-0", true, false), node("a-1", false, false), node("a-2", false, true)],
        });
        let text = site_table(&[serde_json::from_value(site).unwrap()]);
        assert!(text.contains("1 of 2"), "{text}");
        let off = serde_json::json!({
            "site": "a", "role": "fenced", "epoch": 2, "off": true, "unpublished": 0, "nodes": [],
        });
        let text = site_table(&[serde_json::from_value(off).unwrap()]);
        assert!(text.contains("  a     off   2 "), "{text}");
        assert_eq!((heartbeat(true, false), heartbeat(false, false)), ("expelled", "stands still"));
    }
}
