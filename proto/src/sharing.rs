//! Reads of the streams that the nodes of a site share (JSON): the document of their leases, the bodies of the call by
//! which one node hands records to another, and the status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, SiteId};

/// The most records of one answer.
pub const MOST_RECORDS: usize = 1_000;
/// The most bytes of the records of one answer, before their encoding. An answer may have one larger record alone.
pub const RECORDS_BYTES: usize = 128 * 1024;
/// The longest time for which a call waits for records, in milliseconds.
pub const RECORDS_WAIT_MS: u64 = 30_000;

/// The document in the refdb: by shard, the node that reads it for its site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLeases {
    /// The highest counter that was given to a lease. It never goes back.
    #[serde(default)]
    pub last: u64,
    /// The leases. A key is made of the site that reads, the site of the stream, and the shard.
    #[serde(default)]
    pub leases: BTreeMap<String, ReaderLease>,
}

/// The lease of one shard at one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLease {
    /// The node that reads the shard for its siblings. None if the last one has handed it over.
    #[serde(default)]
    pub holder: Option<NodeId>,
    /// A number that grows with each write of this lease: while its holder makes progress, and when it changes hands.
    pub counter: u64,
}

impl ReaderLeases {
    /// Writes a lease with the next counter.
    pub fn give(&mut self, key: &str, holder: Option<NodeId>) {
        self.last += 1;
        self.leases.insert(key.to_owned(), ReaderLease { holder, counter: self.last });
    }
}

/// Asks the node that reads a shard for the records behind a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordsRequest {
    /// The node that asks. It has one call per shard: a newer one ends the earlier one.
    #[schema(value_type = String)]
    pub reader: NodeId,
    /// The site of the stream.
    #[schema(value_type = String)]
    pub stream: SiteId,
    /// The identity of the stream, as its description tells it.
    pub created: String,
    /// The id of the shard.
    pub shard: String,
    /// The sequence number of the last record that the node has. None: it begins at the oldest record.
    #[serde(default)]
    pub after: Option<String>,
    /// The most records that it takes, at most [`MOST_RECORDS`].
    pub most: usize,
    /// How long to wait if there are no records, in milliseconds, at most [`RECORDS_WAIT_MS`].
    pub wait_ms: u64,
}

/// A record that one node hands to another: the bytes of the stream, with any signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandedRecord {
    /// The sequence number that the stream gave it.
    pub sequence: String,
    /// The bytes of the record, in base64.
    pub data: String,
}

/// The answer to a [`RecordsRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RecordsAnswer {
    /// The records behind the position, in order, and none between them is left out. Without records: the reader has
    /// begun to read the shard during the call, and there was nothing new.
    Records {
        /// The position that the first record follows: the one of the request.
        #[serde(default)]
        follows: Option<String>,
        /// The records, oldest first.
        records: Vec<HandedRecord>,
        /// Whether the shard has ended with the last of them.
        ended: bool,
        /// Whether there may be more to read: the last read of the reader has begun before the call, or found more.
        behind: bool,
    },
    /// There is nothing new, and the reader has not read the shard during the call, or has not come to the position.
    Silent,
    /// The position is not in the buffer: it is too old, or unknown.
    Elsewhere {
        /// The position at which the buffer begins. None: the oldest record of the stream.
        #[serde(default)]
        oldest: Option<String>,
    },
    /// The node does not read this shard for others.
    NotReader,
}

/// The sharing of reads of a node with the other nodes of its site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharingStatus {
    /// Whether it shares them at present.
    pub shares: bool,
    /// Why it does, or does not.
    pub reason: String,
    /// The shards that it reads, if it shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<SharedShard>,
}

/// One shard, and the source of its records at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedShard {
    /// The site of the stream.
    #[schema(value_type = String)]
    pub stream: SiteId,
    /// The id of the shard.
    pub shard: String,
    /// Where the last records came from.
    pub origin: RecordOrigin,
    /// The node that has the lease of the shard. None if no node has it.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub reader: Option<NodeId>,
    /// Why they came from there.
    pub reason: String,
}

/// The origins of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecordOrigin {
    /// The node has read them from the stream.
    Stream,
    /// A sibling has handed them over.
    Sibling,
}

impl RecordOrigin {
    /// The word for the origin in texts and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Sibling => "sibling",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_keeps_its_leases_and_reads_an_empty_one() {
        let mut leases: ReaderLeases = serde_json::from_str("{}").unwrap();
        assert_eq!(leases, ReaderLeases::default());
        leases.give("a b 0", Some("a-0".parse().unwrap()));
        leases.give("a b 1", None);
        leases.give("a b 0", None);
        assert_eq!((leases.leases["a b 0"].counter, leases.leases["a b 1"].counter, leases.last), (3, 2, 3));
        let text = serde_json::to_string(&leases).unwrap();
        assert_eq!(serde_json::from_str::<ReaderLeases>(&text).unwrap(), leases);
    }

    #[test]
    fn answers_keep_their_form() {
        let elsewhere = RecordsAnswer::Elsewhere { oldest: Some("7".to_owned()) };
        let text = r#"{"kind":"elsewhere","oldest":"7"}"#;
        assert_eq!(serde_json::to_string(&elsewhere).unwrap(), text);
        for answer in [elsewhere, RecordsAnswer::Silent, RecordsAnswer::NotReader] {
            let text = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<RecordsAnswer>(&text).unwrap(), answer);
        }
        assert_eq!(serde_json::to_string(&RecordOrigin::Sibling).unwrap(), "\"sibling\"");
    }
}
