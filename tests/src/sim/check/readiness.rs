//! A node that says it is ready has everything that was in the streams when it started.

use std::collections::BTreeMap;

use lockstep::seams::volume::NodeStore;
use lockstep_proto::SiteId;

use super::Verdict;
use super::checkpoints::{self, Logged};
use crate::sim::facts::Facts;

/// The records of each shard, by site and shard.
pub type Records = BTreeMap<(SiteId, String), Vec<Logged>>;

/// The number of records of each shard at one moment.
pub type Counts = BTreeMap<(SiteId, String), usize>;

/// Judges a node that has been ready for long enough that what it had applied is durable.
///
/// # Errors
/// A transaction that was in a stream at the node's start is neither applied nor set aside.
pub fn has_all_of_the_start(facts: &Facts, store: &dyn NodeStore, records: &Records, at_start: &Counts) -> Verdict {
    let parked = super::parked(store)?;
    let bad = store.quarantined().map_err(|error| error.to_string())?;
    for (shard, count) in at_start {
        let Some(records) = records.get(shard) else { continue };
        let transactions = records.iter().take(*count).filter_map(|(_, txn)| facts.transactions.get(txn.as_ref()?));
        for transaction in transactions {
            if let Some(why) = checkpoints::not_applied(store, transaction, &[&parked, &bad]) {
                return Err(format!("it is ready, {} was in the stream when it started, and {why}", transaction.id));
            }
        }
    }
    Ok(())
}
