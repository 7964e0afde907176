//! Stories of stream events. The watch judges that each event is delivered once, after its refs, and not at its origin.

use lockstep_proto::announcement::{AnnounceRequest, StreamEvent};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::{EventBody, Oid, RefName, Version};
use lockstep_tests::sim::check::events::Posted;
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, p0, tell};

const META: &str = "refs/changes/01/1/meta";

/// Pushes a change's first meta commit through a node, and posts an event about it there.
async fn comment(story: &Story, node: &str, id: &str) -> Oid {
    let object = story.object(node, &p0());
    let response = story.push(node, &format!("push-{id}"), &p0(), (META, None, Some(object))).await.unwrap();
    assert_eq!(response.outcome, Outcome::Committed);
    announce(story, node, id, Version(1)).await;
    object
}

/// Posts an event about this version of the change's meta ref.
async fn announce(story: &Story, node: &str, id: &str, version: Version) {
    let project = story.world.watch.known().facts.projects[&p0()].clone();
    let name: RefName = META.parse().unwrap();
    let refs = vec![(name.clone(), version)];
    let origin = node.parse().unwrap();
    story.world.watch.posts(Posted { id: id.to_owned(), origin, project, change: Some(1), refs });
    let event = StreamEvent {
        id: id.to_owned(),
        kind: "comment-added".to_owned(),
        project: Some(p0()),
        change: Some(1),
        refs: [name].into(),
        body: EventBody::new("{}").unwrap(),
    };
    let events = story.life(node).node.events().unwrap();
    events.announce(AnnounceRequest { events: vec![event] }).await.unwrap();
    story.world.watch.posted(id);
}

/// The commit is in the refdb, but its refs cannot be moved at its own node, nor at another one that has the version
/// before.
#[test]
fn an_event_of_a_commit_that_cannot_be_read_yet_is_heard_behind_that_commit() {
    tell(async |story| {
        let (origin, other) = ("muc-1-0", "blr-1-0");
        let before = comment(story, origin, "first").await;
        story.converge().await;
        let bar = |what| {
            for name in [origin, other] {
                story.bar(name, what);
            }
        };
        bar(Some("record intents"));
        let object = story.object(origin, &p0());
        let push = (META, Some(before), Some(object));
        let response = story.push(origin, "push-second", &p0(), push).await.unwrap();
        assert_eq!(response.outcome, Outcome::CommittedNotYetVisible);
        announce(story, origin, "second", Version(2)).await;
        story.pass(3_000).await;
        bar(None);
        story.converge().await;
        assert_eq!(heard(story), 6);
    });
}

/// The number of deliveries of events, each node counted once per event.
fn heard(story: &Story) -> u64 {
    story.world.watch.known().events.counts()[1]
}

#[test]
fn a_sidecar_that_is_killed_at_each_moment_after_its_answer_loses_no_event() {
    for wait_ms in [0, 1, 5, 20, 50, 120, 400] {
        tell(async |story| {
            let (origin, other) = ("muc-1-0", "blr-1-0");
            comment(story, origin, "e").await;
            story.pass(wait_ms).await;
            story.restart(&[origin, other]).await;
            story.converge().await;
            assert_eq!(heard(story), 3);
        });
    }
}

#[test]
fn an_event_of_a_project_that_is_deleted_before_it_arrives_is_heard() {
    tell(async |story| {
        let (origin, behind) = ("muc-1-0", "blr-1-0");
        story.cut(behind, Seam::EventLog, Some(Cut::Requests));
        comment(story, origin, "e").await;
        let deletion = async { story.delete(origin, "delete", &p0()).await };
        let mend = async {
            story.pass(2_000).await;
            story.cut(behind, Seam::EventLog, None);
        };
        let (deleted, ()) = tokio::join!(deletion, mend);
        assert_eq!(deleted.outcome, Outcome::Committed);
        story.converge().await;
        assert_eq!(heard(story), 3);
    });
}

#[test]
fn an_event_taken_while_the_event_log_was_away_is_heard_when_it_is_back() {
    tell(async |story| {
        let origin = "muc-1-0";
        story.cut(origin, Seam::EventLog, Some(Cut::Answers));
        comment(story, origin, "e").await;
        story.pass(5_000).await;
        story.crash(origin);
        story.cut(origin, Seam::EventLog, None);
        story.start(origin).await;
        story.converge().await;
        assert_eq!(heard(story), 3);
    });
}
