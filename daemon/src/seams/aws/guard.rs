//! The part of every SDK client that minds the circuit of its endpoint, and that forgets expired credentials.

use std::error::Error;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use super::causes;
use super::circuit::Open;
use super::identities::Identities;
use super::links::Link;

tokio::task_local! {
    static IS_VITAL: ();
}

/// Makes calls that are sent even while the circuit is open: heartbeats, freezing and poisoning. Nothing may come
/// between these and the first moment at which the endpoint can be reached.
pub async fn vital<F: Future>(calls: F) -> F::Output {
    IS_VITAL.scope((), calls).await
}

/// Whether a call was certainly not sent: no connection was made, the circuit was open, or there were no credentials to
/// sign it.
#[must_use]
pub fn never_sent(error: &(dyn Error + 'static)) -> bool {
    is_in_chain(error, |cause| cause.is::<Open>() || cause.is::<CredentialsError>() || is_unconnected(cause))
}

/// Whether no connection was made, as the error or one of its causes says.
#[must_use]
pub fn unconnected(error: &(dyn Error + 'static)) -> bool {
    is_in_chain(error, is_unconnected)
}

/// Whether this error, apart from its causes, says that no connection was made: it was refused, it took too long, or
/// there was no route or no name.
fn is_unconnected(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect())
}

/// Whether an error or one of its causes is such a one.
#[must_use]
pub fn is_in_chain(error: &(dyn Error + 'static), is_it: impl Fn(&(dyn Error + 'static)) -> bool) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if is_it(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Minds the circuit of one endpoint.
#[derive(Debug)]
pub struct Guard {
    link: Arc<Link>,
    identities: Arc<Identities>,
}

impl Guard {
    /// A guard of calls to an endpoint.
    #[must_use]
    pub fn new(link: Arc<Link>, identities: Arc<Identities>) -> Self {
        Self { link, identities }
    }
}

impl Intercept for Guard {
    fn name(&self) -> &'static str {
        "CircuitOfEndpoint"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if IS_VITAL.try_with(|()| ()).is_ok() {
            return Ok(());
        }
        self.link.admit().map_err(BoxError::from)
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(answer) = context.response() {
            self.link.answered();
            let body = answer.body().bytes().unwrap_or_default();
            if answer.status().is_client_error() && super::stale::says_expired(body) {
                self.identities.forget();
            }
        } else if let Some(Err(error)) = context.output_or_error()
            && let Some(connector) = error.as_connector_error()
            && unconnected(connector)
        {
            self.link.failed(causes(connector));
        }
        Ok(())
    }
}
