//! Tests: nothing secret of a call to AWS is in a log, under any filter.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use axum::Router;
use tokio::net::TcpListener;
use tracing::instrument::WithSubscriber;

use crate::seams::refdb::dynamo::{Connection, client};
use crate::telemetry::{Lines, LogFormat, Settings, Telemetry};

/// Makes one signed call, and returns its log lines at the level of traces.
async fn logged(format: LogFormat) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(|| async { "{}" })).await });
    let settings = Settings {
        site: "muc-1".parse().unwrap(),
        node: "muc-1-0".parse().unwrap(),
        log_format: format,
        log_filter: "trace".to_owned(),
        otlp_endpoint: None,
    };
    let lines = Lines::default();
    let telemetry = Telemetry::writing(&settings, &lines).unwrap();
    let call = async {
        let client = client(&Connection::emulator(url)).await;
        let token = Some("the-session-token".to_owned());
        let credentials = Credentials::new("the-key-id", "the-secret-key", token, None, "a test");
        let client = Client::from_conf(client.config().to_builder().credentials_provider(credentials).build());
        let _ = client.list_tables().send().await.unwrap();
    };
    call.with_subscriber(telemetry.subscriber()).await;
    lines.text()
}

#[tokio::test]
async fn no_secret_of_a_call_to_aws_is_in_a_log_at_the_level_of_traces() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let text = logged(format).await;
        assert!(text.contains("aws_"), "the lines of the SDK are there: {text}");
        for secret in ["the-secret-key", "the-session-token"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}
