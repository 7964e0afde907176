//! A resource of a site at AWS: compared with the needs of the site, and mended.
//!
//! Mending adds missing properties. It deletes nothing, and it loosens nothing: a resource that is stricter or larger
//! than asked for is as wanted. A property that only an operator should change is a difference, told with the command
//! that changes it.

use std::fmt;

use async_trait::async_trait;
use serde::{Serialize, Serializer};

/// A property of a resource. In JSON it is the same text as for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// Whether the resource exists.
    Existence,
    /// The key schema of a table.
    Keys,
    /// Whether a table is in one Region, or in several with strong consistency.
    Replication,
    /// How a table is paid for.
    BillingMode,
    /// The reads and writes per second for which a table on demand is prepared.
    WarmThroughput,
    /// The key of the encryption at rest.
    Encryption,
    /// Whether a table can be restored to a moment of the last weeks.
    PointInTimeRecovery,
    /// Whether a table refuses to be deleted.
    DeletionProtection,
    /// How the capacity of a stream is set.
    StreamMode,
    /// The number of open shards.
    Shards,
    /// How long a stream keeps records.
    Retention,
    /// The largest record that a stream takes.
    RecordSize,
    /// Whether the partition key chooses the shard of a record.
    RecordDistribution,
    /// Whether a bucket can be opened to the public.
    PublicAccess,
    /// A tag, by its key.
    Tag(String),
}

impl fmt::Display for Property {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Existence => "existence",
            Self::Keys => "keys",
            Self::Replication => "replication",
            Self::BillingMode => "billing mode",
            Self::WarmThroughput => "warm throughput",
            Self::Encryption => "encryption",
            Self::PointInTimeRecovery => "point-in-time recovery",
            Self::DeletionProtection => "deletion protection",
            Self::StreamMode => "mode",
            Self::Shards => "shards",
            Self::Retention => "retention",
            Self::RecordSize => "record size",
            Self::RecordDistribution => "record distribution",
            Self::PublicAccess => "public access",
            Self::Tag(key) => return write!(out, "tag {key}"),
        };
        out.write_str(name)
    }
}

impl Serialize for Property {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a property stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As wanted, or stricter.
    Same,
    /// Missing. `lockstep aws apply` adds it.
    Missing,
    /// Different in a way that only an operator should change.
    Differs,
    /// The endpoint does not know the call or the field. Emulators leave some out.
    NotAnswered,
}

/// One property of one resource: the wanted value, and the value that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The resource: `table lockstep-refs`.
    pub resource: String,
    /// The Region of the resource.
    pub region: String,
    /// The property that is compared.
    pub property: Property,
    /// The value that the site needs.
    pub wanted: String,
    /// The value that is there.
    pub found: String,
    /// How the two compare.
    pub verdict: Verdict,
    /// The way to end a difference that `apply` leaves alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The rows of one resource, while they are collected.
#[derive(Debug)]
pub struct Rows {
    resource: String,
    region: String,
    rows: Vec<Row>,
}

impl Rows {
    /// No rows yet of a resource.
    #[must_use]
    pub fn of(resource: &str, region: &str) -> Self {
        Self { resource: resource.to_owned(), region: region.to_owned(), rows: Vec::new() }
    }

    fn add(&mut self, property: Property, wanted: String, found: String, verdict: Verdict, remedy: Option<String>) {
        let (resource, region) = (self.resource.clone(), self.region.clone());
        self.rows.push(Row { resource, region, property, wanted, found, verdict, remedy });
    }

    /// A property that `apply` adds unless it is as wanted.
    pub fn missing_unless(
        &mut self,
        is_same: bool,
        property: Property,
        wanted: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        let verdict = if is_same { Verdict::Same } else { Verdict::Missing };
        self.add(property, wanted.to_string(), found.to_string(), verdict, None);
    }

