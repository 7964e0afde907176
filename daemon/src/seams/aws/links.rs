//! The endpoints that this process calls: the circuit of each, and the credentials that sign the calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::aws::{AwsStatus, CircuitState, EndpointStatus};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::circuit::{Circuit, Open, Stands};
use super::identities::Identities;
use crate::base::clock::{Entropy, SeededEntropy};

/// The environment variables that name a proxy, as the clients of AWS read them.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// A service of AWS that a sidecar calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// It holds the refdb.
    DynamoDb,
    /// It holds the event log.
    Kinesis,
    /// It holds the blob store.
    S3,
}

impl Service {
    /// All services, in the order of their names.
    pub const ALL: [Self; 3] = [Self::DynamoDb, Self::Kinesis, Self::S3];

    /// Its name in endpoints, metrics and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DynamoDb => "dynamodb",
            Self::Kinesis => "kinesis",
            Self::S3 => "s3",
        }
    }
}

/// One endpoint: a service at a place.
pub struct Link {
    service: Service,
    /// The Region, or the URL of another endpoint.
    place: String,
    circuit: Mutex<Circuit>,
    entropy: SeededEntropy,
}

impl Link {
    /// The link to a service at a place, with a closed circuit.
    #[must_use]
    pub fn new(service: Service, place: &str) -> Self {
        let entropy = SeededEntropy::from_machine();
        Self { service, place: place.to_owned(), circuit: Mutex::default(), entropy }
    }

    fn name(&self) -> String {
        format!("{} at {}", self.service.as_str(), self.place)
    }

    /// Lets a call through, unless the circuit is open.
    ///
    /// # Errors
    /// The circuit is open. The call must not be sent.
    pub fn admit(&self) -> Result<(), Open> {
        let mut circuit = self.circuit.lock();
        match circuit.admits(Instant::now()) {
            true => Ok(()),
            false => Err(Open { endpoint: self.name(), why: circuit.last_failure().to_owned() }),
        }
    }

    /// Notes that no connection could be made.
    pub fn failed(&self, why: String) {
        let entropy: &dyn Entropy = &self.entropy;
        if self.circuit.lock().failed(Instant::now(), entropy, why.clone()) {
            let endpoint = self.name();
            tracing::warn!(endpoint, why, "AWS cannot be reached; calls end at once until it can be");
        }
    }

    /// Notes an answer, of any kind.
    pub fn answered(&self) {
        if self.circuit.lock().answered() {
            tracing::info!(endpoint = self.name(), "AWS can be reached again");
        }
    }

    fn status(&self, now: Instant) -> EndpointStatus {
        let circuit = self.circuit.lock();
        let (state, looks_in_ms) = match circuit.stands(now) {
            Stands::Closed => (CircuitState::Closed, None),
            Stands::HalfOpen => (CircuitState::HalfOpen, None),
            Stands::Open(next) => {
                let wait = next.saturating_duration_since(now).as_millis();
                (CircuitState::Open, Some(u64::try_from(wait).unwrap_or(u64::MAX)))
            }
        };
        let is_closed = state == CircuitState::Closed;
        EndpointStatus {
            service: self.service.as_str().to_owned(),
            place: self.place.clone(),
            state,
            failures: circuit.failures(),
            opened: circuit.opened(),
            looks_in_ms,
            why: (!is_closed).then(|| circuit.last_failure().to_owned()),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Link({})", self.name())
    }
}

/// All endpoints of this process, and its credentials.
#[derive(Debug, Default)]
pub struct Links {
    links: Mutex<BTreeMap<(Service, String), Arc<Link>>>,
    identities: Arc<Identities>,
}

impl Links {
    /// No endpoints yet, with these credentials.
    #[must_use]
    pub fn signed_by(identities: Arc<Identities>) -> Self {
        Self { links: Mutex::default(), identities }
    }

    /// The link to a service at a place. All clients of an endpoint share it. There are as many as the configuration
    /// and the list of sites name.
    #[must_use]
    pub fn to(&self, service: Service, place: &str) -> Arc<Link> {
        let mut links = self.links.lock();
        let link = links.entry((service, place.to_owned()));
        Arc::clone(link.or_insert_with(|| Arc::new(Link::new(service, place))))
    }

    /// The credentials of all calls.
    #[must_use]
    pub fn identities(&self) -> &Arc<Identities> {
        &self.identities
    }

    /// The endpoints of one service whose circuits are not closed, and how often circuits of it were opened.
    #[must_use]
    pub fn broken(&self, service: Service) -> Option<(u64, u64)> {
        let endpoints = self.endpoints();
        let of: Vec<&EndpointStatus> = endpoints.iter().filter(|one| one.service == service.as_str()).collect();
        let broken = of.iter().filter(|one| one.state != CircuitState::Closed).count() as u64;
        (!of.is_empty()).then(|| (broken, of.iter().map(|one| one.opened).sum()))
    }

    fn endpoints(&self) -> Vec<EndpointStatus> {
        let now = Instant::now();
        self.links.lock().values().map(|link| link.status(now)).collect()
    }

    /// The endpoints and the credentials, for the status API.
    #[must_use]
    pub fn status(&self) -> AwsStatus {
        let proxy = PROXIES.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        AwsStatus {
            endpoints: self.endpoints(),
            credentials: self.identities.status(),
            proxy: proxy.map(str::to_owned),
        }
    }

    /// One line per endpoint whose circuit is not closed, for `/readyz?verbose`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let broken = self.endpoints().into_iter().filter(|one| one.state != CircuitState::Closed);
        broken
            .map(|one| {
                let (service, place, state, why) = (one.service, one.place, one.state, one.why.unwrap_or_default());
                format!("aws {service} at {place}: circuit {state}: {why}")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::circuit::OPENS_AFTER;
    use super::*;

    #[tokio::test]
    async fn clients_of_one_endpoint_share_its_circuit_and_others_have_their_own() {
        let links = Links::default();
        let (one, same) = (links.to(Service::Kinesis, "eu-west-1"), links.to(Service::Kinesis, "eu-west-1"));
        let other = links.to(Service::Kinesis, "eu-west-2");
        (0..OPENS_AFTER).for_each(|_| one.failed("refused".to_owned()));
        let open = same.admit().unwrap_err();
        assert!(open.to_string().contains("kinesis at eu-west-1 cannot be reached (refused)"), "{open}");
        assert!(other.admit().is_ok());
        assert_eq!(links.broken(Service::Kinesis), Some((1, 1)));
        assert_eq!(links.broken(Service::S3), None);
        assert_eq!(links.lines(), ["aws kinesis at eu-west-1: circuit open: refused"]);
        one.answered();
        assert!(same.admit().is_ok() && links.lines().is_empty());
        assert_eq!(links.broken(Service::Kinesis), Some((0, 1)), "the count of openings stays");
    }
}
