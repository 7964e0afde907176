//! The writes of a rebuild, and a backup of the items.

use std::sync::Arc;

use lockstep::base::clock::SeededEntropy;
use lockstep::seams::refdb::backup::{BackupWriter, Entry, read};
use lockstep::seams::refdb::{
    Document, DocumentRecord, REBUILT_ITEMS, RebuildAnswer, Rebuilt, RefDbError, RefItem, Role,
};
use lockstep_proto::rebuild::{KnownSite, RefdbIdentity};
use lockstep_proto::site_list::StreamPlace;
use lockstep_proto::{ProjectKey, RefKey, RefValue, Version};

use super::{Db, item, land, project, try_item};
use crate::build::{Commit, key, site, value};

/// Marks the refdb as being built, and returns the revision.
async fn building(db: &Db, revision: u64) -> u64 {
    let record = DocumentRecord { revision, body: "{}".to_owned() };
    assert_eq!(db.documents.put_document(Document::Identity, &record).await, Ok(record));
    revision
}

fn rebuilt(name: &str, version: u64, value: RefValue) -> RefItem {
    let txn = format!("n.1.0.{version}.00000000000000aa").parse().expect("a transaction id");
    RefItem {
        key: key(name),
        version: Version(version),
        value,
        txn: Some(txn),
        directory: false,
        loosened: None,
        lock: None,
    }
}

fn write(item: &RefItem) -> Rebuilt {
    Rebuilt::Ref(project(), item.clone())
}

fn placed(epoch: u64, role: Role) -> KnownSite {
    let stream = StreamPlace { region: Some("eu-west-1".into()), endpoint: None };
    let is_off = role == Role::Fenced;
    let left = epoch / 2;
    KnownSite { site: site("muc-1"), role, epoch, removed: is_off, off: is_off, left, stream, signed: is_off }
}

