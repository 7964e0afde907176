//! The SDK client: its endpoint and its timeouts. It never repeats a call by itself.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::retry::RetryConfig;

use super::metering::Metering;
use crate::seams::aws::{Bounds, Endpoint, Service, Way};
use crate::seams::refdb::units::RequestUnits;

/// The time of a call beyond that of its one attempt.
const SLACK: Duration = Duration::from_millis(500);

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

/// Builds a client with a circuit and credentials of its own. It connects with its first call.
pub async fn client(connection: &Connection) -> Client {
    client_by(connection, &Way::default()).await
}

/// Builds a client that shares the circuits and the credentials of this process. It connects with its first call.
pub async fn client_by(connection: &Connection, way: &Way) -> Client {
    let endpoint = Endpoint {
        service: Service::DynamoDb,
        region: connection.region.clone(),
        url: connection.endpoint.clone(),
        made_up_credentials: connection.made_up_credentials,
    };
    let bounds = Bounds {
        connect: connection.connect_timeout,
        attempt: connection.call_timeout,
        operation: connection.call_timeout + SLACK,
        attempts: 1,
    };
    let (config, guard) = way.to(&endpoint, bounds).await;
    Client::from_conf(Builder::from(&config).interceptor(guard).build())
}

/// The same client without retries, which counts the request units of its calls. With retries, the SDK would take the
/// traces of its own first attempt for another writer's.
pub(super) fn counting(client: &Client, units: &Arc<RequestUnits>) -> Client {
    let config = client.config().to_builder().retry_config(RetryConfig::disabled());
    Client::from_conf(config.interceptor(Metering::new(Arc::clone(units))).build())
}
