//! The way to AWS: the one place in which the SDK's clients get their endpoint, bounds, retries and credentials.
//!
//! The SDK's own retries are off for every call that writes: the SDK would take the traces of its own first attempt for
//! another writer's. Calls that only read may be repeated by the SDK, with its jitter. All else is repeated by the
//! caller, with the backoff of `base/backoff`.
//!
//! The clients use a proxy as the environment says: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use super::guard::Guard;
use super::identities::Held;
use super::links::{Links, Service};

/// The kind of AWS's own endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointKind {
    /// Whether they use cryptography that is validated by FIPS 140.
    pub fips: bool,
    /// Whether they have addresses of IPv6, too.
    pub dual_stack: bool,
}

/// The way of this process to AWS. Clones share circuits and credentials.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// The kind of the endpoints of a Region. A configured endpoint is used as it is.
    pub kind: EndpointKind,
    /// The endpoints, their circuits, and the credentials.
    pub links: Arc<Links>,
}

/// A service at a place.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The service that is called.
    pub service: Service,
    /// The Region. None takes it from the environment.
    pub region: Option<String>,
    /// A URL other than that of the Region: an interface of a VPC, or an emulator.
    pub url: Option<String>,
    /// Whether to sign with made-up credentials, as emulators take them.
    pub made_up_credentials: bool,
}

/// The bounds of every call.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest time of one attempt, connection included.
    pub attempt: Duration,
    /// Longest time of a call, all attempts included.
    pub operation: Duration,
    /// Attempts of a call, the first one included.
    pub attempts: u32,
}

impl Way {
    /// The configuration of a client, and the guard that the client must have.
    pub async fn to(&self, endpoint: &Endpoint, bounds: Bounds) -> (SdkConfig, Guard) {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(bounds.connect)
            .read_timeout(bounds.attempt)
            .operation_attempt_timeout(bounds.attempt)
            .operation_timeout(bounds.operation)
            .build();
        let retries = match bounds.attempts {
            0 | 1 => RetryConfig::disabled(),
            attempts => RetryConfig::standard().with_max_attempts(attempts),
        };
        let identities = Arc::clone(self.links.identities());
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            .retry_config(retries)
            .identity_cache(Held(Arc::clone(&identities)));
        match &endpoint.url {
            Some(url) => loader = loader.endpoint_url(url),
            // The environment may ask for either, too.
            None => {
                loader = if self.kind.fips { loader.use_fips(true) } else { loader };
                loader = if self.kind.dual_stack { loader.use_dual_stack(true) } else { loader };
            }
        }
        if let Some(region) = &endpoint.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if endpoint.made_up_credentials {
            let made_up = Credentials::new("emulator", "emulator", None, None, "made up for an emulator");
            loader = loader.credentials_provider(made_up);
        }
        let config = loader.load().await;
        let region = config.region().map_or("no Region", |region| region.as_ref());
        let place = endpoint.url.as_deref().unwrap_or(region);
        let link = self.links.to(endpoint.service, place);
        (config, Guard::new(link, identities))
    }
}
