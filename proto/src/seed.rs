//! Bodies of the bridge API for seeding: an existing repository's refs become a project (JSON).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Begins the seed of a project, or goes on with it, and asks how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeedRequest {
    /// Open the project though no other site holds it: for a first site that has no second one yet.
    #[serde(default)]
    pub alone: bool,
    /// How long to wait for its end, in milliseconds: 0 to 30,000.
    #[serde(default)]
    pub wait_ms: u64,
}

/// How far a seed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeedStage {
    /// Refs are being committed. The project takes no other commits.
    #[default]
    Seeding,
    /// All refs are committed and verified; no other site holds them yet. The project takes no commits.
    Waiting,
    /// The project takes commits.
    Open,
    /// It went no further: `problems` says why. Mend that, and seed again; what is committed stays.
    Failed,
}

/// What is known of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeedResponse {
    /// How far it is.
    pub stage: SeedStage,
    /// Refs on the disk.
    pub refs: u64,
    /// Of these, how many are committed.
    pub done: u64,
    /// SHA-256 of the refs in the refdb, once they were found equal to those on the disk: a line `<id> <name>\n` a ref, in
    /// the order of the names' bytes. In hexadecimal digits.
    pub digest: Option<String>,
    /// Who is waited for.
    pub waits_for: Option<String>,
    /// What is in the way: the first of them.
    pub problems: Vec<String>,
    /// How many more problems there are.
    pub more_problems: u64,
}
