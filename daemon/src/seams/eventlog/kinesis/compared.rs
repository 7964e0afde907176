//! Compares a stream with the needs of a site. Pure: the descriptions are AWS's, or made up by a test.

use std::time::Duration;

use aws_sdk_kinesis::types::{EncryptionType, RecordDistributionStrategy, StreamDescriptionSummary};

use crate::seams::aws::{KeyArn, Property, Row, Rows, StreamMode, Tags};
use crate::seams::eventlog::limits::RECORD_BYTES;

/// The shortest and the longest retention of a stream, in hours.
const RETENTION_HOURS: (i32, i32) = (24, 8_760);

/// The properties that a stream should have.
#[derive(Clone, Debug)]
pub struct StreamWishes {
    /// The Region of the stream, for the output.
    pub region: String,
    /// The key of the encryption. None: any, and AWS's own if there is none.
    pub key: Option<KeyArn>,
    /// Tags that the stream must have.
    pub tags: Tags,
    /// How its capacity is set. None: as it is, and provisioned if it is created.
    pub mode: Option<StreamMode>,
    /// The number of open shards at least, if it is provisioned.
    pub shards: i32,
    /// How long it should keep records.
    pub retention: Duration,
}

/// AWS's answers about a stream.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) summary: StreamDescriptionSummary,
    pub(super) tags: Tags,
}

/// Hours of retention for a time, rounded up.
pub(super) fn hours(retention: Duration) -> i32 {
    i32::try_from(retention.as_secs().div_ceil(3_600)).unwrap_or(i32::MAX).max(RETENTION_HOURS.0)
}

/// The rows of a stream. `seen` is None if it does not exist.
pub(super) fn compare(stream: &str, wishes: &StreamWishes, seen: Option<&Seen>) -> Vec<Row> {
    let mut rows = Rows::of(&format!("stream {stream}"), &wishes.region);
    let Some(Seen { summary, tags }) = seen else {
        rows.missing_unless(false, Property::Existence, "a stream", "none");
        return rows.done();
    };
    rows.missing_unless(true, Property::Existence, "a stream", "a stream");
    let mode = summary.stream_mode_details().map_or(StreamMode::Provisioned.name(), |mode| mode.stream_mode().as_str());
    let wanted = wishes.mode.map_or("any", StreamMode::name);
    let remedy = format!(
        "aws kinesis update-stream-mode --stream-arn {} --stream-mode-details StreamMode={wanted}",
        summary.stream_arn()
    );
    let is_same = wishes.mode.is_none_or(|mode_wanted| mode_wanted.name() == mode);
    rows.differs_unless(is_same, Property::StreamMode, wanted, mode, remedy);
    if mode == StreamMode::Provisioned.name() {
        let (wanted, open) = (wishes.shards, summary.open_shard_count());
        rows.missing_unless(open >= wanted, Property::Shards, format!("{wanted} or more"), open);
    }
    retention(wishes, summary, &mut rows);
    encryption(stream, wishes, summary, &mut rows);
    let wanted = format!("{} KiB", RECORD_BYTES / 1_024);
    match summary.max_record_size_in_kib() {
        Some(kib) => {
            let is_enough = usize::try_from(kib).unwrap_or(0) >= RECORD_BYTES / 1_024;
            let remedy = format!(
                "aws kinesis update-max-record-size --stream-arn {} --max-record-size-in-ki-b {}",
                summary.stream_arn(),
                RECORD_BYTES / 1_024
            );
            rows.differs_unless(is_enough, Property::RecordSize, wanted, format!("{kib} KiB"), remedy);
        }
        None => rows.not_answered(Property::RecordSize, wanted),
    }
    let by_key = RecordDistributionStrategy::UserPartitionKey;
    let found = summary.record_distribution_strategy().unwrap_or(&by_key);
    let remedy = "set it back: otherwise records of one project arrive in any order";
    rows.differs_unless(*found == by_key, Property::RecordDistribution, by_key.as_str(), found.as_str(), remedy);
    rows.tags(&wishes.tags, tags);
    rows.done()
}

fn retention(wishes: &StreamWishes, summary: &StreamDescriptionSummary, rows: &mut Rows) {
    let (wanted, found) = (hours(wishes.retention), summary.retention_period_hours());
    let (told, has) = (format!("{wanted} hours or more"), format!("{found} hours"));
    if wanted > RETENTION_HOURS.1 {
        let remedy = format!(
            "lower eventlog.retention and lease.expelled_after: Kinesis keeps records for {} hours at most",
            RETENTION_HOURS.1
        );
        rows.differs_unless(false, Property::Retention, told, has, remedy);
    } else {
        rows.missing_unless(found >= wanted, Property::Retention, told, has);
    }
}

