//! The end-to-end harness: real `lockstep` processes, real git, and the emulators in the test process.
//!
//! Nothing here looks inside of a sidecar. It is started from a configuration file, reached through its socket, its hooks
//! and its command line, killed by its process id, and judged by what git shows and by a scan of the refdb.
//!
//! | file | idea |
//! |---|---|
//! | `cluster` | the emulators and the nodes of some sites, in one temporary folder |
//! | `node` | one sidecar: configuration, process, signals, command line |
//! | `wire` | the way from one node to the refdb, which a test may cut |
//! | `git` | git, and a clone that makes commits |
//! | `behind` | who writes refs behind the sidecar's back |
//! | `load` | pushers, and the ledger of what each push was answered |
//! | `verify` | equal to the refdb, `git fsck` clean, the ledger kept, no ref locked for ever |
//! | `rig` | a volume whose power can be cut |
//! | `gerrit` | real Gerrits beside the sidecars |
//! | `upkeep` | gc, pack-refs and maintenance, over and over, in every repository |

pub mod behind;
pub mod cluster;
pub mod gerrit;
pub mod git;
pub mod load;
pub mod node;
pub mod rig;
pub mod upkeep;
pub mod verify;
pub mod wire;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take that must happen. Far above what it takes: a test that waits so long fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `found` gives something; `None` when it did not for [`PATIENCE`].
pub async fn until<T, F: Future<Output = Option<T>>>(mut found: impl FnMut() -> F) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
