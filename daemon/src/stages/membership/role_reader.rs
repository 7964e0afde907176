//! Reads the roles of all sites periodically, so that a node follows the role of its own site. The volume keeps them
//! for a rebuild of a lost refdb.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::refdb::RefDb;
use crate::seams::volume::NodeStore;
use crate::state::bound_refdb::BoundRefdb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::WentBack;

/// Reads the roles of all sites on behalf of one node.
pub struct RoleReader {
    refdb: RefDb,
    went_back: WentBack,
    observer: Arc<dyn Observer>,
    roles: Arc<SiteRoles>,
    bound: Arc<BoundRefdb>,
    store: Arc<dyn NodeStore>,
    pace: Duration,
}

impl RoleReader {
    /// Creates a reader that brings the node's state up to date once per `pace`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, pace: Duration) -> Self {
        let NodeContext { refdb, went_back, observer, store, .. } = context.clone();
        let (roles, bound) = (Arc::clone(&state.roles), Arc::clone(&state.bound));
        Self { refdb, went_back, observer, roles, bound, store, pace }
    }

    /// Reads until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.pace).await;
            if self.went_back.is_known() {
                continue;
            }
            match self.refdb.sites.sites().await {
                Ok(sites) => {
                    if let Err(error) = self.bound.note_sites(self.store.as_ref(), &sites).await {
                        self.observer.failed("roles", &error);
                    }
                    self.roles.note(sites);
                }
                Err(error) => self.observer.failed("roles", &error),
            }
        }
    }
}
