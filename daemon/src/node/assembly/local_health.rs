//! The checks of a preflight that only this machine can answer: its disks and its certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_proto::drill::Check;
use rustix::fs::statvfs;

use crate::base::clock::Clock;
use crate::node::config::Settings;
use crate::seams::tls::Credentials;
use crate::stages::ports::LocalHealth;

/// The share of a file system, of its bytes and of its inodes, that must be free, in percent.
const FREE: u64 = 10;
/// How long a certificate must be valid, in seconds.
const VALID: i64 = 7 * 86_400;

/// The disks and the certificates of one node.
pub(super) struct Machine {
    folders: Vec<PathBuf>,
    credentials: Option<Arc<Credentials>>,
    clock: Arc<dyn Clock>,
}

/// A machine that is not looked at, as in the simulator.
pub(super) struct Unseen;

impl LocalHealth for Unseen {
    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }
}

impl Machine {
    pub(super) fn new(settings: &Settings, credentials: Option<Arc<Credentials>>, clock: Arc<dyn Clock>) -> Self {
        let mut folders: Vec<PathBuf> = settings.base_paths.all().into_iter().map(Into::into).collect();
        folders.push(settings.state.clone());
        Self { folders, credentials, clock }
    }

    fn tls(&self) -> Option<Check> {
        let material = self.credentials.as_ref()?.current();
        let now = i64::try_from(self.clock.now_ms() / 1_000).unwrap_or(i64::MAX);
        let ends = [("certificate", material.expires), ("first trusted authority", material.trust_expires)];
        let soon = ends.into_iter().filter(|(_, at)| at.saturating_sub(now) < VALID);
        let red = soon.map(|(what, at)| {
            format!("the {what} of this node is valid for {} h; renew it", at.saturating_sub(now).max(0) / 3_600)
        });
        let note = "this node's certificate and the authorities that it trusts are valid for 7 days".to_owned();
        Some(Check { check: "tls".to_owned(), red: red.collect(), note })
    }
}

impl LocalHealth for Machine {
    fn checks(&self) -> Vec<Check> {
        let red = self.folders.iter().filter_map(|folder| full(folder)).collect();
        let note = format!("at least {FREE} % of the bytes and inodes of this node's folders are free");
        let disk = Check { check: "disk".to_owned(), red, note };
        [Some(disk), self.tls()].into_iter().flatten().collect()
    }
}

/// Why a folder's file system is red.
fn full(folder: &Path) -> Option<String> {
    let found = match statvfs(folder) {
        Ok(found) => found,
        Err(error) => return Some(format!("{} cannot be looked at: {error}", folder.display())),
    };
    let is_low = |free: u64, all: u64| all > 0 && free.saturating_mul(100) < all.saturating_mul(FREE);
    let what = match () {
        () if is_low(found.f_bavail, found.f_blocks) => "bytes",
        () if is_low(found.f_favail, found.f_files) => "inodes",
        () => return None,
    };
    Some(format!("less than {FREE} % of the {what} of {} are free; make room", folder.display()))
}
