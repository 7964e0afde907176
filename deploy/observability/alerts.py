"""Recording and alert rules.

Three objectives have a budget of errors, and an alert when it burns too fast: over a long window, so that the alert
means something, and over a short one, so that it ends with its cause. A factor of 14.4 uses up two per cent of the
budget of 30 days in one hour, a factor of 6 five per cent in six hours (Google's SRE workbook, chapter 5).
"""

# Windows of a page: long, short, and the factor of the budget.
FAST = [("1h", "5m", 14.4), ("6h", "30m", 6)]
WINDOWS = ["5m", "30m", "1h", "6h"]

# Of 1,000 batches, one may end with "not known yet".
UNKNOWN_BUDGET = 0.001
# Of 1,000 calls of the refdb, one may fail.
REFDB_BUDGET = 0.001
# A site may be more than a minute behind another one for one per cent of the time.
LAG_BUDGET = 0.01
LAG_LIMIT = 60

# Drills on a canary are of the whole installation, and silent ones of a node. Of each, one must be green in eight days.
CANARY = '%s{kind!="silent"}'
COPY = '%s{kind="silent"}'
DRILL_LIMIT = 8 * 86400


def rules():
    return {
        "groups": [
            {"name": "lockstep-records", "interval": "30s", "rules": records()},
            {"name": "lockstep-objectives", "rules": objectives()},
            {"name": "lockstep-alarms", "rules": alarms()},
            {"name": "lockstep-shadow", "rules": shadow()},
        ]
    }


def records():
    behind = {
        "record": "lockstep:lag_slow",
        "expr": f"max by (site, origin) (lockstep_lag_seconds > bool {LAG_LIMIT})",
    }
    made = [behind]
    for window in WINDOWS:
        made += [
            ratio("commit_unknown", "lockstep_commit_total", 'outcome="unknown"', window),
            ratio("refdb_failed", "lockstep_refdb_round_trips_total", 'end=~"not_now|unknown|broken"', window),
            {"record": f"lockstep:lag_slow:ratio_{window}", "expr": f"avg_over_time(lockstep:lag_slow[{window}])"},
        ]
    return made


def ratio(name, metric, bad, window):
    part = f"sum by (site) (rate({metric}{{{bad}}}[{window}]))"
    return {
        "record": f"lockstep:{name}:ratio_{window}",
        "expr": f"{part} / sum by (site) (rate({metric}[{window}]))",
    }


def burns(name, budget):
    both = (
        f"(lockstep:{name}:ratio_{long} > {limit(factor, budget)} and lockstep:{name}:ratio_{short} > "
        f"{limit(factor, budget)})"
        for long, short, factor in FAST
    )
    return " or ".join(both)


def limit(factor, budget):
    return f"{factor * budget:.6g}"


def objectives():
    return [
        alert(
            "LockstepCommitsUnknown",
            burns("commit_unknown", UNKNOWN_BUDGET),
            "2m",
            "page",
            'Users of site {{ $labels.site }} read "not known yet" for {{ $value | humanizePercentage }} of their '
            "pushes",
        ),
        alert(
            "LockstepRefdbFails",
            burns("refdb_failed", REFDB_BUDGET),
            "2m",
            "page",
            "{{ $value | humanizePercentage }} of the refdb calls of site {{ $labels.site }} fail",
        ),
        alert(
            "LockstepLag",
            burns("lag_slow", LAG_BUDGET),
            "2m",
            "page",
            "Site {{ $labels.site }} is more than a minute behind {{ $labels.origin }} for "
            "{{ $value | humanizePercentage }} of the time",
        ),
    ]


