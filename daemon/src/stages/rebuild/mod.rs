//! The rebuild stage: makes a new refdb from the version maps of all sites, when the old one is lost, or was restored
//! from a backup that is too old. It also moves a running refdb to other tables.
//!
//! The version maps of the nodes know more than a backup: each has every ref with its version, value and transaction,
//! as far as the node has applied it. A rebuild reads them all, page by page, and writes the highest version of each
//! ref into new tables with a new identity. A mark in the identity keeps every node out until the end.
//!
//! The reasons why the result is right:
//! - The set of transactions that a node has applied contains, with each transaction, everything that it builds on. The
//!   union of such sets does, too. So the highest version per ref is a state in which each transaction is seen in full
//!   or not at all.
//! - A version map that changes between two pages is read again.
//! - Every write is conditional on the revision of the identity, and on a version that is not lower. So a run that dies
//!   is repeated, by any node, without harm, and a run that was taken over writes nothing any more.
//! - Versions, epochs and numbers of incarnations are above all that a node knows, by more than the lost refdb can have
//!   been ahead (`lockstep_proto::rebuild`).
//!
//! | file | idea |
//! |---|---|
//! | `pages` | serves this node's version map |
//! | `reader` | reads the version map of one node, page by page, and sees when it changes |
//! | `merge` | picks the highest version of each ref: a pure function of the entries |
//! | `checks` | whether a rebuild may begin: pure functions of the reports of the nodes |
//! | `target` | the new refdb: its identity, and writes under the condition that it is still this run's |
//! | `job` | one rebuild, from its checks to its end |
//! | `moving` | one move of the running refdb: closes it, waits until nothing can land, copies it, points to the copy |
//! | `records` | copies the records that a move takes along |
//! | `desk` | takes the requests of operators and peers |
//! | `error` | why a rebuild was refused, or failed |

mod checks;
mod desk;
mod error;
mod job;
mod merge;
mod moving;
mod pages;
mod reader;
mod records;
mod target;
#[cfg(test)]
mod tests;

pub use desk::RebuildDesk;
