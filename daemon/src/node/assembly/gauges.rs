//! Updates the gauges that are read from the state of the node: the journal, parked and quarantined records, readiness.

use lockstep_proto::verify::Part;

use super::guards::Guards;
use super::left_locks::LeftLocks;
use super::stages::Stages;
use super::stream_readers;
use crate::seams::tls::Credentials;
use crate::stages::api::readiness::Latches;
use crate::state::went_back::Evidence;
use crate::telemetry::metrics::Metrics;

/// Updates the expiry of certificates. A node without mutual TLS has none.
pub(super) fn certificates(credentials: Option<&Credentials>, metrics: &Metrics) {
    let Some(credentials) = credentials else { return };
    let material = credentials.current();
    metrics.site.certificates(material.expires, material.trust_expires);
}

/// Updates the gauges. It is called before each rendering of the metrics.
pub(super) fn look(stages: &Stages, guards: &Guards, locks: &LeftLocks, latches: &Latches, metrics: &Metrics) {
    let journal = stages.journal.lock().clone();
    let marks = journal.map(|journal| journal.marks()).unwrap_or_default();
    let unpublished = marks.iter().map(|mark| mark.settled.0 - mark.published.0).sum();
    metrics.publish.journal(unpublished, marks.iter().map(|mark| mark.in_flight).sum());
    // On a store error, keep the last values.
    if let Ok((parked, quarantined)) = stages.deps.store.held_counts() {
        metrics.apply.held(parked, quarantined);
    }
    let debts = &stages.state.debts;
    metrics.apply.debts(debts.degraded().len() as u64, debts.elsewhere().len() as u64);
    if let Some(settings) = &stages.deps.settings.background {
        let background = stages.verifier.in_background(settings);
        metrics.verify.stands(Part::Refs, &background.refs);
        metrics.verify.stands(Part::Objects, &background.objects);
    }
    metrics.events.on_their_way(&stages.events.status());
    if let Some(refresh) = stages.refresh.as_ref().map(|refresh| refresh.status()) {
        metrics.refresh.stands(refresh.due, refresh.oldest_ms.unwrap_or_default() / 1_000);
    }
    let (fan_out, fallback) = stream_readers::counts(stages);
    metrics.eventlog.streams(fan_out, fallback);
    metrics.eventlog.leases(stages.share.held());
    if let Some(capacity) = stages.autoscaler.as_ref().and_then(|autoscaler| autoscaler.shown()) {
        metrics.eventlog.capacity(&capacity);
    }
    let own = stages.state.roles.of(&stages.deps.settings.site);
    metrics.site.guards(guards.found().count);
    metrics.site.left_locks(locks.found().count);
    let operator_locks = stages.state.operator_locks.shown();
    metrics.site.locks(|kind| operator_locks.iter().filter(|lock| lock.kind == kind).count());
    let (role, epoch) = (own.as_ref().map(|site| site.role), own.as_ref().map_or(0, |site| site.epoch));
    metrics.site.state(latches.closed().is_empty(), role, epoch);
    let evidence = stages.context.went_back.evidence();
    let is_not_own = evidence.as_ref().is_some_and(Evidence::is_of_identity);
    metrics.site.went_back(evidence.is_some() && !is_not_own, is_not_own);
}
