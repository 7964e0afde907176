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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::UNIX_EPOCH;

    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;
    use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials};
    use axum::Router;
    use axum::http::StatusCode;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::super::error::get;
    use super::super::items::text;
    use super::*;
    use crate::base::clock::{Clock, SystemClock};
    use crate::seams::aws::circuit::OPENS_AFTER;
    use crate::seams::aws::vital;
    use crate::seams::refdb::RefDbError;

    /// The answers of a server, one after the other. The last one stays.
    type Answers = Arc<[(StatusCode, &'static str)]>;

    const FOUND: (StatusCode, &str) = (StatusCode::OK, "");

    async fn serve(listener: TcpListener, answers: Vec<(StatusCode, &'static str)>) {
        let (answers, count): (Answers, _) = (answers.into(), Arc::new(AtomicUsize::new(0)));
        let answer = move || async move {
            let (status, code) = answers[count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
            let body = if code.is_empty() { json!({}) } else { json!({"__type": code, "message": "a test"}) };
            (status, body.to_string())
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    }

    async fn port() -> (TcpListener, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, url)
    }

    async fn read(client: &Client) -> Result<(), RefDbError> {
        get(client, "t", HashMap::from([("pk".to_owned(), text("k"))])).await.map(drop)
    }

    fn not_now(answer: Result<(), RefDbError>) -> String {
        match answer {
            Err(RefDbError::NotNow(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn calls_end_at_once_while_no_connection_is_made_and_a_vital_call_goes_through() {
        let (listener, url) = port().await;
        let address = listener.local_addr().unwrap();
        drop(listener);
        let way = Way::default();
        let client = client_by(&Connection::emulator(&url), &way).await;
        for _ in 0..OPENS_AFTER {
            let why = not_now(read(&client).await);
            assert!(!why.contains("was not sent"), "the circuit is closed: {why}");
        }
        // A call that looks fails as well, and the pauses grow: some call meets the open circuit.
        let mut is_refused = false;
        for _ in 0..20 {
            is_refused |= not_now(read(&client).await).contains("the call was not sent");
        }
        assert!(is_refused);
        assert!(way.links.lines()[0].starts_with(&format!("aws dynamodb at {url}: circuit ")));
        serve(TcpListener::bind(address).await.unwrap(), vec![FOUND]).await;
        vital(read(&client)).await.unwrap();
        assert!(way.links.lines().is_empty(), "an answer closes the circuit");
        read(&client).await.unwrap();
    }

    #[tokio::test]
    async fn throttling_and_failures_of_the_service_never_open_the_circuit() {
        let (listener, url) = port().await;
        let throttled = (StatusCode::BAD_REQUEST, "ThrottlingException");
        let failed = (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError");
        let answers = [[throttled; 10], [failed; 10]].concat();
        serve(listener, answers).await;
        let way = Way::default();
        let client = client_by(&Connection::emulator(url), &way).await;
        for _ in 0..20 {
            assert!(read(&client).await.is_err());
        }
        assert!(way.links.lines().is_empty());
    }

    /// The answer of a source that was asked so often before.
    type Given = fn(usize) -> Result<Credentials, CredentialsError>;

    /// A source of credentials, which counts how often it is asked.
    #[derive(Debug)]
    struct Source(Arc<AtomicUsize>, Given);

    impl ProvideCredentials for Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready((self.1)(self.0.fetch_add(1, Ordering::Relaxed)))
        }
    }

    /// A client that signs with the credentials of a source, and the count of that source.
    async fn signed(url: &str, way: &Way, given: Given) -> (Client, Arc<AtomicUsize>) {
        let (client, count) = (client_by(&Connection::emulator(url), way).await, Arc::default());
        let source = Source(Arc::clone(&count), given);
        (Client::from_conf(client.config().to_builder().credentials_provider(source).build()), count)
    }

    #[tokio::test]
    async fn credentials_that_aws_calls_expired_are_looked_for_again_by_the_next_call() {
        let (listener, url) = port().await;
        serve(listener, vec![FOUND, (StatusCode::BAD_REQUEST, "ExpiredTokenException"), FOUND]).await;
        let way = Way::default();
        let (client, count) = signed(&url, &way, |_| Ok(Credentials::new("a", "b", None, None, "a test"))).await;
        read(&client).await.unwrap();
        let why = not_now(read(&client).await);
        assert!(why.contains("have expired") && why.contains("renew them at their source"), "{why}");
        assert_eq!(count.load(Ordering::Relaxed), 1, "they were in the cache");
        read(&client).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(way.links.status().credentials.is_some());
    }

    /// Gives credentials that expire in half a minute, and is away from then on.
    fn once(before: usize) -> Result<Credentials, CredentialsError> {
        let expires = UNIX_EPOCH + Duration::from_millis(SystemClock.now_ms() + 30_000);
        match before {
            0 => Ok(Credentials::new("a", "b", None, Some(expires), "a test")),
            _ => Err(CredentialsError::provider_error("the source is away")),
        }
    }

    #[tokio::test]
    async fn credentials_that_are_due_sign_until_they_expire_while_their_source_is_away() {
        let (listener, url) = port().await;
        serve(listener, vec![FOUND]).await;
        let way = Way::default();
        let (client, count) = signed(&url, &way, once).await;
        for _ in 0..4 {
            read(&client).await.unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 2, "one call has looked again, and the next one looks after a pause");
        let problem = way.links.status().credentials.and_then(|status| status.problem).unwrap_or_default();
        assert!(problem.contains("the source is away"), "{problem}");
    }

    #[tokio::test]
    async fn a_signature_of_another_time_is_rejected_with_the_remedy_and_the_call_may_be_repeated() {
        let (listener, url) = port().await;
        serve(listener, vec![(StatusCode::BAD_REQUEST, "InvalidSignatureException"), FOUND]).await;
        let client = client(&Connection::emulator(url)).await;
        let why = not_now(read(&client).await);
        assert!(why.contains("set the clock"), "{why}");
        read(&client).await.unwrap();
    }
}
