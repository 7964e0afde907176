//! Stories of a Gerrit that must refresh.

use lockstep_proto::bridge::Outcome;
use lockstep_proto::refresh::Subject;
use lockstep_tests::sim::story::{Story, p0, tell};

/// The document of a subject in the index of a node's Gerrit.
fn found(story: &Story, node: &str, subject: &Subject) -> Option<String> {
    let gerrit = story.world.gerrit(&node.parse().unwrap()).unwrap();
    gerrit.shows().0.get(subject).cloned()
}

#[test]
fn a_gerrit_whose_sidecar_is_killed_at_each_moment_looks_in_the_end() {
    for wait_ms in [0, 1, 5, 20, 50, 70, 120, 400] {
        tell(async |story| {
            let (origin, other) = ("muc-1-0", "blr-1-0");
            let object = story.object(origin, &p0());
            story.push(origin, "first", &p0(), ("refs/changes/01/1/meta", None, Some(object))).await.unwrap();
            story.pass(wait_ms).await;
            story.restart(&[origin, other]).await;
            story.converge().await;
            for node in [origin, other] {
                let change = Subject::Change { project: p0(), number: 1 };
                assert!(found(story, node, &change).is_some_and(|document| document.contains(&object.to_string())));
            }
        });
    }
}

#[test]
fn a_project_that_is_deleted_and_made_again_leaves_nothing_of_its_first_life_in_any_index() {
    tell(async |story| {
        let (origin, other) = ("muc-1-0", "blr-1-0");
        let change = Subject::Change { project: p0(), number: 1 };
        let object = story.object(origin, &p0());
        story.push(origin, "first", &p0(), ("refs/changes/01/1/meta", None, Some(object))).await.unwrap();
        story.converge().await;
        assert!(found(story, other, &change).is_some());
        // The other node is down, and then gets both transactions at once.
        story.crash(other);
        let deletion = async { story.delete(origin, "delete", &p0()).await };
        let back = async {
            story.pass(500).await;
            story.start(other).await;
        };
        let (deleted, ()) = tokio::join!(deletion, back);
        assert_eq!(deleted.outcome, Outcome::Committed);
        assert_eq!(story.create(origin, "again", &p0(), "refs/heads/main").await.outcome, Outcome::Committed);
        story.converge().await;
        assert_eq!(found(story, other, &change), None);
        assert!(found(story, other, &Subject::Project { project: p0() }).is_some());
    });
}

#[test]
fn a_gerrit_that_loses_what_it_acknowledged_gets_it_again() {
    tell(async |story| {
        let (origin, other) = ("muc-1-0", "blr-1-0");
        let branch = Subject::Branch { project: p0(), name: "refs/heads/b1".parse().unwrap() };
        let object = story.object(origin, &p0());
        story.push(origin, "first", &p0(), ("refs/heads/b1", None, Some(object))).await.unwrap();
        story.until("the branch is indexed", async || found(story, other, &branch).is_some()).await;
        story.world.gerrit(&other.parse().unwrap()).unwrap().crash(&story.world.trace);
        assert_eq!(found(story, other, &branch), None, "the index entry must be lost with the process");
        story.converge().await;
        assert!(found(story, other, &branch).is_some());
    });
}

#[test]
fn changes_that_become_one_task_are_all_found_and_those_that_are_gone_are_not() {
    tell(async |story| {
        let (origin, other) = ("muc-1-0", "blr-1-0");
        // The other node is down until there are more changes than it may queue one by one.
        story.crash(other);
        let mut last = None;
        for number in 1..=30 {
            let (id, name) = (format!("change {number}"), format!("refs/changes/{number:02}/{number}/meta"));
            let object = story.object(origin, &p0());
            story.push(origin, &id, &p0(), (&name, None, Some(object))).await.unwrap();
            last = Some(object);
        }
        story.push(origin, "gone", &p0(), ("refs/changes/30/30/meta", last, None)).await.unwrap();
        story.start(other).await;
        story.converge().await;
        let all = Subject::Changes { project: p0() };
        let told = story.world.trace.text().lines().any(|line| line.contains(other) && line.contains("Changes {"));
        assert!(told, "no task for all changes was made: {all}");
        for number in 1..=30 {
            let change = Subject::Change { project: p0(), number };
            assert_eq!(found(story, other, &change).is_some(), number < 30, "{change}");
        }
    });
}
