//! The list of sites, as a node that starts meets it: which sites it began with, and whether the node's own site is in
//! it.

use std::collections::BTreeSet;

use lockstep_proto::SiteId;

use crate::seams::refdb::{Document, RefDb, RefDbError, Role, SiteRecord, StoredDocument};
use crate::state::bound_refdb;
use crate::state::site_roles::SiteRoles;

const FIRST_SITES: StoredDocument<BTreeSet<SiteId>> = StoredDocument::json(Document::FirstSites);

/// Why a node may not join.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The refdb did not answer, or refused the call.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// An operator has removed the site.
    #[error(
        "site {0} was removed from the list of sites: this node takes no part; if the site is to come back, run \
         `lockstep site add {0}` at another site"
    )]
    Removed(SiteId),
    /// An operator has switched Lockstep off at the site.
    #[error(
        "Lockstep is off at site {0}: this node takes no part, and moves no refs; run `lockstep site mode {0} active \
         --role ROLE --expect-epoch N --reason TEXT` when writes go through Lockstep again"
    )]
    Off(SiteId),
    /// Nobody has added the site.
    #[error(
        "site {0} is not in the list of sites: this node takes no part; run `lockstep site add {0}` at another site, \
         or correct the setting site"
    )]
    NotListed(SiteId),
}

/// The record of a node's site, if the site is in the list. `configured` are the sites of the node's configuration.
/// They become the list if there is none yet. A site with which the list began becomes active with its first node.
///
/// # Errors
/// The site is not in the list, or the refdb did not answer.
pub async fn enroll(
    refdb: &RefDb,
    site: &SiteId,
    configured: BTreeSet<SiteId>,
    roles: &SiteRoles,
) -> Result<SiteRecord, EnrollError> {
    let records = refdb.sites.sites().await?;
    roles.began_with(first_sites(refdb, configured, &records).await?);
    let own = records.iter().find(|one| one.site == *site).cloned();
    roles.note(records);
    match own {
        Some(own) => may_join(own),
        None if roles.is_first(site) => {
            let own = refdb.sites.enroll_site(site, Role::Active).await?;
            roles.note(vec![own.clone()]);
            // An operator may have changed it meanwhile.
            may_join(own)
        }
        None => Err(EnrollError::NotListed(site.clone())),
    }
}

fn may_join(own: SiteRecord) -> Result<SiteRecord, EnrollError> {
    match own {
        SiteRecord { removed: true, site, .. } => Err(EnrollError::Removed(site)),
        SiteRecord { off: true, site, .. } => Err(EnrollError::Off(site)),
        own => Ok(own),
    }
}

/// The sites with which the list began. If it did not begin yet, it begins with the configured ones, and those that
/// have a record: an installation of an earlier release has no list. In a rebuilt refdb it begins with those that have
/// a record alone: the rebuild has written one for each site that anybody knew, and a site that nobody knew must not
/// become active by its own configuration.
async fn first_sites(
    refdb: &RefDb,
    mut configured: BTreeSet<SiteId>,
    records: &[SiteRecord],
) -> Result<BTreeSet<SiteId>, RefDbError> {
    if let Some((_, sites)) = FIRST_SITES.read(refdb.documents.as_ref()).await? {
        return Ok(sites);
    }
    if bound_refdb::read(refdb).await?.is_some_and(|(_, identity)| identity.is_rebuilt()) {
        configured.clear();
    }
    configured.extend(records.iter().map(|one| one.site.clone()));
    let record = FIRST_SITES.record(0, &configured)?;
    let stored = refdb.documents.put_document(Document::FirstSites, &record).await?;
    FIRST_SITES.content(&stored).map(|(_, sites)| sites)
}

#[cfg(test)]
mod tests {
    use lockstep_proto::rebuild::{LEAP, RefdbIdentity};

    use super::*;
    use crate::seams::refdb::SiteAnswer;
    use crate::seams::refdb::memory::MemoryRefDb;

    fn name(text: &str) -> SiteId {
        text.parse().unwrap()
    }

    async fn joins(refdb: &RefDb, site: &str, configured: &[&str]) -> Result<Role, String> {
        let (roles, configured) = (SiteRoles::default(), configured.iter().map(|site| name(site)).collect());
        let own = enroll(refdb, &name(site), configured, &roles).await;
        own.map(|own| own.role).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_configuration_is_the_start_of_the_list_and_not_the_list() {
        let refdb = MemoryRefDb::new().refdb();
        assert_eq!(joins(&refdb, "a", &["a", "b"]).await, Ok(Role::Active));
        assert_eq!(joins(&refdb, "b", &["b"]).await, Ok(Role::Active), "the list began with it");
        let why = joins(&refdb, "c", &["a", "b", "c"]).await.unwrap_err();
        assert!(why.contains("lockstep site add c"), "{why}");
        let added = SiteRecord::new(name("c"), Role::Standby, 1);
        assert_eq!(refdb.sites.change_site(None, &added, 0).await, Ok(SiteAnswer::Changed));
        assert_eq!(joins(&refdb, "c", &["c"]).await, Ok(Role::Standby));
        let off = SiteRecord { off: true, left: 2, role: Role::Fenced, epoch: 2, ..added.clone() };
        assert_eq!(refdb.sites.change_site(Some(&added), &off, 0).await, Ok(SiteAnswer::Changed));
        let why = joins(&refdb, "c", &["c"]).await.unwrap_err();
        assert!(why.contains("lockstep site mode c active"), "{why}");
        let added = SiteRecord { off: false, epoch: 3, ..off };
        let back = SiteRecord { off: true, epoch: 2, ..added.clone() };
        assert_eq!(refdb.sites.change_site(Some(&back), &added, 0).await, Ok(SiteAnswer::Changed));
        assert_eq!(joins(&refdb, "c", &["c"]).await, Ok(Role::Fenced));
        let removed = SiteRecord { removed: true, role: Role::Fenced, epoch: 4, ..added.clone() };
        assert_eq!(refdb.sites.change_site(Some(&added), &removed, 0).await, Ok(SiteAnswer::Changed));
        let why = joins(&refdb, "c", &["a", "b", "c"]).await.unwrap_err();
        assert!(why.contains("was removed"), "{why}");
    }

    #[tokio::test]
    async fn a_site_that_no_rebuild_knew_is_not_in_the_list_of_the_rebuilt_refdb() {
        let refdb = MemoryRefDb::new().refdb();
        let rebuilt = RefdbIdentity { floor: LEAP, ..RefdbIdentity::first("1".to_owned()) };
        bound_refdb::write(&refdb, 0, &rebuilt).await.unwrap();
        let added = SiteRecord::new(name("a"), Role::Standby, 1_001);
        assert_eq!(refdb.sites.change_site(None, &added, 0).await, Ok(SiteAnswer::Changed));
        let why = joins(&refdb, "unknown", &["a", "unknown"]).await.unwrap_err();
        assert!(why.contains("lockstep site add unknown"), "{why}");
        assert_eq!(joins(&refdb, "a", &["a", "unknown"]).await, Ok(Role::Standby), "as the rebuild has written it");
    }

    #[tokio::test]
    async fn the_sites_of_an_earlier_release_are_in_the_list() {
        let refdb = MemoryRefDb::new().refdb();
        for site in ["a", "b"] {
            refdb.sites.enroll_site(&name(site), Role::Active).await.unwrap();
        }
        assert_eq!(joins(&refdb, "a", &["a"]).await, Ok(Role::Active));
        assert_eq!(joins(&refdb, "b", &["b"]).await, Ok(Role::Active));
        assert!(joins(&refdb, "d", &["a", "d"]).await.is_err());
    }
}
