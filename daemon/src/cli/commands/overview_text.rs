//! The overview of all sites as text: `lockstep status --all` and `lockstep topology`. Its lines fit into 80 columns
//! while the names are short.

use lockstep_proto::SiteId;
use lockstep_proto::overview::{InFlight, Lack, NodeDigest, NodeOverview, Overview, Seen, SiteOverview, StreamLag};

use super::operators::failover_text::summary;
use super::operators::locks::render;
use super::operators::site_table::heartbeat;
use super::table::Table;
use crate::base::time_text::{short, utc};

/// The width into which sentences are wrapped.
const WIDTH: usize = 78;

/// The headings of sections that report something bad.
pub(super) const ALARMS: [&str; 3] = ["NOT SAFE", "OUT OF ORDER", "THE REFDB WENT BACK IN TIME"];

/// All sites as text.
pub(super) fn overview(all: &Overview) -> String {
    let head = format!("all sites, as {} sees them at {}\n", all.by, utc(all.at_ms));
    let went_back: Vec<String> = all.refdb_went_back.iter().map(|why| format!("no node commits: {why}")).collect();
    let blockers = all.sites.iter().flat_map(|site| {
        let blockers = site.safe.iter().flat_map(|safe| &safe.blockers);
        blockers.map(|why| format!("{}: {why}", site.status.site))
    });
    let mut problems: Vec<String> = all.sites.iter().flat_map(|site| site.problems.clone()).collect();
    if all.nobody_writes() {
        problems.push("no site is active, and no failover goes on: nobody takes writes".to_owned());
    }
    let exposure = vec![all.exposure.clone()];
    [
        head,
        lines(ALARMS[2], &went_back),
        sites(all),
        lines(ALARMS[0], &blockers.collect::<Vec<_>>()),
        lines(ALARMS[1], &problems),
        failover(all),
        locked(all),
        lacking(all),
        nodes(all),
        lines("exposure", &exposure),
    ]
    .concat()
}

/// The locks of operators and bridges, maintenance included.
fn locked(all: &Overview) -> String {
    let table = render(all.locks.iter());
    if table.is_empty() { table } else { format!("locks\n{table}") }
}

/// Sites, streams and nodes, and the streams that each node reads.
pub(super) fn topology(all: &Overview) -> String {
    let mut sites = Table::new(&["site", "role", "epoch", "nodes"]);
    let mut streams = Table::new(&["stream of", "written by", "read by (with the lag)"]);
    let mut nodes = Table::new(&["node", "site", "heartbeat", "takes writes", "program", "digest"]);
    for site in &all.sites {
        let (name, status) = (&site.status.site, &site.status);
        let names: Vec<&str> = site.nodes.iter().map(|node| node.node.as_str()).collect();
        sites.row(vec![name.to_string(), status.role.name().to_owned(), status.epoch.to_string(), names.join(", ")]);
        let writers = site.nodes.iter().filter(|node| node.takes_writes).map(|node| node.node.as_str());
        let writers: Vec<&str> = writers.collect();
        let readers: Vec<String> = every_node(all).filter_map(|node| reader(node, name)).collect();
        streams.row(vec![name.to_string(), or(&writers.join(", "), "nobody"), or(&readers.join(", "), "nobody")]);
        for node in &site.nodes {
            let program = node.digest.as_ref().map_or("-", |digest| digest.program.as_str());
            nodes.row(vec![
                node.node.to_string(),
                name.to_string(),
                heartbeat(node.expelled, node.lives).to_owned(),
                if node.takes_writes { "yes" } else { "no" }.to_owned(),
                program.to_owned(),
                digest_age(node),
            ]);
        }
    }
    let tables = [("sites", sites), ("streams", streams), ("nodes", nodes)];
    tables.iter().map(|(title, table)| format!("{title}\n{}", table.render())).collect()
}

fn every_node(all: &Overview) -> impl Iterator<Item = &NodeOverview> {
    all.sites.iter().flat_map(|site| &site.nodes)
}

/// A node that reads the stream of a site, with its lag. None if it does not read it, or is not known to.
fn reader(node: &NodeOverview, site: &SiteId) -> Option<String> {
    let digest = node.digest.as_ref()?;
    let lag = digest.streams.iter().find(|lag| lag.site == *site)?;
    let lag = if node.is_old { "OLD".to_owned() } else { format!("{:.1} s", lag.seconds) };
    Some(format!("{} ({lag})", node.node))
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}

