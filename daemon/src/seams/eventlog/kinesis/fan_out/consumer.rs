//! The consumers of a stream: Kinesis sends records only to those that are registered, at most 20 per stream.
//!
//! Each node has one consumer per stream that it reads, named by its site and node. A node that starts again finds its
//! consumer. Nobody deregisters the consumer of a node that is only away.

use std::collections::BTreeSet;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{Consumer, ConsumerStatus};
use lockstep_proto::{NodeId, SiteId};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::FanOutSettings;
use crate::seams::eventlog::EventLogError;
use crate::seams::eventlog::kinesis::errors::explain;
use crate::seams::eventlog::kinesis::streams;

/// Most consumers of a stream. An account with On-demand Advantage may have more.
const MOST_CONSUMERS: usize = 20;

/// Longest name of a consumer, in characters.
const NAME_CHARACTERS: usize = 128;

/// Why this node has no consumer on a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RegisterError {
    /// The stream has as many consumers as it takes.
    #[error(
        "stream {stream} has {count} consumers and takes no more: deregister those that nobody uses (aws kinesis \
         list-stream-consumers), and this node tries again by itself"
    )]
    Full {
        /// The name of the stream.
        stream: String,
        /// Its number of consumers.
        count: usize,
    },
    /// A call to Kinesis failed.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
}

/// The name of a node's consumer. A name that Kinesis would refuse is replaced by its hash, which is the same on every
/// node.
#[must_use]
pub fn consumer_name(prefix: &str, site: &SiteId, node: &NodeId) -> String {
    let name = format!("{prefix}.{site}.{node}");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.len() <= NAME_CHARACTERS && name.bytes().all(is_plain) {
        return name;
    }
    format!("lockstep-{}", hex::encode(Sha256::digest(name.as_bytes())))
}

/// Registers the consumer if it is not there, waits until it can be used, and returns its ARN.
pub(super) async fn ensure(
    client: &Client,
    stream: &str,
    name: &str,
    settings: &FanOutSettings,
) -> Result<String, RegisterError> {
    let stream_arn = streams::summary(client, stream).await?.stream_arn().to_owned();
    let deadline = Instant::now() + settings.ready_within;
    loop {
        match describe(client, stream, &stream_arn, name).await? {
            Found::Active(arn) => return Ok(arn),
            Found::Changing => {}
            Found::Absent => register(client, stream, &stream_arn, name).await?,
        }
        if Instant::now() >= deadline {
            let within = settings.ready_within;
            let why = format!("consumer {name} of stream {stream} is still not usable after {within:?}");
            return Err(EventLogError::NotNow(why).into());
        }
        sleep(settings.ready_poll).await;
    }
}

/// The state of a consumer.
enum Found {
    /// It can be used. This is its ARN.
    Active(String),
    /// It is being created or deleted.
    Changing,
    /// There is no such consumer.
    Absent,
}

async fn describe(client: &Client, stream: &str, stream_arn: &str, name: &str) -> Result<Found, EventLogError> {
    let what = format!("consumer {name} of stream {stream}");
    let answer = client.describe_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await;
    match answer {
        Ok(answer) => {
            let none = || EventLogError::NotNow(format!("{what}: no description"));
            let found = answer.consumer_description.ok_or_else(none)?;
            let is_active = found.consumer_status == ConsumerStatus::Active;
            Ok(if is_active { Found::Active(found.consumer_arn) } else { Found::Changing })
        }
        Err(error) => match explain(&error, &what) {
            EventLogError::Absent(_) => Ok(Found::Absent),
            other => Err(other),
        },
    }
}

async fn register(client: &Client, stream: &str, stream_arn: &str, name: &str) -> Result<(), RegisterError> {
    let sent = client.register_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await;
    let Err(error) = sent else { return Ok(()) };
    let service = error.as_service_error();
    if service.is_some_and(|error| error.is_resource_in_use_exception()) {
        // It exists since a moment, or the stream is being changed. The next look tells.
        return Ok(());
    }
    if service.is_some_and(|error| error.is_limit_exceeded_exception()) {
        let count = list(client, stream, stream_arn).await?.len();
        // Calls per second, and consumers that are being created at the same time, are limited too.
        let is_full = count >= MOST_CONSUMERS;
        return if is_full { Err(RegisterError::Full { stream: stream.to_owned(), count }) } else { Ok(()) };
    }
    Err(explain(&error, &format!("consumer {name} of stream {stream}")).into())
}

async fn list(client: &Client, stream: &str, stream_arn: &str) -> Result<Vec<Consumer>, EventLogError> {
    let (mut consumers, mut token) = (Vec::new(), None);
    loop {
        let call = client.list_stream_consumers().stream_arn(stream_arn).set_next_token(token);
        let page = call.send().await.map_err(|error| explain(&error, &format!("consumers of stream {stream}")))?;
        let found = page.consumers.unwrap_or_default();
        let is_last = page.next_token.is_none() || found.is_empty();
        consumers.extend(found);
        if is_last {
            return Ok(consumers);
        }
        token = page.next_token;
    }
}

/// Deregisters the consumers with these names, if they are there.
pub(super) async fn deregister(client: &Client, stream: &str, names: &BTreeSet<String>) -> Result<(), EventLogError> {
    let stream_arn = streams::summary(client, stream).await?.stream_arn().to_owned();
    for consumer in list(client, stream, &stream_arn).await? {
        let is_there = consumer.consumer_status != ConsumerStatus::Deleting;
        if !names.contains(&consumer.consumer_name) || !is_there {
            continue;
        }
        let name = &consumer.consumer_name;
        tracing::info!(stream, consumer = name, "deregistering a consumer that is not used any more");
        let call = client.deregister_stream_consumer().consumer_arn(&consumer.consumer_arn);
        if let Err(error) = call.send().await {
            match explain(&error, &format!("consumer {name} of stream {stream}")) {
                EventLogError::Absent(_) => {}
                error => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_consumer_tells_site_and_node_and_fits() {
        let (site, node) = ("eu-aws".parse().unwrap(), "eu-aws-0".parse().unwrap());
        assert_eq!(consumer_name("prod", &site, &node), "prod.eu-aws.eu-aws-0");
        let long = consumer_name(&"x".repeat(200), &site, &node);
        assert!(long.len() <= NAME_CHARACTERS && long.starts_with("lockstep-"), "{long}");
        assert_ne!(long, consumer_name(&"y".repeat(200), &site, &node));
    }
}
