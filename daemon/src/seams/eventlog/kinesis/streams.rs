//! Creates streams, waits for them, and lists their shards.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{Shard, StreamDescriptionSummary, StreamStatus};
use tokio::time::{Instant, sleep};

use super::KinesisSettings;
use super::errors::{denial, explain};
use crate::seams::aws::denied;
use crate::seams::eventlog::{EventLogError, ShardInfo, StreamInfo};

/// Creates the stream if it does not exist, and waits until it is usable.
pub(super) async fn ensure(client: &Client, stream: &str, settings: &KinesisSettings) -> Result<(), EventLogError> {
    let deadline = Instant::now() + settings.ready_within;
    loop {
        match summary(client, stream).await {
            Ok(summary) if is_usable(&summary) => return Ok(()),
            Ok(_) | Err(EventLogError::NotNow(_)) => {}
            Err(EventLogError::Absent(_)) => create(client, stream, settings.shards).await?,
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            let within = settings.ready_within;
            return Err(EventLogError::NotNow(format!("stream {stream} is still not usable after {within:?}")));
        }
        sleep(settings.ready_poll).await;
    }
}

/// The fault in the settings of a stream, with the command that mends it.
pub(super) async fn complaint(
    client: &Client,
    stream: &str,
    retention: Duration,
) -> Result<Option<String>, EventLogError> {
    let summary = summary(client, stream).await?;
    Ok(too_short(stream, summary.retention_period_hours(), retention))
}

/// How long the stream keeps records.
pub(super) async fn retention(client: &Client, stream: &str) -> Result<Duration, EventLogError> {
    let hours = summary(client, stream).await?.retention_period_hours();
    Ok(Duration::from_secs(u64::try_from(hours).unwrap_or(0) * 3_600))
}

/// The complaint about a stream that keeps its records for `hours`, if that is shorter than `retention`.
fn too_short(stream: &str, hours: i32, retention: Duration) -> Option<String> {
    let wanted = retention.as_secs().div_ceil(3_600);
    (u64::try_from(hours).unwrap_or(0) < wanted).then(|| {
        format!(
            "stream {stream} keeps records for {hours} hours, eventlog.retention is {wanted} hours: a node away for \
             longer misses stream events. Run `lockstep aws apply`, or: aws kinesis increase-stream-retention-period \
             --stream-name {stream} --retention-period-hours {wanted}"
        )
    })
}

/// The stream with all its shards.
pub(super) async fn describe(client: &Client, stream: &str) -> Result<StreamInfo, EventLogError> {
    let summary = summary(client, stream).await?;
    if !is_usable(&summary) {
        return Err(EventLogError::NotNow(format!("stream {stream} is {}", summary.stream_status())));
    }
    let mut shards = list(client, stream).await?;
    shards.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(StreamInfo { created: identity(&summary), shards })
}

pub(super) async fn summary(client: &Client, stream: &str) -> Result<StreamDescriptionSummary, EventLogError> {
    let what = format!("stream {stream}");
    let answer = client.describe_stream_summary().stream_name(stream).send().await;
    let answer = answer.map_err(|error| match denial(&error) {
        Some(why) => EventLogError::Broken(denied::to_run("kinesis:DescribeStreamSummary", &what, &why)),
        None => explain(&error, &what),
    })?;
    answer.stream_description_summary.ok_or_else(|| EventLogError::NotNow(format!("{what}: no description")))
}

/// Creates the stream. It is no error if another node creates it at the same moment.
async fn create(client: &Client, stream: &str, shards: u16) -> Result<(), EventLogError> {
    match client.create_stream().stream_name(stream).shard_count(i32::from(shards.max(1))).send().await {
        Ok(_) => Ok(()),
        Err(error) => match (denial(&error), explain(&error, &format!("stream {stream}"))) {
            (Some(why), _) => {
                Err(EventLogError::Broken(denied::to_create("kinesis:CreateStream", &format!("stream {stream}"), &why)))
            }
            (None, EventLogError::NotNow(_)) => Ok(()),
            (None, error) => Err(error),
        },
    }
}

fn is_usable(summary: &StreamDescriptionSummary) -> bool {
    matches!(summary.stream_status(), StreamStatus::Active | StreamStatus::Updating)
}

fn identity(summary: &StreamDescriptionSummary) -> String {
    let at = summary.stream_creation_timestamp();
    format!("{}@{}.{:09}", summary.stream_arn(), at.secs(), at.subsec_nanos())
}

/// Lists the shards, page by page. A page is requested by the last shard before it, because a token expires, and the
/// emulator loses it.
async fn list(client: &Client, stream: &str) -> Result<Vec<ShardInfo>, EventLogError> {
    let mut shards: Vec<ShardInfo> = Vec::new();
    loop {
        let behind = shards.last().map(|shard| shard.id.clone());
        let call = client.list_shards().stream_name(stream).set_exclusive_start_shard_id(behind);
        let page = call.send().await.map_err(|error| explain(&error, &format!("stream {stream}")))?;
        let before = shards.len();
        shards.extend(page.shards.unwrap_or_default().into_iter().map(info));
        if page.next_token.is_none() || shards.len() == before {
            return Ok(shards);
        }
    }
}

fn info(shard: Shard) -> ShardInfo {
    let parents = shard.parent_shard_id.into_iter().chain(shard.adjacent_parent_shard_id).collect();
    ShardInfo { id: shard.shard_id, parents }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_that_is_too_short_is_told_with_the_command_that_mends_it() {
        let week = Duration::from_secs(7 * 86_400);
        let told = too_short("lockstep-muc-1", 24, week).unwrap();
        let command = "aws kinesis increase-stream-retention-period --stream-name lockstep-muc-1 \
                       --retention-period-hours 168";
        assert!(told.contains(command), "{told}");
        assert_eq!(too_short("lockstep-muc-1", 168, week), None);
        assert_eq!(too_short("lockstep-muc-1", 24, Duration::ZERO), None);
    }
}
