//! The tables of the store on disk. `keys` and `forms` describe their content.

use redb::{Database, ReadableTable, TableDefinition};

use super::Fallible;
use crate::seams::volume::Mailbox;
use crate::seams::volume::encoding::FORMAT;

/// The version map without `@state`: [`crate::seams::volume::keys::reference`] to
/// [`crate::seams::volume::encoding::record`].
pub const REFS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("refs");
/// The version map's `@state` entries: project name to [`crate::seams::volume::encoding::record`].
pub const PROJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("projects");
/// Values of refs: [`crate::seams::volume::keys::value`] to the number of refs that have this value.
pub const VALUES: TableDefinition<&[u8], u64> = TableDefinition::new("values");
/// Digests of the entries in [`REFS`]: [`crate::seams::volume::keys::project`] to
/// [`crate::seams::volume::SetDigest::to_bytes`]. A release without this table leaves it unchanged. The next one with
/// it notices that.
pub const DIGESTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("digests");
/// The directory marks that an earlier release knew. This release keeps none: they would outlive their incarnation.
const DIRECTORIES: TableDefinition<&[u8], ()> = TableDefinition::new("directories");
/// Checkpoints: shard to position, both as JSON.
pub const CHECKPOINTS: TableDefinition<&str, &str> = TableDefinition::new("checkpoints");
/// Low-water marks: lane to sequence number.
pub const LOW_WATER: TableDefinition<&str, u64> = TableDefinition::new("low_water");
/// Parked records: transaction id to [`crate::seams::volume::encoding::held`].
pub const PARKED: TableDefinition<&str, &[u8]> = TableDefinition::new("parked");
/// Quarantined records: transaction id, or shard and position, to [`crate::seams::volume::encoding::held`].
pub const QUARANTINE: TableDefinition<&str, &[u8]> = TableDefinition::new("quarantine");
/// Debts: project to debt as JSON. A release without this table leaves it unchanged.
pub const DEBTS: TableDefinition<&str, &str> = TableDefinition::new("debts");
/// Refresh marks: subject to mark, both as JSON. A release without this table leaves it unchanged.
pub const REFRESH: TableDefinition<&str, &str> = TableDefinition::new("refresh");
/// The outbox: number to encoded announcement.
pub const OUTBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("outbox");
/// Announcements in the event log: number to the id of the stream event.
pub const SENT: TableDefinition<u64, &[u8]> = TableDefinition::new("sent");
/// The inbox: number to the arrival time and the encoded announcement.
pub const INBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("inbox");
/// Received announcements: origin to the received numbers, as JSON.
pub const RECEIVED: TableDefinition<&str, &str> = TableDefinition::new("received");
/// Blocks of received announcements: origin and block to one bit per number of the block.
pub const RECEIVED_BLOCKS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("received_blocks");
/// The volume's facts, as JSON. The table has the rows [`VOLUME`], [`REGISTERED`], [`BOUND`], [`COVERAGE`],
/// [`REQUESTS_GAP`] and [`VERIFIED`]. A release leaves the rows unchanged that it does not know.
pub const FACTS: TableDefinition<&str, &str> = TableDefinition::new("facts");
/// Committed requests: project name and request id to the request, as JSON. A release without this table leaves it
/// unchanged.
pub const REQUESTS: TableDefinition<(&str, &str), &str> = TableDefinition::new("requests");
/// The key in [`FACTS`] of the numbers that the node has written into the refdb, as JSON.
pub const REGISTERED: &str = "registered";
/// The key in [`FACTS`] of the refdb that the volume belongs to, as JSON.
pub const BOUND: &str = "refdb";
/// The key in [`FACTS`] of the entries that the digests cover, as JSON.
pub const COVERAGE: &str = "digests";
/// The key in [`FACTS`] that tells whether committed requests may be missing, as JSON.
pub const REQUESTS_GAP: &str = "requests_gap";
/// The key in [`FACTS`] of the results of the last verifications, as JSON.
pub const VERIFIED: &str = "verified";
/// The key in [`FACTS`] of the facts themselves.
pub const VOLUME: &str = "volume";

/// The format of the store. The table has one row, [`VERSION`]. Its own form never changes, so that every release can
/// read it.
const FORMATS: TableDefinition<&str, u64> = TableDefinition::new("format");
/// The key of the row in [`FORMATS`].
const VERSION: &str = "version";

/// Returns the table of a mailbox.
pub fn mail(mailbox: Mailbox) -> TableDefinition<'static, u64, &'static [u8]> {
    match mailbox {
        Mailbox::Outbox => OUTBOX,
        Mailbox::Sent => SENT,
        Mailbox::Inbox => INBOX,
    }
}

/// Checks the store's format and creates the tables of a new one.
///
/// # Errors
/// The store was written by a newer release. Nothing in it is changed then.
pub fn prepare(database: &Database) -> Fallible<()> {
    let txn = database.begin_write()?;
    {
        let mut formats = txn.open_table(FORMATS)?;
        let found = formats.get(VERSION)?.map(|version| version.value());
        match found {
            Some(FORMAT) => {}
            None => {
                formats.insert(VERSION, FORMAT)?;
            }
            Some(other) => return Err(wrong_format(other).into()),
        }
        txn.open_table(REFS)?;
        txn.open_table(PROJECTS)?;
        txn.open_table(VALUES)?;
        txn.open_table(CHECKPOINTS)?;
        txn.open_table(LOW_WATER)?;
        txn.open_table(PARKED)?;
        txn.open_table(QUARANTINE)?;
        txn.open_table(DEBTS)?;
        txn.open_table(REFRESH)?;
        txn.open_table(OUTBOX)?;
        txn.open_table(SENT)?;
        txn.open_table(INBOX)?;
        txn.open_table(RECEIVED)?;
        txn.open_table(RECEIVED_BLOCKS)?;
        txn.open_table(FACTS)?;
        txn.open_table(REQUESTS)?;
        txn.open_table(DIGESTS)?;
    }
    txn.delete_table(DIRECTORIES)?;
    txn.commit()?;
    Ok(())
}

fn wrong_format(found: u64) -> String {
    format!(
        "it has format {found} and this release reads format {FORMAT} only; start the release that wrote it (a retry \
         with this one does not help)"
    )
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase as _;

    use super::*;

    #[test]
    fn the_directory_marks_of_an_earlier_release_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.redb");
        let earlier = Database::create(&path).unwrap();
        let txn = earlier.begin_write().unwrap();
        txn.open_table(FORMATS).unwrap().insert(VERSION, FORMAT).unwrap();
        txn.open_table(DIRECTORIES).unwrap().insert(&b"a"[..], ()).unwrap();
        txn.commit().unwrap();
        drop(earlier);
        drop(super::super::DiskStore::open(&path).unwrap());
        let txn = Database::open(&path).unwrap().begin_read().unwrap();
        assert!(txn.open_table(DIRECTORIES).is_err(), "an earlier release that is started again knows none of them");
    }

    #[test]
    fn a_store_of_a_newer_release_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.redb");
        let newer = Database::create(&path).unwrap();
        let txn = newer.begin_write().unwrap();
        txn.open_table(FORMATS).unwrap().insert(VERSION, FORMAT + 1).unwrap();
        txn.commit().unwrap();
        drop(newer);
        for _ in 0..2 {
            let error = super::super::DiskStore::open(&path).err().expect("a refusal").to_string();
            assert!(error.contains("format 2") && error.contains("node.redb"), "{error}");
        }
    }
}
