//! Odd objects and packs: commits, trees, tags, blobs and packs that git treats specially, made byte by byte.
//!
//! Each [`Odd`] states what a plain git server does with it, with `receive.fsckObjects` unset and set. Lockstep must do
//! the same, with the exceptions that [`Odd::ours`] names: refused with nothing changed, or present at every site. The
//! table covers each message id of `git fsck` ([`ids`]). The answer to an odd pack ([`packs::ODD`]) is that of plain
//! git in the same run.

mod blobs;
mod commits;
mod forge;
pub mod ids;
mod packing;
pub mod packs;
pub mod push;
mod tags;
mod trees;

pub use forge::Forge;
pub use packs::everything;

/// The answer of a server to a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The push is taken.
    Taken,
    /// The push is refused.
    Refused,
}

/// An odd object.
#[derive(Clone, Copy)]
pub struct Odd {
    /// The name of the example, unique and fit for a ref.
    pub name: &'static str,
    /// The message ids of `git fsck` of which this is an example.
    pub ids: &'static [&'static str],
    /// The answer of a plain git server without `receive.fsckObjects`.
    pub plain: Answer,
    /// The answer of a plain git server with `receive.fsckObjects`.
    pub fsck: Answer,
    /// Lockstep's answer, where it differs from that of a plain git server without `receive.fsckObjects`.
    pub ours: Option<Answer>,
    /// Writes the objects, and returns the id to push.
    pub make: fn(&Forge<'_>) -> String,
}

impl Odd {
    /// The ref to which the object is pushed. A branch takes commits only.
    #[must_use]
    pub fn name_of_ref(&self, number: usize) -> String {
        let root = if self.name.starts_with("tag-") { "refs/tags" } else { "refs/heads" };
        format!("{root}/{number:03}-{}", self.name)
    }

    /// Lockstep's answer when nobody asks for the rules of `fsck`.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.ours.unwrap_or(self.plain)
    }
}

impl std::fmt::Debug for Odd {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// Every odd object.
#[must_use]
pub fn all() -> Vec<Odd> {
    [commits::ODD, trees::ODD, blobs::ODD, tags::ODD].concat()
}

/// Taken by everybody.
const fn harmless(name: &'static str, ids: &'static [&'static str], make: fn(&Forge<'_>) -> String) -> Odd {
    Odd { name, ids, plain: Answer::Taken, fsck: Answer::Taken, ours: None, make }
}

/// Refused where `receive.fsckObjects` is set.
const fn frowned(name: &'static str, ids: &'static [&'static str], make: fn(&Forge<'_>) -> String) -> Odd {
    Odd { name, ids, plain: Answer::Taken, fsck: Answer::Refused, ours: None, make }
}

/// Refused everywhere, because git cannot walk it or misses objects.
const fn broken(name: &'static str, ids: &'static [&'static str], make: fn(&Forge<'_>) -> String) -> Odd {
    Odd { name, ids, plain: Answer::Refused, fsck: Answer::Refused, ours: None, make }
}

/// Taken by a plain git server whose walk happens not to look, and refused by Lockstep.
const fn mistyped(name: &'static str, ids: &'static [&'static str], make: fn(&Forge<'_>) -> String) -> Odd {
    Odd { name, ids, plain: Answer::Taken, fsck: Answer::Refused, ours: Some(Answer::Refused), make }
}