fn encryption(stream: &str, wishes: &StreamWishes, summary: &StreamDescriptionSummary, rows: &mut Rows) {
    let has = match summary.encryption_type() {
        Some(EncryptionType::Kms) => Some(summary.key_id().unwrap_or("a KMS key")),
        _ => None,
    };
    match (&wishes.key, has) {
        (key, None) => {
            let wanted = key.as_ref().map_or("any KMS key", |key| key.as_str());
            rows.missing_unless(false, Property::Encryption, wanted, "none");
        }
        (None, Some(has)) => rows.missing_unless(true, Property::Encryption, "any KMS key", has),
        (Some(key), Some(has)) => {
            let key = key.as_str();
            let remedy = format!(
                "give --kms-key {has}, or: aws kinesis start-stream-encryption --stream-name {stream} \
                 --encryption-type KMS --key-id {key}"
            );
            let is_same = wishes.key.as_ref().is_some_and(|wanted| wanted.is(has));
            rows.differs_unless(is_same, Property::Encryption, key, has, remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::primitives::DateTime;
    use aws_sdk_kinesis::types::builders::StreamDescriptionSummaryBuilder;
    use aws_sdk_kinesis::types::{StreamModeDetails, StreamStatus};

    use super::*;
    use crate::seams::aws::Verdict;

    const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/k";

    fn good() -> StreamDescriptionSummaryBuilder {
        let mode = StreamModeDetails::builder().stream_mode(aws_sdk_kinesis::types::StreamMode::Provisioned);
        StreamDescriptionSummary::builder()
            .stream_name("l-a")
            .stream_arn("arn:aws:kinesis:eu-west-1:123456789012:stream/l-a")
            .stream_status(StreamStatus::Active)
            .stream_creation_timestamp(DateTime::from_secs(1))
            .set_enhanced_monitoring(Some(Vec::new()))
            .stream_mode_details(mode.build().unwrap())
            .retention_period_hours(168)
            .open_shard_count(2)
            .encryption_type(EncryptionType::Kms)
            .key_id(KEY)
            .max_record_size_in_kib(1_024)
    }

    fn wishes(key: Option<&str>) -> StreamWishes {
        StreamWishes {
            region: "eu-west-1".to_owned(),
            key: key.map(|key| key.parse().unwrap()),
            tags: Tags::new(),
            mode: None,
            shards: 2,
            retention: Duration::from_secs(7 * 86_400),
        }
    }

    fn others(summary: StreamDescriptionSummaryBuilder, wishes: &StreamWishes) -> Vec<(Property, Verdict)> {
        let seen = Seen { summary: summary.build().unwrap(), tags: Tags::new() };
        let rows = compare("l-a", wishes, Some(&seen)).into_iter().filter(|row| row.verdict != Verdict::Same);
        rows.map(|row| (row.property, row.verdict)).collect()
    }

    #[test]
    fn a_stream_that_is_as_wanted_or_larger_has_no_difference() {
        assert_eq!(others(good(), &wishes(Some(KEY))), []);
        let larger = good().open_shard_count(8).retention_period_hours(8_760).max_record_size_in_kib(10_240);
        assert_eq!(others(larger, &wishes(None)), []);
        let on_demand = StreamModeDetails::builder().stream_mode(aws_sdk_kinesis::types::StreamMode::OnDemand);
        let on_demand = good().stream_mode_details(on_demand.build().unwrap()).open_shard_count(1);
        assert_eq!(others(on_demand, &wishes(None)), [], "Kinesis sets the number of shards");
    }

    #[test]
    fn a_missing_property_can_be_added() {
        let poor = good().retention_period_hours(24).open_shard_count(1).encryption_type(EncryptionType::None);
        let missing = [Property::Shards, Property::Retention, Property::Encryption];
        assert_eq!(others(poor, &wishes(None)), missing.map(|property| (property, Verdict::Missing)));
        assert_eq!(compare("l-a", &wishes(None), None).len(), 1);
    }

    #[test]
    fn a_decision_of_the_operator_is_left_alone() {
        let differs = |property| vec![(property, Verdict::Differs)];
        let other = wishes(Some("arn:aws:kms:eu-west-1:123456789012:key/other"));
        assert_eq!(others(good(), &other), differs(Property::Encryption));
        let on_demand = StreamWishes { mode: Some(StreamMode::OnDemand), ..wishes(None) };
        assert_eq!(others(good(), &on_demand), differs(Property::StreamMode));
        let scattered = good().record_distribution_strategy(RecordDistributionStrategy::Auto);
        assert_eq!(others(scattered, &wishes(None)), differs(Property::RecordDistribution));
        let for_ever = StreamWishes { retention: Duration::from_secs(400 * 86_400), ..wishes(None) };
        assert_eq!(others(good(), &for_ever), differs(Property::Retention));
        let silent = good().set_max_record_size_in_kib(None);
        assert_eq!(others(silent, &wishes(None)), [(Property::RecordSize, Verdict::NotAnswered)]);
    }
}
