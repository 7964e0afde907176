//! A stream of a site as `lockstep aws` looks at it, creates it and mends it.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::{EncryptionType, ScalingType, StreamDescriptionSummary, StreamModeDetails, StreamStatus};
use lockstep_proto::SiteId;
use tokio::time::sleep;

use super::compared::{Seen, StreamWishes, compare, hours};
use super::errors::{denial, limited};
use super::stream_name;
use crate::seams::aws::{KeyArn, Property, Provided, ProvisionError, Row, StreamMode, Tags, causes};

/// The pause between two looks at a stream that changes, and the number of looks: ten minutes in all.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: u32 = 1_200;

/// The key of AWS for all streams of an account.
const AWS_KEY: &str = "alias/aws/kinesis";

/// The stream of a site.
#[derive(Debug)]
pub struct ProvidedStream {
    client: Client,
    stream: String,
    wishes: StreamWishes,
}

impl ProvidedStream {
    /// The stream of a site, with a prefix.
    #[must_use]
    pub fn new(client: &Client, prefix: &str, site: &SiteId, wishes: StreamWishes) -> Self {
        Self { client: client.clone(), stream: stream_name(prefix, site), wishes }
    }

    fn resource(&self) -> String {
        format!("stream {}", self.stream)
    }

    /// Translates a failed call. Only an answer of AWS, or a call that was never sent, is a failure for sure.
    fn failed<E>(&self, action: &str, error: &SdkError<E, HttpResponse>) -> ProvisionError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let resource = self.resource();
        if let Some(why) = denial(error) {
            return ProvisionError::Denied { action: format!("kinesis:{action}"), resource, why };
        }
        let limit = limited(error.code(), error.message().unwrap_or_default(), &resource);
        if let (Some(refused), "UpdateShardCount") = (limit, action) {
            return ProvisionError::Failed { resource, why: refused.to_string() };
        }
        match error {
            SdkError::ServiceError(service) if service.raw().status().as_u16() < 500 => {
                let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
                ProvisionError::Failed { resource, why: format!("{action}: {code}: {message}") }
            }
            SdkError::ConstructionFailure(_) => {
                ProvisionError::Failed { resource, why: format!("{action}: {}", causes(error)) }
            }
            _ => ProvisionError::lost(resource, action, &causes(error)),
        }
    }

    fn refused(&self, why: impl std::fmt::Display) -> ProvisionError {
        ProvisionError::Failed { resource: self.resource(), why: why.to_string() }
    }

    async fn describe(&self) -> Result<Option<StreamDescriptionSummary>, ProvisionError> {
        match self.client.describe_stream_summary().stream_name(&self.stream).send().await {
            Ok(answer) => Ok(answer.stream_description_summary),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(self.failed("DescribeStreamSummary", &error)),
        }
    }

    async fn tags(&self) -> Result<Tags, ProvisionError> {
        let (mut tags, mut last) = (Tags::new(), None::<String>);
        loop {
            let call = self.client.list_tags_for_stream().stream_name(&self.stream).set_exclusive_start_tag_key(last);
            let page = call.send().await.map_err(|error| self.failed("ListTagsForStream", &error))?;
            last = page.tags.last().map(|tag| tag.key.clone());
            tags.extend(page.tags.into_iter().map(|tag| (tag.key, tag.value.unwrap_or_default())));
            if !page.has_more_tags || last.is_none() {
                return Ok(tags);
            }
        }
    }

    async fn create(&self) -> Result<(), ProvisionError> {
        let call = self.client.create_stream().stream_name(&self.stream);
        let call = match self.wishes.mode {
            Some(StreamMode::OnDemand) => {
                let mode = StreamModeDetails::builder().stream_mode(aws_sdk_kinesis::types::StreamMode::OnDemand);
                call.stream_mode_details(mode.build().map_err(|error| self.refused(error))?)
            }
            Some(StreamMode::Provisioned) | None => call.shard_count(self.wishes.shards.max(1)),
        };
        let tags = self.wishes.tags.clone().into_iter().collect();
        let call = call.set_tags((!self.wishes.tags.is_empty()).then_some(tags));
        call.send().await.map(drop).map_err(|error| self.failed("CreateStream", &error))
    }

    async fn encrypt(&self) -> Result<(), ProvisionError> {
        let key = self.wishes.key.as_ref().map_or(AWS_KEY, KeyArn::as_str);
        let call = self.client.start_stream_encryption().stream_name(&self.stream);
        let sent = call.encryption_type(EncryptionType::Kms).key_id(key).send().await;
        sent.map(drop).map_err(|error| self.failed("StartStreamEncryption", &error))
    }

    /// Adds shards. Kinesis doubles them at most in one call; the next round does the rest.
    async fn add_shards(&self) -> Result<(), ProvisionError> {
        let open = self.describe().await?.map_or(1, |summary| summary.open_shard_count());
        let target = self.wishes.shards.min(open.saturating_mul(2));
        let call = self.client.update_shard_count().stream_name(&self.stream).target_shard_count(target);
        let sent = call.scaling_type(ScalingType::UniformScaling).send().await;
        sent.map(drop).map_err(|error| self.failed("UpdateShardCount", &error))
    }

    async fn active(&self) -> Result<(), ProvisionError> {
        for _ in 0..LOOKS {
            let found = self.describe().await?;
            if found.is_some_and(|summary| *summary.stream_status() == StreamStatus::Active) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(self.refused("it is still not active: look again with `lockstep aws plan`"))
    }
}

#[async_trait]
impl Provided for ProvidedStream {
    async fn look(&self) -> Result<Vec<Row>, ProvisionError> {
        let Some(summary) = self.describe().await? else {
            return Ok(compare(&self.stream, &self.wishes, None));
        };
        let tags = if self.wishes.tags.is_empty() { Tags::new() } else { self.tags().await? };
        Ok(compare(&self.stream, &self.wishes, Some(&Seen { summary, tags })))
    }

    async fn mend(&self, row: &Row) -> Result<(), ProvisionError> {
        let sent = match &row.property {
            Property::Existence => self.create().await,
            Property::Encryption => self.encrypt().await,
            Property::Shards => self.add_shards().await,
            Property::Retention => {
                let call = self.client.increase_stream_retention_period().stream_name(&self.stream);
                let sent = call.retention_period_hours(hours(self.wishes.retention)).send().await;
                sent.map(drop).map_err(|error| self.failed("IncreaseStreamRetentionPeriod", &error))
            }
            Property::Tag(key) => {
                let call = self.client.add_tags_to_stream().stream_name(&self.stream);
                let sent = call.tags(key, &row.wanted).send().await;
                sent.map(drop).map_err(|error| self.failed("AddTagsToStream", &error))
            }
            other => Err(self.refused(format!("{other} is changed by an operator alone"))),
        };
        sent?;
        self.active().await
    }
}
