//! Stories of streams that lose records, and of shards that end.

use lockstep_proto::{NodeId, ProjectName, SiteId};
use lockstep_tests::sim::dice::Dice;
use lockstep_tests::sim::story::{Story, tell};

const ORIGIN: &str = "blr-1-0";
const AWAY: &str = "muc-1-0";

fn p0() -> ProjectName {
    "p0".parse().unwrap()
}

pub fn site() -> SiteId {
    "blr-1".parse().unwrap()
}

fn away() -> NodeId {
    AWAY.parse().unwrap()
}

pub async fn push(story: &Story, name: &str) {
    push_at(story, ORIGIN, name).await;
}

async fn push_at(story: &Story, origin: &str, name: &str) {
    let object = story.object(origin, &p0());
    story.push(origin, name, &p0(), (&format!("refs/heads/{name}"), None, Some(object))).await.unwrap();
}

fn shown(story: &Story) -> usize {
    story.world.volume(&away()).unwrap().refs(&p0()).len()
}

/// Splits the only shard.
fn split(story: &Story) {
    assert!(story.world.backend.reshard(&site(), &Dice::new(1, "split")).is_some());
}

fn trim(story: &Story) {
    trim_stream(story, &site());
}

/// Removes every record of a stream.
pub fn trim_stream(story: &Story, site: &SiteId) {
    let mut known = story.world.watch.known();
    known.mirror.refresh(site);
    known.mirror.trimmed.insert(site.clone(), 1_000_000);
    drop(known);
    story.world.backend.trim(site, 1_000_000);
}

/// Starts the node, and returns the number of refs that it shows at the moment at which it says that it is ready.
async fn shown_when_ready(story: &Story) -> usize {
    story.world.start(&away()).await;
    let is_ready = async || story.world.life(&away()).is_some_and(|life| life.node.is_ready());
    story.until("ready", is_ready).await;
    shown(story)
}

#[test]
fn a_parent_shard_that_expired_while_a_node_was_away_is_a_trimmed_stream() {
    tell(async |story| {
        push(story, "b0").await;
        story.converge().await;
        assert!(story.world.crash(&away()), "the node must be up");
        for n in 1..=5 {
            push(story, &format!("m{n}")).await;
        }
        story.pass(3_000).await;
        split(story);
        trim(story);
        assert_eq!(shown_when_ready(story).await, 6);
        let text = story.world.trace.text();
        assert!(text.contains("the stream no longer has records that were not read"), "it is told");
        story.converge().await;
    });
}

#[test]
fn a_shard_that_expired_before_it_was_begun_is_a_trimmed_stream() {
    tell(async |story| {
        push(story, "b0").await;
        story.converge().await;
        assert!(story.world.crash(&away()), "the node must be up");
        split(story);
        for n in 1..=5 {
            push(story, &format!("m{n}")).await;
        }
        story.pass(3_000).await;
        // The children are split or merged in turn, and everything of them expires.
        story.world.backend.reshard(&site(), &Dice::new(2, "again"));
        story.world.backend.reshard(&site(), &Dice::new(3, "again"));
        trim(story);
        assert_eq!(shown_when_ready(story).await, 6);
        story.converge().await;
    });
}

#[test]
fn a_node_that_is_ready_has_read_the_children_of_a_shard() {
    tell(async |story| {
        push(story, "b0").await;
        story.converge().await;
        assert!(story.world.crash(&away()), "the node must be up");
        push(story, "m1").await;
        story.pass(2_000).await;
        split(story);
        for n in 2..=5 {
            push(story, &format!("m{n}")).await;
        }
        story.pass(2_000).await;
        assert_eq!(shown_when_ready(story).await, 6);
    });
}

#[test]
fn an_idle_stream_whose_position_expired_needs_no_push_and_no_second_look() {
    tell(async |story| {
        push(story, "b0").await;
        story.converge().await;
        assert!(story.world.crash(&away()), "the node must be up");
        trim(story);
        assert_eq!(shown_when_ready(story).await, 1);
        story.pass(1_000).await;
        let told = || story.world.trace.text().matches("no longer has position").count();
        let before = told();
        assert!(before > 0, "the position is proven gone");
        assert!(story.world.crash(&away()), "the node must be up");
        assert_eq!(shown_when_ready(story).await, 1);
        assert_eq!(told(), before, "the lost position is not looked for again");
    });
}

/// A reader without a position is not told that records are gone.
#[test]
fn records_that_expired_before_the_first_was_read_are_a_trimmed_stream() {
    tell(async |story| {
        let (silent, other) = ("eu-aws-0", "eu-aws".parse().unwrap());
        push(story, "b0").await;
        story.converge().await;
        assert!(story.world.crash(&away()), "the node must be up");
        for n in 1..=5 {
            push_at(story, silent, &format!("m{n}")).await;
        }
        story.pass(3_000).await;
        trim_stream(story, &other);
        assert_eq!(shown_when_ready(story).await, 6);
        let text = story.world.trace.text();
        assert!(text.contains("eu-aws: the stream no longer has 5 transactions"), "it is told");
        assert!(text.contains("muc-1-0 dropped event of unknown id"), "the events stage is told");
        story.converge().await;
    });
}
