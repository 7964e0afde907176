//! Stories of nodes of one site that share the reads of streams: one node has the lease of a shard and reads it for the
//! others. A lease is an economy: whatever happens to it, or to its holder, every node gets every record.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::seams::refdb::Document;
use lockstep_proto::sharing::ReaderLeases;
use lockstep_tests::sim::Scenario;
use lockstep_tests::sim::dice::Dice;
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell_of_siblings, tell_with_seed};

use crate::streams::{push, site, trim_stream};

/// They read the pushes of a node that has a site of its own.
const SIBLINGS: [&str; 3] = ["eu-aws-0", "eu-aws-1", "eu-aws-2"];
/// The first shard of the origin's stream.
const FIRST: &str = "shard-000000";
/// More records than a story has.
const WIDE: usize = 1_000;

/// The leases of the siblings that have holders.
async fn leases(story: &Story) -> BTreeMap<String, String> {
    let record = story.world.refdb().documents.document(Document::Readers).await.unwrap();
    let leases: ReaderLeases = record.map(|record| serde_json::from_str(&record.body).unwrap()).unwrap_or_default();
    leases.leases.into_iter().filter_map(|(key, lease)| Some((key, lease.holder?.to_string()))).collect()
}

/// The node that reads a shard of the origin's stream for the siblings.
async fn reader_of(story: &Story, shard: &str) -> Option<String> {
    leases(story).await.remove(&format!("eu-aws blr-1 {shard}"))
}

/// Waits until each stream has a reader among the siblings, and the others take its records. Returns the reader of the
/// origin's stream.
async fn shared(story: &Story) -> String {
    story.until("each stream has a reader", async || leases(story).await.len() == 3).await;
    story.pass(6_000).await;
    reader_of(story, FIRST).await.expect("the stream has a reader")
}

fn others(reader: &str) -> Vec<&'static str> {
    SIBLINGS.into_iter().filter(|sibling| *sibling != reader).collect()
}

/// The number of reads of a shard of the origin's stream by a node.
fn reads(story: &Story, node: &str, shard: &str) -> usize {
    story.world.trace.text().matches(&format!(" {node} EventLog next blr-1/{shard} ")).count()
}

/// The number of answers with records of the origin's stream that a node got from a sibling.
fn handed(story: &Story, node: &str) -> usize {
    let call = format!(" {node} Peers records blr-1/");
    let text = story.world.trace.text();
    text.lines().filter(|line| line.contains(&call) && line.contains("-> Ok([\"")).count()
}

fn shown(story: &Story, sibling: &str) -> usize {
    story.volume(sibling).refs(&p0()).len()
}

#[test]
fn one_sibling_reads_a_stream_and_the_others_have_its_records_from_it() {
    tell_of_siblings(WIDE, async |story| {
        let reader = shared(story).await;
        let before = SIBLINGS.map(|sibling| reads(story, sibling, FIRST));
        for number in 0..8 {
            push(story, &format!("b{number}")).await;
            story.pass(1_000).await;
        }
        let after = SIBLINGS.map(|sibling| reads(story, sibling, FIRST));
        for (index, sibling) in SIBLINGS.into_iter().enumerate() {
            let count = after[index] - before[index];
            assert_eq!(count > 0, sibling == reader, "{sibling} has read {count} times, the reader is {reader}");
            assert_eq!(handed(story, sibling) > 4, sibling != reader, "{sibling}");
        }
        story.converge().await;
    });
}

#[test]
fn the_others_read_alone_when_the_reader_dies_until_one_of_them_takes_over() {
    tell_of_siblings(WIDE, async |story| {
        let dead = shared(story).await;
        let others = others(&dead);
        let before: Vec<usize> = others.iter().map(|other| reads(story, other, FIRST)).collect();
        story.crash(&dead);
        push(story, "b0").await;
        let is_shown = async || others.iter().all(|other| shown(story, other) == 1);
        story.until("the others show it", is_shown).await;
        story.pass(1_000).await;
        for (other, before) in others.iter().zip(before) {
            assert!(reads(story, other, FIRST) > before, "{other} reads by itself");
        }
        let is_over = async || reader_of(story, FIRST).await.is_some_and(|reader| reader != dead);
        story.until("another one reads for the site", is_over).await;
        story.start(&dead).await;
        push(story, "b1").await;
        story.converge().await;
    });
}

/// It answers its siblings all the time, and has nothing for them.
#[test]
fn a_reader_that_lives_and_reads_nothing_is_replaced_and_gets_its_records_from_the_new_one() {
    tell_of_siblings(WIDE, async |story| {
        let stuck = shared(story).await;
        let others = others(&stuck);
        story.cut(&stuck, Seam::EventLog, Some(Cut::Requests));
        push(story, "b0").await;
        let is_shown = async || others.iter().all(|other| shown(story, other) == 1);
        story.until("the others show it", is_shown).await;
        let is_over = async || reader_of(story, FIRST).await.is_some_and(|reader| reader != stuck);
        story.until("another one reads for the site", is_over).await;
        // The buffer of the new reader may begin behind records that the others have read by themselves.
        story.cut(&stuck, Seam::EventLog, None);
        story.until("it has caught up by itself", async || shown(story, &stuck) == 1).await;
        story.pass(15_000).await;
        let before = handed(story, &stuck);
        push(story, "b1").await;
        let gets = async || handed(story, &stuck) > before && shown(story, &stuck) == 2;
        story.until("it has the next one from the new reader", gets).await;
        story.converge().await;
    });
}

