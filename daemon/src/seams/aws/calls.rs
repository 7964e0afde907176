//! The table of all calls that the code makes: call, IAM actions, resource, and the commands that make it.
//!
//! `lockstep aws policy` prints what follows from it. A test records the calls of a full run and compares both ways
//! (`tests/tests/e2e/aws`): a call that is not in the table fails it, and so does a row that no call uses.

use Caller::{Apply, Backup, Plan, Run, RunAndCreate};
use On::{
    Backups, Bucket, Consumers, Everything, FanOutStreams, Journal, Objects, OwnStream, Refs, ScaledStreams, Streams,
};

/// The caller of AWS: a sidecar or a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A sidecar whose tables and stream exist.
    Run,
    /// A sidecar that may create its tables and its stream.
    RunAndCreate,
    /// `lockstep aws plan` and `lockstep aws check`.
    Plan,
    /// `lockstep aws apply`.
    Apply,
    /// `lockstep refdb backup`.
    Backup,
}

/// The resource that a call acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// The table of refs and of the registry.
    Refs,
    /// The table of the journal.
    Journal,
    /// The stream of every site. A node reads all of them, and publishes there for dead nodes of other sites.
    Streams,
    /// The streams that may be read by enhanced fan-out.
    FanOutStreams,
    /// The consumers of these streams: each node has one of its own at each.
    Consumers,
    /// The stream of the site alone.
    OwnStream,
    /// The streams of the site whose number of shards its sidecars set: `[eventlog.autoscale]` is on.
    ScaledStreams,
    /// The blobs below the prefix of the bucket.
    Objects,
    /// The bucket itself, without its objects.
    Bucket,
    /// The on-demand backups of both tables.
    Backups,
    /// No resource: the action is allowed as a whole or not at all.
    Everything,
}

/// A call of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name of the operation. The items of a transaction count as operations of their own:
    /// `TransactWriteItems/Put`.
    pub operation: &'static str,
    /// The resource that it acts on.
    pub on: On,
    /// The IAM actions that it needs, each with the resource that the action is allowed on.
    pub actions: &'static [(&'static str, On)],
    /// The sidecar or the commands that make the call.
    pub by: &'static [Caller],
}

