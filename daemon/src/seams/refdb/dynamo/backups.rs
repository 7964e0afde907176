//! On-demand backups of the two tables, which DynamoDB makes and keeps.
//!
//! The backup of the refs comes first. So the journal's one has the slot of each commit that the refs' one shows,
//! unless the slot was collected in between.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::primitives::DateTime;
use aws_sdk_dynamodb::types::{BackupDetails, BackupStatus};
use serde::Serialize;
use tokio::time::sleep;

use super::Tables;
use super::error::{classify, denial};
use super::provision::is_unknown_call;
use crate::seams::refdb::RefDbError;

/// The pause between two looks at a backup that is being made, and the number of looks: one hour in all.
const LOOK: Duration = Duration::from_secs(2);
const LOOKS: u32 = 1_800;

/// A backup of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableBackup {
    /// The name of the table.
    pub table: String,
    /// The name of the backup.
    pub name: String,
    /// The ARN, by which a backup is restored or deleted.
    pub arn: String,
    /// The status, as DynamoDB names it: `CREATING` or `AVAILABLE`.
    pub status: String,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: Option<u64>,
    /// The size in bytes, as far as DynamoDB knows it.
    pub bytes: Option<i64>,
}

impl TableBackup {
    /// Whether it can be restored.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.status == BackupStatus::Available.as_str()
    }
}

/// Why a backup of a table was not made, or cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableBackupError {
    /// The endpoint does not know the call.
    #[error(
        "the endpoint of table {0} makes no backups (it does not know CreateBackup), as emulators do not; nothing was \
         made. `lockstep refdb backup --to FILE` writes the refdb into a file, with every endpoint"
    )]
    NoSuchCall(String),
    /// The caller has no right to the call.
    #[error(
        "{action} on table {table} is denied ({why}). `lockstep aws policy --for backup` prints the policy of this \
         command"
    )]
    Denied {
        /// The denied IAM action.
        action: String,
        /// The name of the table.
        table: String,
        /// The message of AWS, as it came.
        why: String,
    },
    /// AWS refused the call, or could not be reached before it.
    #[error("{action} on table {table}: {why}")]
    Failed {
        /// The operation that failed.
        action: &'static str,
        /// The name of the table.
        table: String,
        /// The message of the failure.
        why: String,
    },
    /// The call was sent, and its outcome is not known.
    #[error(
        "CreateBackup on table {table}: the outcome is unknown ({why}). Look with `lockstep refdb backup --list` \
         before you repeat it"
    )]
    Unknown {
        /// The name of the table.
        table: String,
        /// The reason why no answer came.
        why: String,
    },
}

/// The backups of one table.
#[derive(Clone, Debug)]
pub struct TableBackups {
    client: Client,
    table: String,
}

impl TableBackups {
    /// The tables with a prefix, refs first.
    #[must_use]
    pub fn all(client: &Client, prefix: &str) -> Vec<Self> {
        let Tables { refs, journal } = Tables::of(prefix);
        [refs, journal].map(|table| Self { client: client.clone(), table }).into()
    }

    /// Begins a backup. Each call makes another one, of the same name too.
    ///
    /// # Errors
    /// See [`TableBackupError`].
    pub async fn create(&self, name: &str) -> Result<TableBackup, TableBackupError> {
        const ACTION: &str = "CreateBackup";
        let sent = self.client.create_backup().table_name(&self.table).backup_name(name).send().await;
        let answer = sent.map_err(|error| self.failed(ACTION, &error))?;
        answer.backup_details.map(|details| self.backup(details)).ok_or_else(|| self.nothing(ACTION))
    }

    /// Waits until a backup can be restored, for an hour at most. Returns it as it was seen last.
    ///
    /// # Errors
    /// See [`TableBackupError`]. DynamoDB goes on with the backup.
    pub async fn until_available(&self, backup: TableBackup) -> Result<TableBackup, TableBackupError> {
        const ACTION: &str = "DescribeBackup";
        let mut seen = backup;
        for _ in 0..LOOKS {
            let sent = self.client.describe_backup().backup_arn(&seen.arn).send().await;
            let answer = match sent.map_err(|error| self.lost(ACTION, &error)) {
                Ok(answer) => answer.backup_description.and_then(|description| description.backup_details),
                Err(None) => None,
                Err(Some(error)) => return Err(error),
            };
            if let Some(details) = answer {
                seen = self.backup(details);
            }
            if seen.is_available() {
                break;
            }
            sleep(LOOK).await;
        }
        Ok(seen)
    }

    /// All on-demand backups of the table, the oldest first.
    ///
    /// # Errors
    /// See [`TableBackupError`].
    pub async fn list(&self) -> Result<Vec<TableBackup>, TableBackupError> {
        const ACTION: &str = "ListBackups";
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let call = self.client.list_backups().table_name(&self.table).set_exclusive_start_backup_arn(after);
            let page = call.send().await.map_err(|error| self.failed(ACTION, &error))?;
            for one in page.backup_summaries.unwrap_or_default() {
                all.push(TableBackup {
                    table: self.table.clone(),
                    name: one.backup_name.unwrap_or_default(),
                    arn: one.backup_arn.unwrap_or_default(),
                    status: one.backup_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
                    created_ms: one.backup_creation_date_time.as_ref().and_then(since_1970),
                    bytes: one.backup_size_bytes,
                });
            }
            after = page.last_evaluated_backup_arn;
            if after.is_none() {
                all.sort_by_key(|one| one.created_ms);
                return Ok(all);
            }
        }
    }

    fn backup(&self, details: BackupDetails) -> TableBackup {
        TableBackup {
            table: self.table.clone(),
            name: details.backup_name,
            arn: details.backup_arn,
            status: details.backup_status.as_str().to_owned(),
            created_ms: since_1970(&details.backup_creation_date_time),
            bytes: details.backup_size_bytes,
        }
    }

    fn nothing(&self, action: &'static str) -> TableBackupError {
        let why = "the answer names no backup: look with `lockstep refdb backup --list`".to_owned();
        TableBackupError::Failed { action, table: self.table.clone(), why }
    }

    /// Translates a failed look. None if the next look may succeed.
    fn lost<E>(&self, action: &'static str, error: &SdkError<E>) -> Option<TableBackupError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let retry = !is_unknown_call(error) && denial(error).is_none() && classify(error).retry_helps();
        (!retry).then(|| self.failed(action, error))
    }

    /// Translates a failed call.
    fn failed<E>(&self, action: &'static str, error: &SdkError<E>) -> TableBackupError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let table = self.table.clone();
        if is_unknown_call(error) {
            return TableBackupError::NoSuchCall(table);
        }
        if let Some(why) = denial(error) {
            return TableBackupError::Denied { action: format!("dynamodb:{action}"), table, why };
        }
        match classify(error) {
            RefDbError::Unknown(why) if action == "CreateBackup" => TableBackupError::Unknown { table, why },
            RefDbError::Unknown(why) | RefDbError::NotNow(why) | RefDbError::Broken(why) => {
                TableBackupError::Failed { action, table, why }
            }
        }
    }
}

fn since_1970(at: &DateTime) -> Option<u64> {
    u64::try_from(at.to_millis().ok()?).ok()
}
