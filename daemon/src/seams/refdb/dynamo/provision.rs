//! The tables of a site as `lockstep aws` looks at them, creates them and mends them.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, SseSpecification, SseType, TableDescription,
    TableStatus, Tag, WarmThroughput,
};
use tokio::time::sleep;

use super::compared::{Seen, TableWishes, compare};
use super::error::{classify, denial};
use super::tables::{creation, is_absent, shapes};
use super::{TableSettings, Tables, Warm};
use crate::seams::aws::{KeyArn, Property, Provided, ProvisionError, Row, Tags};
use crate::seams::refdb::RefDbError;

/// The pause between two looks at a table that changes, and the number of looks: ten minutes in all.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: u32 = 1_200;

/// A table of a site.
#[derive(Debug)]
pub struct ProvidedTable {
    client: Client,
    table: String,
    keys: &'static [&'static str],
    wishes: TableWishes,
}

impl ProvidedTable {
    /// The tables with a prefix.
    #[must_use]
    pub fn all(client: &Client, prefix: &str, wishes: &TableWishes) -> Vec<Self> {
        let tables = Tables::of(prefix);
        let one = |(table, keys): (&str, &'static [&'static str])| Self {
            client: client.clone(),
            table: table.to_owned(),
            keys,
            wishes: wishes.clone(),
        };
        shapes(&tables).map(one).into()
    }

    /// Translates a failed call.
    fn failed<E>(&self, action: &str, error: &SdkError<E>) -> ProvisionError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let resource = format!("table {}", self.table);
        if let Some(why) = denial(error) {
            return ProvisionError::Denied { action: format!("dynamodb:{action}"), resource, why };
        }
        match classify(error) {
            RefDbError::Unknown(why) => ProvisionError::lost(resource, action, &why),
            RefDbError::NotNow(why) | RefDbError::Broken(why) => {
                ProvisionError::Failed { resource, why: format!("{action}: {why}") }
            }
        }
    }

    fn refused(&self, why: impl std::fmt::Display) -> ProvisionError {
        ProvisionError::Failed { resource: format!("table {}", self.table), why: why.to_string() }
    }

    async fn describe(&self) -> Result<Option<TableDescription>, ProvisionError> {
        match self.client.describe_table().table_name(&self.table).send().await {
            Ok(answer) => Ok(answer.table),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed("DescribeTable", &error)),
        }
    }

    /// Whether point-in-time recovery is on. None: the endpoint does not know the call.
    async fn recovery(&self) -> Result<Option<bool>, ProvisionError> {
        match self.client.describe_continuous_backups().table_name(&self.table).send().await {
            Ok(answer) => {
                let backups = answer.continuous_backups_description;
                let recovery = backups.as_ref().and_then(|one| one.point_in_time_recovery_description());
                let status = recovery.and_then(|one| one.point_in_time_recovery_status());
                Ok(Some(status == Some(&PointInTimeRecoveryStatus::Enabled)))
            }
            Err(error) if is_unknown_call(&error) => Ok(None),
            Err(error) => Err(self.failed("DescribeContinuousBackups", &error)),
        }
    }

    async fn tags(&self, arn: &str) -> Result<Option<Tags>, ProvisionError> {
        let (mut tags, mut next) = (Tags::new(), None);
        loop {
            let call = self.client.list_tags_of_resource().resource_arn(arn).set_next_token(next);
            let page = match call.send().await {
                Ok(page) => page,
                Err(error) if is_unknown_call(&error) => return Ok(None),
                Err(error) => return Err(self.failed("ListTagsOfResource", &error)),
            };
            tags.extend(page.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value)));
            next = page.next_token;
            if next.is_none() {
                return Ok(Some(tags));
            }
        }
    }

    async fn create(&self) -> Result<(), ProvisionError> {
        let settings = TableSettings { warm: self.wishes.warm, ..TableSettings::default() };
        let call = creation(&self.client, &self.table, self.keys, settings).map_err(|error| self.refused(error))?;
        let tags = self.wishes.tags.iter().map(|(key, value)| self.tag(key, value)).collect::<Result<Vec<_>, _>>()?;
        let call = call
            .deletion_protection_enabled(true)
            .set_sse_specification(self.wishes.key.as_ref().map(encrypted_by))
            .set_tags((!tags.is_empty()).then_some(tags));
        call.send().await.map(drop).map_err(|error| self.failed("CreateTable", &error))
    }

    fn tag(&self, key: &str, value: &str) -> Result<Tag, ProvisionError> {
        Tag::builder().key(key).value(value).build().map_err(|error| self.refused(error))
    }

    async fn turn_recovery_on(&self) -> Result<(), ProvisionError> {
        let on = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
        let on = on.map_err(|error| self.refused(error))?;
        for _ in 0..LOOKS {
            let call = self.client.update_continuous_backups().table_name(&self.table);
            match call.point_in_time_recovery_specification(on.clone()).send().await {
                Ok(_) => return Ok(()),
                // A table that was just created is not ready for it.
                Err(error) if error.code() == Some("ContinuousBackupsUnavailableException") => sleep(LOOK).await,
                Err(error) => return Err(self.failed("UpdateContinuousBackups", &error)),
            }
        }
        Err(self.refused("its backups are still not available: look again with `lockstep aws plan`"))
    }

    async fn add_tag(&self, key: &str, value: &str) -> Result<(), ProvisionError> {
        let arn = self.describe().await?.and_then(|table| table.table_arn).unwrap_or_default();
        let sent = self.client.tag_resource().resource_arn(arn).tags(self.tag(key, value)?).send().await;
        sent.map(drop).map_err(|error| self.failed("TagResource", &error))
    }

    /// Raises the warm throughput. A higher value stays: AWS takes no lower one.
    async fn warm_up(&self) -> Result<(), ProvisionError> {
        let Some(Warm { reads, writes }) = self.wishes.warm else { return Ok(()) };
        let table = self.describe().await?;
        let has = table.as_ref().and_then(|table| table.warm_throughput());
        let has_reads = has.and_then(|of| of.read_units_per_second()).unwrap_or_default();
        let has_writes = has.and_then(|of| of.write_units_per_second()).unwrap_or_default();
        let warm = WarmThroughput::builder().read_units_per_second(reads.max(has_reads));
        let warm = warm.write_units_per_second(writes.max(has_writes)).build();
        let sent = self.client.update_table().table_name(&self.table).warm_throughput(warm).send().await;
        sent.map(drop).map_err(|error| self.failed("UpdateTable", &error))
    }

    async fn active(&self) -> Result<(), ProvisionError> {
        for _ in 0..LOOKS {
            let table = self.describe().await?;
            if table.is_some_and(|table| table.table_status() == Some(&TableStatus::Active)) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(self.refused("it is still not active: look again with `lockstep aws plan`"))
    }
}

