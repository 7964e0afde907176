"""Rules and dashboards: every query names a metric of the sidecar; each alert fires, stays quiet, has a runbook."""

import json
import re

import pytest
import yaml
from conftest import DEPLOY, TOOLS, TOP, run
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

HOME = DEPLOY / "observability"
RULES = yaml.safe_load((HOME / "rules.yaml").read_text())
RECORDS = {rule["record"]: rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((HOME / "dashboards").glob("*.json"))}

# A variable of a dashboard in a query, and those that Grafana sets itself.
VARIABLE = re.compile(r"\$(\w+)")
BUILT_IN = {"__rate_interval", "__range"}


def metrics():
    """The series of each metric: a histogram has three, and a label of its own."""
    found = {}
    for line in (HOME / "metrics.txt").read_text().splitlines():
        name, kind, labels = line.split("\t")
        labels = set(filter(None, labels.split(","))) | {"site", "node"}
        if kind == "histogram":
            found[f"{name}_bucket"] = labels | {"le"}
            found[f"{name}_sum"] = found[f"{name}_count"] = labels
        else:
            found[name] = labels
    return found


def named(query):
    return set(re.findall(r"lockstep[a-z_:]*[a-z0-9_]+", re.sub(r'"[^"]*"', '""', query)))


def wrong(query, known):
    """The names of a query that no metric has, and the labels that its metrics lack."""
    problems = [name for name in named(query) if name not in known]
    for name, selector in re.findall(r"(lockstep[a-z0-9_]+)\{([^}]*)\}", query):
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', selector))
        problems += [f"{name}{{{label}}}" for label in labels if name in known and label not in known[name]]
    return problems


def test_a_wrong_name_or_label_is_found():
    known = metrics()
    assert wrong('rate(lockstep_commit_total{outcome="unknown"}[5m])', known) == []
    assert wrong("rate(lockstep_commits_total[5m])", known) == ["lockstep_commits_total"]
    assert wrong('lockstep_ready{origin="a"}', known) == ["lockstep_ready{origin}"]
    assert wrong("lockstep_commit_seconds", known) == ["lockstep_commit_seconds"], (
        "a histogram has no series of its name"
    )


@pytest.mark.parametrize("name", [*RECORDS, *ALERTS])
def test_every_rule_names_a_metric_of_the_sidecar(name):
    rule = RECORDS.get(name) or ALERTS[name]
    assert named(rule["expr"])
    assert wrong(rule["expr"], {**metrics(), **dict.fromkeys(RECORDS, {"site", "origin"})}) == []


@pytest.mark.parametrize("board", BOARDS)
def test_every_panel_names_a_metric_and_a_unit(board):
    known = metrics()
    for panel in BOARDS[board]["panels"]:
        where = f"{board}: {panel['title']}"
        assert panel["targets"], where
        for target in panel["targets"]:
            assert named(target["expr"]) and wrong(target["expr"], known) == [], where
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, where
        assert panel["fieldConfig"]["defaults"]["unit"], where
        assert panel["description"], where


def test_dashboards_and_panels_are_told_apart():
    assert [board["uid"] for board in BOARDS.values()] == list(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS) >= 4
    for board in BOARDS.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        spots = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
        assert len(spots) == len(set(spots)) and all(x + w <= 24 for x, _, w, _ in spots)


@pytest.mark.parametrize("board", BOARDS)
def test_every_variable_of_a_query_is_one_of_its_dashboard(board):
    queries = [target["expr"] for panel in BOARDS[board]["panels"] for target in panel["targets"]]
    used = {name for query in queries for name in VARIABLE.findall(query)} - BUILT_IN
    asked = {variable["name"] for variable in BOARDS[board]["templating"]["list"]} - {"datasource"}
    assert used == asked


