//! Compares a table with the needs of a site. Pure: the descriptions are AWS's, or made up by a test.

use aws_sdk_dynamodb::types::{
    BillingMode, KeySchemaElement, MultiRegionConsistency, SseStatus, SseType, TableDescription,
};

use super::Warm;
use crate::seams::aws::{KeyArn, Property, Row, Rows, Tags};

/// The properties that the tables of a site should have.
#[derive(Clone, Debug)]
pub struct TableWishes {
    /// The Region of the tables, for the output.
    pub region: String,
    /// The key of the encryption. None accepts every key.
    pub key: Option<KeyArn>,
    /// Tags that the tables must have.
    pub tags: Tags,
    /// The least warm throughput, if they are on demand.
    pub warm: Option<Warm>,
}

/// AWS's answers about a table.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) description: TableDescription,
    /// Whether point-in-time recovery is on. None: the endpoint does not know the question.
    pub(super) recovery: Option<bool>,
    /// The tags. None: the endpoint does not know the question.
    pub(super) tags: Option<Tags>,
}

/// The rows of a table. `seen` is None if it does not exist.
pub(super) fn compare(table: &str, keys: &[&str], wishes: &TableWishes, seen: Option<&Seen>) -> Vec<Row> {
    let mut rows = Rows::of(&format!("table {table}"), &wishes.region);
    let Some(seen) = seen else {
        rows.missing_unless(false, Property::Existence, "a table", "none");
        return rows.done();
    };
    let of = &seen.description;
    rows.missing_unless(true, Property::Existence, "a table", "a table");
    let found: Vec<&str> = of.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
    let remedy = "choose another refdb.prefix: the keys of a table cannot change";
    rows.differs_unless(found == keys, Property::Keys, keys.join(", "), found.join(", "), remedy);
    replication(of, &mut rows);
    let mode = of.billing_mode_summary().and_then(|summary| summary.billing_mode()).cloned();
    let mode = mode.unwrap_or(BillingMode::Provisioned);
    let remedy = format!(
        "keep it if its capacity follows the load, by Application Auto Scaling, which `lockstep aws` cannot see: no \
         call on a table tells it. Look with: aws application-autoscaling describe-scalable-targets \
         --service-namespace dynamodb --resource-ids table/{table}; else: aws dynamodb update-table --table-name \
         {table} --billing-mode PAY_PER_REQUEST"
    );
    let is_same = mode == BillingMode::PayPerRequest;
    rows.differs_unless(is_same, Property::BillingMode, BillingMode::PayPerRequest, mode.as_str(), remedy);
    if is_same {
        warm_throughput(of, wishes, &mut rows);
    }
    encryption(table, of, wishes, &mut rows);
    match seen.recovery {
        Some(is_on) => rows.missing_unless(is_on, Property::PointInTimeRecovery, "on", on(is_on)),
        None => rows.not_answered(Property::PointInTimeRecovery, "on"),
    }
    let is_protected = of.deletion_protection_enabled() == Some(true);
    rows.missing_unless(is_protected, Property::DeletionProtection, "on", on(is_protected));
    match &seen.tags {
        Some(found) => rows.tags(&wishes.tags, found),
        None => wishes.tags.iter().for_each(|(key, value)| rows.not_answered(Property::Tag(key.clone()), value)),
    }
    rows.done()
}

