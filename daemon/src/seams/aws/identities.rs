//! The credentials that sign calls: cached, renewed ahead of their expiry, and forgotten when AWS says that they have
//! expired. They come from the SDK's chain: the environment, profiles, a web identity, the container, the machine.
//!
//! The SDK's cache drops credentials when they are due, and calls fail while their source is away. So those that have
//! not expired are kept here: one call looks for new ones from time to time, and all others are signed meanwhile.
//!
//! Nothing here keeps or tells a key or a token: only the kind of source, the account and the time of expiry.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::identity::IdentityCache;
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use lockstep_proto::aws::CredentialStatus;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::causes;

/// How long before their expiry credentials are renewed, unless the configuration says otherwise.
pub const AHEAD: Duration = Duration::from_secs(120);
/// How long looking for credentials may take.
const LOAD: Duration = Duration::from_secs(5);
/// The pause between two times at which credentials are forgotten, so that a source that gives expired ones is not
/// asked with every call.
const FORGET: Duration = Duration::from_secs(5);
/// The pause between two calls that look for new credentials while the old ones have not expired.
const RENEW: Duration = Duration::from_secs(5);

/// The credentials of all clients of this process.
pub struct Identities {
    ahead: Duration,
    cache: Mutex<SharedIdentityCache>,
    /// The last credentials of each source.
    kept: Mutex<BTreeMap<IdentityCachePartition, Kept>>,
    seen: Mutex<Seen>,
}

/// Credentials that expire at some time.
struct Kept {
    identity: Identity,
    expires: SystemTime,
    /// When the next call looks for new ones, if they are due by then.
    next: Instant,
}

#[derive(Debug, Default)]
struct Seen {
    source: Option<&'static str>,
    account: Option<String>,
    expires_ms: Option<u64>,
    problem: Option<String>,
    forgotten: Option<Instant>,
}

impl Identities {
    /// Credentials that are renewed this long before they expire.
    #[must_use]
    pub fn renewed(ahead: Duration) -> Self {
        Self { ahead, cache: Mutex::new(empty(ahead)), kept: Mutex::default(), seen: Mutex::default() }
    }

    /// Looks for credentials again with the next call, because AWS says that these have expired. Does nothing if that
    /// happened a moment ago.
    pub fn forget(&self) {
        let now = Instant::now();
        {
            let mut seen = self.seen.lock();
            if seen.forgotten.is_some_and(|at| now < at + FORGET) {
                return;
            }
            seen.forgotten = Some(now);
        }
        *self.cache.lock() = empty(self.ahead);
        self.kept.lock().clear();
        tracing::warn!("AWS says that the credentials have expired; they are looked for again");
    }

    /// The credentials that signed last. None before the first call that needs some.
    #[must_use]
    pub fn status(&self) -> Option<CredentialStatus> {
        let seen = self.seen.lock();
        if seen.source.is_none() && seen.problem.is_none() {
            return None;
        }
        Some(CredentialStatus {
            source: seen.source.unwrap_or("none").to_owned(),
            account: seen.account.clone(),
            expires_ms: seen.expires_ms,
            problem: seen.problem.clone(),
        })
    }

    /// Notes credentials that expire then, in milliseconds since 1970, for tests of other rooms.
    #[cfg(test)]
    pub fn expiring(&self, at_ms: u64) {
        let mut seen = self.seen.lock();
        (seen.source, seen.expires_ms) = (Some("a test"), Some(at_ms));
    }

    /// The credentials of a source that are due, while another call looks for new ones. None if this call has to look.
    fn meanwhile(&self, source: IdentityCachePartition, now: SystemTime) -> Option<Identity> {
        let mut all = self.kept.lock();
        let kept = all.get_mut(&source)?;
        if now >= kept.expires || now + self.ahead < kept.expires {
            return None;
        }
        let moment = Instant::now();
        if moment < kept.next {
            return Some(kept.identity.clone());
        }
        kept.next = moment + RENEW;
        None
    }

    /// The last credentials of a source, if they have not expired.
    fn unexpired(&self, source: IdentityCachePartition, now: SystemTime) -> Option<Identity> {
        self.kept.lock().get(&source).filter(|kept| now < kept.expires).map(|kept| kept.identity.clone())
    }

