//! The REST adapter against a scripted server.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A Gerrit that records each call, and answers with the scripted answer or with 200.
#[derive(Default)]
struct Script {
    calls: Mutex<Vec<String>>,
    /// The prefix of a call, and the status and text of its answer. Each is used once.
    answers: Mutex<VecDeque<(&'static str, u16, String)>>,
}

impl Script {
    fn answers(&self, call: &'static str, status: u16, text: &str) {
        self.answers.lock().push_back((call, status, text.to_owned()));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock())
    }

    fn answer(&self, call: &str) -> (u16, String) {
        let mut answers = self.answers.lock();
        let at = answers.iter().position(|(begin, ..)| call.starts_with(begin));
        match at.and_then(|at| answers.remove(at)) {
            Some((_, status, text)) => (status, text),
            None if call.starts_with("GET /g/a/config/server/caches/") => {
                (200, format!(")]}}'\n{}", json!(["projects", "project_list", "groups", "groups_bymember", "sshkeys"])))
            }
            None if call.starts_with("GET /g/a/changes/") => (200, ")]}'\n[]".to_owned()),
            None => (200, ")]}'\n{}".to_owned()),
        }
    }
}

async fn serve(listener: TcpListener, script: Arc<Script>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = Vec::new();
        let (head, body) = loop {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            text.extend_from_slice(&buffer[..read]);
            let whole = String::from_utf8_lossy(&text).into_owned();
            let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.to_owned());
            }
        };
        // "lockstep:secret"
        let known = head.to_lowercase().contains("authorization: basic bg9ja3n0zxa6c2vjcmv0");
        let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
        let call = if body.is_empty() { line.to_owned() } else { format!("{line} {body}") };
        let (status, text) = if known { script.answer(&call) } else { (401, "Unauthorized".to_owned()) };
        script.calls.lock().push(call);
        let answer =
            format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

struct Rig {
    gerrit: RestGerrit,
    script: Arc<Script>,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "secret\n").unwrap();
        let settings = RestSettings {
            address: listener.local_addr().unwrap().to_string(),
            prefix: "/g".into(),
            user: "lockstep".into(),
            password_file: folder.path().join("password"),
            timeout: Duration::from_secs(10),
        };
        let script = Arc::new(Script::default());
        tokio::spawn(serve(listener, Arc::clone(&script)));
        Self { gerrit: RestGerrit::new(settings, project("All-Projects")), script, folder }
    }

    async fn refresh(&self, works: &[Work]) -> Vec<Result<(), GerritError>> {
        let task = |(id, work): (u64, &Work)| Task { id, own: false, attempt: 1, work: work.clone() };
        let tasks: Vec<Task> = (1..).zip(works).map(task).collect();
        self.gerrit.refresh(&tasks).await
    }

    /// Returns the recorded calls, except requests for the list of caches.
    fn calls(&self) -> Vec<String> {
        self.script.take().into_iter().filter(|call| !call.starts_with("GET /g/a/config/server/caches/")).collect()
    }
}

fn project(text: &str) -> ProjectName {
    text.parse().unwrap()
}

fn change(number: u32) -> Work {
    Work::Change { project: project("a/b"), number }
}

fn group() -> Work {
    Work::Group { group: "ab-1".into(), old: None, new: None }
}

fn config(name: &str) -> Work {
    Work::ProjectConfig { project: project(name), old: None, new: None }
}

#[tokio::test]
async fn a_batch_flushes_once_in_the_order_that_the_loaders_need() {
    let rig = Rig::new().await;
    let ends =
        rig.refresh(&[config("All-Projects"), config("a/b"), change(7), Work::Account { account: 3 }, group()]).await;
    assert_eq!(ends, vec![Ok(()); 5]);
    assert_eq!(
        rig.calls(),
        [
            r#"POST /g/a/config/server/caches/ {"caches":["projects"],"operation":"FLUSH"}"#,
            r#"POST /g/a/projects/All%2DProjects/index {"async":true,"index_children":true}"#,
            r#"POST /g/a/projects/a%2Fb/index {"async":false,"index_children":true}"#,
            "POST /g/a/changes/a%2Fb~7/index {}",
            "POST /g/a/accounts/3/index {}",
            "POST /g/a/groups/ab%2D1/index {}",
            // Only the caches that this Gerrit has: it has no `tokens`.
            r#"POST /g/a/config/server/caches/ {"caches":["groups","groups_bymember","sshkeys"],"operation":"FLUSH"}"#,
        ]
    );
}

