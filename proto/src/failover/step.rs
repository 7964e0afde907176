//! The steps of a failover.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::NodeId;

/// A step of a failover, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailoverStep {
    /// Each node of the target compares its refs with the refdb, while the source still takes writes (planned). A
    /// difference holds the failover before anything is changed.
    Verify,
    /// The source's role becomes draining (planned) or fenced (forced), and its epoch is raised.
    Stop,
    /// Every incarnation of the source is frozen and poisoned. After that, nothing can be committed there.
    Settle,
    /// The nodes of the target apply every transaction of the source.
    CatchUp,
    /// The committed transactions that the target lacks are held against the request's `max_loss`. More of them hold
    /// the failover before the promotion.
    CheckLoss,
    /// The target's role becomes active.
    Promote,
    /// The nodes of the target open incarnations. After that, they take writes.
    Serve,
    /// The nodes of the target act as users do, until every probe is green.
    Probe,
    /// The source's role becomes standby (planned). A fenced source stays fenced.
    StandBy,
}

impl FailoverStep {
    /// All steps, in their order.
    pub const ALL: [Self; 9] = [
        Self::Verify,
        Self::Stop,
        Self::Settle,
        Self::CatchUp,
        Self::CheckLoss,
        Self::Promote,
        Self::Serve,
        Self::Probe,
        Self::StandBy,
    ];

    /// The steps that a request may leave out.
    pub const OPTIONAL: [Self; 2] = [Self::Verify, Self::Probe];

    /// The steps of every drill. A failure can be injected in each.
    pub const OF_DRILLS: [Self; 8] =
        [Self::Verify, Self::Stop, Self::Settle, Self::CatchUp, Self::Promote, Self::Serve, Self::Probe, Self::StandBy];

    /// Whether the first release that had failovers has the step. Its nodes refuse others by name.
    #[must_use]
    pub fn is_of_first_release(self) -> bool {
        !matches!(self, Self::Verify | Self::CheckLoss | Self::Probe)
    }

    /// The name of the step, as the command line and the JSON bodies write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Stop => "stop",
            Self::Settle => "settle",
            Self::CatchUp => "catch_up",
            Self::CheckLoss => "check_loss",
            Self::Promote => "promote",
            Self::Serve => "serve",
            Self::Probe => "probe",
            Self::StandBy => "stand_by",
        }
    }
}

/// The names of all steps, for people.
fn names() -> String {
    FailoverStep::ALL.map(FailoverStep::name).join(", ")
}

/// A text that names no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a step of a failover; the steps are {names}", names = names())]
pub struct UnknownStep(pub String);

impl std::str::FromStr for FailoverStep {
    type Err = UnknownStep;

    fn from_str(text: &str) -> Result<Self, UnknownStep> {
        Self::ALL.into_iter().find(|step| step.name() == text).ok_or_else(|| UnknownStep(text.to_owned()))
    }
}

/// The course of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepRecord {
    /// The step that was taken.
    pub step: FailoverStep,
    /// When a node began it, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_ms: Option<u64>,
    /// When a node found it complete, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// The node that found it complete.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<NodeId>,
    /// The result of the step, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}
