//! The topology: sites with their nodes, the lag of each link over the last hour, and the peers of this node.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use lockstep_proto::overview::{NodeOverview, Overview, StreamLag};

use crate::base::time_text::{short, utc};
use crate::stages::console::context::{Context, look};
use crate::stages::console::frame::Frame;
use crate::stages::console::render::html;
use crate::stages::console::spark::{Spark, spark};
use crate::stages::console::trend::{KEPT, Link, PeerSeen};
use crate::stages::console::unknown::why;
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::{count, list};

/// The lag of the highest line in a chart, at least, in seconds.
const LEAST: f64 = 1.0;
/// The lag from which a link counts as slow, in seconds. It is the one of a failover.
const SLOW: f64 = 30.0;

#[derive(askama::Template)]
#[template(path = "console/topology.html")]
pub(in crate::stages::console) struct TopologyPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    answer: String,
    tone: &'static str,
    problem: String,
    nodes: Vec<NodeRow>,
    links: Vec<LinkRow>,
    peers: Vec<PeerRow>,
    peers_seen: String,
}

#[derive(Debug)]
struct NodeRow {
    site: String,
    role: &'static str,
    node: String,
    heartbeat: &'static str,
    takes_writes: &'static str,
    program: String,
    digest: String,
    tone: &'static str,
}

#[derive(Debug)]
struct LinkRow {
    from: String,
    node: String,
    lag: String,
    tone: &'static str,
    transactions: String,
    chart: Spark,
}

#[derive(Debug)]
struct PeerRow {
    name: String,
    way: String,
    state: String,
    tone: &'static str,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(State(context): State<Context>, visitor: Visitor) -> Response {
    let trend = &context.trend;
    let mut view = match look(context.operators.overview()).await {
        Ok(all) => of(&all, &trend.links()),
        Err(error) => {
            let answer = format!("It is not known how far each site is behind: {}.", why(&context, &error));
            View { answer, tone: "unknown", problem: error.message, ..View::default() }
        }
    };
    let (peers, asked_ms) = trend.peers();
    tell_peers(&mut view, &peers);
    view.peers_seen = asked_ms.map(|at_ms| format!("Asked at {}.", utc(at_ms))).unwrap_or_default();
    html(&TopologyPage { frame: Frame::new(&context, &visitor, "/console/topology"), view })
}

/// The view of an overview, with the lags of the last hour.
pub(in crate::stages::console) fn of(all: &Overview, links: &BTreeMap<Link, Vec<Option<f64>>>) -> View {
    let nodes = || all.sites.iter().flat_map(|site| site.nodes.iter().map(move |node| (site, node)));
    let rows: Vec<LinkRow> = nodes().flat_map(|(_, node)| link_rows(node, links)).collect();
    let slow = rows.iter().filter(|row| row.tone == "bad").count() as u64;
    let silent = nodes().filter(|(_, node)| node.is_old && !node.expelled).count() as u64;
    let (answer, tone) = match (slow, silent) {
        (0, 0) => ("Every node tells its state, and none is behind by more than 30 seconds.".to_owned(), "ok"),
        (slow, silent) => {
            let (slow, silent) = (count(slow, "link is", "links are"), count(silent, "node tells", "nodes tell"));
            (format!("{slow} behind by more than 30 seconds, and {silent} nothing about the present."), "bad")
        }
    };
    let node_rows = nodes().map(|(site, node)| NodeRow {
        site: site.status.site.to_string(),
        role: if site.status.off { "off" } else { site.status.role.name() },
        node: node.node.to_string(),
        heartbeat: match (node.expelled, node.lives) {
            (true, _) => "removed, or away for too long",
            (false, true) => "moves",
            (false, false) => "STANDS STILL",
        },
        takes_writes: if node.takes_writes { "yes" } else { "no" },
        program: node.digest.as_ref().map_or("not known".to_owned(), |digest| digest.program.clone()),
        digest: digest(node),
        tone: if node.lives && !node.is_old { "ok" } else { "bad" },
    });
    View { answer, tone, nodes: node_rows.collect(), links: rows, ..View::default() }
}

