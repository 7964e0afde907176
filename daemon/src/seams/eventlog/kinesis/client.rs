//! The SDK client, with a bound on every wait. The SDK itself has no read timeout, and a hung call would stop a stage
//! for ever.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Builder;

use crate::seams::aws::{Bounds, Endpoint, Service, Way};

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

/// Builds a client from these settings, with a circuit and credentials of its own. It opens no connection yet.
pub async fn client(settings: &ClientSettings) -> Client {
    client_by(settings, &Way::default()).await
}

/// Builds a client that shares the circuits and the credentials of this process. It opens no connection yet.
pub async fn client_by(settings: &ClientSettings, way: &Way) -> Client {
    let endpoint = Endpoint {
        service: Service::Kinesis,
        region: settings.region.clone(),
        url: settings.endpoint.clone(),
        made_up_credentials: settings.test_credentials,
    };
    let bounds = Bounds {
        connect: settings.connect_timeout,
        attempt: settings.attempt_timeout,
        operation: settings.call_timeout,
        attempts: settings.attempts,
    };
    let (config, guard) = way.to(&endpoint, bounds).await;
    Client::from_conf(Builder::from(&config).interceptor(guard).build())
}
