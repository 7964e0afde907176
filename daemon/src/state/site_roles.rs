//! The list of sites with their roles, as this node read them last.

use std::collections::BTreeSet;

use lockstep_proto::SiteId;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::seams::refdb::{Role, SiteRecord};

/// The records of all sites, and a signal when one changes. Empty until they were read once.
#[derive(Debug)]
pub struct SiteRoles {
    records: watch::Sender<Vec<SiteRecord>>,
    /// The sites with which the list began. Some have no record: no node has started for them yet.
    first: Mutex<BTreeSet<SiteId>>,
    /// The site that takes writes at the end of the failover that is in progress.
    takes_over: Mutex<Option<SiteId>>,
}

impl Default for SiteRoles {
    fn default() -> Self {
        Self { records: watch::Sender::new(Vec::new()), first: Mutex::default(), takes_over: Mutex::default() }
    }
}

impl SiteRoles {
    /// Takes in the records of sites, as they were just read. A record with a lower epoch than the known one is older.
    pub fn note(&self, sites: Vec<SiteRecord>) {
        self.records.send_if_modified(|known| {
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

    /// Takes in the sites with which the list began.
    pub fn began_with(&self, sites: BTreeSet<SiteId>) {
        *self.first.lock() = sites;
    }

    /// Whether the list began with this site.
    #[must_use]
    pub fn is_first(&self, site: &SiteId) -> bool {
        self.first.lock().contains(site)
    }

    /// The record of one site. None if it was not read yet.
    #[must_use]
    pub fn of(&self, site: &SiteId) -> Option<SiteRecord> {
        self.records.borrow().iter().find(|one| one.site == *site).cloned()
    }

    /// Whether Lockstep is switched off at a site.
    #[must_use]
    pub fn is_off(&self, site: &SiteId) -> bool {
        self.of(site).is_some_and(|own| own.off)
    }

    /// The names of the active sites.
    #[must_use]
    pub fn active(&self) -> Vec<SiteId> {
        let active = |one: &&SiteRecord| one.role == Role::Active;
        self.records.borrow().iter().filter(active).map(|one| one.site.clone()).collect()
    }

    /// Takes in which site takes writes at the end of the failover that is in progress. None if none is in progress.
    pub fn note_takeover(&self, to: Option<SiteId>) {
        *self.takes_over.lock() = to;
    }

    /// The site that takes writes at the end of the failover that is in progress, as this node read it last. None if it
    /// read of no failover.
    #[must_use]
    pub fn takes_over(&self) -> Option<SiteId> {
        self.takes_over.lock().clone()
    }

    /// The sites of the list: those with which it began, and those that were added, less those that were removed.
    #[must_use]
    pub fn listed(&self) -> BTreeSet<SiteId> {
        let (mut listed, records) = (self.first.lock().clone(), self.records.borrow());
        listed.extend(records.iter().map(|one| one.site.clone()));
        listed.retain(|site| !records.iter().any(|one| one.site == *site && one.removed));
        listed
    }

    /// The sites that were removed from the list.
    #[must_use]
    pub fn removed(&self) -> BTreeSet<SiteId> {
        self.records.borrow().iter().filter(|one| one.removed).map(|one| one.site.clone()).collect()
    }

    /// Whether records must be signed: a site of the list demands it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.records.borrow().iter().any(|one| one.signed && !one.removed)
    }

    /// A receiver that notices each change of a record.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Vec<SiteRecord>> {
        self.records.subscribe()
    }

    /// Waits until a site's role and epoch, as they were read last, satisfy `wanted`.
    pub async fn wait(&self, site: &SiteId, wanted: impl Fn(&SiteRecord) -> bool) {
        let mut changes = self.records.subscribe();
        // The sender lives as long as `self`.
        let _ = changes.wait_for(|sites| sites.iter().any(|one| one.site == *site && wanted(one))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_first_sites_and_the_added_ones_without_those_removed() {
        let roles = SiteRoles::default();
        let name = |text: &str| text.parse::<SiteId>().unwrap();
        let names = |sites: BTreeSet<SiteId>| sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        roles.began_with([name("a"), name("b")].into());
        assert_eq!(names(roles.listed()), "a b");
        let a = SiteRecord::new(name("a"), Role::Active, 1);
        let c = SiteRecord::new(name("c"), Role::Standby, 1);
        roles.note(vec![a.clone(), c.clone()]);
        assert_eq!(names(roles.listed()), "a b c");
        roles.note(vec![SiteRecord { removed: true, role: Role::Fenced, epoch: 2, ..c.clone() }]);
        assert_eq!((names(roles.listed()), names(roles.removed())), ("a b".into(), "c".into()));
        roles.note(vec![c.clone()]);
        assert_eq!(names(roles.removed()), "c", "an older record changes nothing");
        roles.note(vec![SiteRecord { epoch: 3, ..c }]);
        assert_eq!(names(roles.listed()), "a b c");
    }
}