fn digest(node: &NodeOverview) -> String {
    let age = node.age_ms.map(|age_ms| format!("{} ago", short(age_ms)));
    match (age, node.is_old) {
        (None, _) => "none".to_owned(),
        (Some(age), false) => age,
        (Some(age), true) => format!("silent: the last one was {age}"),
    }
}

/// The streams that a node reads.
fn link_rows(node: &NodeOverview, links: &BTreeMap<Link, Vec<Option<f64>>>) -> Vec<LinkRow> {
    let streams = node.digest.iter().flat_map(|digest| &digest.streams);
    streams.map(|lag| link_row(node, lag, links)).collect()
}

fn link_row(node: &NodeOverview, lag: &StreamLag, links: &BTreeMap<Link, Vec<Option<f64>>>) -> LinkRow {
    let looks = links.get(&(node.node.clone(), lag.site.clone())).map(Vec::as_slice).unwrap_or_default();
    let (text, tone) = match node.is_old {
        true => ("not known: the digest is old".to_owned(), "unknown"),
        false => (format!("{:.1} s", lag.seconds), if lag.seconds > SLOW { "bad" } else { "ok" }),
    };
    // The newest look is at the right end, also while the hour is not full.
    let values: Vec<Option<f64>> =
        std::iter::repeat_n(None, KEPT.saturating_sub(looks.len())).chain(looks.iter().copied()).collect();
    LinkRow {
        from: lag.site.to_string(),
        node: node.node.to_string(),
        lag: text,
        tone,
        transactions: lag.transactions.to_string(),
        chart: spark(&values, LEAST, chart_text(looks)),
    }
}

/// The text of a chart: the same facts for readers who do not see it.
fn chart_text(looks: &[Option<f64>]) -> String {
    let known: Vec<f64> = looks.iter().flatten().copied().collect();
    let gaps = count((looks.len() - known.len()) as u64, "look", "looks");
    let (Some(last), most) = (known.last(), known.iter().copied().fold(0.0, f64::max)) else {
        return "nothing is known yet: this node looks every 15 seconds".to_owned();
    };
    let minutes = looks.len() / 4;
    format!("over the last {minutes} min: at most {most:.1} s, last {last:.1} s, not known at {gaps}")
}

/// Adds the peers of this node to a view, and those that do not answer to its first line.
fn tell_peers(view: &mut View, peers: &[PeerSeen]) {
    view.peers = peers.iter().map(peer_row).collect();
    let silent = peers.iter().filter(|peer| peer.status.answer.is_none());
    let silent: Vec<String> = silent.map(|peer| peer.status.name.clone()).collect();
    if !silent.is_empty() {
        view.answer.push_str(&format!(" This node has no answer of {}.", list(&silent)));
        view.tone = if view.tone == "ok" { "bad" } else { view.tone };
    }
}

fn peer_row(peer: &PeerSeen) -> PeerRow {
    let status = &peer.status;
    let (state, tone) = match (&status.answer, peer.silent_since) {
        (Some(answer), _) if answer.ready => {
            (format!("answers: {} of site {} is ready, after {} ms", answer.node, answer.site, status.took_ms), "ok")
        }
        (Some(answer), _) => (format!("answers, and waits for {}", answer.waits_for.join(", ")), "bad"),
        (None, since) => {
            let since = since.map(|since| format!(" since {}", utc(since))).unwrap_or_default();
            let problem = status.problem.as_deref().unwrap_or("the reason is not known");
            (format!("DOES NOT ANSWER{since}: {problem}"), "bad")
        }
    };
    PeerRow { name: status.name.clone(), way: format!("{}, {}", status.way, status.address), state, tone }
}
