//! The space of the node's folders.

use lockstep_proto::doctor::Severity;

use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check =
    Check { name: "disk", looks_at: "the free bytes and inodes of the node's folders: at least 10 % of each", look };

/// The share of a file system, of its bytes and of its inodes, that must be free, in percent.
pub const FREE: u64 = 10;
/// The share below which the next large push may fail.
const LAST: u64 = 2;

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    for folder in &facts.folders {
        let Some(space) = looked.see(&folder.space).copied() else { continue };
        let Some(what) = scarce(space.blocks, space.inodes, FREE) else { continue };
        let severity = match scarce(space.blocks, space.inodes, LAST) {
            Some(_) => Severity::Error,
            None => Severity::Warning,
        };
        let text = format!("less than {FREE} % of the {what} of {} are free", folder.path.display());
        let remedy = "make room or enlarge the volume; `git gc` in the largest repositories frees inodes";
        looked.find(severity, folder.setting, text, remedy);
    }
    looked
}

/// The thing that a file system has less of than this share: each pair is the number that is free, and that of all. A
/// file system that does not count its inodes says that it has none.
#[must_use]
pub fn scarce(bytes: (u64, u64), inodes: (u64, u64), percent: u64) -> Option<&'static str> {
    let is_low = |(free, all): (u64, u64)| all > 0 && free.saturating_mul(100) < all.saturating_mul(percent);
    match () {
        () if is_low(bytes) => Some("bytes"),
        () if is_low(inodes) => Some("inodes"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{NotSeen, Space};
    use super::*;

    fn found(blocks: (u64, u64), inodes: (u64, u64)) -> Vec<Severity> {
        let mut facts = Facts::in_order();
        facts.folders[0].space = Ok(Space { blocks, inodes });
        look(&facts).findings.into_iter().map(|one| one.severity).collect()
    }

    #[test]
    fn a_disk_is_a_warning_below_ten_percent_and_an_error_below_two() {
        let much = (1_000, 1_000);
        assert_eq!(found((100, 1_000), much), []);
        assert_eq!(found((99, 1_000), much), [Severity::Warning]);
        assert_eq!(found(much, (99, 1_000)), [Severity::Warning], "inodes");
        assert_eq!(found((19, 1_000), much), [Severity::Error]);
        assert_eq!(found(much, (0, 0)), [], "it counts no inodes");
        assert_eq!(scarce((99, 1_000), (99, 1_000), FREE), Some("bytes"));
        assert_eq!(scarce((0, 1_000), much, FREE), Some("bytes"), "it is full");
    }

    #[test]
    fn a_folder_that_cannot_be_looked_at_is_not_in_order() {
        let mut facts = Facts::in_order();
        facts.folders[0].space = Err(NotSeen("/git cannot be looked at".into()));
        assert_eq!(look(&facts).not_seen.as_deref(), Some("/git cannot be looked at"));
    }
}