fn sites(all: &Overview) -> String {
    let mut table = Table::new(&["site", "role", "epoch", "alive", "take writes", "safe to fail over to now?"]);
    for site in &all.sites {
        let (status, nodes) = (&site.status, &site.nodes);
        let count = |is: &dyn Fn(&NodeOverview) -> bool| nodes.iter().filter(|node| is(node)).count();
        table.row(vec![
            status.site.to_string(),
            status.role.name().to_owned(),
            status.epoch.to_string(),
            format!("{}/{}", count(&|node| node.lives), count(&|node| !node.expelled)),
            count(&|node| node.takes_writes).to_string(),
            safe(site).to_owned(),
        ]);
    }
    format!("sites\n{}", table.render())
}

fn safe(site: &SiteOverview) -> &'static str {
    match &site.safe {
        None => "- (no other site takes writes)",
        Some(safe) if safe.safe => "yes",
        Some(_) => "NO",
    }
}

fn failover(all: &Overview) -> String {
    let running = all.failover.as_ref().filter(|failover| failover.end.is_none());
    let mut found: Vec<String> = running.map(summary).into_iter().collect();
    found.extend(all.waits_for.iter().map(|why| format!("... {why}")));
    lines("failover", &found)
}

/// The commits that each site lacks. It would lose them if their origin and the refdb vanished now.
fn lacking(all: &Overview) -> String {
    let mut table = Table::new(&["site", "lacks of", "slots", "in flight", "seen, not applied", "as of"]);
    for (site, lack) in all.sites.iter().flat_map(|site| site.lacks.iter().map(move |lack| (site, lack))) {
        let Lack { from, slots, in_flight, seen } = lack;
        let ago = |age_ms: u64| format!("{} ago", short(age_ms));
        let in_flight = in_flight.as_ref().map(|InFlight { slots, age_ms }| format!("{slots} ({})", ago(*age_ms)));
        let seen_text = |seen: &Seen| format!("{} ({:.1} s)", seen.transactions, seen.seconds);
        table.row(vec![
            site.status.site.to_string(),
            from.to_string(),
            slots.map_or("not known".to_owned(), |slots| slots.to_string()),
            in_flight.unwrap_or_else(|| "-".to_owned()),
            seen.as_ref().map_or("-".to_owned(), seen_text),
            seen.as_ref().map_or("-".to_owned(), |seen| ago(seen.age_ms)),
        ]);
    }
    let why = "A site that lacks something reads it in the refdb. It would be lost only if the refdb's Region were \
               lost too. Slots are counted at the last heartbeat of their source.";
    let text = table.render();
    if text.is_empty() {
        text
    } else {
        format!("{}{text}", lines("not yet applied here (kept by the refdb)", &[why.to_owned()]))
    }
}

fn nodes(all: &Overview) -> String {
    let head = ["node", "digest", "lag", "journal", "set aside", "degraded", "refresh", "verified"];
    let mut table = Table::new(&head);
    for node in every_node(all) {
        let name = node.node.to_string();
        let Some(digest) = &node.digest else {
            let dashes = ["-"; 6].map(str::to_owned);
            table.row([vec![name, digest_age(node)], dashes.to_vec()].concat());
            continue;
        };
        let ready = if digest.is_ready() { "" } else { " NOT READY" };
        let cells = [digest_age(node) + ready, lag(digest), digest.unpublished.to_string(), aside(digest)];
        let verified = digest.verified.as_ref().map_or("no".to_owned(), |last| {
            let age = short(all.at_ms.saturating_sub(last.at_ms));
            if last.mismatches > 0 { format!("{} DIFFER", last.mismatches) } else { format!("{age} ago") }
        });
        let refresh = digest.refresh.as_ref().map_or("-".to_owned(), |refresh| refresh.due.to_string());
        table.row([vec![name], cells.to_vec(), vec![digest.degraded.to_string(), refresh, verified]].concat());
    }
    format!("nodes (set aside: parked/quarantined/owed; verified: against the refdb)\n{}", table.render())
}

/// The age of a digest. An old one is marked.
fn digest_age(node: &NodeOverview) -> String {
    match node.age_ms {
        None => "none".to_owned(),
        Some(age_ms) if node.is_old => format!("{} OLD", short(age_ms)),
        Some(age_ms) => short(age_ms),
    }
}

/// The longest lag behind a stream.
fn lag(digest: &NodeDigest) -> String {
    let longest = digest.streams.iter().max_by(|one, other| one.seconds.total_cmp(&other.seconds));
    longest.map_or("-".to_owned(), |StreamLag { transactions, seconds, .. }| format!("{transactions}/{seconds:.1}s"))
}

fn aside(digest: &NodeDigest) -> String {
    format!("{}/{}/{}", digest.parked, digest.held, digest.owed)
}

