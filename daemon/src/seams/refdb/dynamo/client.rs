//! The SDK client: its endpoint and its timeouts. It never repeats a call by itself.

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Builder, Config, Credentials, Region};

use super::metering::Metering;
use crate::seams::refdb::units::RequestUnits;

/// How to reach DynamoDB.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The Region of the tables. `None` takes it from the environment.
    pub region: Option<String>,
    /// The URL of another endpoint: an emulator or a VPC endpoint.
    pub endpoint: Option<String>,
    /// Whether to sign with made-up credentials, which emulators take, instead of looking for real ones.
    pub made_up_credentials: bool,
    /// How long the setup of a connection may take.
    pub connect_timeout: Duration,
    /// How long one call may take, connection included. After this time its outcome is unknown.
    pub call_timeout: Duration,
}

impl Connection {
    /// The settings for an emulator.
    #[must_use]
    pub fn emulator(endpoint: impl Into<String>) -> Self {
        Self {
            region: Some("us-east-1".to_owned()),
            endpoint: Some(endpoint.into()),
            made_up_credentials: true,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(10),
        }
    }
}

/// Builds a client. It connects with its first call.
pub async fn client(connection: &Connection) -> Client {
    let region = connection.region.clone().map(Region::new);
    let builder = if connection.made_up_credentials {
        let credentials = Credentials::new("emulator", "emulator", None, None, "made up for an emulator");
        Config::builder().behavior_version(BehaviorVersion::latest()).credentials_provider(credentials)
    } else {
        let loader = aws_config::defaults(BehaviorVersion::latest());
        let loader = match region.clone() {
            Some(region) => loader.region(region),
            None => loader,
        };
        Builder::from(&loader.load().await)
    };
    let builder = match region {
        Some(region) => builder.region(region),
        None => builder,
    };
    let builder = match &connection.endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint),
        None => builder,
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(connection.connect_timeout)
        .operation_attempt_timeout(connection.call_timeout);
    Client::from_conf(builder.timeout_config(timeouts.build()).retry_config(RetryConfig::disabled()).build())
}

/// The same client without retries, which counts the request units of its calls. With retries, the SDK would take the
/// traces of its own first attempt for another writer's.
pub(super) fn counting(client: &Client, units: &Arc<RequestUnits>) -> Client {
    let config = client.config().to_builder().retry_config(RetryConfig::disabled());
    Client::from_conf(config.interceptor(Metering::new(Arc::clone(units))).build())
}
