//! Tests: `/metrics` matches the table, logs follow the settings, and trace contexts reach other sites.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use lockstep_proto::SiteId;
use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::capacity::StreamCapacity;
use lockstep_proto::doctor::Severity;
use lockstep_proto::failover::Role;
use lockstep_proto::sharing::RecordOrigin;
use lockstep_proto::status::{CallerClass, EventsStatus, ShedReason};
use lockstep_proto::verify::Part;
use parking_lot::Mutex;

use super::metrics::{
    ALL, ApplyOutcome, BlobCall, CallEnd, DoctorState, DrillState, FailoverState, GitOp, MetricDoc, Metrics, RefDbOp,
    SHADOW, ShadowMetrics, list, markdown, observe, observe_aws, observe_doctor, observe_failovers,
};
use super::*;
use crate::base::clock::SystemClock;
use crate::seams::aws::circuit::OPENS_AFTER;
use crate::seams::aws::{Links, Service};
use crate::seams::git::GitError;
use crate::seams::refdb::units::{RequestUnits, Units};
use crate::telemetry::status_board::StatusBoard;

/// The log lines of a test.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// A writer that adds to them.
    pub(crate) fn writer(&self) -> BoxMakeWriter {
        let lines = self.clone();
        BoxMakeWriter::new(move || lines.clone())
    }

    /// All lines that were written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn settings() -> Settings {
    Settings {
        site: site(),
        node: "muc-1-0".parse().unwrap(),
        log_format: LogFormat::Json,
        log_filter: "info".to_owned(),
        otlp_endpoint: None,
    }
}

fn site() -> SiteId {
    "muc-1".parse().unwrap()
}

/// Builds telemetry that sends no spans and writes its log lines to `lines`.
fn traced(lines: &Lines) -> Telemetry {
    let tracers = SdkTracerProvider::builder().build();
    Telemetry::assemble(&settings(), resource(&settings()), Some(tracers), lines.writer()).unwrap()
}

/// Uses every instrument once.
fn use_all(metrics: &Metrics) {
    metrics.commit.answered(Outcome::Committed, 0.004, 2);
    metrics.commit.refused(RefusalCode::Stale);
    metrics.turns.running(1);
    metrics.turns.waiting(CallerClass::Agents, 2);
    metrics.turns.refused(CallerClass::Agents, ShedReason::User);
    metrics.refdb.called(RefDbOp::Commit, CallEnd::Answered, 0.003);
    metrics.eventlog.appended(3, 900);
    metrics.eventlog.read(300);
    metrics.eventlog.streams(2, 1);
    metrics.eventlog.records_from(RecordOrigin::Sibling, 3);
    metrics.eventlog.lease_changed("taken");
    metrics.eventlog.read_alone("gap");
    metrics.eventlog.leases(1);
    metrics.eventlog.capacity(&StreamCapacity { shards: 4, load: 2_000, ..StreamCapacity::default() });
    metrics.blob.called(BlobCall::Put, 5_000);
    metrics.publish.appended(3, 0.01);
    metrics.publish.refused(1, 1);
    metrics.publish.journal(5, 2);
    metrics.consume.read(&site(), 4);
    metrics.apply.transaction(&site(), ApplyOutcome::Applied);
    metrics.apply.held(1, 0);
    metrics.apply.unsigned("forged");
    metrics.apply.debts(1, 1);
    metrics.apply.strays(1);
    metrics.events.forwarded(2);
    metrics.events.delivered(2);
    metrics.events.dropped();
    metrics.events.on_their_way(&EventsStatus { unsent: 1, waiting: 2, oldest_ms: 3_000, dropped: 1 });
    metrics.refresh.stands(3, 9);
    metrics.refresh.reported(2, 1);
    let bad: Result<(), GitError> = Err(GitError::NoRepository("tools".parse().unwrap()));
    metrics.git.ended(GitOp::Ingest, &bad, 0.5);
    metrics.site.guards(1);
    metrics.site.left_locks(1);
    metrics.site.locks(|_| 1);
    let pass = serde_json::json!({"within_ms": 86_400_000, "age_ms": 1_000, "counted": 7, "in_progress": false,
        "found": 2, "repaired": 1, "unrepaired_projects": 1});
    metrics.verify.stands(Part::Refs, &serde_json::from_value(pass).unwrap());
    metrics.site.state(true, Some(Role::Active), 6);
    metrics.site.state(true, Some(Role::Standby), 7);
    metrics.site.went_back(true, false);
    metrics.site.certificates(1, 2);
    metrics.site.failed("publish");
}