    /// A property that only an operator should change. `remedy` tells how.
    pub fn differs_unless(
        &mut self,
        is_same: bool,
        property: Property,
        wanted: impl fmt::Display,
        found: impl fmt::Display,
        remedy: impl fmt::Display,
    ) {
        let (verdict, remedy) =
            if is_same { (Verdict::Same, None) } else { (Verdict::Differs, Some(remedy.to_string())) };
        self.add(property, wanted.to_string(), found.to_string(), verdict, remedy);
    }

    /// A property that the endpoint does not tell.
    pub fn not_answered(&mut self, property: Property, wanted: impl fmt::Display) {
        self.add(property, wanted.to_string(), "not answered by this endpoint".to_owned(), Verdict::NotAnswered, None);
    }

    /// The wanted tags. A tag with another value is somebody's decision. Other tags do not matter.
    pub fn tags(&mut self, wanted: &super::Tags, found: &super::Tags) {
        for (key, value) in wanted {
            let property = Property::Tag(key.clone());
            match found.get(key) {
                None => self.missing_unless(false, property, value, "none"),
                Some(has) => {
                    let remedy = format!("write --tag {key}={has}, or change the tag of the resource");
                    self.differs_unless(has == value, property, value, has, remedy);
                }
            }
        }
    }

    /// All rows, in the order of their comparison.
    #[must_use]
    pub fn done(self) -> Vec<Row> {
        self.rows
    }
}

/// Why a resource could not be compared or mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    /// The caller has no right to the call.
    #[error(
        "{action} on {resource} is denied ({why}). `lockstep aws policy --for plan` prints the policy of a plan, \
         `--for apply` that of an apply"
    )]
    Denied {
        /// The denied IAM action, such as `dynamodb:CreateTable`.
        action: String,
        /// The resource, such as `table lockstep-refs`.
        resource: String,
        /// The message of AWS, as it came.
        why: String,
    },
    /// AWS refused the call, or could not be reached before it.
    #[error("{resource}: {why}")]
    Failed {
        /// The resource, such as `table lockstep-refs`.
        resource: String,
        /// The message of the failure.
        why: String,
    },
    /// The call was sent, and its outcome is not known.
    #[error("{resource}: the outcome is unknown ({why}): look with `lockstep aws plan`")]
    Unknown {
        /// The resource, such as `table lockstep-refs`.
        resource: String,
        /// The reason why no answer came.
        why: String,
    },
}

impl ProvisionError {
    /// The error of a call that got no answer, or one that says nothing of its outcome. A call that only reads has
    /// failed then.
    #[must_use]
    pub fn lost(resource: String, action: &str, why: &str) -> Self {
        let why = format!("{action}: {why}");
        let reads = ["Describe", "List", "Get"].iter().any(|verb| action.starts_with(verb));
        if reads { Self::Failed { resource, why } } else { Self::Unknown { resource, why } }
    }
}

/// A resource that a site needs.
#[async_trait]
pub trait Provided: Send + Sync {
    /// Compares the existing resource with the needs of the site. A resource that does not exist has one row. Changes
    /// nothing.
    async fn look(&self) -> Result<Vec<Row>, ProvisionError>;

    /// Adds what a row with [`Verdict::Missing`] lacks, and waits until the resource can be used again.
    async fn mend(&self, row: &Row) -> Result<(), ProvisionError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_call_that_only_reads_has_failed() {
        let of = |action| ProvisionError::lost("table t".to_owned(), action, "no answer");
        assert!(matches!(of("DescribeTable"), ProvisionError::Failed { .. }));
        assert!(of("UpdateTable").to_string().contains("the outcome is unknown (UpdateTable: no answer)"));
    }

    #[test]
    fn a_missing_tag_is_added_and_another_value_is_left_alone() {
        let tags = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<super::super::Tags>()
        };
        let mut rows = Rows::of("table t", "eu-west-1");
        rows.tags(&tags(&[("a", "1"), ("b", "2"), ("c", "3")]), &tags(&[("b", "9"), ("c", "3"), ("d", "4")]));
        let verdicts: Vec<Verdict> = rows.done().iter().map(|row| row.verdict).collect();
        assert_eq!(verdicts, [Verdict::Missing, Verdict::Differs, Verdict::Same]);
    }
}
