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
        let red = ends.into_iter().filter_map(|(what, at)| expires_soon(what, at, now)).collect();
        let note = "this node's certificate and the authorities that it trusts are valid for 7 days".to_owned();
        Some(Check { check: "tls".to_owned(), red, note })
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

/// Why a certificate of this node that expires `at` this time is red, in seconds since 1970.
fn expires_soon(what: &str, at: i64, now: i64) -> Option<String> {
    let left = at.saturating_sub(now);
    match left {
        VALID.. => None,
        1.. => Some(format!("the {what} of this node is valid for {} h; renew it", left / 3_600)),
        _ => Some(format!("the {what} of this node has expired; renew it")),
    }
}

/// Why a folder's file system is red.
fn full(folder: &Path) -> Option<String> {
    match statvfs(folder) {
        Ok(found) => {
            let what = scarce((found.f_bavail, found.f_blocks), (found.f_favail, found.f_files))?;
            Some(format!("less than {FREE} % of the {what} of {} are free; make room", folder.display()))
        }
        Err(error) => Some(format!("{} cannot be looked at: {error}", folder.display())),
    }
}

/// The thing that a file system has too few of: each pair is the number that is free, and that of all. A file system
/// that does not count its inodes says that it has none.
fn scarce(bytes: (u64, u64), inodes: (u64, u64)) -> Option<&'static str> {
    let is_low = |(free, all): (u64, u64)| all > 0 && free.saturating_mul(100) < all.saturating_mul(FREE);
    match () {
        () if is_low(bytes) => Some("bytes"),
        () if is_low(inodes) => Some("inodes"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_red_below_ten_percent_of_its_bytes_or_of_its_inodes() {
        let (ten, nine) = ((100, 1_000), (99, 1_000));
        let much = (1_000, 1_000);
        assert_eq!(scarce(ten, ten), None);
        assert_eq!(scarce(nine, much), Some("bytes"));
        assert_eq!(scarce(much, nine), Some("inodes"));
        assert_eq!(scarce(nine, nine), Some("bytes"));
        assert_eq!(scarce((9, 100), much), Some("bytes"), "9 %");
        assert_eq!(scarce((10, 100), much), None, "10 %");
        assert_eq!(scarce((0, 1_000), much), Some("bytes"), "it is full");
    }

    #[test]
    fn a_file_system_that_counts_no_inodes_is_green() {
        assert_eq!(scarce((10, 100), (0, 0)), None);
        assert_eq!(scarce((9, 100), (0, 0)), Some("bytes"));
    }

    #[test]
    fn a_folder_that_cannot_be_looked_at_is_red() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let why = full(&gone).unwrap();
        assert!(why.starts_with(&format!("{} cannot be looked at: ", gone.display())), "{why}");
    }

    #[test]
    fn a_certificate_is_red_within_seven_days_of_its_end_and_after_it() {
        const NOW: i64 = 1_800_000_000;
        let at = |left: i64| expires_soon("certificate", NOW + left, NOW);
        assert_eq!((at(VALID + 1), at(VALID)), (None, None));
        let red = |text: &str| Some(format!("the certificate of this node {text}; renew it"));
        assert_eq!(at(VALID - 1), red("is valid for 167 h"));
        assert_eq!(at(3_600), red("is valid for 1 h"));
        assert_eq!(at(1), red("is valid for 0 h"));
        for left in [0, -1, -VALID] {
            assert_eq!(at(left), red("has expired"), "{left}");
        }
    }
}
