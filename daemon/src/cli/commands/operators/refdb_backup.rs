//! `lockstep refdb backup`: on-demand backups of the tables in DynamoDB, and a file with all items of the refdb.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use super::super::config::ConfigArgs;
use super::super::table::Table;
use super::super::{CliError, json};
use crate::base::clock::{Clock, SeededEntropy, SystemClock};
use crate::base::time_text::utc;
use crate::cli::out;
use crate::node::assembly::follow_move::{present_backups, present_refdb};
use crate::node::config::{self, Settings};
use crate::seams::refdb::RefDb;
use crate::seams::refdb::backup::{BackupWriter, Counts, NewFile, Verified, WriteError, read};
use crate::seams::refdb::dynamo::{TableBackup, TableBackupError};
use crate::state::bound_refdb;

/// The time between two lines about the progress of a command that reads the whole refdb.
pub(super) const PROGRESS: Duration = Duration::from_secs(5);
/// The digits of the refdb's id in the names of backups.
const ID_DIGITS: usize = 8;

#[derive(Debug, clap::Args)]
pub(in super::super) struct BackupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Write all items of the refdb into this new file, or into a new file in this folder
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["check", "list", "wait"])]
    to: Option<PathBuf>,
    /// Verify such a file, without the refdb
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "wait"])]
    check: Option<PathBuf>,
    /// List the backups of the tables in DynamoDB, and make none
    #[arg(long, conflicts_with = "wait")]
    list: bool,
    /// Wait until the backups in DynamoDB can be restored, for an hour at most
    #[arg(long)]
    wait: bool,
    /// Items that are read per second, about, with --to
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The output about a file, with `--json`.
#[derive(Debug, Serialize)]
struct OfFile {
    file: PathBuf,
    #[serde(flatten)]
    verified: Verified,
}

/// The output about the tables, with `--json`.
#[derive(Debug, Serialize)]
struct OfTables {
    backups: Vec<TableBackup>,
}

pub(super) async fn run(args: BackupArgs) -> Result<(), CliError> {
    let verified = match (&args.check, &args.to) {
        (Some(path), _) => check(path)?,
        (None, Some(to)) => write(&settings(&args)?, to, args.rate).await?,
        (None, None) => return tables(&args, &settings(&args)?).await,
    };
    Ok(out::put(&if args.json { json(&verified)? } else { of_file(&verified) })?)
}

fn settings(args: &BackupArgs) -> Result<Settings, CliError> {
    config::load(&args.config.config).map_err(|error| CliError::Usage(error.to_string()))
}

async fn refdb(settings: &Settings) -> Result<RefDb, CliError> {
    present_refdb(settings).await.map_err(|error| CliError::Usage(error.to_string()))
}

/// The id of the refdb in the tables of the configuration.
async fn id(refdb: &RefDb) -> Result<String, CliError> {
    match bound_refdb::read(refdb).await.map_err(CliError::failed)? {
        Some((_, identity)) => Ok(identity.id),
        None => Err(CliError::Refused(
            "these tables hold no refdb yet: check refdb.prefix, or wait until a node has joined".to_owned(),
        )),
    }
}

/// Verifies the backup in a file.
fn check(path: &Path) -> Result<OfFile, CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(&error))?;
    let verified = read(BufReader::new(file), |_| {}).map_err(|error| failed(&error))?;
    Ok(OfFile { file: path.to_owned(), verified })
}

/// Writes all items of the refdb into a new file, and reads it again.
async fn write(settings: &Settings, to: &Path, rate: u32) -> Result<OfFile, CliError> {
    let (refdb, now_ms) = (refdb(settings).await?, SystemClock.now_ms());
    let path = match to.is_dir() {
        true => to.join(format!("{}.jsonl", name(&id(&refdb).await?, now_ms))),
        false => to.to_owned(),
    };
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", path.display()));
    let mut file = NewFile::begin(&path).map_err(failed)?;
    let said = Mutex::new(Instant::now());
    let progress = |so_far: &Counts| {
        let mut said = said.lock();
        if said.elapsed() >= PROGRESS {
            *said = Instant::now();
            eprintln!("  ... {} projects, {} refs", so_far.projects, so_far.refs);
        }
    };
    let writer = BackupWriter::new(refdb, Arc::new(SeededEntropy::from_machine()), rate, &mut file);
    writer.run(now_ms, progress).await.map_err(|error| match error {
        WriteError::NotWhole(why) => CliError::Refused(why.to_owned()),
        error => CliError::Failed(format!("{}: {error}; no file was left there", path.display())),
    })?;
    file.finish().map_err(failed)?;
    check(&path)
}

