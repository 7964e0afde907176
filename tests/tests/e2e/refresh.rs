//! Refresh tasks, as a bridge gets them over the real API, through restarts.

use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep::clients::api_client::ClientError;
use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, FailedTask, Task, TasksRequest, TasksResponse, Work};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::page_calls::documented_answer;
use lockstep_tests::e2e::{PATIENCE, until};
use tokio::time::Instant;

use crate::lockstep;

const META: &str = "refs/changes/01/1/meta";

fn asks(session: &str, most: u32, wait_ms: u64) -> TasksRequest {
    TasksRequest { session: session.to_owned(), most, wait_ms, commit_within_ms: None }
}

async fn ask(node: &Node, session: &str, wait_ms: u64) -> Result<Vec<Task>, ClientError> {
    Ok(node.call::<_, TasksResponse>("/v1/refresh/tasks", &asks(session, 64, wait_ms)).await?.tasks)
}

async fn report(node: &Node, session: &str, done: &[&Task], failed: &[&Task]) -> Result<DoneResponse, ClientError> {
    let failed = failed.iter().map(|task| FailedTask { id: task.id, why: "a test".to_owned() });
    let request = DoneRequest {
        session: session.to_owned(),
        done: done.iter().map(|task| task.id).collect(),
        failed: failed.collect(),
    };
    node.call("/v1/refresh/done", &request).await
}

/// Does tasks until one of them `is_it`, and returns that one.
async fn wait_for(node: &Node, session: &str, is_it: impl Fn(&Work) -> bool) -> Task {
    let (mut seen, end) = (Vec::new(), Instant::now() + PATIENCE);
    while Instant::now() < end {
        let tasks = ask(node, session, 2_000).await.expect("an answer");
        let (it, others): (Vec<&Task>, Vec<&Task>) = tasks.iter().partition(|task| is_it(&task.work));
        let _ = report(node, session, &others, &[]).await.expect("it is noted");
        if let [task] = it[..] {
            return task.clone();
        }
        seen.extend(tasks);
    }
    panic!("not within {PATIENCE:?} among {seen:?}\n{}", node.log_tail());
}

fn is_change(work: &Work) -> bool {
    matches!(work, Work::Change { number: 1, .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_hears_of_every_move_until_it_says_that_it_has_looked() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let is_project = |work: &Work| matches!(work, Work::Project { deleted: false, exists: true, .. });
    let project = wait_for(&cluster.nodes[1], "one", is_project).await;
    assert!(!project.own && project.attempt == 1, "{project:?}");
    let clone = Clone::new(&cluster.scratch("clone"));
    let object = clone.commit(None, "one");
    let a = cluster.nodes[0].repository("p");
    let _ = ok(clone.push(&a, &[], &[&format!("{object}:{META}")]).await);
    cluster.nodes[1].shows("p", META, Some(&object)).await;
    assert_eq!(ask(&cluster.nodes[1], "one", 100).await, Ok(vec![]), "the project's task must be done first");
    let _ = report(&cluster.nodes[1], "one", &[&project], &[]).await.expect("it is noted");
    let change = wait_for(&cluster.nodes[1], "one", is_change).await;
    documented_answer("/v1/refresh/tasks", &TasksResponse { tasks: vec![change.clone()] });
    let noted = report(&cluster.nodes[1], "one", &[], &[&change]).await.expect("it is noted");
    documented_answer("/v1/refresh/done", &noted);
    let again = wait_for(&cluster.nodes[1], "one", is_change).await;
    assert_eq!(again.attempt, 2);
    cluster.nodes[1].refreshes(|refresh| refresh.due >= 1 && refresh.failed == 1 && refresh.last_error.is_some()).await;

    // Gerrit has not reported on it yet. So it outlives the sidecar, as does the session of the Gerrit beside it.
    cluster.nodes[1].reports(|status| !status.checkpoints.is_empty()).await;
    cluster.nodes[1].kill().await;
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let third = wait_for(&cluster.nodes[1], "one", is_change).await;
    let _ = report(&cluster.nodes[1], "one", &[&third], &[]).await.expect("it is noted");
    cluster.nodes[1].refreshes(|refresh| refresh.due == 0).await;

    // At the site of the push, Gerrit did the work itself. Its node still hands out the task, until Gerrit acknowledges
    // it.
    let own = wait_for(&cluster.nodes[0], "home", is_project).await;
    assert!(own.own, "{own:?}");
    let _ = report(&cluster.nodes[0], "home", &[&own], &[]).await.expect("it is noted");
    assert!(wait_for(&cluster.nodes[0], "home", is_change).await.own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_superseded_hears_so_and_a_bad_request_what_is_wrong() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let node = &cluster.nodes[0];
    assert_eq!(ask(node, "one", 0).await, Ok(vec![]));
    assert_eq!(ask(node, "two", 0).await, Ok(vec![]));
    for answer in [ask(node, "one", 0).await.map(|_| ()), report(node, "one", &[], &[]).await.map(|_| ())] {
        let Err(ClientError::Answered(error)) = answer else { panic!("{answer:?}") };
        assert!(
            error.code == RefusalCode::Invalid && !error.retry && error.message.contains("superseded"),
            "{error:?}"
        );
    }
    let bad = [
        (asks("", 1, 0), "field session"),
        (asks(&"x".repeat(129), 1, 0), "field session"),
        (asks("two", 0, 0), "field most is 0"),
        (asks("two", 257, 0), "field most is 257"),
        (asks("two", 1, 30_001), "field wait_ms is 30001"),
        (
            TasksRequest { commit_within_ms: Some(86_400_001), ..asks("two", 1, 0) },
            "field commit_within_ms is 86400001",
        ),
    ];
    for (request, what) in bad {
        let answer = node.call::<_, TasksResponse>("/v1/refresh/tasks", &request).await;
        let Err(ClientError::Answered(error)) = answer else { panic!("{answer:?}") };
        assert!(error.message.contains(what) && !error.retry, "{error:?}");
    }
    let many = DoneRequest { session: "two".into(), done: (0..257).collect(), failed: Vec::new() };
    let answer = node.call::<_, DoneResponse>("/v1/refresh/done", &many).await;
    assert!(matches!(answer, Err(ClientError::Answered(error)) if error.message.contains("257 entries")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_waits_for_tasks_does_not_keep_a_commit_out() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let node = &cluster.nodes[0];
    let sent_away = AtomicUsize::new(0);
    let waiting = (0..40).map(|_| async {
        let answer = ask(node, "one", 15_000).await;
        sent_away.fetch_add(usize::from(answer.is_err()), Ordering::Relaxed);
        answer
    });
    // Only when the others are sent away, all places are taken.
    let work = async {
        let full = until(async || (sent_away.load(Ordering::Relaxed) == 8).then_some(())).await;
        assert!(full.is_some(), "{sent_away:?} of 40 were sent away, not 8");
        cluster.create("p").await;
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(waiting), work);
    let sent_away = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(sent_away, 8, "only 32 of 40 may wait");
    let heard: usize = answers.iter().flatten().map(Vec::len).sum();
    assert_eq!(heard, 1, "the project's task must be handed out once: {answers:?}");
}
