//! Drops the oldest committed requests beyond the number that is kept, so that the memory is bounded.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::state::committed_requests::{CommittedRequests, KEPT};
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Durability;

/// The pause between two runs.
const PACE: Duration = Duration::from_secs(600);

/// Forgets the oldest committed requests at regular times.
pub struct RequestForgetter {
    requests: Arc<CommittedRequests>,
    durability: Durability,
    observer: Arc<dyn Observer>,
}

impl RequestForgetter {
    /// Creates the job of one node.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState) -> Self {
        let (requests, durability) = (Arc::clone(&state.requests), state.durability.clone());
        Self { requests, durability, observer: Arc::clone(&context.observer) }
    }

    /// Runs until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(PACE).await;
            match self.requests.surplus(KEPT) {
                Ok(surplus) if surplus.is_empty() => {}
                Ok(surplus) => self.durability.stage(|changes| changes.forget_requests.extend(surplus)),
                Err(error) => self.observer.failed("requests", &error),
            }
        }
    }
}
