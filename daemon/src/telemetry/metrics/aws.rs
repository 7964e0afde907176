//! The metrics of the way to AWS, computed when they are read: circuits of endpoints, and the expiry of credentials.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::table;
use crate::seams::aws::{Links, Service};

/// Registers the circuits, with one series per service that this node calls, and the expiry of the credentials.
pub fn observe_aws(meter: &Meter, links: &Arc<Links>) {
    let seen = Arc::clone(links);
    table::AWS_CIRCUITS
        .observed(meter)
        .with_callback(move |to| {
            for (service, (broken, _)) in circuits(&seen) {
                to.observe(broken as f64, &[KeyValue::new("service", service)]);
            }
        })
        .build();
    let seen = Arc::clone(links);
    table::AWS_OPENED
        .summed(meter)
        .with_callback(move |to| {
            for (service, (_, opened)) in circuits(&seen) {
                to.observe(opened as f64, &[KeyValue::new("service", service)]);
            }
        })
        .build();
    let seen = Arc::clone(links);
    table::AWS_CREDENTIALS
        .observed(meter)
        .with_callback(move |to| {
            if let Some(at) = seen.identities().status().and_then(|status| status.expires_ms) {
                to.observe(at as f64 / 1_000.0, &[]);
            }
        })
        .build();
}

/// The broken circuits of each service that this node calls, and how often circuits of it were opened.
fn circuits(links: &Links) -> impl Iterator<Item = (&'static str, (u64, u64))> {
    Service::ALL.into_iter().filter_map(move |one| Some((one.as_str(), links.broken(one)?)))
}
