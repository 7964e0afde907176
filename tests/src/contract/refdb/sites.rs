//! Sites: roles and epochs.

use lockstep::seams::refdb::{Document, DocumentRecord, OpenAnswer, RefDbError, Role, SiteAnswer, SiteRecord};
use lockstep_proto::site_list::StreamPlace;

use super::Db;
use crate::build::site;

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_site_is_enrolled_once(db: Db) {
        let wanted = SiteRecord::new(site("muc-1"), Role::Active, 1);
        assert_eq!(db.sites.enroll_site(&site("muc-1"), Role::Active).await, Ok(wanted.clone()));
        assert_eq!(db.sites.enroll_site(&site("muc-1"), Role::Fenced).await, Ok(wanted.clone()));
        let other = db.sites.enroll_site(&site("eu-aws"), Role::Standby).await.expect("a record");
        assert_eq!(db.sites.sites().await, Ok(vec![other, wanted]));
    }

    pub async fn a_change_of_role_raises_the_epoch(db: Db) {
        let mut record = db.sites.enroll_site(&site("muc-1"), Role::Active).await.expect("a record");
        for (epoch, role) in [(2, Role::Draining), (3, Role::Fenced), (4, Role::Standby), (5, Role::Active)] {
            record = db.sites.change_role(&record, role).await.expect("a change");
            assert_eq!(record, SiteRecord::new(site("muc-1"), role, epoch));
            assert_eq!(db.sites.sites().await, Ok(vec![record.clone()]));
        }
    }

    pub async fn a_change_from_an_old_epoch_changes_nothing(db: Db) {
        let seen = db.sites.enroll_site(&site("muc-1"), Role::Active).await.expect("a record");
        let now = db.sites.change_role(&seen, Role::Fenced).await.expect("a change");
        assert_eq!(db.sites.change_role(&seen, Role::Active).await, Ok(now.clone()));
        assert_eq!(db.sites.sites().await, Ok(vec![now]));
    }

    pub async fn an_unknown_site_has_no_role_to_change(db: Db) {
        let unknown = SiteRecord::new(site("nowhere"), Role::Active, 1);
        assert!(matches!(db.sites.change_role(&unknown, Role::Fenced).await, Err(RefDbError::Broken(_))));
        assert_eq!(db.sites.sites().await, Ok(Vec::new()));
    }

    pub async fn an_operators_change_is_one_write_with_all_its_conditions(db: Db) {
        let stream = StreamPlace { region: Some("eu-west-1".into()), endpoint: Some("http://h:1".into()) };
        let added = SiteRecord { stream, ..SiteRecord::new(site("muc-1"), Role::Standby, 1) };
        assert!(matches!(db.sites.change_site(Some(&added), &added, 0).await, Err(RefDbError::Broken(_))));
        assert_eq!(db.sites.change_site(None, &added, 1).await, Ok(SiteAnswer::FailoverMoved));
        assert_eq!(db.sites.change_site(None, &added, 0).await, Ok(SiteAnswer::Changed));
        assert_eq!(db.sites.change_site(None, &added, 0).await, Ok(SiteAnswer::Differs(added.clone())));
        assert_eq!(db.sites.sites().await, Ok(vec![added.clone()]));
        let promoted = db.sites.change_role(&added, Role::Active).await.expect("a change");
        assert_eq!(promoted, SiteRecord { role: Role::Active, epoch: 2, ..added.clone() }, "its stream stays");
        let removed = SiteRecord { role: Role::Fenced, epoch: 3, removed: true, ..added.clone() };
        assert_eq!(db.sites.change_site(Some(&added), &removed, 0).await, Ok(SiteAnswer::Differs(promoted.clone())));
        let failover = DocumentRecord { revision: 1, body: "a failover".into() };
        let _ = db.documents.put_document(Document::Failover, &failover).await.expect("a document");
        for wrong in [0, 2] {
            let answer = db.sites.change_site(Some(&promoted), &removed, wrong).await;
            assert_eq!(answer, Ok(SiteAnswer::FailoverMoved));
        }
        assert_eq!(db.sites.change_site(Some(&promoted), &removed, 1).await, Ok(SiteAnswer::Changed));
        assert_eq!(db.sites.enroll_site(&site("muc-1"), Role::Active).await, Ok(removed.clone()));
        assert_eq!(db.sites.change_role(&promoted, Role::Active).await, Ok(removed.clone()), "a late copy");
        assert_eq!(db.sites.sites().await, Ok(vec![removed.clone()]));
        let back = SiteRecord { epoch: 4, ..SiteRecord::new(site("muc-1"), Role::Standby, 4) };
        assert_eq!(db.sites.change_site(Some(&removed), &back, 1).await, Ok(SiteAnswer::Changed));
        assert_eq!(db.sites.sites().await, Ok(vec![back]), "nothing of the removed record is left");
    }

    pub async fn the_requirement_of_signatures_stays_until_it_is_taken_back(db: Db) {
        let plain = db.sites.enroll_site(&site("muc-1"), Role::Active).await.expect("a record");
        assert!(!plain.signed);
        let signed = SiteRecord { signed: true, epoch: 2, ..plain.clone() };
        assert_eq!(db.sites.change_site(Some(&plain), &signed, 0).await, Ok(SiteAnswer::Changed));
        let fenced = db.sites.change_role(&signed, Role::Fenced).await.expect("a change");
        assert_eq!(fenced, SiteRecord { role: Role::Fenced, epoch: 3, ..signed.clone() });
        assert!(matches!(db.sites.shut_out_earlier(&site("muc-1")).await, Ok(())));
        let active = db.sites.change_role(&fenced, Role::Active).await.expect("a change");
        assert_eq!(db.sites.sites().await, Ok(vec![active.clone()]));
        let wanted = super::super::incarnations::record_of(&active);
        assert_eq!(db.incarnations.open_incarnation(&wanted).await, Ok(OpenAnswer::Opened));
        let free = SiteRecord { signed: false, epoch: 5, ..active.clone() };
        assert_eq!(db.sites.change_site(Some(&active), &free, 0).await, Ok(SiteAnswer::Changed));
        assert_eq!(db.sites.sites().await, Ok(vec![free]));
    }

    pub async fn a_failover_begins_from_the_epochs_that_were_seen(db: Db) {
        let a = db.sites.enroll_site(&site("a"), Role::Active).await.expect("a record");
        let b = db.sites.enroll_site(&site("b"), Role::Standby).await.expect("a record");
        let record = |revision| DocumentRecord { revision, body: format!("failover {revision}") };
        let seen = [a.clone(), b.clone()];
        let moved = db.sites.change_role(&b, Role::Active).await.expect("a change");
        assert_eq!(db.sites.begin_failover(&record(1), &seen).await, Ok(None));
        assert_eq!(db.documents.document(Document::Failover).await, Ok(None));
        let seen = [a, moved];
        assert_eq!(db.sites.begin_failover(&record(1), &seen).await, Ok(Some(record(1))));
        let other = DocumentRecord { revision: 1, body: "another".into() };
        assert_eq!(db.sites.begin_failover(&other, &seen).await, Ok(Some(record(1))));
        assert_eq!(db.sites.begin_failover(&record(2), &seen).await, Ok(Some(record(2))));
        assert_eq!(db.documents.document(Document::Failover).await, Ok(Some(record(2))));
    }
}
pub use cases::*;
