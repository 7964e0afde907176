//! Reads, scans and the list of projects.

use lockstep_proto::{ProjectPhase, ProjectState, RefKey, RefValue};

use super::{Db, item, land, project};
use crate::build::{self, Commit, key, project_name, value};

/// Names in key order. Some of them would sort differently as paths.
const ORDERED: [&str; 7] = [
    "@HEAD",
    "refs/changes/01/1/1",
    "refs/changes/01/1/meta",
    "refs/heads/a",
    "refs/heads/a-b",
    "refs/heads/b/c",
    "refs/heads/\u{e9}t\u{e9}",
];

/// Commits every name of [`ORDERED`], the last one first, and deletes the third.
async fn fill(db: &Db) {
    let new = |name: &str| match key(name) {
        RefKey::Head => RefValue::Symref(build::ref_name("refs/heads/a")),
        RefKey::State | RefKey::Ref(_) => value(1),
    };
    let commit = ORDERED.iter().rev().fold(Commit::at(&project(), 0), |commit, name| commit.first(name, new(name)));
    land(db, &commit.request()).await;
    let third = item(db, ORDERED[2]).await;
    land(db, &Commit::at(&project(), 1).step(&third, RefValue::Absent).request()).await;
}

fn state() -> RefValue {
    RefValue::State(ProjectState { phase: ProjectPhase::Active, incarnation: 1 })
}

async fn scan(db: &Db, after: Option<&RefKey>, limit: usize) -> Vec<String> {
    let items = db.refs.scan(&project(), after, limit).await.expect("a scan");
    items.iter().map(|item| item.key.to_string()).collect()
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_read_keeps_the_order_of_its_keys(db: Db) {
        fill(&db).await;
        let names = ["refs/heads/b/c", "refs/heads/none", "refs/heads/a", "@HEAD", "refs/heads/a", "@state"];
        let items = db.refs.read(&project(), &names.map(key)).await.expect("a read");
        let found: Vec<_> = items.iter().map(|item| item.as_ref().map(|item| item.key.to_string())).collect();
        let wanted = [Some("refs/heads/b/c"), None, Some("refs/heads/a"), Some("@HEAD"), Some("refs/heads/a"), None];
        assert_eq!(found, wanted.map(|name| name.map(str::to_owned)));
        assert_eq!(db.refs.read(&project(), &[]).await, Ok(Vec::new()));
    }

    pub async fn a_read_of_many_keys(db: Db) {
        let name = |n: u64| format!("refs/heads/r{n:03}");
        for batch in 0..3 {
            let create = |commit: Commit, n| commit.first(&name(batch * 90 + n), value(1));
            land(&db, &(0..90).fold(Commit::at(&project(), batch), create).request()).await;
        }
        let keys: Vec<_> = (0..300).rev().map(|n| key(&name(n))).collect();
        let items = db.refs.read(&project(), &keys).await.expect("a read");
        for (wanted, item) in keys.iter().zip(&items) {
            let there = *wanted < key(&name(270));
            assert_eq!(item.as_ref().map(|item| &item.key), there.then_some(wanted));
        }
        assert_eq!(items.len(), 300);
    }

    pub async fn a_scan_is_in_key_order_with_tombstones(db: Db) {
        fill(&db).await;
        assert_eq!(scan(&db, None, 100).await, ORDERED);
        let items = db.refs.scan(&project(), None, 100).await.expect("a scan");
        assert_eq!(items[2].value, RefValue::Absent);
        assert_eq!(items[2].version.0, 2);
        assert_eq!(
            Some(items[3].clone()),
            db.refs.read(&project(), &[key(ORDERED[3])]).await.expect("a read").remove(0)
        );
    }

    pub async fn a_scan_goes_on_behind_a_key(db: Db) {
        fill(&db).await;
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = db.refs.scan(&project(), after.as_ref(), 3).await.expect("a scan");
            all.extend(page.iter().map(|item| item.key.to_string()));
            if page.len() < 3 {
                break;
            }
            after = page.last().map(|item| item.key.clone());
        }
        assert_eq!(all, ORDERED);
        assert_eq!(scan(&db, Some(&key("refs/heads/a")), 1).await, ["refs/heads/a-b"]);
        assert_eq!(scan(&db, Some(&key("refs/heads/aa")), 1).await, ["refs/heads/b/c"]);
        assert_eq!(scan(&db, Some(&key("refs/heads/\u{ea}")), 5).await, [""; 0]);
    }

    pub async fn a_scan_leaves_the_state_out(db: Db) {
        land(&db, &Commit::at(&project(), 10).first("@state", state()).request()).await;
        assert_eq!(scan(&db, None, 10).await, [""; 0]);
        fill(&db).await;
        assert_eq!(scan(&db, None, 100).await, ORDERED);
        assert_eq!(scan(&db, Some(&RefKey::State), 100).await, ORDERED);
        let next = build::project("tools/build#2");
        let there = db.refs.read(&next, &[RefKey::State]).await.expect("a read").remove(0);
        assert_eq!(there.map(|item| item.value), Some(state()), "the state belongs to the project's name");
    }

    pub async fn projects_are_listed_in_order(db: Db) {
        let names = ["All-Projects", "tools", "tools-x", "tools/build", "tools/build/a"];
        for (n, name) in names.iter().rev().enumerate() {
            let project = build::project(&format!("{name}#1"));
            land(
                &db,
                &Commit::at(&project, n as u64).first("@state", state()).first("refs/heads/x", value(1)).request(),
            )
            .await;
        }
        let list = async |after: Option<&str>, limit| {
            let after = after.map(project_name);
            let found = db.refs.projects(after.as_ref(), limit).await.expect("a list");
            assert!(found.iter().all(|(_, item)| item.key == RefKey::State && item.value == state()));
            found.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(list(None, 10).await, names);
        assert_eq!(list(None, 2).await, names[..2]);
        assert_eq!(list(Some("tools"), 2).await, names[2..4]);
        assert_eq!(list(Some("tools/c"), 2).await, [""; 0]);
    }
}
pub use cases::*;