/// A state of failovers and drills that shows every series.
fn failovers() -> Arc<Mutex<FailoverState>> {
    let drills = [("planned", DrillState { green: Some(true), green_at: 7 }), ("silent", DrillState::default())];
    let state = FailoverState { safe: [(site(), true)].into(), held: Some(true), drills: drills.into() };
    Arc::new(Mutex::new(state))
}

/// Reads Prometheus' text format: the kind of each family, and the value of each series. Panics on any other line.
fn parse(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            samples.insert(series.to_owned(), value.parse().unwrap());
        }
    }
    (kinds, samples)
}

#[test]
fn the_metrics_page_has_exactly_the_documented_names_and_kinds() {
    let telemetry = Telemetry::build(&settings()).unwrap();
    use_all(&Metrics::new(&telemetry.meter()));
    let board = Arc::new(StatusBoard::new(Arc::new(SystemClock)));
    board.seen(&site(), &"muc-1-0.1.0.3.00c0ffee00c0ffee".parse().unwrap(), 0);
    let units = Arc::new(RequestUnits::default());
    observe(&telemetry.meter(), &board, &units);
    observe_failovers(&telemetry.meter(), &failovers());
    let findings = [(("disk", Severity::Warning), 2)].into();
    observe_doctor(&telemetry.meter(), &Arc::new(Mutex::new(DoctorState { findings })));
    let links = Arc::new(Links::default());
    links.identities().expiring(7_000);
    (0..OPENS_AFTER).for_each(|_| links.to(Service::Kinesis, "eu-west-1").failed("refused".to_owned()));
    observe_aws(&telemetry.meter(), &links);
    units.add(Units { read: 1.5, write: 4.0 });

    let (kinds, samples) = parse(&telemetry.render().unwrap());
    assert_eq!(shown(&kinds), documented(ALL));
    assert_eq!(samples[r#"lockstep_aws_open_circuits{service="kinesis"}"#], 1.0);
    assert_eq!(samples["lockstep_aws_credentials_expire_timestamp_seconds"], 7.0);
    assert_eq!(samples[r#"lockstep_refdb_request_units_total{kind="read"}"#], 1.5);
    assert_eq!(samples[r#"lockstep_doctor_findings{check="disk",severity="warning"}"#], 2.0);
    units.add(Units { read: 0.0, write: 4.0 });
    let (_, samples) = parse(&telemetry.render().unwrap());
    assert_eq!(samples[r#"lockstep_refdb_request_units_total{kind="write"}"#], 8.0);
}

/// The names and kinds of a metrics page.
fn shown(kinds: &BTreeMap<String, String>) -> BTreeSet<(&str, &str)> {
    let own = kinds.iter().filter(|(name, _)| *name != "target_info");
    own.map(|(name, kind)| (name.as_str(), kind.as_str())).collect()
}

/// The names and kinds of a table.
fn documented(docs: &[MetricDoc]) -> BTreeSet<(&str, &str)> {
    docs.iter().map(|doc| (doc.name, doc.kind.as_str())).collect()
}

#[test]
fn the_page_of_a_watch_in_shadow_mode_has_its_own_names_and_values() {
    let telemetry = Telemetry::build(&settings()).unwrap();
    let metrics = ShadowMetrics::new(&telemetry.meter());
    for _ in 0..2 {
        metrics.looked(1_700_000_000_900, 0.02);
        metrics.proposed(1, 3);
        metrics.stands(7, 1);
    }
    let (kinds, samples) = parse(&telemetry.render().unwrap());
    assert_eq!(shown(&kinds), documented(SHADOW));
    assert_eq!(samples["lockstep_shadow_refs_total"], 6.0);
    assert_eq!(samples["lockstep_shadow_projects"], 7.0);
    assert_eq!(samples["lockstep_shadow_looked_timestamp_seconds"], 1_700_000_000.0);
    assert_eq!(samples[r#"lockstep_shadow_look_seconds_bucket{le="0.025"}"#], 2.0);
}

#[test]
fn the_metrics_page_has_values_and_labels() {
    let telemetry = Telemetry::build(&settings()).unwrap();
    let metrics = Metrics::new(&telemetry.meter());
    use_all(&metrics);
    use_all(&metrics);
    let (_, samples) = parse(&telemetry.render().unwrap());
    assert_eq!(samples[r#"lockstep_commit_total{outcome="committed"}"#], 2.0);
    assert_eq!(samples[r#"lockstep_commit_seconds_bucket{outcome="committed",le="0.005"}"#], 2.0);
    assert_eq!(samples[r#"lockstep_commit_seconds_bucket{outcome="committed",le="0.0025"}"#], 0.0);
    assert_eq!(samples[r#"lockstep_apply_total{origin="muc-1",outcome="applied"}"#], 2.0);
    assert_eq!(samples["lockstep_journal_unpublished"], 5.0);
    assert_eq!(samples["lockstep_epoch"], 7.0);
    let role = |role: &str| samples[&format!("lockstep_role{{role=\"{role}\"}}")];
    assert_eq!(["active", "standby", "draining", "fenced"].map(role), [0.0, 1.0, 0.0, 0.0]);
    let info = samples.keys().find(|series| series.starts_with("target_info")).unwrap();
    assert!(info.contains(r#"service_instance_id="muc-1-0""#), "{info}");
}

#[test]
fn every_label_that_is_shown_is_documented() {
    let telemetry = Telemetry::build(&settings()).unwrap();
    use_all(&Metrics::new(&telemetry.meter()));
    observe_failovers(&telemetry.meter(), &failovers());
    let (_, samples) = parse(&telemetry.render().unwrap());
    for series in samples.keys().filter(|series| series.starts_with("lockstep_")) {
        let Some((name, labels)) = series.trim_end_matches('}').split_once('{') else { continue };
        let doc = ALL.iter().find(|doc| name.starts_with(doc.name)).unwrap();
        for label in labels.split(',').map(|label| label.split_once('=').unwrap().0).filter(|label| *label != "le") {
            assert!(doc.labels.contains(&label), "{series}: {label} is not in the table");
        }
    }
}

#[test]
fn failovers_and_drills_have_the_series_of_their_present_state_and_no_others() {
    let telemetry = Telemetry::build(&settings()).unwrap();
    let state = failovers();
    observe_failovers(&telemetry.meter(), &state);
    let shown = || {
        let (_, samples) = parse(&telemetry.render().unwrap());
        let own = samples.into_iter().filter(|(series, _)| series.starts_with("lockstep_"));
        own.map(|(series, value)| format!("{series} {value}")).collect::<Vec<_>>()
    };
    let all = [
        r#"lockstep_drill_green{kind="planned"} 1"#,
        r#"lockstep_drill_timestamp_seconds{kind="planned"} 7"#,
        r#"lockstep_drill_timestamp_seconds{kind="silent"} 0"#,
        "lockstep_failover_held 1",
        r#"lockstep_failover_safe{to="muc-1"} 1"#,
    ];
    assert_eq!(shown(), all);
    *state.lock() = FailoverState { held: Some(false), ..FailoverState::default() };
    assert_eq!(shown(), ["lockstep_failover_held 0"], "the site is no target any more, and drills do not concern it");
}

#[test]
fn two_sidecars_in_one_process_share_nothing() {
    let (one, other) = (Telemetry::build(&settings()).unwrap(), Telemetry::build(&settings()).unwrap());
    use_all(&Metrics::new(&one.meter()));
    assert!(!other.render().unwrap().contains("lockstep_commit_total"));
    use_all(&Metrics::noop());
}

#[test]
fn the_operators_page_has_both_tables() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md"));
    for table in [markdown(ALL), markdown(SHADOW)] {
        assert!(page.contains(&table), "docs/operations.md must contain this table:\n{table}");
    }
}

#[test]
fn a_json_line_is_one_object_with_the_fields_of_its_span() {
    let lines = Lines::default();
    let telemetry = traced(&lines);
    tracing::dispatcher::with_default(&telemetry.dispatch, || {
        let span = tracing::info_span!("push", project = "tools");
        span.in_scope(|| tracing::info!(refs = 2, "committed"));
        tracing::debug!("filtered out");
    });
    let line: serde_json::Value = serde_json::from_str(lines.text().trim()).unwrap();
    assert_eq!(line["message"], "committed");
    assert_eq!(line["refs"], 2);
    assert_eq!(line["span"]["project"], "tools");
}

#[test]
fn a_trace_goes_on_at_another_site() {
    let (here, there) = (traced(&Lines::default()), traced(&Lines::default()));
    let context =
        tracing::dispatcher::with_default(&here.dispatch, || tracing::info_span!("push").in_scope(current_traceparent));
    let trace = context.split('-').nth(1).unwrap().to_owned();
    assert_eq!((context.len(), trace.len()), (55, 32));

    tracing::dispatcher::with_default(&there.dispatch, || {
        let span = tracing::info_span!("apply");
        set_parent(&span, &context);
        let child = span.in_scope(current_traceparent);
        assert!(child.contains(&trace) && child != context, "{child} is not a child of {context}");
    });
}

#[test]
fn a_malformed_trace_context_changes_nothing() {
    let telemetry = traced(&Lines::default());
    tracing::dispatcher::with_default(&telemetry.dispatch, || {
        for text in ["", "00-zz-zz-01", "ff", "00-00000000000000000000000000000000-0000000000000000-01"] {
            let span = tracing::info_span!("apply");
            set_parent(&span, text);
            assert_eq!(span.in_scope(current_traceparent).len(), 55, "{text:?}");
        }
    });
    assert_eq!(current_traceparent(), "", "this thread has no subscriber");
}

#[test]
fn bad_settings_name_field_value_and_remedy() {
    let filter = Settings { log_filter: "lockstep=loud".to_owned(), ..settings() };
    let message = Telemetry::build(&filter).unwrap_err().to_string();
    assert!(message.starts_with("telemetry.log_filter is \"lockstep=loud\""), "{message}");
    for endpoint in ["https://collector:4318/v1/traces", "collector:4318", "not an address"] {
        let settings = Settings { otlp_endpoint: Some(endpoint.to_owned()), ..settings() };
        let message = Telemetry::build(&settings).unwrap_err().to_string();
        assert!(message.starts_with("telemetry.otlp_endpoint is") && message.contains("write `http://"), "{message}");
    }
}

#[test]
fn an_exporter_whose_collector_is_away_stops_nothing() {
    let endpoint = Some("http://127.0.0.1:9/v1/traces".to_owned());
    let telemetry = Telemetry::build(&Settings { otlp_endpoint: endpoint, ..settings() }).unwrap();
    tracing::dispatcher::with_default(&telemetry.dispatch, || {
        assert_eq!(tracing::info_span!("push").in_scope(current_traceparent).len(), 55);
    });
    telemetry.shutdown();
}

#[test]
fn a_collector_without_a_path_is_asked_at_its_usual_one() {
    for (endpoint, path) in [("http://c:4318", ""), ("http://c:4318/", "/"), ("http://c:4318/v1/traces", "/v1/traces")]
    {
        assert_eq!(traces::with_path(endpoint, path), "http://c:4318/v1/traces");
    }
    assert_eq!(traces::with_path("http://c/otlp", "/otlp"), "http://c/otlp");
}

#[test]
fn the_list_of_metrics_for_dashboards_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/observability/metrics.txt");
    let file = std::fs::read_to_string(path).unwrap();
    assert!(file == list(), "it is stale: lockstep metrics > deploy/observability/metrics.txt");
}