fn on(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Only a table on demand has a warm throughput that can be set. A larger one is as wanted: AWS raises it by itself.
fn warm_throughput(of: &TableDescription, wishes: &TableWishes, rows: &mut Rows) {
    let Some(Warm { reads, writes }) = wishes.warm else { return };
    let wanted = format!("{reads}/{writes} or more");
    let found = of.warm_throughput().and_then(|of| Some((of.read_units_per_second()?, of.write_units_per_second()?)));
    match found {
        Some((has_reads, has_writes)) => {
            let is_warm = has_reads >= reads && has_writes >= writes;
            rows.missing_unless(is_warm, Property::WarmThroughput, wanted, format!("{has_reads}/{has_writes}"));
        }
        None => rows.not_answered(Property::WarmThroughput, wanted),
    }
}

fn replication(of: &TableDescription, rows: &mut Rows) {
    let is_replicated = !of.replicas().is_empty() || !of.global_table_witnesses().is_empty();
    let is_strong = of.multi_region_consistency() == Some(&MultiRegionConsistency::Strong);
    let found = match (is_strong, is_replicated) {
        (true, _) => "several Regions, strongly consistent",
        (false, true) => "several Regions, eventually consistent",
        (false, false) => "one Region",
    };
    let remedy =
        "sidecars refuse it: choose another refdb.prefix, and a table of one Region or with strong consistency";
    let wanted = "one Region, or several that are strongly consistent";
    rows.differs_unless(is_strong || !is_replicated, Property::Replication, wanted, found, remedy);
}

fn encryption(table: &str, of: &TableDescription, wishes: &TableWishes, rows: &mut Rows) {
    let sse = of.sse_description().filter(|sse| {
        sse.sse_type() == Some(&SseType::Kms)
            && matches!(sse.status(), Some(SseStatus::Enabled | SseStatus::Enabling | SseStatus::Updating))
    });
    let has = sse.map(|sse| sse.kms_master_key_arn().unwrap_or("a KMS key"));
    match (&wishes.key, has) {
        (None, has) => {
            rows.missing_unless(true, Property::Encryption, "any key", has.unwrap_or("AWS-owned key"));
        }
        (Some(key), None) => rows.missing_unless(false, Property::Encryption, key.as_str(), "AWS-owned key"),
        (Some(key), Some(has)) => {
            let remedy = format!(
                "give --kms-key {has}, or: aws dynamodb update-table --table-name {table} --sse-specification \
                 Enabled=true,SSEType=KMS,KMSMasterKeyId={}",
                key.as_str()
            );
            rows.differs_unless(key.is(has), Property::Encryption, key.as_str(), has, remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::builders::TableDescriptionBuilder;
    use aws_sdk_dynamodb::types::{BillingModeSummary, KeyType, ReplicaDescription, SseDescription};

    use super::*;
    use crate::seams::aws::Verdict;

    const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/k";

    fn good() -> TableDescriptionBuilder {
        let schema = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().unwrap();
        let billing = BillingModeSummary::builder().billing_mode(BillingMode::PayPerRequest).build();
        TableDescription::builder().key_schema(schema).billing_mode_summary(billing).deletion_protection_enabled(true)
    }

    fn wishes(key: Option<&str>) -> TableWishes {
        let key = key.map(|key| key.parse().unwrap());
        let tags = [("team".to_owned(), "scm".to_owned())].into();
        TableWishes { region: "eu-west-1".to_owned(), key, tags, warm: None }
    }

    /// The properties that are not as wanted.
    fn others(of: TableDescriptionBuilder, recovery: Option<bool>, key: Option<&str>) -> Vec<(Property, Verdict)> {
        let tags = Some([("team".to_owned(), "scm".to_owned())].into());
        let seen = Seen { description: of.build(), recovery, tags };
        let rows = compare("l-journal", &["pk"], &wishes(key), Some(&seen));
        let rows = rows.into_iter().filter(|row| row.verdict != Verdict::Same);
        rows.map(|row| (row.property, row.verdict)).collect()
    }

    fn encrypted(arn: &str) -> SseDescription {
        let sse = SseDescription::builder().status(SseStatus::Enabled).sse_type(SseType::Kms);
        sse.kms_master_key_arn(arn).build()
    }

    #[test]
    fn a_table_that_is_as_wanted_has_no_difference() {
        assert_eq!(others(good(), Some(true), None), []);
        let replica = ReplicaDescription::builder().region_name("eu-west-2").build();
        let strong = good().replicas(replica).multi_region_consistency(MultiRegionConsistency::Strong);
        assert_eq!(others(strong, Some(true), None), []);
        assert_eq!(others(good().sse_description(encrypted(KEY)), Some(true), Some(KEY)), []);
        assert_eq!(
            others(good().sse_description(encrypted(KEY)), Some(true), None),
            [],
            "a key of one's own is stricter"
        );
    }

    #[test]
    fn a_table_on_demand_is_warm_enough_or_is_warmed_and_a_provisioned_one_is_left_to_auto_scaling() {
        use aws_sdk_dynamodb::types::TableWarmThroughputDescription;

        let warm = TableWishes { warm: Some(Warm { reads: 12_000, writes: 8_000 }), ..wishes(None) };
        let verdict = |of: TableDescriptionBuilder| {
            let seen = Seen { description: of.build(), recovery: Some(true), tags: Some(warm.tags.clone()) };
            let rows = compare("l-journal", &["pk"], &warm, Some(&seen));
            rows.into_iter().find(|row| row.property == Property::WarmThroughput).map(|row| row.verdict)
        };
        let of = |reads, writes| {
            let of = TableWarmThroughputDescription::builder().read_units_per_second(reads);
            good().warm_throughput(of.write_units_per_second(writes).build())
        };
        assert_eq!(verdict(of(12_000, 4_000)), Some(Verdict::Missing));
        assert_eq!(verdict(of(12_000, 9_000)), Some(Verdict::Same));
        assert_eq!(verdict(good()), Some(Verdict::NotAnswered));
        assert_eq!(verdict(of(1, 1).set_billing_mode_summary(None)), None);
    }

    #[test]
    fn a_missing_property_can_be_added() {
        let missing = |property| vec![(property, Verdict::Missing)];
        assert_eq!(others(good(), Some(false), None), missing(Property::PointInTimeRecovery));
        let open = good().deletion_protection_enabled(false);
        assert_eq!(others(open, Some(true), None), missing(Property::DeletionProtection));
        let silent = good().set_deletion_protection_enabled(None);
        assert_eq!(
            others(silent, Some(true), None),
            missing(Property::DeletionProtection),
            "no answer is no protection"
        );
        assert_eq!(others(good(), Some(true), Some(KEY)), missing(Property::Encryption));
        let rows = compare("l-journal", &["pk"], &wishes(None), None);
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].property, rows[0].verdict), (&Property::Existence, Verdict::Missing));
    }

    #[test]
    fn a_decision_of_the_operator_is_told_with_a_remedy() {
        let replica = ReplicaDescription::builder().region_name("us-east-1").build();
        let other = encrypted("arn:aws:kms:eu-west-1:123456789012:key/other");
        let seen = Seen {
            description: good().set_billing_mode_summary(None).replicas(replica).sse_description(other).build(),
            recovery: None,
            tags: Some([("team".to_owned(), "else".to_owned())].into()),
        };
        let rows = compare("l-refs", &["pk", "sk"], &wishes(Some(KEY)), Some(&seen));
        let differ: Vec<&Row> = rows.iter().filter(|row| row.verdict == Verdict::Differs).collect();
        let properties: Vec<String> = differ.iter().map(|row| row.property.to_string()).collect();
        assert_eq!(properties, ["keys", "replication", "billing mode", "encryption", "tag team"]);
        assert!(differ.iter().all(|row| row.remedy.is_some()));
        let capacity = differ[2].remedy.as_deref().unwrap_or_default();
        assert!(capacity.contains("Application Auto Scaling, which `lockstep aws` cannot see"), "{capacity}");
        assert!(capacity.contains("describe-scalable-targets"), "a command shows it: {capacity}");
        assert!(capacity.contains("--resource-ids table/l-refs;"), "{capacity}");
        assert!(rows.iter().any(|row| row.verdict == Verdict::NotAnswered), "an emulator does not know the question");
    }
}
