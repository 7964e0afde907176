//! The capacity of streams in the watch: changes of the number of shards, and the document of the autoscalers.

use lockstep_proto::capacity::Capacities;
use lockstep_proto::{NodeId, SiteId};

use super::Watch;
use crate::sim::check::capacity::Change;
use crate::sim::trace::EPOCH_MS;

/// The property of the autoscalers.
const CAPACITY: &str = "capacity";

impl Watch {
    /// The number of shards of a stream was set before the run, at this time in milliseconds since 1970.
    pub fn shards_were_set(&self, site: &SiteId, at_ms: u64) {
        self.known().capacity.before(site, at_ms);
    }

    /// A node has set the number of shards of a stream.
    pub fn shards_set(&self, node: &NodeId, site: &SiteId, from: u32, to: u32) {
        self.trace.note(node.as_str(), &format!("SETS THE SHARDS of {site} from {from} to {to}"));
        let change = Change { by: Some(node.clone()), at_ms: EPOCH_MS + self.trace.now_ms(), from, to };
        let mut known = self.known();
        let verdict = known.capacity.set(site, change);
        known.judge(&self.trace, CAPACITY, verdict);
    }

    /// The document of the autoscalers was stored.
    pub fn capacity_stored(&self, body: &str) {
        let mut known = self.known();
        let verdict = match serde_json::from_str::<Capacities>(body) {
            Ok(next) => {
                let sites: Vec<SiteId> = next.sites.keys().cloned().collect();
                let before: Vec<Option<NodeId>> = sites.iter().map(|site| known.capacity.holder(site)).collect();
                let verdict = known.capacity.stored(next);
                for (site, before) in sites.iter().zip(before) {
                    let holder = known.capacity.holder(site).filter(|holder| before.as_ref() != Some(holder));
                    if let Some(holder) = holder {
                        self.trace.note(holder.as_str(), &format!("LOOKS AFTER THE STREAM of {site}"));
                    }
                }
                verdict
            }
            Err(error) => Err(format!("the document of the autoscalers cannot be read: {error}")),
        };
        known.judge(&self.trace, CAPACITY, verdict);
    }
}
