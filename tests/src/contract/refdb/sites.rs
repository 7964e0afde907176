//! Sites: roles and epochs.

use lockstep::seams::refdb::{RefDbError, Role, SiteRecord};

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
}
pub use cases::*;