#[tokio::test]
async fn a_change_that_is_gone_leaves_the_index() {
    let rig = Rig::new().await;
    rig.script.answers("POST /g/a/changes/a%2Fb~7/index", 404, "Not found: a/b~7");
    assert_eq!(rig.refresh(&[change(7)]).await, [Ok(())]);
    let index = "POST /g/a/config/server/index.changes";
    let both = format!(r#"{index} {{"changes":["a/b~7","7"],"delete_missing":true}}"#);
    assert_eq!(rig.calls()[1..], [both.as_str()]);

    // A release that accepts full names only.
    rig.script.answers("POST /g/a/changes/a%2Fb~7/index", 404, "Not found");
    rig.script.answers(index, 400, "7 is no project~number");
    assert_eq!(rig.refresh(&[change(7)]).await, [Ok(())]);
    let full = format!(r#"{index} {{"changes":["a/b~7"],"delete_missing":true}}"#);
    assert_eq!(rig.calls()[1..], [both, full]);

    rig.script.answers("POST /g/a/changes/a%2Fb~8/index", 404, "Not found");
    rig.script.answers(index, 400, "no such option");
    rig.script.answers(index, 400, "no such option");
    let ends = rig.refresh(&[change(8), change(9)]).await;
    assert!(matches!(&ends[0], Err(GerritError::Failed(why)) if why.contains("no such option")), "{ends:?}");
    assert_eq!(ends[1], Ok(()), "a failed task does not stop the next one");
}

#[tokio::test]
async fn all_changes_of_a_project_and_what_is_left_of_one_before() {
    let rig = Rig::new().await;
    let page = |numbers: std::ops::Range<u32>, more: bool| {
        let changes: Vec<Value> = numbers
            .clone()
            .map(|number| json!({"_number": number, "_more_changes": more && number + 1 == numbers.end}))
            .collect();
        format!(")]}}'\n{}", Value::from(changes))
    };
    rig.script.answers("GET /g/a/changes/", 200, &page(0..500, true));
    rig.script.answers("GET /g/a/changes/", 200, &page(500..502, false));
    assert_eq!(rig.refresh(&[Work::Changes { project: project("p") }]).await, [Ok(())]);
    let calls = rig.calls();
    assert_eq!(calls[0], "POST /g/a/projects/p/index.changes {}");
    assert_eq!(calls[1], "GET /g/a/changes/?q=project%3A%22p%22&n=500&S=0");
    assert_eq!(calls[2], "GET /g/a/changes/?q=project%3A%22p%22&n=500&S=500");
    assert!(
        calls[3].contains(r#""p~499","0","1","#) && calls[3].ends_with(r#""499"],"delete_missing":true}"#),
        "{}",
        calls[3]
    );
    assert_eq!(
        calls[4],
        r#"POST /g/a/config/server/index.changes {"changes":["p~500","p~501","500","501"],"delete_missing":true}"#
    );

    let again = Work::Project { project: project("p"), deleted: true, exists: true };
    let gone = Work::Project { project: project("q"), deleted: true, exists: false };
    assert_eq!(rig.refresh(&[again, gone]).await, [Ok(()), Ok(())]);
    let calls = rig.calls();
    assert_eq!(
        calls[0],
        r#"POST /g/a/config/server/caches/ {"caches":["project_list","projects"],"operation":"FLUSH"}"#
    );
    assert_eq!(calls[1], r#"POST /g/a/projects/p/index {"async":false,"index_children":true}"#);
    assert_eq!((calls[2].as_str(), calls.len()), ("GET /g/a/changes/?q=project%3A%22p%22&n=500&S=0", 3));
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_right_say_what_to_do() {
    let rig = Rig::new().await;
    rig.script.answers("POST /g/a/changes/", 403, "not permitted");
    let ends = rig.refresh(&[change(1), change(2)]).await;
    assert!(matches!(&ends[0], Err(GerritError::Failed(why)) if why.contains("Maintain Server")), "{ends:?}");
    assert_eq!(ends[1], Ok(()), "a missing right for one kind does not stop the others");
    assert_eq!(rig.calls().len(), 2);
    std::fs::write(rig.folder.path().join("password"), "wrong").unwrap();
    let ends = rig.refresh(&[change(1), change(2)]).await;
    assert!(matches!(&ends[0], Err(GerritError::Denied(why)) if why.contains("gerrit.user")), "{ends:?}");
    assert_eq!(ends[0], ends[1]);
    assert_eq!(rig.calls().len(), 1, "a denied user is not tried with the second task");
    std::fs::remove_file(rig.folder.path().join("password")).unwrap();
    let ends = rig.refresh(&[change(1)]).await;
    assert!(matches!(&ends[0], Err(GerritError::Denied(why)) if why.contains("gerrit.password_file")), "{ends:?}");
    assert!(!format!("{ends:?}").contains("secret"));
}

#[tokio::test]
async fn a_gerrit_that_is_away_or_whose_caches_stay_is_no_success() {
    let rig = Rig::new().await;
    rig.script.answers("POST /g/a/config/server/caches/", 422, "cache groups not found");
    let ends = rig.refresh(&[group(), change(1)]).await;
    assert!(matches!(&ends[0], Err(GerritError::Failed(why)) if why.contains("not flushed")), "{ends:?}");
    assert_eq!(ends[1], Ok(()), "a task without caches is done");
    assert_eq!(rig.refresh(&[group()]).await, [Ok(())], "the list of caches is read again");
    rig.script.answers("POST /g/a/config/server/caches/", 422, "cache projects not found");
    let ends = rig.refresh(&[config("p")]).await;
    assert!(
        ends[0].is_err() && rig.calls().iter().all(|call| !call.contains("/projects/p/index")),
        "no document is indexed from an old cache"
    );
    rig.script.answers("POST /g/a/changes/", 503, "starting");
    assert!(matches!(rig.refresh(&[change(1)]).await[..], [Err(GerritError::Away(_))]));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let away = RestGerrit::new(RestSettings { address, ..rig.gerrit.settings.clone() }, project("All-Projects"));
    let task = Task { id: 1, own: false, attempt: 1, work: change(1) };
    assert!(matches!(away.refresh(&[task]).await[..], [Err(GerritError::Away(_))]));
}

/// A task in Gerrit's queue.
fn queued(command: &str, start: &str, id: &str) -> Value {
    json!({"id": id, "state": "SLEEPING", "start_time": start, "delay": 9, "command": command,
           "queue_name": "WorkQueue"})
}

#[tokio::test]
async fn a_process_is_told_from_the_next_by_what_it_scheduled_at_its_start() {
    let rig = Rig::new().await;
    let shows = async |queue: Value| {
        rig.script.answers("GET /g/a/config/server/tasks/", 200, &format!(")]}}'\n{queue}"));
        rig.gerrit.process().await
    };
    let started = |at: &str, id: &str| queued("Log File Manager", &format!("2026-11-21 {at}.000000000"), id);
    let other = queued("[send-email]", "2026-11-21 09:00:00.000000000", "c0ffee00");
    let (first, second) = (started("10:00:00", "1e688bea"), started("10:09:00", "2a000001"));
    let once = started("09:59:59", "1e688be9");
    assert_eq!(shows(json!([once, first, other])).await, Ok(0));
    assert_eq!(shows(json!([first])).await, Ok(0), "other tasks come and go");
    assert_eq!(shows(json!([other, second])).await, Ok(1));
    assert_eq!(shows(json!([second])).await, Ok(1));
    assert_eq!(shows(json!([started("10:09:00", "2a000002")])).await, Ok(2), "two starts within a second");
    assert_eq!(shows(json!([other])).await, Ok(3), "the mark is gone");
    assert_eq!(shows(json!([])).await, Ok(3), "a queue without marks is no new process");
    assert_eq!(shows(json!([second])).await, Ok(4), "another process may have started meanwhile");
    rig.script.answers("GET /g/a/config/server/tasks/", 503, "starting");
    assert!(matches!(rig.gerrit.process().await, Err(GerritError::Away(_))));
    assert_eq!(shows(json!([second])).await, Ok(4));
}
