//! Event logs in several Regions: each site's stream is reached through the adapter of its Region.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::SiteId;

use super::{EventLog, EventLogError, Position, Record, ShardReader, StreamInfo};

/// One event log per site.
pub struct RoutedEventLog(BTreeMap<SiteId, Arc<dyn EventLog>>);

impl RoutedEventLog {
    /// Takes, for each site, the event log that has its stream.
    #[must_use]
    pub fn new(routes: BTreeMap<SiteId, Arc<dyn EventLog>>) -> Self {
        Self(routes)
    }

    fn route(&self, site: &SiteId) -> Result<&dyn EventLog, EventLogError> {
        self.0.get(site).map(AsRef::as_ref).ok_or_else(|| EventLogError::Absent(format!("route to site {site}")))
    }
}

#[async_trait]
impl EventLog for RoutedEventLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.route(site)?.ensure(site).await
    }

    async fn complaint(&self, site: &SiteId) -> Result<Option<String>, EventLogError> {
        self.route(site)?.complaint(site).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        self.route(site)?.describe(site).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        self.route(site)?.append(site, records).await
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.route(site)?.open(site, shard, from).await
    }
}
