//! Bodies of the call that reads streams of the event log again (JSON).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, SiteId};

/// The position from which streams are read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayFrom {
    /// The first record that the stream took at this time or later, in milliseconds since 1970.
    Time(u64),
    /// The record after the one with this sequence number. It is a position of one shard.
    After(String),
    /// The oldest record that the stream keeps.
    Oldest,
}

/// The request that begins a replay, or joins the same one that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The position from which it reads.
    pub from: ReplayFrom,
    /// The site whose stream is read. None: the streams of all sites of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stream: Option<SiteId>,
    /// The shard that is read. None: all shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// Count the records, and apply none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// The reason, for the audit trail.
    pub reason: String,
}

impl ReplayRequest {
    /// Whether another request asks for the same. Its reason may differ.
    #[must_use]
    pub fn asks_for_the_same(&self, other: &Self) -> bool {
        let part = |one: &Self| Self { reason: String::new(), ..one.clone() };
        part(self) == part(other)
    }
}

/// The replay that is in progress at a node, or was the last one since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replay {
    /// The number of replays since the start of the node. Each has its own number.
    pub number: u64,
    /// The node that reads the streams again.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The start of the node in which it began. A later start knows nothing of it.
    pub start: u64,
    /// The request that began it.
    pub request: ReplayRequest,
    /// The authenticated identity of the operator.
    pub by: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// When it ended. None while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// The shards that were read, or are being read.
    pub shards: Vec<ShardReplay>,
    /// Statements about the request: a stream that does not keep everything since the time that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The records of one shard that were read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardReplay {
    /// The site of the stream.
    pub stream: String,
    /// The id of the shard.
    pub shard: String,
    /// All records that were read.
    pub records: u64,
    /// Transactions that are applied here, of which nothing was left to do.
    pub applied: u64,
    /// Transactions that are not applied here. They were handed to the apply stage, or would be in a dry run.
    pub changing: u64,
    /// Those of them that are applied now. Others are parked, or in quarantine.
    pub brought: u64,
    /// Stream events. A replay does not deliver them again.
    pub events: u64,
    /// Records that were passed over: they cannot be read, have no good signature, or are of another refdb.
    pub passed_over: u64,
    /// The sequence number of the last record that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Whether it was read to the end that it had.
    pub ended: bool,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Replay {
    /// The sum of one number over all shards.
    #[must_use]
    pub fn total(&self, number: impl Fn(&ShardReplay) -> u64) -> u64 {
        self.shards.iter().map(number).sum()
    }

    /// The shards that were not read to the end that they had.
    pub fn failures(&self) -> impl Iterator<Item = &ShardReplay> {
        self.shards.iter().filter(|shard| shard.failed.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_same_whatever_their_reasons_and_a_dry_run_is_another_one() {
        let read = |text: &str| serde_json::from_str::<ReplayRequest>(text).unwrap();
        let one = read(r#"{"from":{"time":5},"reason":"a"}"#);
        assert!(one.asks_for_the_same(&read(r#"{"from":{"time":5},"reason":"b"}"#)));
        assert!(!one.asks_for_the_same(&read(r#"{"from":{"time":5},"dry_run":true,"reason":"a"}"#)));
        let after = read(r#"{"from":{"after":"49"},"stream":"a","shard":"s","reason":"a"}"#);
        assert_eq!(after.from, ReplayFrom::After("49".into()));
        assert_eq!(read(r#"{"from":"oldest","reason":"a"}"#).from, ReplayFrom::Oldest);
    }
}