    fn keep(&self, source: IdentityCachePartition, identity: &Identity, now: SystemTime) {
        let Some(expires) = identity.expiration() else { return };
        let mut all = self.kept.lock();
        all.retain(|_, kept| now < kept.expires);
        let next = all.get(&source).map_or_else(Instant::now, |kept| kept.next);
        all.insert(source, Kept { identity: identity.clone(), expires, next });
    }

    fn note(&self, found: &Result<Identity, aws_smithy_runtime_api::box_error::BoxError>) {
        let mut seen = self.seen.lock();
        match found {
            Ok(identity) => {
                let credentials = identity.data::<Credentials>();
                seen.source = Some(credentials.map_or("unknown", source));
                let account = credentials.and_then(Credentials::account_id);
                seen.account = account.map(|account| account.as_str().to_owned());
                seen.expires_ms = identity.expiration().and_then(since_1970);
                seen.problem = None;
            }
            Err(error) => seen.problem = Some(causes(error.as_ref())),
        }
    }
}

impl Default for Identities {
    fn default() -> Self {
        Self::renewed(AHEAD)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Identities({:?})", self.seen.lock())
    }
}

fn empty(ahead: Duration) -> SharedIdentityCache {
    IdentityCache::lazy().buffer_time(ahead).load_timeout(LOAD).build()
}

fn since_1970(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// The kind of source of credentials, as operators know it.
fn source(credentials: &Credentials) -> &'static str {
    let features = credentials.get_property::<Vec<Feature>>();
    let mut names = features.into_iter().flatten().filter_map(|feature| match feature {
        Feature::CredentialsEnvVars => Some("environment variables"),
        Feature::CredentialsEnvVarsStsWebIdToken
        | Feature::CredentialsStsAssumeRoleWebId
        | Feature::CredentialsProfileStsWebIdToken => Some("web identity"),
        Feature::CredentialsStsAssumeRole => Some("assumed role"),
        Feature::CredentialsProcess | Feature::CredentialsProfileProcess => Some("process"),
        Feature::CredentialsHttp => Some("container"),
        Feature::CredentialsImds => Some("instance metadata"),
        Feature::CredentialsProfile => Some("profile"),
        _ => None,
    });
    names.next().unwrap_or("given by the program")
}

/// The cache that clients hold.
#[derive(Debug)]
pub(super) struct Held(pub(super) Arc<Identities>);

impl ResolveCachedIdentity for Held {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let (cache, source) = (self.0.cache.lock().clone(), resolver.cache_partition());
        let now = components.time_source().map(|time| time.now());
        IdentityFuture::new(async move {
            if let Some(identity) = now.and_then(|now| self.0.meanwhile(source, now)) {
                return Ok(identity);
            }
            let found = cache.resolve_cached_identity(resolver, components, config).await;
            self.0.note(&found);
            match (found, now) {
                (Ok(identity), Some(now)) => {
                    self.0.keep(source, &identity, now);
                    Ok(identity)
                }
                (Err(error), Some(now)) => self.0.unexpired(source, now).ok_or(error),
                (found, None) => found,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(source: Option<Feature>) -> Identity {
        let expiry = UNIX_EPOCH + Duration::from_secs(3);
        let builder = Credentials::builder().access_key_id("the-key").secret_access_key("the-secret");
        let builder = builder.session_token("the-token").account_id("123456789012").expiry(expiry);
        let mut credentials = builder.provider_name("test").build();
        if let Some(source) = source {
            credentials.set_property(vec![source]);
        }
        credentials.into()
    }

    #[test]
    fn the_status_has_source_account_and_expiry_and_nothing_secret() {
        let identities = Identities::default();
        assert_eq!(identities.status(), None);
        identities.note(&Ok(identity(Some(Feature::CredentialsImds))));
        let status = identities.status().unwrap();
        assert_eq!((status.source.as_str(), status.account.as_deref()), ("instance metadata", Some("123456789012")));
        assert_eq!(status.expires_ms, Some(3_000));
        let shown = format!("{status:?} {identities:?}");
        assert!(!shown.contains("the-secret") && !shown.contains("the-token") && !shown.contains("the-key"), "{shown}");
    }

    #[test]
    fn credentials_that_cannot_be_found_are_told_and_the_last_source_stays() {
        let identities = Identities::default();
        identities.note(&Ok(identity(None)));
        identities.note(&Err("no provider has any".into()));
        let status = identities.status().unwrap();
        assert_eq!(status.source, "given by the program");
        assert_eq!(status.problem.as_deref(), Some("no provider has any"));
    }
}