def test_promtool_takes_every_query_of_a_panel(tmp_path):
    queries = [target["expr"] for board in BOARDS.values() for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": f"panel:{at}", "expr": priced(query)} for at, query in enumerate(queries)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ran = run(TOOLS / "promtool", "check", "rules", file)
    assert ran.returncode == 0 and f"{len(queries)} rules found" in ran.stdout, ran.stdout + ran.stderr


def priced(query):
    """A query with a value for each of its variables, as Grafana sends it."""
    return VARIABLE.sub(lambda found: "5m" if found[1] in BUILT_IN else "1", query)


def lost(given, kept, path=""):
    """The parts of a document that a copy of it lacks or has otherwise."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [part for key in given for part in lost(given[key], kept.get(key), f"{path}.{key}")]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        return [part for at, pair in enumerate(zip(given, kept)) for part in lost(*pair, f"{path}[{at}]")]
    return [] if given == kept else [path]


def through_grafanas_types(board):
    """A dashboard, read and written by the types that Grafana Labs publish. Unknown fields vanish."""
    register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(board))), cls=JSONEncoder))


@pytest.mark.parametrize("board", BOARDS)
def test_grafanas_own_types_have_every_field_of_a_dashboard(board):
    assert lost(BOARDS[board], through_grafanas_types(BOARDS[board])) == []


def test_a_field_that_grafana_does_not_have_is_found():
    board = json.loads(json.dumps(BOARDS["lockstep-cost"]))
    board["panels"][0]["fieldConfig"]["defaults"]["units"] = "s"
    board["templating"]["list"][1]["multiple"] = True
    found = [".panels[0].fieldConfig.defaults.units", ".templating.list[1].multiple"]
    assert sorted(lost(board, through_grafanas_types(board))) == found


def test_every_metric_is_on_a_dashboard_or_in_a_rule():
    queries = [target["expr"] for board in BOARDS.values() for panel in board["panels"] for target in panel["targets"]]
    queries += [rule["expr"] for rule in [*RECORDS.values(), *ALERTS.values()]]
    shown = {name for query in queries for name in named(query)}
    listed = [line.split("\t")[0] for line in (HOME / "metrics.txt").read_text().splitlines()]
    missing = [name for name in listed if not {name, f"{name}_bucket"} & shown]
    assert missing == []


def test_every_alert_has_a_runbook_a_summary_and_a_severity():
    page = (TOP / "docs/operations.md").read_text()
    headings = {f"#{line.lstrip('# ').lower()}" for line in page.splitlines() if line.startswith("### Lockstep")}
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    assert {rule["annotations"]["runbook"].removeprefix("docs/operations.md") for rule in ALERTS.values()} == headings


def test_the_list_of_metrics_is_that_of_the_command(lockstep):
    assert run(lockstep, "metrics").stdout == (HOME / "metrics.txt").read_text()


def test_promtool_takes_the_rules():
    ran = run(TOOLS / "promtool", "check", "rules", HOME / "rules.yaml")
    assert ran.returncode == 0 and f"{len(RECORDS) + len(ALERTS)} rules found" in ran.stdout, ran.stdout + ran.stderr


# The series that make each alert fire, and those that keep it quiet, in promtool's notation: a start, a step per
# minute, and the number of steps. The last two columns are the minute of the look, and the labels of the alert.
NODE = '{site="a", node="a-0"}'
AT = {"site": "a", "node": "a-0"}
COMMITS = 'lockstep_commit_total{site="a", node="a-0", outcome="%s"}'
CALLS = 'lockstep_refdb_round_trips_total{site="a", node="a-0", op="commit", end="%s"}'
VERIFIED = 'lockstep_verify_%s_seconds{site="a", node="a-0", part="%s"}'
EXPIRES = 'lockstep_certificate_expires_timestamp_seconds{site="a", node="a-0", certificate="own"}'
LOOKS = 'lockstep_shadow_look_seconds_%s{site="a", node="a-0"}'
SAFE = 'lockstep_failover_safe{site="a", node="%s", to="b"}'
DRILL_GREEN = 'lockstep_drill_green{site="a", node="a-0", kind="%s"}'
DRILL_AT = 'lockstep_drill_timestamp_seconds{site="a", node="a-0", kind="%s"}'
DAY = 86_400


def gauge(metric, fires, quiet, minute, labels=None):
    series = metric if "{" in metric else metric + NODE
    return {series: fires}, {series: quiet}, minute, AT if labels is None else labels


TRIES = {
    # 3 % of batches end unknown: above 14.4 times the budget. 0.03 % does not burn it.
    "LockstepCommitsUnknown": (
        {COMMITS % "committed": "0+97x600", COMMITS % "unknown": "0+3x600"},
        {COMMITS % "committed": "0+9997x600", COMMITS % "unknown": "0+3x600"},
        70,
        {"site": "a"},
    ),
    "LockstepRefdbFails": (
        {CALLS % "answered": "0+90x600", CALLS % "not_now": "0+10x600"},
        {CALLS % "answered": "0+9999x600", CALLS % "not_now": "0+1x600", CALLS % "conflict": "0+900x600"},
        70,
        {"site": "a"},
    ),
    "LockstepLag": (
        {'lockstep_lag_seconds{site="a", node="a-0", origin="b"}': "0+10x600"},
        # Ten minutes of lag within a day.
        {'lockstep_lag_seconds{site="a", node="a-0", origin="b"}': "0x590 90x3 0x60"},
        120,
        {"site": "a", "origin": "b"},
    ),
    "LockstepSiteGone": (
        {"lockstep_ready" + NODE: "1x20 _x40", 'lockstep_ready{site="b", node="b-0"}': "1x60"},
        {"lockstep_ready" + NODE: "0x60"},
        40,
        {"site": "a"},
    ),
    "LockstepNotReady": gauge("lockstep_ready", "0x30", "1x5 0x5 1x20", 12),
    "LockstepRefdbWentBack": gauge("lockstep_refdb_went_back", "0 1x20", "0x20", 5),
    "LockstepRefdbNotOwn": gauge("lockstep_refdb_not_own", "0 1x20", "0x20", 5),
    "LockstepAwsUnreachable": gauge(
        'lockstep_aws_open_circuits{site="a", node="a-0", service="dynamodb"}',
        "0 1x20",
        "0 1x4 0x20",
        10,
        AT | {"service": "dynamodb"},
    ),
    # The clock of these tests begins at 1970.
    "LockstepAwsCredentialsExpired": gauge(
        "lockstep_aws_credentials_expire_timestamp_seconds", "60x20", "9000x20", 10
    ),
    "LockstepQuarantined": gauge("lockstep_quarantined", "0 1x20", "0x20", 5),
    "LockstepForgedRecords": (
        {'lockstep_unsigned_records_total{site="a", node="a-0", end="forged"}': "0x5 1x20"},
        {'lockstep_unsigned_records_total{site="a", node="a-0", end="true"}': "0+5x30"},
        8,
        AT,
    ),
    "LockstepGuardsOff": gauge("lockstep_guards_off", "0 2x20", "0 1 1 0x20", 10),
    "LockstepLocksLeft": gauge("lockstep_left_locks", "0 1x20", "0 1x4 0x20", 10),
    "LockstepStreamStuck": (
        {"lockstep_eventlog_shards_stuck" + NODE: "0 1x40"},
        {"lockstep_eventlog_shards_stuck" + NODE: "0 1x10 0x40"},
        20,
        {"site": "a"},
    ),
    "LockstepDoctorFindings": gauge(
        'lockstep_doctor_findings{site="a", node="a-0", check="tls", severity="error"}',
        "0 1x40",
        "0 1x10 0x40",
        20,
        AT | {"check": "tls"},
    ),
    "LockstepEpochsDiffer": (
        {"lockstep_epoch" + NODE: "2x30", 'lockstep_epoch{site="a", node="a-1"}': "3x30"},
        {"lockstep_epoch" + NODE: "2 2 3x30", 'lockstep_epoch{site="a", node="a-1"}': "3x30"},
        15,
        {"site": "a"},
    ),
    "LockstepDegraded": gauge("lockstep_degraded_projects", "0 1x30", "0 1x5 0x30", 15),
    "LockstepHeldElsewhere": gauge("lockstep_held_elsewhere", "0 1x60", "0 1x20 0x60", 40),
    "LockstepParked": gauge("lockstep_parked", "0 5x90", "0 5x50 0 5x50", 70),
    "LockstepNotPublished": gauge("lockstep_journal_unpublished", "0+50x60", "500-10x40 0x20", 30),
    "LockstepStreamFull": gauge("lockstep_publish_refused_total", "0+120x90", "0+30x90", 60, {"site": "a"}),
    "LockstepStrays": gauge("lockstep_strays", "0 1x20", "0x20", 10),
    "LockstepVerifyRepairs": gauge(
        'lockstep_verify_repaired{site="a", node="a-0", part="refs"}', "0x5 2x90", "2x90", 10, {**AT, "part": "refs"}
    ),
    "LockstepVerifyCannotRepair": gauge(
        'lockstep_verify_unrepaired{site="a", node="a-0", part="objects"}',
        "0 1x60",
        "0 1x10 0x60",
        30,
        {**AT, "part": "objects"},
    ),
    "LockstepVerifyOverdue": (
        {VERIFIED % ("age", "refs"): f"{DAY}+60x120", VERIFIED % ("within", "refs"): f"{DAY}x120"},
        # The objects may be older than a day.
        {VERIFIED % ("age", "objects"): f"{2 * DAY}+60x120", VERIFIED % ("within", "objects"): f"{7 * DAY}x120"},
        90,
        {**AT, "part": "refs"},
    ),
    "LockstepPeopleWait": gauge(
        'lockstep_turns_refused_total{site="a", node="a-0", class="people", reason="user"}',
        "0+3x60",
        "0+1x60",
        40,
    ),
    "LockstepEventsDropped": gauge("lockstep_events_dropped_total", "0x5 1x20", "1x30", 8),
    "LockstepEventsWait": gauge("lockstep_events_oldest_seconds", "0+60x60", "0 60 120 0 60 120 0x30", 30),
    "LockstepRefreshWaits": gauge("lockstep_refresh_oldest_seconds", "0+60x60", "0 60 120 0 60 120 0x30", 30),
    "LockstepGitErrors": gauge(
        'lockstep_git_errors_total{site="a", node="a-0", op="sync", kind="failed"}',
        "0+2x60",
        "0 1x60",
        30,
        {**AT, "op": "sync"},
    ),
    "LockstepTaskFails": gauge(
        'lockstep_task_failures_total{site="a", node="a-0", stage="publish"}',
        "0+6x60",
        "0+1x60",
        40,
        {**AT, "stage": "publish"},
    ),
    "LockstepFailoverHeld": gauge("lockstep_failover_held", "0 1x20", "0 1x4 0x20", 12, {"site": "a"}),
    # One node that cannot reach the refdb says no. If another one says yes, it is safe.
    "LockstepNotSafeToFailOver": (
        {SAFE % "a-0": "1 0x60", SAFE % "a-1": "1 0x60"},
        {SAFE % "a-0": "1 0x60", SAFE % "a-1": "1x61"},
        45,
        {"to": "b"},
    ),
    # The red one of a node stays red beside the green one of another kind, until the same kind is green again.
    "LockstepDrillRed": (
        {DRILL_GREEN % "planned": "1x5 0x20", DRILL_GREEN % "forced": "1x25"},
        {DRILL_GREEN % "planned": "0x5 1x20", DRILL_GREEN % "silent": "1x25"},
        15,
        {"site": "a", "kind": "planned"},
    ),
    # The clock of promtool begins at 0, so the times before it are below 0. Of the two kinds, the newer one counts.
    "LockstepDrillStale": (
        {DRILL_AT % "planned": f"{-9 * DAY}x120", DRILL_AT % "forced": f"{-20 * DAY}x120"},
        {DRILL_AT % "planned": f"{-7 * DAY}x120", DRILL_AT % "forced": f"{-20 * DAY}x120"},
        90,
        {"site": "a"},
    ),
    "LockstepCertificateExpires": gauge(
        EXPIRES, f"{13 * DAY}x120", f"{15 * DAY}x120", 90, {**AT, "certificate": "own"}
    ),
    "LockstepShadowGone": (
        {"lockstep_shadow_projects" + NODE: "5x10"},
        {"lockstep_shadow_projects" + NODE: "5x10", "lockstep_ready" + NODE: "_x11 1x60"},
        45,
        {"site": "a"},
    ),
    "LockstepShadowStands": gauge("lockstep_shadow_looked_timestamp_seconds", "0x30", "0+60x30", 10),
    "LockstepShadowSlow": (
        {LOOKS % "sum": "0+60x90", LOOKS % "count": "0+4x90"},
        {LOOKS % "sum": "0+6x90", LOOKS % "count": "0+40x90"},
        60,
        AT,
    ),
    "LockstepShadowProblems": gauge("lockstep_shadow_problems", "2x30", "0x30", 20),
    "LockstepCertificateExpiresNow": gauge(
        EXPIRES, f"{DAY // 2}x120", f"{2 * DAY}x120", 30, {**AT, "certificate": "own"}
    ),
}


# Silent drills are of a node, which the alert names.
SILENT = {
    "LockstepDrillRed": ({DRILL_GREEN % "silent": "0x25"}, {DRILL_GREEN % "silent": "1x25"}, 15),
    "LockstepDrillStale": ({DRILL_AT % "silent": "-691201x120"}, {DRILL_AT % "silent": f"{-7 * DAY}x120"}, 90),
}


def test_every_alert_is_tried():
    assert set(TRIES) == set(ALERTS)


def test_each_alert_fires_and_stays_quiet(tmp_path):
    tests = []
    silent = [(name, (*tries, {**AT, "kind": "silent"})) for name, tries in SILENT.items()]
    for name, (fires, quiet, minute, labels) in [*TRIES.items(), *silent]:
        for series, is_on in ((fires, True), (quiet, False)):
            expected = [{"exp_labels": {**labels, "severity": ALERTS[name]["labels"]["severity"]}}] if is_on else []
            tests.append(
                {
                    "name": f"{name} {'fires' if is_on else 'stays quiet'}",
                    "interval": "1m",
                    "input_series": [{"series": one, "values": values} for one, values in series.items()],
                    "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": name, "exp_alerts": expected}],
                }
            )
    # promtool compares annotations as well. They contain the value, so a copy of the rules without them is tested.
    bare = json.loads(json.dumps(RULES))
    for group in bare["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(bare))
    file = tmp_path / "test.yaml"
    order = [group["name"] for group in bare["groups"]]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "group_eval_order": order, "tests": tests}
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    ran = run(TOOLS / "promtool", "test", "rules", file)
    assert ran.returncode == 0, ran.stdout + ran.stderr
