//! One arrival.

use serde::{Deserialize, Serialize};

use crate::load::model::Class;

/// An operation that a client wants to begin at a certain time. It holds every random number of the operation, so that
/// carrying it out needs no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The intended start, in microseconds after the start of the run.
    pub at_us: u64,
    /// The class.
    pub class: Class,
    /// The rank of the project.
    pub project: u32,
    /// The number of the site to which the client talks.
    pub site: u32,
    /// Random bits with which the change, the branch and the user are picked.
    pub pick: u64,
    /// The number of changes, or of tags. 0 for the deletion of a draft.
    pub count: u32,
    /// New bytes of the pushed content.
    pub bytes: u32,
    /// Whether it goes through `git push`.
    pub git: bool,
    /// Whether it comes from the site of the change. Otherwise it comes from `site`.
    pub at_home: bool,
}

/// The number of people.
const PEOPLE: u64 = 11_000;
/// The number of accounts that CI jobs share.
const JOBS: u64 = 50;

impl Arrival {
    /// The user who wants it. Programs are named `ci-N` or `bot-N`.
    #[must_use]
    pub fn user(&self) -> String {
        let of = |name: &str, count: u64| format!("{name}-{}", (self.pick ^ self.at_us) % count);
        match self.class {
            Class::CiVote => of("ci", JOBS),
            Class::BotBump => of("bot", JOBS),
            Class::MassRebase | Class::ReleaseTag => "bot-release".to_owned(),
            _ => of("user", PEOPLE),
        }
    }
}
