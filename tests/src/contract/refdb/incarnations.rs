//! Incarnations: they are opened, write marks, are frozen and drained, and their records are removed.

use futures::future::{join, join_all};
use lockstep::seams::refdb::{
    Document, DocumentRecord, IncarnationRecord, IncarnationState, MarkAnswer, OpenAnswer, RefDbError, Role,
    SiteAnswer, SiteRecord,
};
use lockstep_proto::rebuild::{RefdbIdentity, RefdbState};
use lockstep_proto::{IncarnationId, Seq};

use super::Db;
use crate::build::{incarnation, node, site};

fn seqs(numbers: [u64; 3]) -> Vec<Seq> {
    numbers.map(Seq).to_vec()
}

fn record(id: IncarnationId) -> IncarnationRecord {
    IncarnationRecord::open(id, site("site-a"), 1, 64, 3)
}

/// A new incarnation at a site, under its epoch.
pub(super) fn record_of(site: &SiteRecord) -> IncarnationRecord {
    IncarnationRecord { site: site.site.clone(), epoch: site.epoch, ..record(incarnation("node-a", 1)) }
}

/// Enrols the site and opens an incarnation of `node`.
async fn open(db: &Db, node: &str, number: u64) -> IncarnationRecord {
    db.sites.enroll_site(&site("site-a"), Role::Active).await.expect("a site");
    let record = record(incarnation(node, number));
    assert_eq!(db.incarnations.open_incarnation(&record).await, Ok(OpenAnswer::Opened));
    record
}

/// Freezes an incarnation and marks it as drained.
async fn drain(db: &Db, id: &IncarnationId) {
    db.incarnations.freeze(&site("site-a"), id).await.expect("a freeze");
    assert_eq!(db.incarnations.drained(&site("site-a"), id, &seqs([1, 2, 3])).await, Ok(()));
}

async fn mark(db: &Db, id: &IncarnationId, settled: [u64; 3], published: [u64; 3]) -> MarkAnswer {
    db.incarnations.mark(&site("site-a"), id, &seqs(settled), &seqs(published)).await.expect("an answer")
}

