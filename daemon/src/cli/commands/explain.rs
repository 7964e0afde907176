//! `lockstep explain`: one ref through every stage at every site.

use http::Method;
use lockstep_proto::explain::{
    ExplainRequest, Explanation, NodeExplained, RefAtNode, RefVerdictKind, SiteExplained, SlotContent,
};
use lockstep_proto::{ProjectName, RefKey};

use super::table::Table;
use super::target::Target;
use super::verify::short;
use super::{CliError, json};
use crate::base::time_text::utc;
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lockstep explain tools/build refs/heads/main\n  lockstep explain tools/build @HEAD \
                        --json | jq .verdict\n\nExit code 2 if a site lacks the ref or has no node, or if a node \
                        was not reached."
)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    target: Target,
    /// Name of the project
    project: ProjectName,
    /// Full name of the ref (refs/heads/main), @HEAD, or @state for the project itself
    #[arg(id = "ref", value_name = "REF")]
    key: RefKey,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ExplainArgs) -> Result<(), CliError> {
    let request = ExplainRequest { project: args.project, key: args.key };
    let asked = args.target.change(Method::POST, "/v1/explain".to_owned(), &request).await;
    let explained: Explanation = asked.map_err(CliError::unrefused)?;
    out::put(&if args.json { json(&explained)? } else { render(&explained) })?;
    match explained.verdict.kind {
        RefVerdictKind::Everywhere => Ok(()),
        RefVerdictKind::Lacking | RefVerdictKind::NotReached => Err(CliError::Degraded),
    }
}

fn render(explained: &Explanation) -> String {
    let head = format!("{} {}\n", explained.project, explained.key);
    let next = explained.verdict.next.as_ref().map(|next| format!("next: {next}\n"));
    let sentence = format!("{}\n", explained.verdict.sentence);
    let parts = [refdb(explained), journal(explained), sites(explained), stream(explained)].concat();
    head + &parts + &sentence + &next.unwrap_or_default()
}

/// A heading, and below it a row per name and value.
fn rows(heading: &str, rows: &[(&str, String)]) -> String {
    let rows: String = rows.iter().map(|(name, value)| format!("  {name:<11}  {value}\n")).collect();
    format!("{heading}\n{rows}")
}

fn refdb(explained: &Explanation) -> String {
    let refdb = &explained.refdb;
    let value = if refdb.value.is_empty() { "none: the ref is deleted".to_owned() } else { refdb.value.clone() };
    let locked = refdb.locked_by.as_ref().map_or("no".to_owned(), |txn| format!("by {txn}"));
    let (version, txn) = (refdb.version.to_string(), refdb.txn.to_string());
    rows("refdb", &[("version", version), ("value", value), ("transaction", txn), ("locked", locked)])
}

fn journal(explained: &Explanation) -> String {
    let slot = &explained.slot;
    let site = slot.site.as_ref().map_or("unknown".to_owned(), ToString::to_string);
    let content = match slot.content {
        SlotContent::Transaction => "the transaction",
        SlotContent::Collected => "nothing any more: every node has applied it, and it was collected",
        SlotContent::SomethingElse => "SOMETHING ELSE: keep the logs, and report it",
    };
    let by = slot.actor.as_deref().filter(|actor| !actor.is_empty()).map(|actor| format!(" for {actor}"));
    let when = slot.committed_at_ms.map_or("not known any more".to_owned(), utc) + &by.unwrap_or_default();
    let before = match &slot.predecessor {
        Some(predecessor) => predecessor.to_string(),
        None if explained.refdb.version == 1 => "none: this is the first version".to_owned(),
        None => "not known any more".to_owned(),
    };
    let published = if slot.published { format!("in the stream of site {site}") } else { "NOT YET".to_owned() };
    rows(
        "journal",
        &[
            ("slot", slot.slot.clone()),
            ("origin", format!("site {site}, node {}, incarnation {}", slot.node, slot.incarnation)),
            ("content", content.to_owned()),
            ("committed", when),
            ("predecessor", before),
            ("event log", published),
        ],
    )
}

fn sites(explained: &Explanation) -> String {
    let mut table =
        Table::new(&["site", "node", "version", "disk", "visible", "Gerrit", "events", "held up because it"]);
    for site in &explained.sites {
        match (site.off, site.nodes.is_empty()) {
            (true, _) => table.row(empty_cells(site, "is off")),
            (false, true) => table.row(empty_cells(site, "has no node")),
            (false, false) => site.nodes.iter().for_each(|node| table.row(node_cells(site, node))),
        }
    }
    format!("sites\n{}", table.render())
}

