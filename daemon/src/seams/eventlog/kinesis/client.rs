//! The SDK client, with a bound on every wait. The SDK itself has no read timeout, and a hung call would stop a stage
//! for ever.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{Credentials, Region};

/// How to reach Kinesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// An endpoint other than AWS's own: a VPC endpoint or an emulator (`http://127.0.0.1:4567`).
    pub endpoint: Option<String>,
    /// The region. None takes it from the environment, as the AWS tools do.
    pub region: Option<String>,
    /// Whether to sign with made-up credentials, for an emulator. Otherwise credentials come from the environment, as
    /// with the AWS tools.
    pub test_credentials: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for one attempt of a call. A reply may be 10 MiB long.
    pub attempt_timeout: Duration,
    /// Longest wait for a call, repetitions included.
    pub call_timeout: Duration,
    /// Attempts of a call that may be repeated, the first one included. The client never repeats an append.
    pub attempts: u32,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            test_credentials: false,
            connect_timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(25),
            attempts: 3,
        }
    }
}

/// Builds a client from these settings. It opens no connection yet.
pub async fn client(settings: &ClientSettings) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.attempt_timeout)
        .operation_attempt_timeout(settings.attempt_timeout)
        .operation_timeout(settings.call_timeout)
        .build();
    let retries = RetryConfig::standard().with_max_attempts(settings.attempts.max(1));
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts).retry_config(retries);
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if settings.test_credentials {
        loader = loader.credentials_provider(Credentials::new("test", "test", None, None, "emulator"));
    }
    Client::new(&loader.load().await)
}