/// Whether the endpoint does not know the call at all. AWS knows all of them.
pub(super) fn is_unknown_call<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code() == Some("UnknownOperationException")
}

fn encrypted_by(key: &KeyArn) -> SseSpecification {
    SseSpecification::builder().enabled(true).sse_type(SseType::Kms).kms_master_key_id(key.as_str()).build()
}

#[async_trait]
impl Provided for ProvidedTable {
    async fn look(&self) -> Result<Vec<Row>, ProvisionError> {
        let Some(description) = self.describe().await? else {
            return Ok(compare(&self.table, self.keys, &self.wishes, None));
        };
        let recovery = self.recovery().await?;
        let arn = description.table_arn().unwrap_or_default();
        let tags = if self.wishes.tags.is_empty() { Some(Tags::new()) } else { self.tags(arn).await? };
        Ok(compare(&self.table, self.keys, &self.wishes, Some(&Seen { description, recovery, tags })))
    }

    async fn mend(&self, row: &Row) -> Result<(), ProvisionError> {
        let update = self.client.update_table().table_name(&self.table);
        let sent = match &row.property {
            Property::Existence => self.create().await,
            Property::PointInTimeRecovery => self.turn_recovery_on().await,
            Property::WarmThroughput => self.warm_up().await,
            Property::Tag(key) => self.add_tag(key, &row.wanted).await,
            Property::DeletionProtection => {
                let sent = update.deletion_protection_enabled(true).send().await;
                sent.map(drop).map_err(|error| self.failed("UpdateTable", &error))
            }
            Property::Encryption => {
                let sent = update.set_sse_specification(self.wishes.key.as_ref().map(encrypted_by)).send().await;
                sent.map(drop).map_err(|error| self.failed("UpdateTable", &error))
            }
            other => Err(self.refused(format!("{other} is changed by an operator alone"))),
        };
        sent?;
        self.active().await
    }
}

/// A table of which only the warm throughput is looked at and raised.
#[derive(Debug)]
pub struct WarmedTable(ProvidedTable);

impl WarmedTable {
    /// The tables with a prefix.
    #[must_use]
    pub fn all(client: &Client, prefix: &str, wishes: &TableWishes) -> Vec<Self> {
        ProvidedTable::all(client, prefix, wishes).into_iter().map(Self).collect()
    }
}

#[async_trait]
impl Provided for WarmedTable {
    async fn look(&self) -> Result<Vec<Row>, ProvisionError> {
        let Self(table) = self;
        let Some(description) = table.describe().await? else {
            return Err(table.refused("it does not exist: `lockstep aws apply` creates it"));
        };
        let seen = Seen { description, recovery: None, tags: None };
        let mut rows = compare(&table.table, table.keys, &table.wishes, Some(&seen));
        rows.retain(|row| row.property == Property::WarmThroughput);
        if rows.is_empty() {
            return Err(table.refused(
                "it is provisioned: raise the least capacity of its Application Auto Scaling instead, with \
                 `aws application-autoscaling register-scalable-target`",
            ));
        }
        Ok(rows)
    }

    async fn mend(&self, row: &Row) -> Result<(), ProvisionError> {
        self.0.mend(row).await
    }
}
