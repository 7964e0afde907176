//! Stories of a refdb that was restored from a backup.

use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::{NodeId, ProjectName};
use lockstep_tests::sim::story::{Story, tell};

const BRANCH: &str = "refs/heads/b0";

fn p0() -> ProjectName {
    "p0".parse().unwrap()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn says(story: &Story, name: &str) -> bool {
    story.world.life(&node(name)).is_some_and(|life| life.node.went_back())
}

/// Replaces the refdb by its state of before `meanwhile`.
async fn goes_back(story: &Story, meanwhile: impl AsyncFnOnce()) {
    let backup = story.world.backend.backup();
    meanwhile().await;
    story.world.watch.rewound();
    story.world.backend.restore(&backup);
}

#[test]
fn running_nodes_see_it_by_their_heartbeats_and_answer_at_once() {
    tell(async |story| {
        goes_back(story, async || story.pass(5_000).await).await;
        for name in ["eu-aws-0", "eu-aws-1", "muc-1-0", "blr-1-0"] {
            story.until(&format!("{name} says so"), async || says(story, name)).await;
            assert!(!story.life(name).node.is_ready(), "{name}");
        }
        let asked = story.world.trace.now_ms();
        let object = story.object("muc-1-0", &p0());
        let error = story.push("muc-1-0", "a", &p0(), (BRANCH, None, Some(object))).await.unwrap_err();
        assert_eq!((error.code, error.retry), (RefusalCode::NotServing, false));
        assert!(error.message.contains("went back in time") && error.message.contains("backup"), "{}", error.message);
        assert_eq!(story.world.trace.now_ms(), asked, "nothing is tried and nothing is waited for");
    });
}

#[test]
fn a_commit_that_meets_a_lower_version_finds_it_before_any_heartbeat() {
    tell(async |story| {
        let (at, one, two) = ("muc-1-0", story.object("muc-1-0", &p0()), story.object("muc-1-0", &p0()));
        story.push(at, "a", &p0(), (BRANCH, None, Some(one))).await.unwrap();
        story.converge().await;
        // Between two heartbeats.
        goes_back(story, async || {
            story.push(at, "b", &p0(), (BRANCH, Some(one), Some(two))).await.unwrap();
        })
        .await;
        let asked = story.world.trace.now_ms();
        let three = story.object(at, &p0());
        let answer = story.push(at, "c", &p0(), (BRANCH, Some(two), Some(three))).await.unwrap();
        let refusal = answer.results[0].refusal.clone().unwrap();
        assert_eq!((refusal.code, refusal.retry), (RefusalCode::NotServing, false), "{}", refusal.message);
        assert!(story.world.trace.now_ms() - asked < 1_000, "it is answered at once");
        // The others learn it from the declaration.
        story.until("blr-1-0 says so", async || says(story, "blr-1-0")).await;
    });
}

#[test]
fn nodes_that_start_see_it_and_open_no_incarnation() {
    tell(async |story| {
        let names = ["eu-aws-0", "eu-aws-1", "muc-1-0", "blr-1-0"];
        goes_back(story, async || {
            story.pass(5_000).await;
            for name in names {
                story.world.crash(&node(name));
            }
        })
        .await;
        let refdb = story.world.backend.refdb();
        let before = refdb.incarnations().await.unwrap();
        for name in names {
            story.world.start(&node(name)).await;
            story.until(&format!("{name} says so"), async || says(story, name)).await;
        }
        story.pass(20_000).await;
        assert_eq!(refdb.incarnations().await.unwrap(), before, "nothing is opened, frozen or drained");
        assert!(names.iter().all(|name| !story.life(name).node.is_ready()));
    });
}

#[test]
fn a_newer_backup_ends_it_at_the_next_start() {
    tell(async |story| {
        let (old, at) = (story.world.backend.backup(), "muc-1-0");
        story.pass(5_000).await;
        for name in story.world.nodes() {
            story.world.crash(&name);
        }
        let newest = story.world.backend.backup();
        story.world.backend.restore(&old);
        story.world.watch.rewound();
        story.world.start(&node(at)).await;
        story.until("it says so", async || says(story, at)).await;
        story.world.backend.restore(&newest);
        story.until("it is ready", async || story.life(at).node.is_ready()).await;
        assert!(!says(story, at));
        let object = story.object(at, &p0());
        story.push(at, "a", &p0(), (BRANCH, None, Some(object))).await.unwrap();
    });
}
