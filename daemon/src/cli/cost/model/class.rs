//! The classes of operations. Latencies and counts are reported per class.

use serde::{Deserialize, Serialize};

/// The class of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A person pushes patch sets: one change, or a chain of them.
    PushPatchSet,
    /// CI votes on a change: a note commit on its `meta` ref.
    CiVote,
    /// A person votes or comments on a change.
    Comment,
    /// A person writes, changes or deletes a draft comment, in All-Users.
    Draft,
    /// A change, or a chain of changes, is submitted.
    Submit,
    /// A bot moves a branch: the roll of a dependency, a superproject.
    BotBump,
    /// A ref of a user moves, in All-Users.
    UserRef,
    /// Release tooling pushes many tags at once.
    ReleaseTag,
    /// A bot rebases many changes, one after the other.
    MassRebase,
    /// CI or a person fetches what changed.
    Fetch,
    /// CI or a person clones a project.
    Clone,
    /// A client lists the refs of a project.
    LsRefs,
}

impl Class {
    /// Every class, in the order of reports.
    pub const ALL: [Self; 12] = [
        Self::PushPatchSet,
        Self::CiVote,
        Self::Comment,
        Self::Draft,
        Self::Submit,
        Self::BotBump,
        Self::UserRef,
        Self::ReleaseTag,
        Self::MassRebase,
        Self::Fetch,
        Self::Clone,
        Self::LsRefs,
    ];

    /// The name in reports, logs of histograms and traces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PushPatchSet => "push_patch_set",
            Self::CiVote => "ci_vote",
            Self::Comment => "comment",
            Self::Draft => "draft",
            Self::Submit => "submit",
            Self::BotBump => "bot_bump",
            Self::UserRef => "user_ref",
            Self::ReleaseTag => "release_tag",
            Self::MassRebase => "mass_rebase",
            Self::Fetch => "fetch",
            Self::Clone => "clone",
            Self::LsRefs => "ls_refs",
        }
    }

    /// Whether operations of this class move no ref.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::Fetch | Self::Clone | Self::LsRefs)
    }

    /// Whether a person waits for it, and no program.
    #[must_use]
    pub fn is_of_a_person(self) -> bool {
        matches!(self, Self::PushPatchSet | Self::Comment | Self::Draft | Self::Submit | Self::UserRef)
    }

    /// Whether real clients do it by `git push`, and not through Gerrit's own calls.
    #[must_use]
    pub fn is_push(self) -> bool {
        matches!(self, Self::PushPatchSet | Self::BotBump | Self::ReleaseTag | Self::MassRebase)
    }

    /// Whether the refs of the operation are in All-Users.
    #[must_use]
    pub fn is_of_all_users(self) -> bool {
        matches!(self, Self::Draft | Self::UserRef)
    }
}
