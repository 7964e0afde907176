//! Commands of operators about all sites: roles, the move of writes between them, drills, keys, locks, and a lost
//! refdb.
//!
//! | file | content |
//! |---|---|
//! | `sites` | sites and nodes: roles, modes, and the list of sites |
//! | `failover`, `failback`, `history` | the move of writes between sites, and past changes |
//! | `drill`, `silent` | drills of a failover, the preflight, and silent drills of a node |
//! | `before` | the preflight before this node is drained or upgraded |
//! | `refdb`, `refdb_backup` | rebuilds a lost refdb; checks one, and makes backups of it |
//! | `keys` | the keys by which sites sign their records, and whether they must |
//! | `locks` | locks of projects and refs, and maintenance |
//! | `tokens` | tokens of operators |
//! | `failover_text`, `site_table`, `refdb_text` | plans, failovers, sites and rebuilds as text |

mod before;
pub(super) mod drill;
pub(super) mod failback;
pub(super) mod failover;
pub(super) mod failover_text;
pub(super) mod history;
pub(super) mod keys;
pub(super) mod locks;
pub(super) mod refdb;
mod refdb_backup;
mod refdb_text;
mod silent;
pub(super) mod site_table;
pub(super) mod sites;
pub(super) mod tokens;
