//! The findings of the doctor, as the node has looked last. A node that has not looked yet has no series.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::doctor::Severity;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::table;

/// The findings of the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoctorState {
    /// The number of findings by check and severity, those without any included. The names of checks are fixed.
    pub findings: BTreeMap<(&'static str, Severity), u64>,
}

/// Registers the gauge of findings.
pub fn observe_doctor(meter: &Meter, state: &Arc<Mutex<DoctorState>>) {
    let seen = Arc::clone(state);
    table::DOCTOR_FINDINGS
        .observed(meter)
        .with_callback(move |to| {
            for ((check, severity), count) in &seen.lock().findings {
                to.observe(
                    *count as f64,
                    &[KeyValue::new("check", *check), KeyValue::new("severity", severity.name())],
                );
            }
        })
        .build();
}