/// The row of a site of which nothing is shown, with the reason.
fn empty_cells(site: &SiteExplained, why: &str) -> Vec<String> {
    let dashes = std::iter::repeat_n("-".to_owned(), 6);
    std::iter::once(site.site.to_string()).chain(dashes).chain([why.to_owned()]).collect()
}

fn node_cells(site: &SiteExplained, node: &NodeExplained) -> Vec<String> {
    let (site, name, dash) = (site.site.to_string(), node.node.to_string(), || "-".to_owned());
    let Some(here) = &node.here else {
        let why = format!("NOT REACHED: {}", node.not_reached.as_deref().unwrap_or_default());
        return vec![site, name, dash(), dash(), dash(), dash(), dash(), why];
    };
    let refresh = here.refresh.as_ref().map_or("-", |refresh| if refresh.due { "due" } else { "shown" });
    vec![
        site,
        name,
        here.record.as_ref().map_or_else(dash, |record| record.version.to_string()),
        here.disk.as_deref().map_or_else(dash, |disk| short(disk).to_owned()),
        here.applied.as_ref().map_or_else(dash, |applied| utc(applied.visible_at_ms)),
        refresh.to_owned(),
        format!("{} wait, {} unsent", here.events_waiting, here.events_unsent),
        node.lacks.clone().unwrap_or_else(dash),
    ]
}

/// How far the nodes have applied the stream that carries the transaction. Nothing if its site is not known any more.
fn stream(explained: &Explanation) -> String {
    let Some(site) = &explained.slot.site else { return String::new() };
    let mut table = Table::new(&["node", "shard", "applied up to"]);
    let reached = explained.sites.iter().flat_map(|site| &site.nodes).filter_map(|node| node.here.as_ref());
    for RefAtNode { node, read, .. } in reached {
        for one in read {
            table.row(vec![node.to_string(), one.shard.clone(), one.position.clone()]);
        }
        if read.is_empty() {
            table.row(vec![node.to_string(), "-".to_owned(), "nothing yet".to_owned()]);
        }
    }
    format!("stream of site {site}\n{}", table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Explanation {
        serde_json::from_value(serde_json::json!({
            "project": "p#1", "ref": "refs/heads/main", "by": "a-0", "at_ms": 1,
            "refdb": { "version": 3, "value": "1".repeat(40), "txn": "a-0.1.0.3.00000000000000aa" },
            "slot": {
                "slot": "a-0.1.0.3", "site": "a", "node": "a-0", "incarnation": 1, "content": "collected",
                "published": true
            },
            "sites": [
                { "site": "a", "off": false, "nodes": [{
                    "node": "a-0", "marked": true,
                    "here": {
                        "site": "a", "node": "a-0", "disk": "1".repeat(40),
                        "record": { "version": 3, "value": "1".repeat(40), "txn": "a-0.1.0.3.00000000000000aa" },
                        "refresh": { "subject": "refs/heads/main of project p", "due": true },
                        "read": [{ "stream": "a", "shard": "s-0", "position": "4956" }]
                    }
                }]},
                { "site": "b", "off": false, "nodes": [{
                    "node": "b-0", "marked": false, "not_reached": "connection refused"
                }]},
                { "site": "c", "off": true, "nodes": [] }
            ],
            "verdict": { "kind": "not_reached", "sentence": "at version 3", "next": "at b-0: `x`" }
        }))
        .expect("an explanation")
    }

    #[test]
    fn every_stage_has_its_line_and_the_sentence_is_the_last_but_for_the_next_command() {
        let text = render(&sample());
        let line = |start: &str| {
            let found = text.lines().find(|line| line.split_whitespace().eq(start.split_whitespace()));
            assert!(found.is_some(), "no line {start:?} in:\n{text}");
        };
        line("p#1 refs/heads/main");
        line("content nothing any more: every node has applied it, and it was collected");
        line("predecessor not known any more");
        line("event log in the stream of site a");
        line("a a-0 3 111111111111 - due 0 wait, 0 unsent -");
        line("b b-0 - - - - - NOT REACHED: connection refused");
        line("c - - - - - - is off");
        line("a-0 s-0 4956");
        assert!(text.ends_with("\nat version 3\nnext: at b-0: `x`\n"), "{text}");
    }
}
