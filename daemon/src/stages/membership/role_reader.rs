//! Reads the roles of all sites periodically, so that a node follows the role of its own site.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::refdb::RefDb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::WentBack;

/// Reads the roles of all sites on behalf of one node.
pub struct RoleReader {
    refdb: RefDb,
    went_back: WentBack,
    observer: Arc<dyn Observer>,
    roles: Arc<SiteRoles>,
    pace: Duration,
}

impl RoleReader {
    /// Creates a reader that brings the node's state up to date once per `pace`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, pace: Duration) -> Self {
        let NodeContext { refdb, went_back, observer, .. } = context.clone();
        Self { refdb, went_back, observer, roles: Arc::clone(&state.roles), pace }
    }

    /// Reads until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.pace).await;
            if self.went_back.is_known() {
                continue;
            }
            match self.refdb.registry.sites().await {
                Ok(sites) => self.roles.note(sites),
                Err(error) => self.observer.failed("roles", &error),
            }
        }
    }
}
