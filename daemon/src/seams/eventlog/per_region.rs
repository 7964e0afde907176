//! Event logs in several Regions: each site's stream is reached through the adapter of its Region.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use lockstep_proto::SiteId;
use lockstep_proto::overview::Written;
use lockstep_proto::site_list::StreamPlace;
use parking_lot::RwLock;

use super::{EventLog, EventLogError, OpenShards, Position, Readers, Reading, Record, ShardReader, StreamInfo};

/// Makes the event log that has the streams of a place.
pub type Reach = Box<dyn Fn(StreamPlace) -> BoxFuture<'static, Arc<dyn EventLog>> + Send + Sync>;

/// One event log per site.
pub struct RoutedEventLog {
    routes: RwLock<BTreeMap<SiteId, Route>>,
    reach: Reach,
}

/// The way to the stream of a site.
struct Route {
    log: Arc<dyn EventLog>,
    /// The place in the configuration, which holds for this node whatever the list of sites says.
    configured: Option<StreamPlace>,
    /// The place in the list of sites, if it was told.
    listed: Option<StreamPlace>,
}

impl RoutedEventLog {
    /// Takes, for each site of the configuration, the event log that has its stream and its place, and a maker of event
    /// logs for other sites.
    #[must_use]
    pub fn new(routes: BTreeMap<SiteId, (Arc<dyn EventLog>, StreamPlace)>, reach: Reach) -> Self {
        let route = |(log, place)| Route { log, configured: Some(place), listed: None };
        let routes = routes.into_iter().map(|(site, found)| (site, route(found))).collect();
        Self { routes: RwLock::new(routes), reach }
    }

    fn route(&self, site: &SiteId) -> Result<Arc<dyn EventLog>, EventLogError> {
        let found = self.routes.read().get(site).map(|route| Arc::clone(&route.log));
        found.ok_or_else(|| EventLogError::Absent(format!("route to site {site}")))
    }
}

#[async_trait]
impl EventLog for RoutedEventLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.route(site)?.ensure(site).await
    }

    async fn locate(&self, site: &SiteId, place: &StreamPlace) {
        if let Some(route) = self.routes.write().get_mut(site) {
            let stays = route.configured.is_some() || route.listed.as_ref() == Some(place);
            if stays {
                route.listed = Some(place.clone());
                return;
            }
        }
        let log = (self.reach)(place.clone()).await;
        self.routes.write().insert(site.clone(), Route { log, configured: None, listed: Some(place.clone()) });
    }

    async fn complaint(&self, site: &SiteId) -> Result<Option<String>, EventLogError> {
        let elsewhere = self.routes.read().get(site).and_then(|route| elsewhere(site, route));
        match elsewhere {
            Some(complaint) => Ok(Some(complaint)),
            None => self.route(site)?.complaint(site).await,
        }
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        self.route(site)?.describe(site).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        self.route(site)?.append(site, records).await
    }

    async fn tell_readers(&self, site: &SiteId, readers: &Readers) -> Result<(), EventLogError> {
        self.route(site)?.tell_readers(site, readers).await
    }

    fn reading(&self, site: &SiteId) -> Option<Reading> {
        self.route(site).ok()?.reading(site)
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.route(site)?.open(site, shard, from).await
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.route(site)?.open_since(site, shard, ms).await
    }

    async fn open_shards(&self, site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        self.route(site)?.open_shards(site).await
    }

    async fn set_shards(&self, site: &SiteId, from: u32, to: u32) -> Result<(), EventLogError> {
        self.route(site)?.set_shards(site, from, to).await
    }

    fn written(&self, site: &SiteId) -> Option<Written> {
        self.route(site).ok()?.written(site)
    }

    async fn retention(&self, site: &SiteId) -> Result<Option<Duration>, EventLogError> {
        self.route(site)?.retention(site).await
    }
}

/// The complaint if the list of sites has another place for the stream of a site than this node's configuration.
fn elsewhere(site: &SiteId, route: &Route) -> Option<String> {
    let (configured, listed) = (route.configured.as_ref()?, route.listed.as_ref()?);
    let fields = [
        ("region", &configured.region, "--stream", &listed.region),
        ("endpoint", &configured.endpoint, "--stream-endpoint", &listed.endpoint),
    ];
    let differs = |(_, here, _, there): &&(_, &Option<String>, _, &Option<String>)| there.is_some() && here != there;
    let (field, here, option, there) = fields.iter().find(differs)?;
    let (here, there) = (here.as_deref().unwrap_or("not set"), there.as_deref().unwrap_or_default());
    Some(format!(
        "the {field} of the stream of {site} is {here} in this node's configuration, and {there} in the list of sites, \
         where other nodes read it: correct [eventlog], or remove the site and add it again with the right {option}"
    ))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use parking_lot::Mutex;

    use super::*;
    use crate::seams::eventlog::memory::MemoryEventLog;

    fn region(name: &str) -> StreamPlace {
        StreamPlace { region: Some(name.to_owned()), endpoint: None }
    }

    #[tokio::test]
    async fn the_route_of_a_site_follows_the_list_and_that_of_the_configuration_stays() {
        let made = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&made);
        let reach = move |place: StreamPlace| {
            seen.lock().push(place);
            let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
            std::future::ready(log).boxed()
        };
        let (own, new) = ("own".parse().unwrap(), "new".parse().unwrap());
        let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
        let routed = RoutedEventLog::new([(SiteId::clone(&own), (log, region("eu-1")))].into(), Box::new(reach));
        assert!(routed.describe(&new).await.is_err());
        for place in ["eu-wset-1", "eu-wset-1", "eu-west-1"] {
            routed.locate(&new, &region(place)).await;
            routed.ensure(&new).await.unwrap();
            assert!(routed.describe(&new).await.is_ok());
            assert_eq!(routed.retention(&new).await, Ok(None));
        }
        routed.locate(&new, &StreamPlace::default()).await;
        assert_eq!(*made.lock(), [region("eu-wset-1"), region("eu-west-1"), StreamPlace::default()]);
        routed.locate(&own, &StreamPlace::default()).await;
        routed.ensure(&own).await.unwrap();
        assert_eq!(routed.complaint(&own).await.unwrap(), None, "the list names no place");
        routed.locate(&own, &region("eu-2")).await;
        assert_eq!(made.lock().len(), 3, "the configuration stays");
        let complaint = routed.complaint(&own).await.unwrap().unwrap();
        assert!(complaint.contains("eu-1") && complaint.contains("eu-2"), "{complaint}");
    }
}
