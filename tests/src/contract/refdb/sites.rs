//! Sites: roles and epochs.

use lockstep::seams::refdb::{FailoverRecord, RefDbError, Role, SiteRecord};

use super::Db;
use crate::build::site;

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_site_is_enrolled_once(db: Db) {
        let wanted = SiteRecord { site: site("muc-1"), role: Role::Active, epoch: 1 };
        assert_eq!(db.registry.enroll_site(&site("muc-1"), Role::Active).await, Ok(wanted.clone()));
        assert_eq!(db.registry.enroll_site(&site("muc-1"), Role::Fenced).await, Ok(wanted.clone()));
        let other = db.registry.enroll_site(&site("eu-aws"), Role::Standby).await.expect("a record");
        assert_eq!(db.registry.sites().await, Ok(vec![other, wanted]));
    }

    pub async fn a_change_of_role_raises_the_epoch(db: Db) {
        let mut record = db.registry.enroll_site(&site("muc-1"), Role::Active).await.expect("a record");
        for (epoch, role) in [(2, Role::Draining), (3, Role::Fenced), (4, Role::Standby), (5, Role::Active)] {
            record = db.registry.change_role(&record, role).await.expect("a change");
            assert_eq!(record, SiteRecord { site: site("muc-1"), role, epoch });
            assert_eq!(db.registry.sites().await, Ok(vec![record.clone()]));
        }
    }

    pub async fn a_change_from_an_old_epoch_changes_nothing(db: Db) {
        let seen = db.registry.enroll_site(&site("muc-1"), Role::Active).await.expect("a record");
        let now = db.registry.change_role(&seen, Role::Fenced).await.expect("a change");
        assert_eq!(db.registry.change_role(&seen, Role::Active).await, Ok(now.clone()));
        assert_eq!(db.registry.sites().await, Ok(vec![now]));
    }

    pub async fn an_unknown_site_has_no_role_to_change(db: Db) {
        let unknown = SiteRecord { site: site("nowhere"), role: Role::Active, epoch: 1 };
        assert!(matches!(db.registry.change_role(&unknown, Role::Fenced).await, Err(RefDbError::Broken(_))));
        assert_eq!(db.registry.sites().await, Ok(Vec::new()));
    }

    pub async fn a_failover_is_written_in_the_order_of_its_revisions(db: Db) {
        let record = |revision, body: &str| FailoverRecord { revision, body: body.to_owned() };
        assert_eq!(db.registry.failover().await, Ok(None));
        let early = db.registry.put_failover(&record(2, "early")).await;
        assert!(matches!(early, Err(RefDbError::Broken(_))), "{early:?}");
        for revision in [1, 2] {
            let next = record(revision, &format!("state {revision}"));
            assert_eq!(db.registry.put_failover(&next).await, Ok(next.clone()));
            assert_eq!(db.registry.failover().await, Ok(Some(next)));
        }
        let stored = record(2, "state 2");
        for late in [record(1, "late"), record(2, "late"), record(4, "early")] {
            assert_eq!(db.registry.put_failover(&late).await, Ok(stored.clone()));
        }
        assert_eq!(db.registry.failover().await, Ok(Some(stored)));
    }
}
pub use cases::*;