def alarms():
    return [
        alert(
            "LockstepSiteGone",
            "count by (site) (lockstep_ready offset 30m) unless on (site) count by (site) (lockstep_ready)",
            "5m",
            "page",
            "No sidecar of site {{ $labels.site }} answers",
        ),
        alert(
            "LockstepNotReady",
            "lockstep_ready == 0",
            "10m",
            "page",
            "{{ $labels.node }} has not been ready for 10 minutes",
        ),
        alert(
            "LockstepRefdbWentBack",
            "lockstep_refdb_went_back == 1",
            "0m",
            "page",
            "{{ $labels.node }} commits nothing: the refdb is older than a node",
        ),
        alert(
            "LockstepRefdbNotOwn",
            "lockstep_refdb_not_own == 1",
            "1m",
            "page",
            "{{ $labels.node }} commits nothing: its tables hold another refdb",
        ),
        alert(
            "LockstepAwsUnreachable",
            "lockstep_aws_open_circuits > 0",
            "5m",
            "page",
            "{{ $labels.node }} cannot connect to {{ $labels.service }}",
        ),
        alert(
            "LockstepAwsCredentialsExpired",
            "lockstep_aws_credentials_expire_timestamp_seconds < time()",
            "5m",
            "page",
            "The credentials of {{ $labels.node }} for AWS have expired",
        ),
        alert(
            "LockstepQuarantined",
            "lockstep_quarantined > 0",
            "1m",
            "page",
            "{{ $value }} records are in quarantine at {{ $labels.node }}",
        ),
        alert(
            "LockstepForgedRecords",
            'sum by (site, node) (increase(lockstep_unsigned_records_total{end=~"forged|unseen"}[15m])) > 0',
            "0m",
            "page",
            "{{ $labels.node }} has met {{ $value | humanize }} records that no site has signed",
        ),
        alert(
            "LockstepGuardsOff",
            "lockstep_guards_off > 0",
            "5m",
            "page",
            "Refs of {{ $value }} repositories can bypass Lockstep at {{ $labels.node }}",
        ),
        alert(
            "LockstepLocksLeft",
            "lockstep_left_locks > 0",
            "5m",
            "ticket",
            "{{ $value }} locks were left behind in repositories of {{ $labels.node }}",
        ),
        alert(
            "LockstepEpochsDiffer",
            "max by (site) (lockstep_epoch) != min by (site) (lockstep_epoch)",
            "10m",
            "page",
            "Nodes of site {{ $labels.site }} know different epochs",
        ),
        alert(
            "LockstepDegraded",
            "lockstep_degraded_projects > 0",
            "10m",
            "ticket",
            "{{ $labels.node }} cannot bring {{ $value }} projects up to date",
        ),
        alert(
            "LockstepHeldElsewhere",
            "lockstep_held_elsewhere > 0",
            "30m",
            "ticket",
            "Other nodes hold {{ $value }} transactions or projects back",
        ),
        alert(
            "LockstepParked",
            "lockstep_parked > 0",
            "1h",
            "ticket",
            "{{ $value }} transactions wait at {{ $labels.node }}",
        ),
        alert(
            "LockstepNotPublished",
            "lockstep_journal_unpublished > 100 and delta(lockstep_journal_unpublished[10m]) >= 0",
            "15m",
            "page",
            "{{ $value }} transactions of {{ $labels.node }} are not in the event log",
        ),
        alert(
            "LockstepStreamFull",
            "sum by (site) (rate(lockstep_publish_refused_total[10m])) > 1",
            "30m",
            "ticket",
            "The stream of site {{ $labels.site }} refuses {{ $value | humanize }} records per second",
        ),
        alert(
            "LockstepStrays",
            "lockstep_strays > 0",
            "5m",
            "ticket",
            "{{ $value }} values gave way to committed ones at {{ $labels.node }}",
        ),
        alert(
            "LockstepVerifyRepairs",
            "delta(lockstep_verify_repaired[1h]) > 0",
            "0m",
            "ticket",
            "Something other than Lockstep has changed or damaged {{ $value | humanize }} {{ $labels.part }} of "
            "{{ $labels.node }}; they are repaired",
        ),
        alert(
            "LockstepVerifyCannotRepair",
            "lockstep_verify_unrepaired > 0",
            "15m",
            "page",
            "The {{ $labels.part }} of {{ $value }} projects at {{ $labels.node }} are wrong and cannot be repaired",
        ),
        alert(
            "LockstepVerifyOverdue",
            "lockstep_verify_age_seconds > lockstep_verify_within_seconds",
            "1h",
            "ticket",
            "The {{ $labels.part }} of {{ $labels.node }} were not verified for {{ $value | humanizeDuration }}",
        ),
        alert(
            "LockstepPeopleWait",
            'sum by (site, node) (increase(lockstep_turns_refused_total{class="people"}[15m])) > 20',
            "10m",
            "ticket",
            "{{ $value | humanize }} changes of people were told to come again at {{ $labels.node }}",
        ),
        alert(
            "LockstepEventsDropped",
            "increase(lockstep_events_dropped_total[15m]) > 0",
            "0m",
            "ticket",
            "The Gerrit of {{ $labels.node }} has missed stream events",
        ),
        alert(
            "LockstepEventsWait",
            "lockstep_events_oldest_seconds > 300",
            "10m",
            "ticket",
            "A stream event has waited for {{ $value | humanizeDuration }} at {{ $labels.node }}",
        ),
        alert(
            "LockstepRefreshWaits",
            "lockstep_refresh_oldest_seconds > 300",
            "10m",
            "ticket",
            "The Gerrit of {{ $labels.node }} is {{ $value | humanizeDuration }} behind its refs",
        ),
        alert(
            "LockstepGitErrors",
            'sum by (site, node, op) (increase(lockstep_git_errors_total{kind=~"bad|failed"}[15m])) > 5',
            "5m",
            "ticket",
            "Operation {{ $labels.op }} on repositories fails at {{ $labels.node }}",
        ),
        alert(
            "LockstepTaskFails",
            "sum by (site, node, stage) (increase(lockstep_task_failures_total[15m])) > 30",
            "15m",
            "ticket",
            "The task {{ $labels.stage }} of {{ $labels.node }} fails again and again",
        ),
        alert(
            "LockstepFailoverHeld",
            "max by (site) (lockstep_failover_held) == 1",
            "5m",
            "page",
            "A failover waits for an operator, and perhaps no site takes writes",
        ),
        alert(
            "LockstepNotSafeToFailOver",
            "max by (to) (lockstep_failover_safe) == 0",
            "30m",
            "ticket",
            "It has not been safe to fail over to site {{ $labels.to }} for 30 minutes",
        ),
        alert(
            "LockstepDrillRed",
            f"min by (site, kind) ({CANARY % 'lockstep_drill_green'}) == 0 or {COPY % 'lockstep_drill_green'} == 0",
            "1m",
            "ticket",
            "The last {{ $labels.kind }} drill was red, or did not begin",
        ),
        alert(
            "LockstepDrillStale",
            f"time() - max by (site) ({CANARY % 'lockstep_drill_timestamp_seconds'}) > {DRILL_LIMIT} or "
            f"time() - {COPY % 'lockstep_drill_timestamp_seconds'} > {DRILL_LIMIT}",
            "1h",
            "ticket",
            "No drill was green within 8 days",
        ),
        alert(
            "LockstepStreamStuck",
            "max by (site) (lockstep_eventlog_shards_stuck) > 0",
            "15m",
            "ticket",
            "The stream of {{ $labels.site }} needs more shards, and its autoscaler may not add any",
        ),
        alert(
            "LockstepDoctorFindings",
            'sum by (site, node, check) (lockstep_doctor_findings{severity!="note"}) > 0',
            "15m",
            "ticket",
            "The doctor of {{ $labels.node }} has {{ $value }} findings of its check {{ $labels.check }}",
        ),
        alert(
            "LockstepCertificateExpires",
            "lockstep_certificate_expires_timestamp_seconds > 0 and "
            "lockstep_certificate_expires_timestamp_seconds - time() < 14 * 86400",
            "1h",
            "ticket",
            "The certificate {{ $labels.certificate }} of {{ $labels.node }} expires soon",
        ),
        alert(
            "LockstepCertificateExpiresNow",
            "lockstep_certificate_expires_timestamp_seconds > 0 and "
            "lockstep_certificate_expires_timestamp_seconds - time() < 86400",
            "5m",
            "page",
            "The certificate {{ $labels.certificate }} of {{ $labels.node }} expires within a day",
        ),
    ]


