//! The gauges of failovers and drills. They show the state in the refdb, as the node has read it last. A site to which
//! nothing can be moved any more, and a kind of drill that does not concern the node, have no series.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::SiteId;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::table;

/// How failovers and drills stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailoverState {
    /// Whether it is safe to fail over to a site now, for each site to which another one could move its writes.
    pub safe: BTreeMap<SiteId, bool>,
    /// Whether a failover in progress waits for an operator. None before the first look, and while the refdb does not
    /// answer.
    pub held: Option<bool>,
    /// The drills, by their kind: `planned`, `forced` or `silent`.
    pub drills: BTreeMap<&'static str, DrillState>,
}

/// How the drills of one kind stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrillState {
    /// Whether the last one was green. None if there was none yet.
    pub green: Option<bool>,
    /// When the last green one was requested, in seconds since 1970. Zero if none was green.
    pub green_at: u64,
}

/// Registers the gauges of failovers and drills.
pub fn observe_failovers(meter: &Meter, state: &Arc<Mutex<FailoverState>>) {
    let seen = Arc::clone(state);
    table::FAILOVER_SAFE
        .observed(meter)
        .with_callback(move |to| {
            for (site, is_safe) in &seen.lock().safe {
                to.observe(f64::from(*is_safe), &[KeyValue::new("to", site.to_string())]);
            }
        })
        .build();
    let seen = Arc::clone(state);
    table::FAILOVER_HELD
        .observed(meter)
        .with_callback(move |to| {
            if let Some(is_held) = seen.lock().held {
                to.observe(f64::from(is_held), &[]);
            }
        })
        .build();
    let seen = Arc::clone(state);
    table::DRILL_GREEN
        .observed(meter)
        .with_callback(move |to| {
            for (kind, drill) in &seen.lock().drills {
                if let Some(is_green) = drill.green {
                    to.observe(f64::from(is_green), &[KeyValue::new("kind", *kind)]);
                }
            }
        })
        .build();
    let seen = Arc::clone(state);
    table::DRILL_TIMESTAMP
        .observed(meter)
        .with_callback(move |to| {
            for (kind, drill) in &seen.lock().drills {
                to.observe(drill.green_at as f64, &[KeyValue::new("kind", *kind)]);
            }
        })
        .build();
}
