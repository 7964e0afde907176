//! The measurements of a run as metrics over OTLP (HTTP with protobuf), while it runs: beside the metrics of the sites
//! in one dashboard, they show the load that the sites answered. The warm-up is among them. The report does not depend
//! on them, and a collector that is away does not end a run.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, MeterProvider};
use opentelemetry_otlp::{MetricExporter, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use super::finished::{Finished, Result as Outcome};
use crate::load::model::Class;
use crate::load::profile::{Profile, ProfileError};

/// The name of the service in the collector.
const SERVICE: &str = "lockstep-loadtest";
/// The time between two exports.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait for the collector.
const PATIENCE: Duration = Duration::from_secs(5);
/// Upper bounds of the buckets, in seconds: those of the sidecars' own metrics.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// The way to a collector. A copy leads to the same one.
#[derive(Clone, Debug)]
pub struct Otlp {
    endpoint: String,
    provider: SdkMeterProvider,
    offered: Counter<u64>,
    ended: Counter<u64>,
    refs: Counter<u64>,
    latency: Histogram<f64>,
    lag: Histogram<f64>,
    in_flight: Gauge<u64>,
}

impl Otlp {
    /// Begins to export to a collector, such as `http://127.0.0.1:4318`.
    ///
    /// # Errors
    /// The address is not one of plain HTTP.
    pub fn open(endpoint: &str, profile: &Profile) -> Result<Self, ProfileError> {
        let refuse = |why: String| {
            let text = format!("--otlp {endpoint}: {why}; write http://HOST:4318, a collector beside this machine");
            ProfileError(vec![text])
        };
        let uri: http::Uri = endpoint.parse().map_err(|error: http::uri::InvalidUri| refuse(error.to_string()))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(refuse("it is not an http:// address".to_owned()));
        }
        // Without the usual path, the exporter would post to `/`.
        let whole = match uri.path() {
            "" | "/" => format!("{}/v1/metrics", endpoint.trim_end_matches('/')),
            _ => endpoint.to_owned(),
        };
        let exporter = MetricExporter::builder().with_http().with_endpoint(whole).with_timeout(PATIENCE);
        // Counts grow from the start: the next export has everything that this one lost.
        let exporter = exporter.with_retry_policy(RetryPolicy::disabled());
        let exporter = exporter.build().map_err(|error| refuse(error.to_string()))?;
        let reader = PeriodicReader::builder(exporter).with_interval(INTERVAL).build();
        let resource = Resource::builder_empty().with_service_name(SERVICE).with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("lockstep.profile", profile.name.clone()),
            KeyValue::new("lockstep.seed", profile.run.seed.to_string()),
        ]);
        let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource.build()).build();
        let meter = provider.meter(SERVICE);
        let counter = |name: &'static str, about: &'static str| meter.u64_counter(name).with_description(about).build();
        let seconds = |name: &'static str, about: &'static str| {
            meter.f64_histogram(name).with_description(about).with_boundaries(SECONDS.to_vec()).build()
        };
        Ok(Self {
            endpoint: endpoint.to_owned(),
            offered: counter("lockstep_loadtest_offered_total", "arrivals of the plan"),
            ended: counter("lockstep_loadtest_ended_total", "operations that ended, by outcome"),
            refs: counter("lockstep_loadtest_refs_total", "refs that moved"),
            latency: seconds(
                "lockstep_loadtest_latency_seconds",
                "duration of the operations that were done, from their intended start",
            ),
            lag: seconds("lockstep_loadtest_lag_seconds", "from a commit at another site until it could be read here"),
            in_flight: meter
                .u64_gauge("lockstep_loadtest_in_progress")
                .with_description("operations in progress")
                .build(),
            provider,
        })
    }

    /// An arrival of the plan.
    pub(super) fn offered(&self, class: Class) {
        self.offered.add(1, &[KeyValue::new("class", class.name())]);
    }

    /// An arrival that was dropped.
    pub(super) fn dropped(&self, class: Class) {
        self.ended.add(1, &[KeyValue::new("class", class.name()), KeyValue::new("outcome", "dropped")]);
    }

    /// An operation that has ended.
    pub(super) fn finished(&self, one: &Finished) {
        let outcome = match &one.result {
            Outcome::Done => "done",
            Outcome::Refused(_) => "refused",
            Outcome::Unknown => "unknown",
        };
        let class = KeyValue::new("class", one.class.name());
        self.ended.add(1, &[class.clone(), KeyValue::new("outcome", outcome)]);
        if one.result == Outcome::Done {
            self.refs.add(one.refs, std::slice::from_ref(&class));
            let took = Duration::from_micros(one.ended_us.saturating_sub(one.at_us));
            self.latency.record(took.as_secs_f64(), &[class]);
        }
    }

    /// The number of operations in progress.
    pub(super) fn in_flight(&self, count: u64) {
        self.in_flight.record(count, &[]);
    }

    /// A transaction became visible at a site, this long after its commit at another one.
    pub(super) fn visible(&self, site: &str, lag: Duration) {
        self.lag.record(lag.as_secs_f64(), &[KeyValue::new("site", site.to_owned())]);
    }

    /// Sends the last values and ends the export. Returns the reason if the collector did not take them.
    pub async fn close(self) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "the exporter blocks; no simulator runs the generator")]
        let closing = tokio::task::spawn_blocking(move || self.end());
        closing.await.unwrap_or_else(|error| Some(error.to_string()))
    }

    fn end(&self) -> Option<String> {
        let sent = self.provider.force_flush();
        // The last values are sent, or lost: an end that fails as well says nothing new.
        let _ = self.provider.shutdown();
        let why = sent.err()?;
        Some(format!("{}: the collector did not take the last metrics: {why}", self.endpoint))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    /// Reads one request and answers it with success.
    fn take(stream: &mut TcpStream) -> Vec<u8> {
        let (mut request, mut part) = (Vec::new(), [0; 4_096]);
        loop {
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0, "the request is not whole");
            request.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&request).to_lowercase();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let begin = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            if request.len() >= begin + length.unwrap_or(0) {
                break;
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        request
    }

    /// A collector, and the requests that it received.
    fn collector() -> (String, Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requests, received) = channel();
        let _ = thread::spawn(move || {
            // The end of the export sends once more, when the test has read enough.
            for stream in listener.incoming() {
                let _ = requests.send(take(&mut stream.unwrap()));
            }
        });
        (address, received)
    }

    #[test]
    fn the_collector_receives_what_was_measured() {
        let (address, received) = collector();
        let otlp = Otlp::open(&address, &Profile::default()).unwrap();
        otlp.offered(Class::CiVote);
        let mut finished = Finished::begun(Class::CiVote, 0, 1_000);
        (finished.ended_us, finished.result) = (31_000, Outcome::Done);
        otlp.finished(&finished);
        otlp.visible("muc-1", Duration::from_millis(70));
        assert_eq!(otlp.end(), None);
        let request = received.recv().unwrap();
        assert!(request.starts_with(b"POST /v1/metrics "), "{}", String::from_utf8_lossy(&request));
        let has = |word: &str| request.windows(word.len()).any(|part| part == word.as_bytes());
        for word in ["lockstep_loadtest_latency_seconds", "lockstep_loadtest_lag_seconds", "ci_vote", "muc-1"] {
            assert!(has(word), "no {word}");
        }
    }

    /// As in a run: the exporter blocks, which the threads of the runtime must not.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_export_begins_and_ends_within_a_runtime() {
        let (address, received) = collector();
        let otlp = Otlp::open(&address, &Profile::default()).unwrap();
        otlp.offered(Class::CiVote);
        assert_eq!(otlp.close().await, None);
        let request = received.recv_timeout(PATIENCE).unwrap();
        assert!(request.starts_with(b"POST /v1/metrics "), "{}", String::from_utf8_lossy(&request));
    }

    #[test]
    fn a_collector_that_is_away_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let otlp = Otlp::open(&address, &Profile::default()).unwrap();
        otlp.dropped(Class::Draft);
        let why = otlp.end().unwrap();
        assert!(why.starts_with(&address) && why.contains("did not take"), "{why}");
    }

    #[test]
    fn an_address_that_is_not_plain_http_is_refused() {
        for endpoint in ["https://c:4318", "c:4318", "no address"] {
            let why = Otlp::open(endpoint, &Profile::default()).unwrap_err().to_string();
            assert!(why.starts_with(&format!("--otlp {endpoint}: ")) && why.contains("write http://"), "{why}");
        }
    }
}
