//! Creates the two tables if they are missing, and refuses tables that cannot keep the contract.
//!
//! A table that is replicated with eventual consistency checks conditions against a local copy and lets the last writer
//! win: it has no compare-and-set at all. It is refused at start, with the reason. So are two tables of which one alone
//! is in several Regions: the loss of a Region would take the other one.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, MultiRegionConsistency, ScalarAttributeType,
    TableDescription, TableStatus, WarmThroughput,
};

use super::Tables;
use super::error::{classify, denial, incomplete};
use super::write_mode::Consistency;
use crate::seams::aws::denied;
use crate::seams::refdb::{RefDbError, WriteMode};

/// The pause between two checks of a table that is being created, and the number of checks: four minutes in all.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 960;

/// How tables are created.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableSettings {
    /// The throughput that a new table can take at once, without having to grow into it. Without it, a new on-demand
    /// table takes about 4,000 writes and 12,000 reads per second. Emulators ignore or refuse it.
    pub warm: Option<Warm>,
    /// Whether writes are transactions, or of one item each.
    pub writes: WriteMode,
}

/// A warm throughput, in units per second.
#[derive(Clone, Copy, Debug)]
pub struct Warm {
    /// Read units per second.
    pub reads: i64,
    /// Write units per second. A commit costs two units for every item and kilobyte.
    pub writes: i64,
}

/// The tables and their keys.
pub(super) fn shapes(tables: &Tables) -> [(&str, &'static [&'static str]); 2] {
    [(&tables.refs, &["pk", "sk"]), (&tables.journal, &["pk"])]
}

/// Creates both tables if they are missing and may be created, waits until they are active, and checks them. Returns
/// their consistency.
pub(super) async fn prepare(
    client: &Client,
    tables: &Tables,
    settings: TableSettings,
    may_create: bool,
) -> Result<Consistency, RefDbError> {
    let mut found = Vec::new();
    for (table, keys) in shapes(tables) {
        if describe(client, table).await?.is_none() {
            if !may_create {
                return Err(missing(table));
            }
            create(client, table, keys, settings).await?;
        }
        found.push((table, check(table, keys, &active(client, table).await?)?));
    }
    same_consistency(&found)
}

/// The consistency of all tables. Two kinds are refused.
fn same_consistency(found: &[(&str, Consistency)]) -> Result<Consistency, RefDbError> {
    let of = |wanted| found.iter().find(|(_, one)| *one == wanted).map(|(table, _)| *table);
    match (of(Consistency::OneRegion), of(Consistency::SeveralRegions)) {
        (_, None) => Ok(Consistency::OneRegion),
        (None, Some(_)) => Ok(Consistency::SeveralRegions),
        (Some(one), Some(several)) => Err(RefDbError::Broken(format!(
            "table {several} has multi-Region strong consistency, and table {one} is in one Region: the refdb would be \
             lost with that Region. Make both tables anew, of one kind, and set refdb.prefix to them"
        ))),
    }
}

/// The error for a table that is gone. A new one in its place would be empty.
fn missing(table: &str) -> RefDbError {
    RefDbError::Broken(format!(
        "table {table} is missing, and this node has used it: if the refdb was rebuilt, set refdb.prefix to the new \
         tables; if its tables are lost, restore them, or see `lockstep refdb rebuild`"
    ))
}

async fn describe(client: &Client, table: &str) -> Result<Option<TableDescription>, RefDbError> {
    match client.describe_table().table_name(table).send().await {
        Ok(answer) => Ok(answer.table),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(match denial(&error) {
            Some(why) => RefDbError::Broken(denied::to_run("dynamodb:DescribeTable", &format!("table {table}"), &why)),
            None => classify(&error),
        }),
    }
}

pub(super) fn is_absent(error: &SdkError<DescribeTableError>) -> bool {
    matches!(error.as_service_error(), Some(DescribeTableError::ResourceNotFoundException(_)))
}

async fn create(client: &Client, table: &str, keys: &[&str], settings: TableSettings) -> Result<(), RefDbError> {
    match creation(client, table, keys, settings)?.send().await {
        Ok(_) => Ok(()),
        // Another sidecar creates the table at this moment.
        Err(error) if matches!(error.as_service_error(), Some(CreateTableError::ResourceInUseException(_))) => Ok(()),
        Err(error) => Err(match denial(&error) {
            Some(why) => RefDbError::Broken(denied::to_create("dynamodb:CreateTable", &format!("table {table}"), &why)),
            None => classify(&error),
        }),
    }
}