def shadow():
    """Alarms about watches. Nothing of them wakes anybody up: the sites have another replication."""
    look = "sum by (site, node) (rate(lockstep_shadow_look_seconds_{}[15m]))"
    return [
        alert(
            "LockstepShadowGone",
            "count by (site) (lockstep_shadow_projects offset 30m) unless on (site) count by (site) "
            "(lockstep_shadow_projects) unless on (site) count by (site) (lockstep_ready)",
            "5m",
            "ticket",
            "No watch of site {{ $labels.site }} answers, and its journal has a gap",
        ),
        alert(
            "LockstepShadowStands",
            "time() - lockstep_shadow_looked_timestamp_seconds > 120",
            "1m",
            "ticket",
            "The watch of {{ $labels.node }} has not ended a look for {{ $value | humanizeDuration }}",
        ),
        alert(
            "LockstepShadowSlow",
            f"{look.format('sum')} / {look.format('count')} > 10",
            "30m",
            "ticket",
            "A look of the watch of {{ $labels.node }} takes {{ $value | humanizeDuration }}",
        ),
        alert(
            "LockstepShadowProblems",
            "lockstep_shadow_problems > 0",
            "5m",
            "ticket",
            "Lockstep would not take {{ $value }} repositories or refs of {{ $labels.node }}",
        ),
    ]


def alert(name, expr, wait, severity, summary):
    return {
        "alert": name,
        "expr": expr,
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "runbook": f"docs/operations.md#{name.lower()}"},
    }