async fn sites(db: &Db) -> Vec<KnownSite> {
    db.sites.sites().await.expect("a read").iter().map(KnownSite::from).collect()
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_rebuild_writes_refs_directories_and_sites(db: Db) {
        let revision = building(&db, 1).await;
        let (live, gone) = (rebuilt("refs/heads/a/b", 7, value(1)), rebuilt("refs/heads/c", 9, RefValue::Absent));
        let directory = Rebuilt::Directory(project(), "refs/heads/a".parse().expect("a name"));
        let head = rebuilt("@HEAD", 3, RefValue::Symref("refs/heads/main".parse().expect("a name")));
        let items = [directory, write(&live), write(&gone), write(&head), Rebuilt::Site(placed(1_004, Role::Standby))];
        for _ in 0..2 {
            assert_eq!(db.setup.rebuild(&items, revision).await, Ok(RebuildAnswer::Written), "a repetition");
        }
        assert_eq!(item(&db, "refs/heads/a/b").await, live);
        assert_eq!(item(&db, "refs/heads/c").await, gone);
        assert_eq!(item(&db, "@HEAD").await, head);
        let marked = item(&db, "refs/heads/a").await;
        assert!(marked.directory && marked.version == Version::NONE && marked.value.is_absent(), "{marked:?}");
        assert_eq!(sites(&db).await, [placed(1_004, Role::Standby)]);
    }

    pub async fn a_rebuild_lowers_no_version_and_no_epoch(db: Db) {
        let revision = building(&db, 1).await;
        let (newer, older) = (rebuilt("refs/heads/a", 8, value(2)), rebuilt("refs/heads/a", 7, value(1)));
        let other = rebuilt("refs/heads/b", 1, value(3));
        let (high, low) = (placed(1_005, Role::Fenced), placed(1_004, Role::Active));
        let first = [write(&newer), Rebuilt::Site(high.clone())];
        assert_eq!(db.setup.rebuild(&first, revision).await, Ok(RebuildAnswer::Written));
        let second = [write(&older), write(&other), Rebuilt::Site(low)];
        assert_eq!(db.setup.rebuild(&second, revision).await, Ok(RebuildAnswer::Written));
        assert_eq!(item(&db, "refs/heads/a").await, newer);
        assert_eq!(item(&db, "refs/heads/b").await, other, "the rest of the write takes effect");
        assert_eq!(sites(&db).await, [high]);
    }

    pub async fn a_rebuild_writes_documents_and_lowers_no_revision(db: Db) {
        let revision = building(&db, 1).await;
        let record = |revision, body: &str| DocumentRecord { revision, body: body.to_owned() };
        let write = async |which, revision_of, body: &str| {
            let items = [Rebuilt::Document(which, record(revision_of, body))];
            db.setup.rebuild(&items, revision).await
        };
        for (of, body) in [(7, "{\"a\":1}"), (7, "{\"a\":1}"), (6, "{}")] {
            assert_eq!(write(Document::Locks, of, body).await, Ok(RebuildAnswer::Written), "{of}");
        }
        let stored = record(7, "{\"a\":1}");
        assert_eq!(db.documents.document(Document::Locks).await, Ok(Some(stored)));
        let next = record(8, "{}");
        assert_eq!(db.documents.put_document(Document::Locks, &next).await, Ok(next.clone()), "it goes on from there");
        let identity = write(Document::Identity, 9, "{}").await;
        assert!(matches!(identity, Err(RefDbError::Broken(_))), "{identity:?}");
        building(&db, 2).await;
        assert_eq!(write(Document::Locks, 9, "[]").await, Ok(RebuildAnswer::Superseded));
        assert_eq!(db.documents.document(Document::Locks).await, Ok(Some(next)));
    }

    pub async fn a_run_that_is_not_the_last_one_writes_nothing(db: Db) {
        let one = [write(&rebuilt("refs/heads/a", 7, value(1)))];
        assert_eq!(db.setup.rebuild(&one, 1).await, Ok(RebuildAnswer::Superseded), "there is no identity");
        let first = building(&db, 1).await;
        building(&db, 2).await;
        assert_eq!(db.setup.rebuild(&one, first).await, Ok(RebuildAnswer::Superseded));
        assert_eq!(try_item(&db, "refs/heads/a").await, None);
    }

    pub async fn a_live_ref_becomes_no_directory(db: Db) {
        let revision = building(&db, 1).await;
        let live = [write(&rebuilt("refs/heads/a", 7, value(1)))];
        assert_eq!(db.setup.rebuild(&live, revision).await, Ok(RebuildAnswer::Written));
        let name: lockstep_proto::RefName = "refs/heads/a".parse().expect("a name");
        let below = [Rebuilt::Directory(project(), name.clone()), write(&rebuilt("refs/heads/a/b", 2, value(2)))];
        let excluded = RebuildAnswer::NamesExclude(project(), name);
        assert_eq!(db.setup.rebuild(&below, revision).await, Ok(excluded));
        assert_eq!(try_item(&db, "refs/heads/a/b").await, None);
        let gone = [write(&rebuilt("refs/heads/a", 8, RefValue::Absent))];
        for items in [&gone[..], &below[..]] {
            assert_eq!(db.setup.rebuild(items, revision).await, Ok(RebuildAnswer::Written));
        }
    }

    pub async fn a_rebuilt_ref_takes_the_next_commit(db: Db) {
        let revision = building(&db, 1).await;
        let stored = rebuilt("refs/heads/a", 1_000_000_007, value(1));
        assert_eq!(db.setup.rebuild(&[write(&stored)], revision).await, Ok(RebuildAnswer::Written));
        land(&db, &Commit::at(&project(), 0).step(&stored, value(2)).request()).await;
        let now = item(&db, "refs/heads/a").await;
        assert_eq!((now.version, now.value), (Version(1_000_000_008), value(2)));
    }

    pub async fn a_backup_has_every_item_of_the_refdb(db: Db) {
        let body = serde_json::to_string(&RefdbIdentity::first("0a".to_owned())).expect("JSON");
        let record = DocumentRecord { revision: 1, body };
        assert_eq!(db.documents.put_document(Document::Identity, &record).await, Ok(record));
        let stored = rebuilt("refs/heads/a", 7, value(1));
        let items = [
            write(&rebuilt("@state", 1, "state:active#1".parse().expect("a state"))),
            write(&rebuilt("@HEAD", 2, RefValue::Symref("refs/heads/a".parse().expect("a name")))),
            write(&stored),
            write(&rebuilt("refs/heads/gone", 9, RefValue::Absent)),
            Rebuilt::Directory(project(), "refs/heads/d".parse().expect("a name")),
            Rebuilt::Site(placed(1_004, Role::Active)),
        ];
        assert_eq!(db.setup.rebuild(&items, 1).await, Ok(RebuildAnswer::Written));
        land(&db, &Commit::at(&project(), 0).step(&stored, value(2)).request()).await;

        let mut bytes = Vec::new();
        let entropy = Arc::new(SeededEntropy::new(1));
        let writer = BackupWriter::new(db.clone(), entropy, 1_000_000, &mut bytes);
        let end = writer.run(1, |_| {}).await.expect("a backup");
        let (mut found, mut placed_at): (Vec<(ProjectKey, RefItem)>, Vec<KnownSite>) = Default::default();
        let verified = read(&bytes[..], |entry| match entry {
            Entry::Ref(one) => found.push(one.item()),
            Entry::Site(site) => placed_at.push(site),
            _ => {}
        });
        assert_eq!(verified.expect("it is whole").end, end);
        assert!(found.iter().all(|(of, _)| *of == project()), "{found:?}");
        let (state, refs): (Vec<RefItem>, Vec<RefItem>) =
            found.into_iter().map(|(_, item)| item).partition(|item| item.key == RefKey::State);
        assert_eq!(state.len(), 1);
        assert_eq!(refs, db.refs.scan(&project(), None, 1_000).await.expect("a scan"));
        assert_eq!(placed_at, sites(&db).await);
    }

    pub async fn a_write_of_the_wrong_size_is_broken(db: Db) {
        let revision = building(&db, 1).await;
        let items = |count: usize| -> Vec<Rebuilt> {
            (0..count).map(|n| write(&rebuilt(&format!("refs/heads/b{n}"), 1, value(1)))).collect()
        };
        for count in [0, REBUILT_ITEMS + 1] {
            let answer = db.setup.rebuild(&items(count), revision).await;
            assert!(matches!(answer, Err(RefDbError::Broken(_))), "{count}: {answer:?}");
        }
        assert_eq!(db.setup.rebuild(&items(REBUILT_ITEMS), revision).await, Ok(RebuildAnswer::Written));
        let all = db.refs.scan(&project(), None, 1_000).await.expect("a scan");
        assert_eq!(all.len(), REBUILT_ITEMS);
        assert!(all.iter().all(|item| matches!(item.key, RefKey::Ref(_))));
    }
}
pub use cases::*;
