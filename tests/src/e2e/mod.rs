//! The end-to-end harness: real `lockstep` processes, real git, and the emulators in the test process.
//!
//! No test here looks inside a sidecar. A sidecar is started from a configuration file, used through its socket, its
//! hooks and its command line, killed by its process id, and judged by the output of git and by a scan of the refdb.
//!
//! | file | idea |
//! |---|---|
//! | `cluster` | the emulators and the nodes of some sites, in one temporary folder |
//! | `node` | one sidecar: configuration, process, signals, command line |
//! | `wire` | the connection from one node to a server, which a test may cut |
//! | `throttle` | DynamoDB's limits on one part of the refdb |
//! | `git` | git, and a clone that makes commits |
//! | `behind` | writes to refs behind the sidecar's back |
//! | `documented` | compares the output of commands with the pages |
//! | `page_calls` | the calls and answers that the page of the API shows |
//! | `load` | pushers, and the ledger of the answers to their pushes |
//! | `verify` | the checks at the end: repositories equal the refdb, `git fsck` is clean, no ref stays locked |
//! | `processes` | processes in a folder: their open files and sockets, and their environment |
//! | `rig` | a volume whose power can be cut |
//! | `xfs` | a file system with reflinks |
//! | `gerrit` | real Gerrits beside the sidecars |
//! | `kubernetes` | a small API server that keeps pods and their labels |
//! | `upkeep` | gc, pack-refs and maintenance, over and over, in every repository |

pub mod behind;
pub mod cluster;
pub mod documented;
pub mod gerrit;
pub mod git;
pub mod kubernetes;
pub mod load;
pub mod node;
pub mod page_calls;
pub mod processes;
pub mod rig;
pub mod throttle;
pub mod upkeep;
pub mod verify;
pub mod wire;
pub mod xfs;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// The limit for everything that must happen. It is far above the usual time, so that a busy machine does not reach it;
/// a test that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Calls `found` again and again until it returns a value. `None` if it did not within [`PATIENCE`], even if a call
/// hangs.
pub async fn until<T, F: Future<Output = Option<T>>>(mut found: impl FnMut() -> F) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match timeout_at(end, found()).await {
            Ok(Some(found)) => return Some(found),
            Ok(None) if Instant::now() < end => {}
            Ok(None) | Err(_) => return None,
        }
        sleep(Duration::from_millis(20)).await;
    }
}
