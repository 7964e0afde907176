//! The checks of a preflight that only this machine can answer: its disks and its certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_proto::drill::Check;
use rustix::fs::statvfs;

use crate::base::clock::Clock;
use crate::node::config::Settings;
use crate::node::doctor::{FREE, scarce};
use crate::seams::tls::Credentials;
use crate::stages::ports::LocalHealth;

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
            let what = scarce((found.f_bavail, found.f_blocks), (found.f_favail, found.f_files), FREE)?;
            Some(format!("less than {FREE} % of the {what} of {} are free; make room", folder.display()))
        }
        Err(error) => Some(format!("{} cannot be looked at: {error}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
