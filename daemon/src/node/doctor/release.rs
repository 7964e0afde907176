//! Numbers of releases, of Lockstep, of git and of Gerrit, and whether two releases of Lockstep run beside each other.

use std::fmt;

/// The number of a release: major, minor and patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u64, pub u64, pub u64);

impl Release {
    /// The first number in a text, such as `git version 2.47.3`, `v3.14.2-12-gabc` or `3.15.0-rc1`. A part that is
    /// missing counts as zero. None if there is no number with a dot.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let words = text.split(|letter: char| letter.is_whitespace() || letter == '-' || letter == '+');
        words.filter_map(|word| Self::of_word(word.trim_start_matches('v'))).next()
    }

    fn of_word(word: &str) -> Option<Self> {
        let mut parts = word.split('.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self(major, minor, parts.next().and_then(|part| part.parse().ok()).unwrap_or_default()))
    }

    /// Whether a node of this release and one of the other understand each other: their minor numbers are the same or
    /// neighbours, and nothing before them differs.
    #[must_use]
    pub fn is_beside(self, other: Self) -> bool {
        self.0 == other.0 && self.1.abs_diff(other.1) <= 1
    }
}

impl fmt::Display for Release {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_the_words_of_each_program() {
        let found = |text: &str| Release::find(text).map(|release| release.to_string());
        for (text, number) in [
            ("0.1.0", "0.1.0"),
            ("git version 2.47.3", "2.47.3"),
            ("git version 2.39.5 (Apple Git-154)", "2.39.5"),
            ("3.14.2", "3.14.2"),
            ("v3.14.2-12-gabc", "3.14.2"),
            ("3.15.0-rc1", "3.15.0"),
            ("3.15", "3.15.0"),
        ] {
            assert_eq!(found(text).as_deref(), Some(number), "{text}");
        }
        assert_eq!((found("(dev)"), found("unknown"), found("7")), (None, None, None));
    }

    #[test]
    fn neighbouring_minor_releases_run_beside_each_other() {
        let beside =
            |one: (u64, u64), other: (u64, u64)| Release(one.0, one.1, 0).is_beside(Release(other.0, other.1, 9));
        assert!(beside((0, 1), (0, 1)) && beside((0, 1), (0, 2)) && beside((1, 3), (1, 2)));
        assert!(!beside((0, 1), (0, 3)) && !beside((0, 9), (1, 0)));
    }
}
