//! The way of a node to AWS, as the status API tells it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The way of a node to AWS: its endpoints, and the credentials that sign its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwsStatus {
    /// The endpoints that the node calls, by service and place.
    pub endpoints: Vec<EndpointStatus>,
    /// The credentials that signed last. None before the first call of DynamoDB or Kinesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialStatus>,
    /// The name of the environment variable that names a proxy, if there is one. `NO_PROXY` may exclude endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// One endpoint, and its circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointStatus {
    /// The service: `dynamodb`, `kinesis` or `s3`.
    pub service: String,
    /// The Region, or the URL of another endpoint.
    pub place: String,
    /// The state of the circuit breaker.
    pub state: CircuitState,
    /// Failures to connect since the last answer.
    pub failures: u32,
    /// How often the circuit was opened since the start of the process.
    pub opened: u64,
    /// While the circuit is open: when the node looks again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_in_ms: Option<u64>,
    /// The last failure to connect, while the circuit is not closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The state of the circuit breaker of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitState {
    /// Every call goes through.
    Closed,
    /// One call looks whether the endpoint can be reached again. The others end at once.
    HalfOpen,
    /// Calls end at once, because no connection could be made.
    Open,
}

impl fmt::Display for CircuitState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        })
    }
}

/// The credentials that sign calls. Nothing secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CredentialStatus {
    /// The kind of their source: `web identity`, `instance metadata`, `environment variables` and so on.
    pub source: String,
    /// The account that they belong to, if the source tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// When they expire, in milliseconds since 1970. None if they do not. They are renewed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Why they could not be renewed when that was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
