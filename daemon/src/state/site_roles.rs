//! The roles of all sites, as this node read them last.

use lockstep_proto::SiteId;
use tokio::sync::watch;

use crate::seams::refdb::{Role, SiteRecord};

/// The records of all sites, and a signal when one changes. Empty until they were read once.
#[derive(Debug)]
pub struct SiteRoles(watch::Sender<Vec<SiteRecord>>);

impl Default for SiteRoles {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl SiteRoles {
    /// Takes in the records of sites, as they were just read. A record with a lower epoch than the known one is older.
    pub fn note(&self, sites: Vec<SiteRecord>) {
        self.0.send_if_modified(|known| {
            let mut changed = false;
            for site in sites {
                match known.iter_mut().find(|one| one.site == site.site) {
                    Some(one) if one.epoch < site.epoch => (*one, changed) = (site, true),
                    Some(_) => {}
                    None => {
                        known.push(site);
                        changed = true;
                    }
                }
            }
            known.sort_by(|one, other| one.site.cmp(&other.site));
            changed
        });
    }

    /// The record of one site. None if it was not read yet.
    #[must_use]
    pub fn of(&self, site: &SiteId) -> Option<SiteRecord> {
        self.0.borrow().iter().find(|one| one.site == *site).cloned()
    }

    /// The names of the active sites.
    #[must_use]
    pub fn active(&self) -> Vec<SiteId> {
        let active = |one: &&SiteRecord| one.role == Role::Active;
        self.0.borrow().iter().filter(active).map(|one| one.site.clone()).collect()
    }

    /// Waits until a site's role and epoch, as they were read last, satisfy `wanted`.
    pub async fn wait(&self, site: &SiteId, wanted: impl Fn(&SiteRecord) -> bool) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = changes.wait_for(|sites| sites.iter().any(|one| one.site == *site && wanted(one))).await;
    }
}
