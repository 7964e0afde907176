//! Known traps of Gerrit's releases, as far as the handshake can see them: by the version of Gerrit.
//!
//! Settings that the bridge refuses at Gerrit's start, such as `core.usePerRequestRefCache`, are not in this table: a
//! Gerrit that made its handshake does not have them.

use lockstep_proto::doctor::Severity;

use super::release::Release;

/// A release of Gerrit with which the bridge is built, and the JGit in it.
#[derive(Debug)]
pub(super) struct Shipped {
    /// The release as major and minor number.
    pub(super) gerrit: (u64, u64),
    /// The JGit that Gerrit ships, for people.
    pub(super) jgit: &'static str,
}

/// The releases of Gerrit for which this release has a bridge, from Gerrit's release notes.
pub(super) const SHIPPED: [Shipped; 4] = [
    Shipped { gerrit: (3, 11), jgit: "6.10" },
    Shipped { gerrit: (3, 12), jgit: "7.3 to 7.5" },
    Shipped { gerrit: (3, 13), jgit: "7.4 to 7.5" },
    Shipped { gerrit: (3, 14), jgit: "7.5 to 7.7" },
];

/// A known trap of some releases of Gerrit.
#[derive(Debug)]
pub(super) struct Trap {
    /// The first release that has it.
    pub(super) from: Release,
    /// The first later release that does not. None: no such release is known.
    pub(super) until: Option<Release>,
    /// How bad it is beside Lockstep.
    pub(super) severity: Severity,
    /// The trap, for people.
    pub(super) text: &'static str,
    /// The next step of the administrator.
    pub(super) remedy: &'static str,
    /// The source: an issue of Gerrit, or its release notes.
    pub(super) source: &'static str,
}

/// The table of traps.
pub(super) const TRAPS: [Trap; 3] = [
    Trap {
        from: Release(3, 13, 0),
        until: Some(Release(3, 13, 1)),
        severity: Severity::Warning,
        text: "tokens of users are written without an event of their ref, so another site may go on with old ones",
        remedy: "upgrade Gerrit to 3.13.1 or later",
        source: "Gerrit issue 459326231",
    },
    Trap {
        from: Release(3, 14, 0),
        until: None,
        severity: Severity::Note,
        text: "a forced end of the JVM can damage the caches on disk (H2); `gerrit.sh stop` may force it",
        remedy: "give Gerrit time to stop; after an end by force, remove cache files that its log reports as damaged",
        source: "Gerrit issue 454695136",
    },
    Trap {
        from: Release(3, 14, 0),
        until: None,
        severity: Severity::Note,
        text: "changes are indexed after the answer for all users except service users",
        remedy: "nothing, unless a program reads a change at once: then set index.indexChangesAsync to false",
        source: "release notes of Gerrit 3.14",
    },
];

impl Trap {
    /// Whether a release has the trap.
    pub(super) fn concerns(&self, release: Release) -> bool {
        self.from <= release && self.until.is_none_or(|until| release < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trap_is_of_the_releases_that_its_source_names() {
        let of = |release: Release| TRAPS.iter().filter(|trap| trap.concerns(release)).count();
        assert_eq!([Release(3, 12, 9), Release(3, 13, 0), Release(3, 13, 1), Release(3, 14, 2)].map(of), [0, 1, 0, 2]);
        assert!(TRAPS.iter().all(|trap| !trap.source.is_empty() && !trap.remedy.is_empty()));
    }
}