/// A section of sentences, wrapped and indented. Empty if there are none.
fn lines(title: &str, sentences: &[String]) -> String {
    if sentences.is_empty() {
        return String::new();
    }
    format!("{title}\n{}", sentences.iter().map(|one| wrapped(one)).collect::<String>())
}

/// A sentence in lines of at most [`WIDTH`] columns. Each line is indented, the later ones deeper.
fn wrapped(sentence: &str) -> String {
    let (mut text, mut line) = (String::new(), "  ".to_owned());
    for word in sentence.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && !line.trim().is_empty() {
            text += &format!("{}\n", line.trim_end());
            line = "    ".to_owned();
        }
        line += &format!("{word} ");
    }
    text + line.trim_end() + "\n"
}

#[cfg(test)]
pub(super) use tests::example;

#[cfg(test)]
mod tests {
    use super::*;

    /// Three sites, of which one is out of order, as text.
    pub(in super::super) fn example() -> String {
        overview(&sample())
    }

    fn sample() -> Overview {
        let node = |name: &str, lives: bool, age_ms: u64, seconds: f64| {
            let digest = serde_json::json!({
                "format": 1, "program": "0.1.0", "site": &name[..1], "node": name, "at_ms": 0, "parked": 2,
                "streams": [{"site": "a", "transactions": 12, "seconds": seconds}], "refresh": {"due": 5},
                "verified": {"at_ms": 1_795_963_113_000_u64, "projects": 9, "whole": true, "mismatches": 0},
            });
            serde_json::json!({
                "node": name, "lives": lives, "expelled": false, "takes_writes": name == "a-0", "behind": [],
                "age_ms": age_ms, "is_old": !lives, "digest": digest,
            })
        };
        let site = |name: &str, role: &str, safe: serde_json::Value, nodes: Vec<serde_json::Value>| {
            let lack = serde_json::json!({
                "from": "a", "slots": 14, "in_flight": {"slots": 2, "age_ms": 1_000},
                "seen": {"transactions": 12, "seconds": 0.3, "age_ms": 3_000},
            });
            let not_known = serde_json::json!({"from": "a"});
            let problems: &[&str] = if name == "c" { &["c-0 has no heartbeat"] } else { &[] };
            serde_json::json!({
                "status": {"site": name, "role": role, "epoch": 2, "nodes": [], "unpublished": 0}, "nodes": nodes,
                "safe": safe, "problems": problems,
                "lacks": match name { "a" => vec![], "b" => vec![lack], _ => vec![not_known] },
            })
        };
        let blocker = "no node of c has a heartbeat, so none could take the writes; start one, or name another target";
        let unsafe_now = serde_json::json!({
            "safe": false,
            "blockers": [blocker],
        });
        serde_json::from_value(serde_json::json!({
            "by": "b-0", "at_ms": 1_795_970_313_000_u64, "exposure": "the refdb is in one Region.",
            "sites": [
                site("a", "active", serde_json::Value::Null, vec![node("a-0", true, 1_000, 0.0)]),
                site("b", "standby", serde_json::json!({"safe": true, "blockers": []}),
                    vec![node("b-0", true, 3_000, 0.3), node("b-1", true, 4_000, 0.2)]),
                site("c", "standby", unsafe_now, vec![node("c-0", false, 300_000, 9.0)]),
            ],
        }))
        .unwrap()
    }

    #[test]
    fn the_overview_answers_both_questions_and_marks_old_figures() {
        let text = example();
        assert!(text.contains("  b     standby  2      2/2    0            yes\n"), "{text}");
        assert!(text.contains("  c     standby  2      0/1    0            NO\n"), "{text}");
        let blocker =
            "NOT SAFE\n  c: no node of c has a heartbeat, so none could take the writes; start one,\n    or name";
        assert!(text.contains(blocker), "{text}");
        assert!(text.contains("  b     a         14         2 (1 s ago)  12 (0.3 s)         3 s ago\n"), "{text}");
        assert!(text.contains("  c     a         not known  -            -                  -\n"), "{text}");
        assert!(text.contains("OUT OF ORDER\n  c-0 has no heartbeat\n"), "{text}");
        assert!(text.contains("  c-0   5 min OLD  12/9.0s  0        2/0/0 "), "{text}");
        assert!(sample().is_degraded());
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn the_topology_names_writers_and_readers() {
        let text = topology(&sample());
        let streams = "  a          a-0         a-0 (0.0 s), b-0 (0.3 s), b-1 (0.2 s), c-0 (OLD)\n";
        assert!(text.contains(streams), "{text}");
        assert!(text.contains("  c-0   c     stands still  no            0.1.0    5 min OLD\n"), "{text}");
    }
}
