//! A backup of a refdb in a file: its items as lines of JSON, with a checksum at the end. It works with every
//! implementation, emulators too.
//!
//! The file has every item that a rebuild would need: refs with versions, values and transactions, deleted ones
//! included; sites with roles and epochs; nodes with the highest numbers of their incarnations; the identity, the
//! locks, and all other documents; the identity of the Gerrit. It has no journal, no heartbeats, no digests, and no
//! leases of readers.
//!
//! It is no state of one moment: each item is read by itself while nodes commit. A ref has a version that it had
//! between the begin and the end of the backup, and of a transaction with several refs some may be from before it. So a
//! backup is never restored over a refdb: the version maps of the sites know more, and a rebuild from them raises every
//! version above all that was ever known (`docs/adr/0061`).
//!
//! A file that was cut off or changed is refused as a whole. The locks have their tokens, so a file is for operators
//! alone.
//!
//! | file | content |
//! |---|---|
//! | `format` | the lines |
//! | `write` | reads a refdb, and writes the lines |
//! | `read` | reads the lines, and verifies them |
//! | `file` | the file, which has its name only once it is whole |

mod file;
mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use file::NewFile;
pub use format::{BackedUpRef, Counts, End, Entry, FORMAT, Head};
pub use read::{ReadError, Verified, read};
pub use write::{BackupWriter, WriteError};
