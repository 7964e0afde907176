//! The site to which the users of each site go. Users of a standby go to the active site, and all of them follow a
//! failover, as with a name service or a Service that leads to the nodes that take writes.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The routes of all sites. At first every user goes to the own site.
#[derive(Debug)]
pub struct Routes(Vec<AtomicUsize>);

impl Routes {
    /// The routes of this many sites.
    #[must_use]
    pub fn new(sites: usize) -> Self {
        Self((0..sites).map(AtomicUsize::new).collect())
    }

    /// The site to which the users of a site go now.
    #[must_use]
    pub fn of(&self, site: usize) -> usize {
        self.0[site % self.0.len()].load(Ordering::Relaxed)
    }

    /// Leads all users who go to `from` now to `to`.
    pub fn lead(&self, from: usize, to: usize) {
        for route in self.0.iter().filter(|route| route.load(Ordering::Relaxed) == from) {
            route.store(to, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_a_standby_follow_a_failover_to_it() {
        let routes = Routes::new(3);
        routes.lead(1, 0);
        assert_eq!([0, 1, 2].map(|site| routes.of(site)), [0, 0, 2]);
        routes.lead(0, 1);
        assert_eq!([0, 1, 2].map(|site| routes.of(site)), [1, 1, 2]);
    }
}