/// A call that needs one action on the resource that it acts on.
const fn call(operation: &'static str, on: On, actions: &'static [(&'static str, On)], by: &'static [Caller]) -> Call {
    Call { operation, on, actions, by }
}

const SIDECAR: &[Caller] = &[Run, RunAndCreate];
const ALL: &[Caller] = &[Run, RunAndCreate, Plan, Apply];
const CREATES: &[Caller] = &[RunAndCreate, Apply];
const LOOKS: &[Caller] = &[Plan, Apply];
const APPLIES: &[Caller] = &[Apply];
const READS: &[Caller] = &[Run, RunAndCreate, Backup];
const BACKS_UP: &[Caller] = &[Backup];

const REGISTER: &[(&str, On)] =
    &[("kinesis:RegisterStreamConsumer", FanOutStreams), ("kinesis:RegisterStreamConsumer", Consumers)];
const DESCRIBE: &[(&str, On)] =
    &[("kinesis:DescribeStreamConsumer", FanOutStreams), ("kinesis:DescribeStreamConsumer", Consumers)];
const DEREGISTER: &[(&str, On)] =
    &[("kinesis:DeregisterStreamConsumer", FanOutStreams), ("kinesis:DeregisterStreamConsumer", Consumers)];

/// All calls, by service.
pub const CALLS: &[Call] = &[
    call("DescribeTable", Refs, &[("dynamodb:DescribeTable", Refs)], ALL),
    call("GetItem", Refs, &[("dynamodb:GetItem", Refs)], READS),
    call("BatchGetItem", Refs, &[("dynamodb:BatchGetItem", Refs)], SIDECAR),
    call("Query", Refs, &[("dynamodb:Query", Refs)], READS),
    call("PutItem", Refs, &[("dynamodb:PutItem", Refs)], SIDECAR),
    call("UpdateItem", Refs, &[("dynamodb:UpdateItem", Refs)], SIDECAR),
    call("DeleteItem", Refs, &[("dynamodb:DeleteItem", Refs)], SIDECAR),
    // A transaction needs the action of each of its items.
    call("TransactWriteItems/Put", Refs, &[("dynamodb:PutItem", Refs)], SIDECAR),
    call("TransactWriteItems/Update", Refs, &[("dynamodb:UpdateItem", Refs)], SIDECAR),
    call("TransactWriteItems/ConditionCheck", Refs, &[("dynamodb:ConditionCheckItem", Refs)], SIDECAR),
    call("CreateTable", Refs, &[("dynamodb:CreateTable", Refs)], CREATES),
    call("DescribeContinuousBackups", Refs, &[("dynamodb:DescribeContinuousBackups", Refs)], LOOKS),
    call("ListTagsOfResource", Refs, &[("dynamodb:ListTagsOfResource", Refs)], LOOKS),
    call("UpdateContinuousBackups", Refs, &[("dynamodb:UpdateContinuousBackups", Refs)], APPLIES),
    call("UpdateTable", Refs, &[("dynamodb:UpdateTable", Refs)], APPLIES),
    call("TagResource", Refs, &[("dynamodb:TagResource", Refs)], APPLIES),
    call("DescribeTable", Journal, &[("dynamodb:DescribeTable", Journal)], ALL),
    call("GetItem", Journal, &[("dynamodb:GetItem", Journal)], SIDECAR),
    call("PutItem", Journal, &[("dynamodb:PutItem", Journal)], SIDECAR),
    call("DeleteItem", Journal, &[("dynamodb:DeleteItem", Journal)], SIDECAR),
    call("TransactWriteItems/Put", Journal, &[("dynamodb:PutItem", Journal)], SIDECAR),
    call("CreateTable", Journal, &[("dynamodb:CreateTable", Journal)], CREATES),
    call("DescribeContinuousBackups", Journal, &[("dynamodb:DescribeContinuousBackups", Journal)], LOOKS),
    call("ListTagsOfResource", Journal, &[("dynamodb:ListTagsOfResource", Journal)], LOOKS),
    call("UpdateContinuousBackups", Journal, &[("dynamodb:UpdateContinuousBackups", Journal)], APPLIES),
    call("UpdateTable", Journal, &[("dynamodb:UpdateTable", Journal)], APPLIES),
    call("TagResource", Journal, &[("dynamodb:TagResource", Journal)], APPLIES),
    call("CreateBackup", Refs, &[("dynamodb:CreateBackup", Refs)], BACKS_UP),
    call("CreateBackup", Journal, &[("dynamodb:CreateBackup", Journal)], BACKS_UP),
    call("DescribeBackup", Backups, &[("dynamodb:DescribeBackup", Backups)], BACKS_UP),
    // This action has no resource in IAM.
    call("ListBackups", Refs, &[("dynamodb:ListBackups", Everything)], BACKS_UP),
    call("ListBackups", Journal, &[("dynamodb:ListBackups", Everything)], BACKS_UP),
    call("DescribeStreamSummary", Streams, &[("kinesis:DescribeStreamSummary", Streams)], ALL),
    call("ListShards", Streams, &[("kinesis:ListShards", Streams)], SIDECAR),
    call("GetShardIterator", Streams, &[("kinesis:GetShardIterator", Streams)], SIDECAR),
    call("GetRecords", Streams, &[("kinesis:GetRecords", Streams)], SIDECAR),
    call("PutRecords", Streams, &[("kinesis:PutRecords", Streams)], SIDECAR),
    // AWS checks most of these actions on the stream and on the consumer.
    call("RegisterStreamConsumer", FanOutStreams, REGISTER, SIDECAR),
    call("DescribeStreamConsumer", FanOutStreams, DESCRIBE, SIDECAR),
    call("DeregisterStreamConsumer", FanOutStreams, DEREGISTER, SIDECAR),
    call("ListStreamConsumers", FanOutStreams, &[("kinesis:ListStreamConsumers", FanOutStreams)], SIDECAR),
    call("SubscribeToShard", FanOutStreams, &[("kinesis:SubscribeToShard", Consumers)], SIDECAR),
    call("CreateStream", OwnStream, &[("kinesis:CreateStream", OwnStream)], CREATES),
    call("ListTagsForStream", Streams, &[("kinesis:ListTagsForStream", Streams)], LOOKS),
    call("AddTagsToStream", OwnStream, &[("kinesis:AddTagsToStream", OwnStream)], APPLIES),
    call("IncreaseStreamRetentionPeriod", OwnStream, &[("kinesis:IncreaseStreamRetentionPeriod", OwnStream)], APPLIES),
    call("StartStreamEncryption", OwnStream, &[("kinesis:StartStreamEncryption", OwnStream)], APPLIES),
    call("UpdateShardCount", OwnStream, &[("kinesis:UpdateShardCount", OwnStream)], APPLIES),
    call("UpdateShardCount", ScaledStreams, &[("kinesis:UpdateShardCount", ScaledStreams)], SIDECAR),
    // Without the right to list the bucket, S3 answers "denied" for a blob that does not exist, and never "not found".
    call("GetObject", Objects, &[("s3:GetObject", Objects), ("s3:ListBucket", Bucket)], SIDECAR),
    call("PutObject", Objects, &[("s3:PutObject", Objects)], SIDECAR),
    call("DeleteObjects", Objects, &[("s3:DeleteObject", Objects)], SIDECAR),
    call("CreateMultipartUpload", Objects, &[("s3:PutObject", Objects)], SIDECAR),
    call("UploadPart", Objects, &[("s3:PutObject", Objects)], SIDECAR),
    call("CompleteMultipartUpload", Objects, &[("s3:PutObject", Objects)], SIDECAR),
    call("AbortMultipartUpload", Objects, &[("s3:AbortMultipartUpload", Objects)], SIDECAR),
    call("HeadBucket", Bucket, &[("s3:ListBucket", Bucket)], LOOKS),
    call("GetBucketEncryption", Bucket, &[("s3:GetEncryptionConfiguration", Bucket)], LOOKS),
    call("GetPublicAccessBlock", Bucket, &[("s3:GetBucketPublicAccessBlock", Bucket)], LOOKS),
    call("GetBucketTagging", Bucket, &[("s3:GetBucketTagging", Bucket)], LOOKS),
    call("CreateBucket", Bucket, &[("s3:CreateBucket", Bucket)], APPLIES),
    call("PutBucketEncryption", Bucket, &[("s3:PutEncryptionConfiguration", Bucket)], APPLIES),
    call("PutPublicAccessBlock", Bucket, &[("s3:PutBucketPublicAccessBlock", Bucket)], APPLIES),
    call("PutBucketTagging", Bucket, &[("s3:PutBucketTagging", Bucket)], APPLIES),
];

/// The calls of one caller.
pub fn of(caller: Caller) -> impl Iterator<Item = &'static Call> {
    CALLS.iter().filter(move |call| call.by.contains(&caller))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_call_stands_twice_and_each_has_a_caller_and_an_action() {
        let mut seen = BTreeSet::new();
        for call in CALLS {
            assert!(seen.insert((call.operation, call.on)), "{} on {:?} stands twice", call.operation, call.on);
            assert!(!call.by.is_empty() && !call.actions.is_empty(), "{}", call.operation);
        }
    }

    #[test]
    fn a_plan_changes_nothing() {
        let reads = ["Describe", "List", "Get", "Head"];
        for call in of(Plan) {
            assert!(reads.iter().any(|verb| call.operation.starts_with(verb)), "{}", call.operation);
        }
        assert!(of(Run).all(|call| !call.operation.starts_with("Create") || call.on == Objects));
    }
}
