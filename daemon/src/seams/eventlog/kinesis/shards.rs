//! The number of open shards of a stream. Only a provisioned stream has one that can be set.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Config;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::types::{ScalingType, StreamDescriptionSummary, StreamMode, StreamStatus};

use super::errors::{denial, explain, limited};
use super::streams::summary;
use crate::seams::aws::denied;
use crate::seams::eventlog::{EventLogError, OpenShards};

/// The open shards. None if the stream is on-demand.
pub(super) async fn open(client: &Client, stream: &str) -> Result<Option<OpenShards>, EventLogError> {
    Ok(of(&summary(client, stream).await?))
}

fn of(summary: &StreamDescriptionSummary) -> Option<OpenShards> {
    if summary.stream_mode_details().is_some_and(|mode| *mode.stream_mode() == StreamMode::OnDemand) {
        return None;
    }
    let count = u32::try_from(summary.open_shard_count()).unwrap_or_default();
    Some(OpenShards { count, is_changing: *summary.stream_status() != StreamStatus::Active })
}

/// Sets the number of open shards if it is `from`. The SDK does not repeat the call: Kinesis counts each one.
pub(super) async fn set(client: &Client, stream: &str, from: u32, to: u32) -> Result<(), EventLogError> {
    let what = format!("stream {stream}");
    match open(client, stream).await? {
        Some(OpenShards { count, is_changing: false }) if count == from => {}
        Some(OpenShards { count, is_changing }) => {
            let changes = if is_changing { " and is being changed" } else { "" };
            return Err(EventLogError::NotNow(format!("{what} has {count} open shards{changes}, not {from}")));
        }
        None => return Err(EventLogError::Broken(format!("{what} is on-demand, its shards cannot be set"))),
    }
    let target = i32::try_from(to).map_err(|_| EventLogError::Broken(format!("{what}: {to} shards are too many")))?;
    let once = Config::builder().retry_config(RetryConfig::disabled());
    let call = client.update_shard_count().stream_name(stream).target_shard_count(target);
    let sent = call.scaling_type(ScalingType::UniformScaling).customize().config_override(once).send().await;
    sent.map(drop).map_err(|error| match denial(&error) {
        Some(why) => EventLogError::Broken(denied::to_run("kinesis:UpdateShardCount", &what, &why)),
        None => {
            limited(error.code(), error.message().unwrap_or_default(), &what).unwrap_or_else(|| explain(&error, &what))
        }
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::primitives::DateTime;
    use aws_sdk_kinesis::types::StreamModeDetails;

    use super::*;

    fn summary(mode: Option<StreamMode>, status: StreamStatus) -> StreamDescriptionSummary {
        let mode = mode.map(|mode| StreamModeDetails::builder().stream_mode(mode).build().unwrap());
        StreamDescriptionSummary::builder()
            .stream_name("l-a")
            .stream_arn("arn:aws:kinesis:eu-west-1:123456789012:stream/l-a")
            .stream_status(status)
            .set_stream_mode_details(mode)
            .stream_creation_timestamp(DateTime::from_secs(1))
            .set_enhanced_monitoring(Some(Vec::new()))
            .retention_period_hours(24)
            .open_shard_count(3)
            .build()
            .unwrap()
    }

    #[test]
    fn the_shards_of_an_on_demand_stream_are_its_own_affair() {
        assert_eq!(of(&summary(Some(StreamMode::OnDemand), StreamStatus::Active)), None);
        let rests = Some(OpenShards { count: 3, is_changing: false });
        assert_eq!(of(&summary(Some(StreamMode::Provisioned), StreamStatus::Active)), rests);
        assert_eq!(of(&summary(None, StreamStatus::Active)), rests, "an endpoint that tells no mode has one");
        let changes = Some(OpenShards { count: 3, is_changing: true });
        assert_eq!(of(&summary(Some(StreamMode::Provisioned), StreamStatus::Updating)), changes);
    }
}