/// The call that creates a table.
pub(super) fn creation(
    client: &Client,
    table: &str,
    keys: &[&str],
    settings: TableSettings,
) -> Result<CreateTableFluentBuilder, RefDbError> {
    let warm = settings.warm.map(|warm| {
        WarmThroughput::builder().read_units_per_second(warm.reads).write_units_per_second(warm.writes).build()
    });
    let mut call =
        client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest).set_warm_throughput(warm);
    for (key, kind) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
        let schema = KeySchemaElement::builder().attribute_name(*key).key_type(kind);
        let text = AttributeDefinition::builder().attribute_name(*key).attribute_type(ScalarAttributeType::S);
        call = call
            .key_schema(schema.build().map_err(incomplete)?)
            .attribute_definitions(text.build().map_err(incomplete)?);
    }
    Ok(call)
}

/// Waits until a table takes reads and writes.
async fn active(client: &Client, table: &str) -> Result<TableDescription, RefDbError> {
    for _ in 0..LOOKS {
        match describe(client, table).await? {
            Some(description) if serves(description.table_status()) => return Ok(description),
            Some(_) | None => tokio::time::sleep(LOOK).await,
        }
    }
    Err(RefDbError::NotNow(format!("table {table} is still not active")))
}

fn serves(status: Option<&TableStatus>) -> bool {
    matches!(status, Some(TableStatus::Active | TableStatus::Updating))
}

/// Refuses a table that cannot keep the contract.
fn check(table: &str, keys: &[&str], description: &TableDescription) -> Result<Consistency, RefDbError> {
    let refuse = |why: &str| Err(RefDbError::Broken(format!("table {table} {why}")));
    let found: Vec<&str> = description.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
    if found != keys {
        return refuse(&format!("has the keys {found:?} instead of {keys:?}: choose another table prefix"));
    }
    let replicated = !description.replicas().is_empty() || !description.global_table_witnesses().is_empty();
    match description.multi_region_consistency() {
        Some(MultiRegionConsistency::Strong) => Ok(Consistency::SeveralRegions),
        _ if replicated => refuse(
            "is replicated with eventual consistency, where the last writer wins and a condition sees a local copy: \
             use a table of one Region, or one with multi-Region strong consistency",
        ),
        _ => Ok(Consistency::OneRegion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::ReplicaDescription;

    fn table(keys: &[&str], replicas: &[&str], mode: Option<MultiRegionConsistency>) -> TableDescription {
        let schema = |key: &&str| KeySchemaElement::builder().attribute_name(*key).key_type(KeyType::Hash).build();
        let replica = |region: &&str| ReplicaDescription::builder().region_name(*region).build();
        TableDescription::builder()
            .set_key_schema(Some(keys.iter().map(schema).collect::<Result<_, _>>().expect("complete")))
            .set_replicas(Some(replicas.iter().map(replica).collect()))
            .set_multi_region_consistency(mode)
            .build()
    }

    #[test]
    fn only_a_table_with_our_keys_and_real_conditions_is_taken() {
        let keys = ["pk", "sk"];
        assert_eq!(check("t", &keys, &table(&keys, &[], None)), Ok(Consistency::OneRegion));
        let refused = |description: &TableDescription| match check("t", &keys, description) {
            Err(RefDbError::Broken(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused(&table(&["pk"], &[], None)).contains("keys"));
        assert!(refused(&table(&keys, &["eu-west-1"], None)).contains("last writer wins"));
        let eventual = Some(MultiRegionConsistency::Eventual);
        assert!(refused(&table(&keys, &["eu-west-1"], eventual)).contains("last writer wins"));
        let strong = table(&keys, &["eu-west-1"], Some(MultiRegionConsistency::Strong));
        assert_eq!(check("t", &keys, &strong), Ok(Consistency::SeveralRegions));
    }

    #[test]
    fn both_tables_are_of_one_kind() {
        let (one, several) = (("t-refs", Consistency::OneRegion), ("t-journal", Consistency::SeveralRegions));
        assert_eq!(same_consistency(&[one, one]), Ok(Consistency::OneRegion));
        assert_eq!(same_consistency(&[several, several]), Ok(Consistency::SeveralRegions));
        let Err(RefDbError::Broken(why)) = same_consistency(&[one, several]) else { panic!("they were taken") };
        assert!(why.contains("t-refs is in one Region"), "{why}");
    }
}
