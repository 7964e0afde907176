//! Shadow mode: watches what another replication does at a site, and moves nothing.
//!
//! It is for sites that replicate with Java plugins, before Lockstep takes over. A watch runs beside the Gerrit of each
//! site. It reads refs from the disk, and no other program knows of it: there is no bridge, no hook, no refdb and no
//! event log. Lockstep would have proposed each change that it finds as a transaction. The change goes into a journal
//! of bounded size. The report compares the journals of all sites.
//!
//! | file | content |
//! |---|---|
//! | `journal` | the entries, and the file that holds them |
//! | `watch` | looks at the repositories, again and again |
//! | `compare` | compares the journals of sites: a pure function |
//! | `report` | the text of the comparison |

mod compare;
mod journal;
mod report;
#[cfg(test)]
mod tests;
mod watch;

pub use compare::{Comparison, Finding, Kind, Watched, Way, compare};
pub use journal::{Entries, Journal, JournalError, read};
pub use report::render;
pub use watch::{Watch, WatchCounts};
