//! Bodies of the bridge API for seeding (JSON): an existing repository's refs become a project.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Begins or continues the seed of a project, and asks for its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeedRequest {
    /// Whether to open the project although no other site holds it: for a first site that has no second one yet.
    #[serde(default)]
    pub alone: bool,
    /// How long to wait for the end of the seed, in milliseconds: 0 to 30,000.
    #[serde(default)]
    pub wait_ms: u64,
    /// The way to treat refs on the disk that differ from the committed ones, in a project that takes commits already.
    #[serde(default)]
    pub differences: Differences,
}

/// The way in which a seed treats refs on the disk that differ from the committed ones, in a project that takes commits
/// already: something wrote them without Lockstep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Differences {
    /// Name them as problems.
    #[default]
    Refuse,
    /// Commit the values of the disk. A value whose ref another site has moved meanwhile is kept as a stray.
    Commit,
    /// Write the committed values. The values of the disk are kept as strays.
    SetAside,
}

/// The progress of a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeedStage {
    /// Refs are being committed. The project takes no other commits.
    #[default]
    Seeding,
    /// All refs are committed and verified, but no other site holds them yet. The project takes no commits.
    Waiting,
    /// The project takes commits.
    Open,
    /// The seed stopped for the reasons in `problems`. Fix them and seed again. Committed refs stay committed.
    Failed,
}

/// The state of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeedResponse {
    /// The progress of the seed.
    pub stage: SeedStage,
    /// The number of refs on disk.
    pub refs: u64,
    /// The number of refs on disk that are committed.
    pub done: u64,
    /// The SHA-256 of the refs in the refdb, in hexadecimal digits, once they were found equal to those on disk. The
    /// hashed text has one line `<id> <name>\n` per ref, in the order of the names' bytes.
    pub digest: Option<String>,
    /// The nodes or sites that the seed waits for, as text for people to read.
    pub waits_for: Option<String>,
    /// The number of strays of the project, if it took commits before the seed. Each is a value that was on the disk,
    /// and gave way to a committed one.
    #[serde(default)]
    pub strays: u64,
    /// The first problems that stop the seed.
    pub problems: Vec<String>,
    /// The number of further problems.
    pub more_problems: u64,
}