#[test]
fn a_sibling_that_cannot_reach_the_reader_reads_alone_and_follows_it_again() {
    tell_of_siblings(WIDE, async |story| {
        let reader = shared(story).await;
        let others = others(&reader);
        let count = || others.iter().map(|other| reads(story, other, FIRST)).collect::<Vec<_>>();
        let before = count();
        story.cut(others[0], Seam::Peers, Some(Cut::Requests));
        push(story, "b0").await;
        story.pass(4_000).await;
        let during = count();
        assert!(during[0] > before[0] && during[1] == before[1], "{before:?} {during:?}");
        assert_eq!(others.iter().map(|other| shown(story, other)).collect::<Vec<_>>(), [1, 1]);
        story.cut(others[0], Seam::Peers, None);
        story.pass(15_000).await;
        let healed = count();
        push(story, "b1").await;
        story.pass(2_000).await;
        assert_eq!(count(), healed, "it follows the reader again");
        story.converge().await;
    });
}

#[test]
fn a_reshard_ends_the_parent_for_every_sibling_before_its_children_which_get_readers_of_their_own() {
    tell_of_siblings(WIDE, async |story| {
        shared(story).await;
        for round in 0..2 {
            push(story, &format!("a{round}")).await;
            assert!(story.world.backend.reshard(&site(), &Dice::new(round, "reshard")).is_some());
            push(story, &format!("b{round}")).await;
            story.pass(500).await;
            push(story, &format!("c{round}")).await;
        }
        story.converge().await;
        story.pass(30_000).await;
        let stream = story.world.backend.eventlog().describe(&site()).await.unwrap();
        let is_parent = |id: &String| stream.shards.iter().any(|other| other.parents.contains(id));
        let open: Vec<&String> = stream.shards.iter().map(|shard| &shard.id).filter(|id| !is_parent(id)).collect();
        assert!(!open.is_empty() && open.iter().all(|id| *id != FIRST), "{stream:?}");
        let count = |shard: &str| SIBLINGS.map(|sibling| reads(story, sibling, shard));
        let before: Vec<[usize; 3]> = open.iter().map(|shard| count(shard)).collect();
        story.pass(5_000).await;
        for (shard, before) in open.into_iter().zip(before) {
            let after = count(shard);
            let who: BTreeSet<usize> = (0..3).filter(|index| after[*index] > before[*index]).collect();
            assert_eq!(who.len(), 1, "{shard} is read by {who:?}");
        }
        assert!(!leases(story).await.contains_key(&format!("eu-aws blr-1 {FIRST}")), "nobody reads the parent");
    });
}

/// The buffers are small, so the records that the sibling missed are in no buffer.
#[test]
fn a_sibling_behind_the_buffer_is_told_that_the_stream_was_trimmed() {
    tell_of_siblings(3, async |story| {
        let reader = shared(story).await;
        let behind = others(&reader)[0];
        story.world.faults.pause(&node(behind), true);
        for number in 0..8 {
            push(story, &format!("b{number}")).await;
            story.pass(250).await;
        }
        trim_stream(story, &site());
        story.world.faults.pause(&node(behind), false);
        let is_told = async || story.world.trace.text().contains("the stream no longer has position");
        story.until("it is told", is_told).await;
        story.converge().await;
        assert_eq!(shown(story, behind), 8);
    });
}

/// Every record is older than the retention, and nothing came behind them. The stream has lost nothing that a sibling
/// needs, and the sibling knows it, because its reader had nothing a moment ago.
#[test]
fn a_sibling_that_goes_back_to_an_idle_shard_has_missed_nothing_and_takes_nothing_from_the_refdb() {
    let scenario = Scenario { shares: Some(WIDE), retentions: 1_000, ..Scenario::calm() };
    tell_with_seed(1, scenario, async |story| {
        let reader = shared(story).await;
        let alone = others(&reader)[0];
        push(story, "b0").await;
        story.converge().await;
        story.pass(6_000).await;
        trim_stream(story, &site());
        let before = reads(story, alone, FIRST);
        story.cut(alone, Seam::Peers, Some(Cut::Requests));
        story.pass(4_000).await;
        assert!(reads(story, alone, FIRST) > before, "{alone} reads by itself");
        push(story, "b1").await;
        story.until("it shows the next one", async || shown(story, alone) == 2).await;
        assert!(!story.world.trace.text().contains("the stream no longer has position"), "nobody reconciles");
        story.cut(alone, Seam::Peers, None);
        story.converge().await;
    });
}

#[test]
fn everything_goes_on_while_the_document_of_the_leases_is_away() {
    tell_of_siblings(WIDE, async |story| {
        let reader = shared(story).await;
        SIBLINGS.into_iter().for_each(|sibling| story.bar(sibling, Some("document Readers")));
        let count = || others(&reader).iter().map(|other| reads(story, other, FIRST)).collect::<Vec<_>>();
        let before = count();
        story.pass(20_000).await;
        push(story, "b0").await;
        story.pass(2_000).await;
        assert_eq!(count(), before, "the siblings go on with the reader that they know");
        story.crash(&reader);
        push(story, "b1").await;
        let is_shown = async || others(&reader).iter().all(|other| shown(story, other) == 2);
        story.until("the others show it", is_shown).await;
        story.start(&reader).await;
        SIBLINGS.into_iter().for_each(|sibling| story.bar(sibling, None));
        push(story, "b2").await;
        story.converge().await;
    });
}

#[test]
fn a_reader_that_stops_hands_its_lease_over() {
    tell_of_siblings(WIDE, async |story| {
        let stopped = shared(story).await;
        assert!(story.world.stop(&node(&stopped)).await, "it was up");
        assert!(!leases(story).await.values().any(|holder| *holder == stopped), "it holds nothing any more");
        let is_over = async || reader_of(story, FIRST).await.is_some();
        story.until("another one reads for the site", is_over).await;
        push(story, "b0").await;
        story.start(&stopped).await;
        story.converge().await;
    });
}
