//! The streams of a run: one per case, named after it. It is created by the case, and deleted at the end of the run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use lockstep::seams::eventlog::EventLog;
use lockstep::seams::eventlog::kinesis::{ClientSettings, KinesisEventLog, KinesisSettings, client};
use lockstep_proto::SiteId;

use super::patient::PatientLog;
use super::settings::{Settings, is_here};
use super::tables::TAG;
use crate::aws::kinesis::{delete, exists, merge, split};
use crate::contract::eventlog::Backend;

/// The rounds of a case that reads to the end after each: each end takes three times the patience.
const ROUNDS: usize = 3;

/// The streams of a run.
pub struct Streams {
    client: Client,
    log: KinesisEventLog,
    sites: BTreeSet<SiteId>,
    patience: Duration,
    look: Duration,
    is_here: bool,
}

impl Streams {
    /// Reaches Kinesis. Creates nothing. `sites` are those of the cases.
    ///
    /// # Errors
    /// One of the names is taken, or Kinesis does not answer.
    pub async fn of(settings: &Settings, sites: BTreeSet<SiteId>) -> Result<Self, String> {
        let is_here = is_here(settings.kinesis.as_ref());
        let mut reach = ClientSettings { endpoint: settings.kinesis.clone(), ..ClientSettings::default() };
        if is_here {
            reach.region = Some("us-east-1".to_owned());
            reach.test_credentials = true;
        }
        let client = client(&reach).await;
        let look = settings.look();
        let of_streams = KinesisSettings { shards: 2, ready_poll: look, ..KinesisSettings::default() };
        let log = KinesisEventLog::new(client.clone(), format!("{}stream", settings.prefix), of_streams);
        for site in &sites {
            let stream = log.stream(site);
            if exists(&client, &stream).await? {
                return Err(format!(
                    "stream {stream} exists: it is not of this run; delete it, or give another prefix"
                ));
            }
        }
        Ok(Self { client, log, sites, patience: settings.patience(), look, is_here })
    }

    /// Tags the stream of a site, once its case is over.
    ///
    /// # Panics
    /// If Kinesis refuses it.
    pub async fn tag(&self, site: &SiteId) {
        let call = self.client.add_tags_to_stream().stream_name(self.log.stream(site)).tags(TAG.0, TAG.1);
        if let Err(error) = call.send().await {
            assert!(self.is_here, "the stream of {site} cannot be tagged: {error:?}");
        }
    }

    /// Deletes all streams that exist.
    ///
    /// # Errors
    /// A stream is left, or may be. Its name is in the text.
    pub async fn delete(&self) -> Result<(), String> {
        for site in &self.sites {
            let stream = self.log.stream(site);
            if exists(&self.client, &stream).await.map_err(|why| format!("{why}; delete it if it is left"))? {
                delete(&self.client, &stream, self.look).await;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Streams {
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(PatientLog { inner: Arc::new(self.log.clone()), patience: self.patience, is_here: self.is_here })
    }

    fn rounds(&self) -> usize {
        ROUNDS
    }

    async fn split(&self, site: &SiteId, shard: &str) {
        split(&self.client, &self.log.stream(site), shard, self.look).await;
    }

    async fn merge(&self, site: &SiteId, lower: &str, upper: &str) {
        merge(&self.client, &self.log.stream(site), lower, upper, self.look).await;
    }

    async fn recreate(&self, site: &SiteId) {
        delete(&self.client, &self.log.stream(site), self.look).await;
        // The creation time of a stream has a resolution of one second.
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        self.log.ensure(site).await.expect("the stream can be made again");
    }

    async fn trim(&self, site: &SiteId, _shard: &str, _oldest: &[String], _before: &str) {
        unreachable!("records of {site} cannot be trimmed from outside: no case that trims is listed");
    }
}