async fn only(db: &Db) -> IncarnationRecord {
    let mut found = db.incarnations.incarnations(&site("site-a")).await.expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn is_broken<T: std::fmt::Debug>(answer: Result<T, RefDbError>) -> bool {
    matches!(answer, Err(RefDbError::Broken(_)))
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn no_incarnation_is_opened_while_the_refdb_moves_or_after_it_has_moved(db: Db) {
        db.sites.enroll_site(&site("site-a"), Role::Active).await.expect("a site");
        let mut revision = 0;
        let mut write = async |state: RefdbState| {
            let body = serde_json::to_string(&RefdbIdentity { state, ..RefdbIdentity::first("0a".to_owned()) });
            revision += 1;
            let record = DocumentRecord { revision, body: body.expect("an identity") };
            assert_eq!(db.documents.put_document(Document::Identity, &record).await, Ok(record));
        };
        let wanted = record(incarnation("node-a", 1));
        for state in [RefdbState::Moving, RefdbState::Moved] {
            write(state).await;
            let answer = db.incarnations.open_incarnation(&wanted).await;
            assert!(matches!(answer, Err(RefDbError::NotNow(_))), "{state:?}: {answer:?}");
            assert_eq!(db.incarnations.incarnations(&site("site-a")).await, Ok(Vec::new()));
            assert_eq!(db.incarnations.last_incarnation(&site("site-a"), &node("node-a")).await, Ok(0));
        }
        write(RefdbState::Ready).await;
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::Opened), "the move was aborted");
    }

    pub async fn an_incarnation_needs_the_role_and_the_epoch(db: Db) {
        let mut wanted = record(incarnation("node-a", 1));
        assert!(is_broken(db.incarnations.open_incarnation(&wanted).await), "the site is not enrolled");
        let active = db.sites.enroll_site(&site("site-a"), Role::Active).await.expect("a site");
        wanted.epoch = 2;
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::NotAllowed(active.clone())));
        let mut now = active;
        for role in [Role::Standby, Role::Draining, Role::Fenced] {
            now = db.sites.change_role(&now, role).await.expect("a change");
            wanted.epoch = now.epoch;
            assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::NotAllowed(now.clone())));
        }
        assert_eq!(db.incarnations.incarnations(&site("site-a")).await, Ok(Vec::new()));
        assert_eq!(db.incarnations.last_incarnation(&site("site-a"), &node("node-a")).await, Ok(0));
        now = db.sites.change_role(&now, Role::Active).await.expect("a change");
        wanted.epoch = now.epoch;
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::Opened));
        assert_eq!(only(&db).await, wanted);
    }

    pub async fn a_site_that_is_off_opens_no_incarnation_even_if_it_is_active(db: Db) {
        let there = site("site-a");
        let first = db.sites.enroll_site(&there, Role::Active).await.expect("a site");
        let off = SiteRecord { off: true, left: 2, ..SiteRecord::new(there.clone(), Role::Fenced, 2) };
        assert_eq!(db.sites.change_site(Some(&first), &off, 0).await, Ok(SiteAnswer::Changed));
        assert_eq!(db.sites.sites().await, Ok(vec![off.clone()]));
        // A program that does not know the mark keeps it.
        let active = db.sites.change_role(&off, Role::Active).await.expect("a change");
        assert_eq!(active, SiteRecord { role: Role::Active, epoch: 3, ..off });
        let wanted = IncarnationRecord { epoch: 3, ..record(incarnation("node-a", 1)) };
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::NotAllowed(active.clone())));
        let on = SiteRecord { off: false, epoch: 4, ..active.clone() };
        assert_eq!(db.sites.change_site(Some(&active), &on, 0).await, Ok(SiteAnswer::Changed));
        assert_eq!(db.sites.sites().await, Ok(vec![on]), "the mark stays");
        let wanted = IncarnationRecord { epoch: 4, ..wanted };
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::Opened));
    }

    pub async fn a_removed_site_opens_no_incarnation_even_if_it_is_active(db: Db) {
        let there = site("site-a");
        let first = db.sites.enroll_site(&there, Role::Active).await.expect("a site");
        let removed = SiteRecord { removed: true, ..SiteRecord::new(there.clone(), Role::Fenced, 2) };
        assert_eq!(db.sites.change_site(Some(&first), &removed, 0).await, Ok(SiteAnswer::Changed));
        // A program that does not know the flag keeps it.
        let active = db.sites.change_role(&removed, Role::Active).await.expect("a change");
        assert_eq!((active.role, active.removed), (Role::Active, true));
        let wanted = IncarnationRecord { epoch: 3, ..record(incarnation("node-a", 1)) };
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::NotAllowed(active)));
        let back = SiteRecord::new(there, Role::Active, 4);
        let from = SiteRecord { role: Role::Active, epoch: 3, ..removed };
        assert_eq!(db.sites.change_site(Some(&from), &back, 0).await, Ok(SiteAnswer::Changed));
        let wanted = IncarnationRecord { epoch: 4, ..wanted };
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::Opened));
    }

    pub async fn a_site_that_shuts_out_earlier_programs_keeps_role_and_epoch(db: Db) {
        let there = site("site-a");
        assert!(matches!(db.sites.shut_out_earlier(&there).await, Ok(()) | Err(RefDbError::Broken(_))));
        let first = db.sites.enroll_site(&there, Role::Active).await.expect("a site");
        for _ in 0..2 {
            assert_eq!(db.sites.shut_out_earlier(&there).await, Ok(()));
            assert_eq!(db.sites.sites().await, Ok(vec![first.clone()]));
            assert_eq!(db.sites.enroll_site(&there, Role::Active).await, Ok(first.clone()));
        }
        open(&db, "node-a", 1).await;
        let fenced = db.sites.change_role(&first, Role::Fenced).await.expect("a change");
        assert_eq!((fenced.role, fenced.epoch), (Role::Fenced, 2));
        assert_eq!(db.sites.change_role(&first, Role::Standby).await, Ok(fenced.clone()), "an old epoch");
        let wanted = record(incarnation("node-a", 2));
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::NotAllowed(fenced.clone())));
        let active = db.sites.change_role(&fenced, Role::Active).await.expect("a change");
        assert_eq!(db.sites.sites().await, Ok(vec![active]));
        let wanted = IncarnationRecord { epoch: 3, ..wanted };
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::Opened));
    }

    pub async fn a_number_is_opened_once(db: Db) {
        let opened = open(&db, "node-a", 3).await;
        assert_eq!(mark(&db, &opened.id, [1; 3], [1; 3]).await, MarkAnswer::Written);
        assert_eq!(db.incarnations.open_incarnation(&opened).await, Ok(OpenAnswer::Exists));
        assert_eq!(only(&db).await.settled, seqs([1; 3]), "opening it again resets nothing");
        assert_eq!(db.incarnations.open_incarnation(&record(incarnation("node-b", 3))).await, Ok(OpenAnswer::Opened));
        assert!(
            is_broken(db.incarnations.open_incarnation(&record(incarnation("node-c", 0))).await),
            "numbers count from 1"
        );
    }

    pub async fn marks_never_go_back(db: Db) {
        let opened = open(&db, "node-a", 1).await;
        assert_eq!(mark(&db, &opened.id, [5, 6, 7], [1, 2, 3]).await, MarkAnswer::Written);
        assert_eq!(mark(&db, &opened.id, [4, 8, 7], [2, 1, 3]).await, MarkAnswer::Written);
        let now = only(&db).await;
        assert_eq!((now.settled, now.published), (seqs([5, 8, 7]), seqs([2, 2, 3])));
        assert_eq!((now.state, now.window, now.epoch), (IncarnationState::Open, 64, 1));
    }

    pub async fn marks_of_other_lanes_are_broken(db: Db) {
        let opened = open(&db, "node-a", 1).await;
        let short = [Seq(1), Seq(1)];
        assert!(is_broken(db.incarnations.mark(&site("site-a"), &opened.id, &short, &seqs([1; 3])).await));
        assert!(is_broken(db.incarnations.mark(&site("site-a"), &opened.id, &seqs([1; 3]), &short).await));
        let unknown = incarnation("node-a", 2);
        assert!(is_broken(db.incarnations.mark(&site("site-a"), &unknown, &seqs([1; 3]), &seqs([1; 3])).await));
        assert_eq!(only(&db).await, opened);
    }

    pub async fn a_freeze_is_final_and_idempotent(db: Db) {
        let opened = open(&db, "node-a", 1).await;
        mark(&db, &opened.id, [5, 6, 7], [1, 2, 3]).await;
        let touch = async |id: &IncarnationId| db.incarnations.touch(&site("site-a"), id).await;
        let before = only(&db).await;
        assert_eq!((touch(&opened.id).await, only(&db).await), (Ok(MarkAnswer::Written), before), "as it was");
        assert_eq!(mark(&db, &opened.id, [5, 6, 7], [1, 2, 3]).await, MarkAnswer::Written, "marks go on after it");
        let frozen = db.incarnations.freeze(&site("site-a"), &opened.id).await.expect("a freeze");
        assert_eq!((frozen.state, &frozen.settled), (IncarnationState::Frozen, &seqs([5, 6, 7])));
        assert_eq!(touch(&opened.id).await, Ok(MarkAnswer::NotOpen(IncarnationState::Frozen)));
        assert!(is_broken(touch(&incarnation("node-a", 2)).await));
        let late = mark(&db, &opened.id, [9; 3], [9; 3]).await;
        assert_eq!(late, MarkAnswer::NotOpen(IncarnationState::Frozen));
        assert_eq!(db.incarnations.freeze(&site("site-a"), &opened.id).await, Ok(frozen.clone()));
        assert_eq!(only(&db).await, frozen);
        assert!(is_broken(db.incarnations.freeze(&site("site-a"), &incarnation("node-a", 2)).await));
    }

    pub async fn marks_and_a_freeze_at_once(db: Db) {
        let opened = open(&db, "node-a", 1).await;
        let (there, settled) = (site("site-a"), (1..6).map(|n| seqs([n; 3])).collect::<Vec<_>>());
        let marks = join_all(settled.iter().map(|settled| db.incarnations.mark(&there, &opened.id, settled, settled)));
        let (marks, frozen) = join(marks, db.incarnations.freeze(&there, &opened.id)).await;
        let frozen = frozen.expect("a freeze");
        for (answer, settled) in marks.into_iter().zip(&settled) {
            match answer.expect("an answer") {
                MarkAnswer::Written => assert!(frozen.settled >= *settled, "{frozen:?}"),
                MarkAnswer::NotOpen(state) => assert_eq!(state, IncarnationState::Frozen),
            }
        }
        assert_eq!(only(&db).await, frozen);
    }

    pub async fn only_a_frozen_incarnation_drains(db: Db) {
        let opened = open(&db, "node-a", 1).await;
        assert!(is_broken(db.incarnations.drained(&site("site-a"), &opened.id, &seqs([1; 3])).await));
        assert_eq!(only(&db).await, opened);
        drain(&db, &opened.id).await;
        assert_eq!(db.incarnations.drained(&site("site-a"), &opened.id, &seqs([1, 2, 3])).await, Ok(()), "repeated");
        assert_eq!(only(&db).await.state, IncarnationState::Drained, "it is listed until its record is removed");
        let drained = db.incarnations.freeze(&site("site-a"), &opened.id).await.expect("the record");
        assert_eq!((drained.state, drained.published), (IncarnationState::Drained, seqs([1, 2, 3])));
        assert_eq!(mark(&db, &opened.id, [9; 3], [9; 3]).await, MarkAnswer::NotOpen(IncarnationState::Drained));
    }

    pub async fn a_frozen_incarnation_is_poisoned_then_published_then_drained(db: Db) {
        let (there, opened) = (site("site-a"), open(&db, "node-a", 1).await);
        mark(&db, &opened.id, [5, 6, 7], [1, 2, 3]).await;
        assert!(is_broken(db.incarnations.poisoned(&there, &opened.id).await), "an open one can still commit");
        assert!(
            is_broken(db.incarnations.raise_published(&there, &opened.id, &seqs([4; 3])).await),
            "its owner writes its marks"
        );
        let frozen = db.incarnations.freeze(&there, &opened.id).await.expect("a freeze");
        assert!(frozen.may_commit());
        for _ in 0..2 {
            assert_eq!(db.incarnations.poisoned(&there, &opened.id).await, Ok(()));
        }
        let poisoned = only(&db).await;
        assert_eq!(poisoned, IncarnationRecord { state: IncarnationState::Poisoned, ..frozen });
        assert_eq!((poisoned.may_commit(), poisoned.ends()), (false, seqs([69, 70, 71])));
        assert_eq!(mark(&db, &opened.id, [9; 3], [9; 3]).await, MarkAnswer::NotOpen(IncarnationState::Poisoned));
        assert_eq!(db.incarnations.freeze(&there, &opened.id).await, Ok(poisoned), "a freeze does not go back");
        assert_eq!(db.incarnations.raise_published(&there, &opened.id, &seqs([4, 1, 8])).await, Ok(()));
        assert_eq!(only(&db).await.published, seqs([4, 2, 8]));
        assert!(
            is_broken(db.incarnations.forget_incarnations(&there, std::slice::from_ref(&opened.id)).await),
            "not all is published"
        );
        assert_eq!(db.incarnations.drained(&there, &opened.id, &seqs([69, 70, 71])).await, Ok(()));
        assert_eq!(db.incarnations.raise_published(&there, &opened.id, &seqs([99; 3])).await, Ok(()), "late");
        assert_eq!(db.incarnations.poisoned(&there, &opened.id).await, Ok(()), "late");
        let drained = only(&db).await;
        assert_eq!((drained.state, drained.published), (IncarnationState::Drained, seqs([69, 70, 71])));
    }

    pub async fn incarnations_are_listed_by_site_in_order(db: Db) {
        let mut wanted = Vec::new();
        for (node, number) in [("node-a", 2), ("node-a", 10), ("node-a-b", 1)] {
            wanted.push(open(&db, node, number).await);
        }
        db.sites.enroll_site(&site("site-b"), Role::Active).await.expect("a site");
        let mut elsewhere = record(incarnation("node-z", 1));
        elsewhere.site = site("site-b");
        assert_eq!(db.incarnations.open_incarnation(&elsewhere).await, Ok(OpenAnswer::Opened));
        assert_eq!(db.incarnations.incarnations(&site("site-a")).await, Ok(wanted));
        assert_eq!(db.incarnations.incarnations(&site("site-b")).await, Ok(vec![elsewhere]));
    }

    pub async fn the_highest_number_outlives_the_incarnation(db: Db) {
        let last =
            async |name: &str| db.incarnations.last_incarnation(&site("site-a"), &node(name)).await.expect("a number");
        assert_eq!(last("node-a").await, 0);
        let (first, second) = (open(&db, "node-a", 1).await, open(&db, "node-a", 2).await);
        assert_eq!((last("node-a").await, last("node-b").await), (2, 0));
        for opened in [&first, &second] {
            drain(&db, &opened.id).await;
        }
        let ids = [first.id.clone(), second.id.clone()];
        for _ in 0..2 {
            assert_eq!(db.incarnations.forget_incarnations(&site("site-a"), &ids).await, Ok(()));
        }
        assert!(is_broken(db.incarnations.freeze(&site("site-a"), &first.id).await), "its record was removed");
        assert_eq!(last("node-a").await, 2);
        assert_eq!(
            db.incarnations.open_incarnation(&second).await,
            Ok(OpenAnswer::Exists),
            "a number is never used again"
        );
    }

    pub async fn only_a_drained_incarnation_is_forgotten(db: Db) {
        let opened = open(&db, "node-a", 1).await;
        let ids = [opened.id.clone()];
        assert!(is_broken(db.incarnations.forget_incarnations(&site("site-a"), &ids).await));
        db.incarnations.freeze(&site("site-a"), &opened.id).await.expect("a freeze");
        assert!(is_broken(db.incarnations.forget_incarnations(&site("site-a"), &ids).await));
        assert_eq!(only(&db).await.id, opened.id);
    }
}
pub use cases::*;
