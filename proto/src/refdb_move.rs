//! The move of a running refdb to other tables: its place, the request, and its steps (JSON).
//!
//! The records of a move are part of the identity of a refdb, and its report is that of a rebuild ([`crate::rebuild`]).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The place of a refdb: its tables, and the way to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefdbPlace {
    /// The prefix of the tables: the setting `refdb.prefix`.
    pub prefix: String,
    /// The AWS Region. None: as before the move, unless there is an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The endpoint. None: the one of the Region; without a Region, as before the move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl fmt::Display for RefdbPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, region, endpoint } = self;
        write!(f, "{prefix}")?;
        region.iter().try_for_each(|region| write!(f, " in {region}"))?;
        endpoint.iter().try_for_each(|endpoint| write!(f, " at {endpoint}"))
    }
}

/// Asks a node to move the running refdb to other tables, or to abort that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveRequest {
    /// The AWS Region of the new tables. None: that of the present ones.
    #[serde(default)]
    pub region: Option<String>,
    /// The endpoint of the new tables. None: that of the Region; without a Region, that of the present ones.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Whether to abort the move that is in progress, so that the present tables take commits again.
    #[serde(default)]
    pub abort: bool,
}

/// How far a move of the running refdb is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoveStep {
    /// It looks whether the refdb can move.
    Look,
    /// No incarnation is opened any more, and those that are open end.
    Fence,
    /// Nothing can be committed. The nodes publish and apply everything that was.
    Drain,
    /// It copies refs and records into the new tables.
    Copy,
    /// The old tables name the new ones. There is no way back: every node follows.
    Follow,
    /// The move was aborted, and the old tables take commits again.
    Aborted,
}

impl MoveStep {
    /// The step in a sentence, for people.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Self::Look => "looks whether the refdb can move",
            Self::Fence => "ends the open incarnations; nobody can push until the end of the move",
            Self::Drain => "waits until the nodes have published and applied everything",
            Self::Copy => "copies refs and records into the new tables",
            Self::Follow => "the refdb has moved, and every node follows",
            Self::Aborted => "aborted; the old tables take commits again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_its_region_and_its_endpoint() {
        let plain = RefdbPlace { prefix: "next".into(), ..RefdbPlace::default() };
        let far = RefdbPlace { region: Some("eu-west-1".into()), ..plain.clone() };
        let odd = RefdbPlace { endpoint: Some("http://127.0.0.1:1".into()), ..far.clone() };
        assert_eq!(
            [plain, far, odd].map(|place| place.to_string()),
            ["next", "next in eu-west-1", "next in eu-west-1 at http://127.0.0.1:1"]
        );
    }
}
