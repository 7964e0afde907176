//! The refresh bodies have the form that bridges expect.

use lockstep_proto::Oid;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, Subject, Task, TasksRequest, TasksResponse, Work};

fn oid() -> Oid {
    "1111111111111111111111111111111111111111".parse().unwrap()
}

#[test]
fn every_kind_of_task_is_written_as_documented() {
    let (project, id) = ("tools/build".parse().unwrap(), "\"1111111111111111111111111111111111111111\"");
    let project = || -> lockstep_proto::ProjectName { Clone::clone(&project) };
    let kinds = [
        (
            Work::Project { project: project(), deleted: true, exists: false },
            r#""kind":"project","project":"tools/build","deleted":true,"exists":false"#.to_owned(),
        ),
        (
            Work::ProjectConfig { project: project(), old: None, new: Some(oid()) },
            format!(r#""kind":"project_config","project":"tools/build","old":null,"new":{id}"#),
        ),
        (Work::Changes { project: project() }, r#""kind":"changes","project":"tools/build""#.to_owned()),
        (
            Work::Change { project: project(), number: 12 },
            r#""kind":"change","project":"tools/build","number":12"#.to_owned(),
        ),
        (
            Work::Branch { project: project(), name: "refs/heads/main".parse().unwrap() },
            r#""kind":"branch","project":"tools/build","ref":"refs/heads/main""#.to_owned(),
        ),
        (Work::Account { account: 1_000_003 }, r#""kind":"account","account":1000003"#.to_owned()),
        (
            Work::Group { group: "ab12".into(), old: Some(oid()), new: None },
            format!(r#""kind":"group","group":"ab12","old":{id},"new":null"#),
        ),
        (Work::GroupNames { old: None, new: None }, r#""kind":"group_names","old":null,"new":null"#.to_owned()),
        (Work::ExternalIds { old: None, new: None }, r#""kind":"external_ids","old":null,"new":null"#.to_owned()),
    ];
    for (work, fields) in kinds {
        let task = Task { id: u64::MAX, own: true, attempt: 2, work };
        let json = serde_json::to_string(&task).unwrap();
        assert_eq!(json, format!(r#"{{"id":18446744073709551615,"own":true,"attempt":2,{fields}}}"#));
        assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
    }
}

#[test]
fn requests_say_what_they_must_and_nothing_else() {
    let tasks: TasksRequest = serde_json::from_str(r#"{"session":"s","most":64,"wait_ms":0}"#).unwrap();
    assert_eq!(tasks, TasksRequest { session: "s".into(), most: 64, wait_ms: 0, commit_within_ms: None });
    assert!(serde_json::from_str::<TasksRequest>(r#"{"session":"s","most":64}"#).is_err());
    let done: DoneRequest = serde_json::from_str(r#"{"session":"s","failed":[{"id":7,"why":"x"}]}"#).unwrap();
    assert_eq!((done.done.len(), done.failed[0].id), (0, 7));
    assert!(serde_json::from_str::<DoneRequest>(r#"{"session":"s","dnoe":[7]}"#).is_err());
    assert_eq!(serde_json::to_string(&DoneResponse {}).unwrap(), "{}");
    assert_eq!(serde_json::to_string(&TasksResponse::default()).unwrap(), r#"{"tasks":[]}"#);
}

#[test]
fn subjects_stand_in_the_order_in_which_they_are_refreshed() {
    let project = || "p".parse().unwrap();
    let all = [
        Subject::Project { project: project() },
        Subject::ProjectConfig { project: project() },
        Subject::Changes { project: project() },
        Subject::Change { project: project(), number: 1 },
        Subject::Branch { project: project(), name: "refs/heads/a".parse().unwrap() },
    ];
    assert!(all.is_sorted());
    assert!(all.iter().all(|subject| subject.project().is_some_and(|name| name.as_str() == "p")));
    assert_eq!(Subject::ExternalIds.project(), None);
}
