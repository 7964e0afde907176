//! Reads the digests of all nodes, and tells how old each is.
//!
//! The clock of another machine may be ahead. So a digest is never taken to be younger than the time since this process
//! saw it first. And a digest whose node has no heartbeat counts as old, whatever its time says.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::NodeId;
use lockstep_proto::overview::{DIGEST_OLD_MS, NodeDigest};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::overview::Aged;
use crate::base::clock::Clock;
use crate::seams::refdb::{RefDb, RefDbError};

/// The digests that this release can read.
pub(super) async fn of(refdb: &RefDb) -> Result<Vec<NodeDigest>, RefDbError> {
    let records = refdb.nodes.digests().await?;
    Ok(records.iter().filter_map(|record| serde_json::from_str(&record.body).ok()).collect())
}

/// Reads digests, and remembers when it saw each of them first: one entry per node.
pub(super) struct DigestReader {
    clock: Arc<dyn Clock>,
    seen: Mutex<BTreeMap<NodeId, (u64, Instant)>>,
}

impl DigestReader {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    /// The digests that this release can read, each with its age.
    pub(super) async fn read(&self, refdb: &RefDb) -> Result<Vec<Aged>, RefDbError> {
        let digests = of(refdb).await?;
        let mut seen = self.seen.lock();
        seen.retain(|node, _| digests.iter().any(|digest| digest.node == *node));
        Ok(digests.into_iter().map(|digest| self.aged(&mut seen, digest)).collect())
    }

    fn aged(&self, seen: &mut BTreeMap<NodeId, (u64, Instant)>, digest: NodeDigest) -> Aged {
        let (now, at_ms) = (Instant::now(), digest.at_ms);
        let first = seen.entry(digest.node.clone()).or_insert((at_ms, now));
        if first.0 != at_ms {
            *first = (at_ms, now);
        }
        let here = u64::try_from(now.duration_since(first.1).as_millis()).unwrap_or(u64::MAX);
        let age_ms = self.clock.now_ms().saturating_sub(at_ms).max(here);
        Aged { digest, age_ms, is_old: age_ms > DIGEST_OLD_MS }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::seams::refdb::DigestRecord;
    use crate::seams::refdb::memory::MemoryRefDb;

    struct At(u64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_digest_of_a_clock_that_is_ahead_grows_old_all_the_same() {
        let refdb = MemoryRefDb::new().refdb();
        let body = r#"{"format": 1, "site": "a", "node": "a-0", "at_ms": 9000000}"#.to_owned();
        refdb.nodes.put_digest(&DigestRecord { node: "a-0".parse().unwrap(), body }).await.unwrap();
        let unreadable = DigestRecord { node: "b-0".parse().unwrap(), body: "[]".to_owned() };
        refdb.nodes.put_digest(&unreadable).await.unwrap();
        let reader = DigestReader::new(Arc::new(At(1_000)));
        let ages = async || {
            let read = reader.read(&refdb).await.unwrap();
            read.iter().map(|one| (one.age_ms, one.is_old)).collect::<Vec<_>>()
        };
        assert_eq!(ages().await, [(0, false)]);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(ages().await, [(31_000, true)]);
        let reader = DigestReader::new(Arc::new(At(9_040_000)));
        assert_eq!(reader.read(&refdb).await.unwrap()[0].age_ms, 40_000);
    }
}