/// Makes or lists backups of the tables.
async fn tables(args: &BackupArgs, settings: &Settings) -> Result<(), CliError> {
    let usage = |error: String| CliError::Usage(error);
    let all = present_backups(settings).await.map_err(|error| usage(error.to_string()))?;
    let mut backups = Vec::new();
    if args.list {
        for table in &all {
            backups.extend(table.list().await.map_err(refused)?);
        }
    } else {
        let name = name(&id(&refdb(settings).await?).await?, SystemClock.now_ms());
        for table in &all {
            match table.create(&name).await {
                Ok(begun) => backups.push(begun),
                Err(error) => return Err(half(&backups, error)),
            }
        }
        if args.wait {
            for (table, begun) in all.iter().zip(&mut backups) {
                *begun = table.until_available(begun.clone()).await.map_err(CliError::failed)?;
            }
        }
    }
    let is_late = args.wait && backups.iter().any(|one| !one.is_available());
    out::put(&if args.json { json(&OfTables { backups })? } else { of_tables(&backups) })?;
    match is_late {
        true => Err(CliError::Failed("not every backup is AVAILABLE yet: look with --list".to_owned())),
        false => Ok(()),
    }
}

fn refused(error: TableBackupError) -> CliError {
    match error {
        TableBackupError::NoSuchCall(_) => CliError::Refused(error.to_string()),
        error => CliError::failed(error),
    }
}

/// The error of a backup that was not made, behind those that were.
fn half(made: &[TableBackup], error: TableBackupError) -> CliError {
    match made.last() {
        None => refused(error),
        Some(made) => CliError::Failed(format!(
            "{error}. The backup of table {} was made, and stays: {}; delete it, or repeat the command",
            made.table, made.arn
        )),
    }
}

/// The name of a backup: the refdb, and the time in UTC.
fn name(id: &str, now_ms: u64) -> String {
    let id: String = id.chars().take(ID_DIGITS).collect();
    let digits: String = utc(now_ms).chars().filter(char::is_ascii_digit).collect();
    let (date, time) = digits.split_at_checked(ID_DIGITS).unwrap_or((digits.as_str(), ""));
    format!("lockstep-{id}-{date}T{time}Z")
}

fn of_file(of: &OfFile) -> String {
    let OfFile { file, verified: Verified { head, end } } = of;
    let Counts { documents, projects, refs, others, locked, sites, nodes, incarnations, gerrit } = &end.counts;
    format!(
        "{}: whole\n  refdb {}, begun {}, by release {}\n  {projects} projects, {refs} refs, {others} deleted refs and \
         directories, of which {locked} were locked\n  {sites} sites, {nodes} nodes, {incarnations} incarnations, \
         {documents} documents, {gerrit} records of Gerrit\n  sha256 {}\n",
        file.display(),
        head.refdb,
        utc(head.began_ms),
        head.release,
        end.sha256
    )
}

fn of_tables(backups: &[TableBackup]) -> String {
    let mut table = Table::new(&["table", "backup", "created", "status", "bytes", "arn"]);
    for TableBackup { table: of, name, arn, status, created_ms, bytes } in backups {
        let created = created_ms.map_or("-".to_owned(), utc);
        let bytes = bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        table.row(vec![of.clone(), name.clone(), created, status.clone(), bytes, arn.clone()]);
    }
    match backups.is_empty() {
        true => "the tables have no on-demand backups\n".to_owned(),
        false => table.render(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(table: &str) -> TableBackup {
        TableBackup {
            table: table.to_owned(),
            name: "n".to_owned(),
            arn: format!("arn of {table}"),
            status: "CREATING".to_owned(),
            created_ms: Some(1_764_590_400_000),
            bytes: None,
        }
    }

    #[test]
    fn a_backup_is_named_after_the_refdb_and_the_time() {
        assert_eq!(name("0a1b2c3d4e5f", 1_764_590_400_000), "lockstep-0a1b2c3d-20251201T120000Z");
        assert!(
            of_tables(&[made("l-refs")]).contains("l-refs  n       2025-12-01 12:00:00 UTC  CREATING  -      arn of")
        );
        assert!(of_tables(&[]).contains("no on-demand backups"));
    }

    #[test]
    fn a_backup_of_one_table_alone_is_named_and_an_emulator_is_a_refusal() {
        let no_call = || TableBackupError::NoSuchCall("l-refs".to_owned());
        assert!(matches!(half(&[], no_call()), CliError::Refused(why) if why.contains("refdb backup --to FILE")));
        let why = "throttled".to_owned();
        let error = TableBackupError::Failed { action: "CreateBackup", table: "l-journal".to_owned(), why };
        let told = half(&[made("l-refs")], error).to_string();
        assert!(told.contains("table l-refs was made, and stays: arn of l-refs"), "{told}");
    }

    #[test]
    fn a_file_that_is_no_backup_fails_by_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}\n").unwrap();
        let refused = check(file.path()).unwrap_err().to_string();
        assert!(refused.contains(&file.path().display().to_string()) && refused.contains("no backup"), "{refused}");
    }
}
