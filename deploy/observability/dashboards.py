"""Dashboards for Grafana. Each panel is one question; its description says what a bad value means."""

from costs import cost
from panels import AT, board, graph, quantile, stat


def boards():
    return [replication(), refdb(), streams(), failover(), gerrit(), cost(), shadow()]


def replication():
    return board(
        "lockstep-replication",
        "Lockstep: replication",
        [
            stat(
                "Nodes that are ready",
                f"sum(lockstep_ready{{{AT}}})",
                "none",
                "Fewer than the nodes that you run: `lockstep status` names the closed latches.",
            ),
            stat(
                "Worst lag",
                f"max(lockstep_lag_seconds{{{AT}}})",
                "s",
                "Seconds since the commit of the oldest transaction that is not applied.",
            ),
            stat(
                "Degraded projects",
                f"sum(lockstep_degraded_projects{{{AT}}})",
                "none",
                "Above zero: a node cannot bring a project up to date.",
            ),
            stat(
                "Quarantined records",
                f"sum(lockstep_quarantined{{{AT}}})",
                "none",
                "Above zero: somebody must look, always.",
            ),
            graph(
                "Lag per origin",
                [(f"max by (site, origin) (lockstep_lag_seconds{{{AT}}})", "{{site}} behind {{origin}}")],
                "s",
                "It grows for one origin: its stream or the network. For all origins: this node's disk.",
            ),
            graph(
                "Transactions that are not applied",
                [(f"max by (site, origin) (lockstep_lag_transactions{{{AT}}})", "{{site}} behind {{origin}}")],
                "none",
                "The length of the queue.",
            ),
            graph(
                "Applied transactions",
                [
                    (
                        f"sum by (site, outcome) (rate(lockstep_apply_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} {{outcome}}",
                    )
                ],
                "ops",
                "Caught up means: from the journal, out of the stream's order.",
            ),
            graph(
                "Commits",
                [
                    (
                        f"sum by (site, outcome) (rate(lockstep_commit_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} {{outcome}}",
                    )
                ],
                "ops",
                'Unknown: users read "not known yet".',
            ),
            graph(
                "Duration of a commit",
                [quantile(0.5, "lockstep_commit_seconds"), quantile(0.99, "lockstep_commit_seconds")],
                "s",
                "From the packing of objects to the answer.",
            ),
            graph(
                "Refused refs",
                [
                    (
                        f"sum by (site, code) (rate(lockstep_commit_refusals_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} {{code}}",
                    )
                ],
                "ops",
                "Stale is the usual race of two pushes. Unavailable and not_serving are not usual.",
            ),
            graph(
                "Turns",
                [
                    (f"sum by (site) (lockstep_turns_running{{{AT}}})", "{{site}} commit"),
                    (f"sum by (site, class) (lockstep_turns_waiting{{{AT}}})", "{{site}} {{class}} wait"),
                    (
                        f"sum by (site, class, reason) (rate(lockstep_turns_refused_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} {{class}} come again per second: {{reason}}",
                    ),
                ],
                "none",
                "More work comes than the node does, if anything but commits is above zero.",
            ),
            graph(
                "Parked and held",
                [
                    (f"sum by (site) (lockstep_parked{{{AT}}})", "{{site}} parked"),
                    (f"sum by (site) (lockstep_held_elsewhere{{{AT}}})", "{{site}} held elsewhere"),
                    (f"sum by (site) (lockstep_strays{{{AT}}})", "{{site}} strays"),
                ],
                "none",
                "Parked may be above zero for a while. The others ask for a look.",
            ),
            graph(
                "Verified in the background",
                [
                    (
                        f"max by (site, part) (lockstep_verify_age_seconds{{{AT}}} / lockstep_verify_within_seconds)",
                        "{{site}} {{part}}: age, of the wanted one",
                    ),
                    (f"sum by (site, part) (lockstep_verify_unrepaired{{{AT}}})", "{{site}} {{part}} not repaired"),
                ],
                "none",
                "An age above 1 is late. Projects that are not repaired ask for a look.",
            ),
            graph(
                "Records without a good signature",
                [
                    (
                        f"sum by (node, end) (rate(lockstep_unsigned_records_total{{{AT}}}[$__rate_interval]))",
                        "{{node}} {{end}}",
                    )
                ],
                "ops",
                "While signatures are required. `forged`: somebody else writes into a stream.",
            ),
            graph(
                "Operations on repositories, p99",
                [
                    (
                        f"histogram_quantile(0.99, sum by (le, op) "
                        f"(rate(lockstep_git_seconds_bucket{{{AT}}}[$__rate_interval])))",
                        "{{op}}",
                    )
                ],
                "s",
                "The disk: sync grows first.",
            ),
        ],
    )


def refdb():
    return board(
        "lockstep-refdb",
        "Lockstep: refdb",
        [
            stat(
                "Calls that fail",
                f'(sum(rate(lockstep_refdb_round_trips_total{{{AT}, end=~"not_now|unknown|broken"}}[$__rate_interval]))'
                f" or vector(0)) / sum(rate(lockstep_refdb_round_trips_total{{{AT}}}[$__rate_interval]))",
                "percentunit",
                "The objective allows 0.1 %.",
            ),
            stat("Went back", f"max(lockstep_refdb_went_back{{{AT}}})", "bool", "Above zero: no node commits."),
            stat(
                "Not the own refdb",
                f"max(lockstep_refdb_not_own{{{AT}}})",
                "bool",
                "Above zero: a node commits nothing.",
            ),
            graph(
                "Calls per purpose",
                [(f"sum by (op) (rate(lockstep_refdb_round_trips_total{{{AT}}}[$__rate_interval]))", "{{op}}")],
                "ops",
                "Each commit is one call.",
            ),
            graph(
                "Calls that did not get an answer",
                [
                    (
                        "sum by (site, op, end) "
                        f'(rate(lockstep_refdb_round_trips_total{{{AT}, end!="answered"}}[$__rate_interval]))',
                        "{{site}} {{op}} {{end}}",
                    )
                ],
                "ops",
                "not_now and unknown mean network or throttling. broken means permissions.",
            ),
            graph(
                "Duration of a call, p50 and p99",
                [quantile(0.5, "lockstep_refdb_seconds"), quantile(0.99, "lockstep_refdb_seconds")],
                "s",
                "A commit takes at least one of them.",
            ),
            graph(
                "Duration of a call per purpose, p99",
                [
                    (
                        f"histogram_quantile(0.99, sum by (le, op) "
                        f"(rate(lockstep_refdb_seconds_bucket{{{AT}}}[$__rate_interval])))",
                        "{{op}}",
                    )
                ],
                "s",
                "Scans are slow by nature.",
            ),
            graph(
                "Refs per second",
                [(f"sum by (site) (rate(lockstep_commit_refs_total{{{AT}}}[$__rate_interval]))", "{{site}}")],
                "ops",
                "A partition takes 1,000 writes per second; a ref takes about two.",
            ),
        ],
    )


def streams():
    return board(
        "lockstep-streams",
        "Lockstep: streams",
        [
            stat(
                "Not in the event log",
                f"sum(lockstep_journal_unpublished{{{AT}}})",
                "none",
                "It grows: the event log does not take records. Nothing is lost, and other sites lag.",
            ),
            stat("Slots in use", f"sum(lockstep_journal_in_flight{{{AT}}})", "none", "Slots above the settled mark."),
            graph(
                "Published transactions",
                [(f"sum by (site) (rate(lockstep_publish_slots_total{{{AT}}}[$__rate_interval]))", "{{site}}")],
                "ops",
                "As many as are committed.",
            ),
            graph(
                "Refused and repeated records",
                [
                    (
                        f"sum by (site) (rate(lockstep_publish_refused_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} refused",
                    ),
                    (
                        f"sum by (site) (rate(lockstep_publish_repeated_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} repeated",
                    ),
                ],
                "ops",
                "A shard is at its limit: split it.",
            ),
            graph(
                "Duration of an append, p99",
                [
                    (
                        f"histogram_quantile(0.99, sum by (le, site) "
                        f"(rate(lockstep_publish_seconds_bucket{{{AT}}}[$__rate_interval])))",
                        "{{site}}",
                    )
                ],
                "s",
                "One call of Kinesis.",
            ),
            graph(
                "Streams by their way of reading",
                [
                    (f"sum by (site) (lockstep_eventlog_fan_out_streams{{{AT}}})", "{{site}} fan-out"),
                    (f"sum by (site) (lockstep_eventlog_fallback_streams{{{AT}}})", "{{site}} polled instead"),
                ],
                "none",
                "A stream that is polled although its setting asks for fan-out: `lockstep status` tells the reason.",
            ),
            graph(
                "Records that were read",
                [
                    (
                        f"sum by (site, origin) (rate(lockstep_consume_records_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} from {{origin}}",
                    )
                ],
                "ops",
                "Zero for one origin while it commits: its stream is not read.",
            ),
            graph(
                "Journal",
                [
                    (f"max by (site, node) (lockstep_journal_unpublished{{{AT}}})", "{{node}} unpublished"),
                    (f"max by (site, node) (lockstep_journal_in_flight{{{AT}}})", "{{node}} in flight"),
                ],
                "none",
                "Per node.",
            ),
        ],
    )


def failover():
    return board(
        "lockstep-failover",
        "Lockstep: failover",
        [
            stat("Nodes that are ready", f"sum by (site) (lockstep_ready{{{AT}}})", "none", "Per site.", "{{site}}"),
            stat(
                "Epoch",
                f"max by (site) (lockstep_epoch{{{AT}}})",
                "none",
                "Every change of a role raises it.",
                "{{site}}",
            ),
            stat(
                "Seconds behind, if it failed over now",
                f"max by (site) (lockstep_lag_seconds{{{AT}}})",
                "s",
                "A forced failover to this site loses at most what these seconds hold and the journal does not. "
                "`lockstep failover plan` says it exactly.",
                "{{site}}",
            ),
            stat(
                "Safe to fail over to",
                f"max by (to) (lockstep_failover_safe{{{AT}}})",
                "bool",
                "False: `lockstep status --all` says why. Sites to which nothing can be moved are not shown.",
                "{{to}}",
            ),
            graph(
                "Safe to fail over to",
                [
                    (f"max by (to) (lockstep_failover_safe{{{AT}}})", "{{to}}"),
                    (f"max(lockstep_failover_held{{{AT}}})", "a failover is held"),
                ],
                "bool",
                "Held: `lockstep failover status` says why, and an operator resumes or aborts it.",
            ),
            graph(
                "Last drill of each kind",
                [
                    (f'min by (kind) (lockstep_drill_green{{{AT}, kind!="silent"}})', "{{kind}}"),
                    (f'min by (node, kind) (lockstep_drill_green{{{AT}, kind="silent"}})', "{{kind}} {{node}}"),
                ],
                "bool",
                "False: it was red, or did not begin. `lockstep drill history` says why.",
            ),
            graph(
                "Age of the last green drill",
                [
                    (
                        f'time() - max by (kind) (lockstep_drill_timestamp_seconds{{{AT}, kind!="silent"}})',
                        "{{kind}}",
                    ),
                    (
                        f'time() - max by (node, kind) (lockstep_drill_timestamp_seconds{{{AT}, kind="silent"}})',
                        "{{kind}} {{node}}",
                    ),
                ],
                "s",
                "Decades: none was green yet. Empty: none has run, and none is scheduled.",
            ),
            graph(
                "Readiness",
                [(f"min by (site, node) (lockstep_ready{{{AT}}})", "{{node}}")],
                "bool",
                "A failover's target must be ready.",
            ),
            graph(
                "Epochs",
                [(f"max by (site) (lockstep_epoch{{{AT}}})", "{{site}}")],
                "none",
                "A step is a change of role.",
            ),
            graph(
                "Roles",
                [(f"max by (site, role) (lockstep_role{{{AT}}}) > 0", "{{site}} {{role}}")],
                "bool",
                "Two roles of one site: its nodes do not agree for the moment.",
            ),
            graph(
                "Transactions behind",
                [(f"max by (site, origin) (lockstep_lag_transactions{{{AT}}})", "{{site}} behind {{origin}}")],
                "none",
                "A planned failover waits for these.",
            ),
            graph(
                "Commits per site",
                [
                    (
                        f'sum by (site) (rate(lockstep_commit_total{{{AT}, outcome="committed"}}[$__rate_interval]))',
                        "{{site}}",
                    )
                ],
                "ops",
                "The writes move from one site to the other.",
            ),
            graph(
                "Certificates",
                [
                    (
                        f"min by (node, certificate) (lockstep_certificate_expires_timestamp_seconds{{{AT}}}) - time()",
                        "{{node}} {{certificate}}",
                    )
                ],
                "s",
                "Time until they expire. Empty without mutual TLS.",
            ),
            graph(
                "Failures of tasks",
                [
                    (
                        f"sum by (site, stage) (rate(lockstep_task_failures_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} {{stage}}",
                    )
                ],
                "ops",
                "Each is tried again. `lockstep status` has the last errors.",
            ),
        ],
    )


def gerrit():
    return board(
        "lockstep-gerrit",
        "Lockstep: Gerrit",
        [
            stat(
                "Oldest refresh",
                f"max(lockstep_refresh_oldest_seconds{{{AT}}})",
                "s",
                "Gerrit's index and caches are this far behind its refs.",
            ),
            stat(
                "Oldest event",
                f"max(lockstep_events_oldest_seconds{{{AT}}})",
                "s",
                "A stream event of another site has waited for this long.",
            ),
            graph(
                "Refresh: subjects that are due",
                [(f"sum by (site) (lockstep_refresh_due{{{AT}}})", "{{site}}")],
                "none",
                "Changes, accounts, groups and projects.",
            ),
            graph(
                "Refresh tasks",
                [
                    (f"sum by (site) (rate(lockstep_refresh_done_total{{{AT}}}[$__rate_interval]))", "{{site}} done"),
                    (
                        f"sum by (site) (rate(lockstep_refresh_failed_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} failed",
                    ),
                ],
                "ops",
                "A failed task comes again.",
            ),
            graph(
                "Stream events",
                [
                    (
                        f"sum by (site) (rate(lockstep_events_forwarded_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} sent",
                    ),
                    (
                        f"sum by (site) (rate(lockstep_events_delivered_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} delivered",
                    ),
                    (
                        f"sum by (site) (rate(lockstep_events_dropped_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} dropped",
                    ),
                ],
                "ops",
                "Dropped: this Gerrit misses events.",
            ),
            graph(
                "Stream events that wait",
                [
                    (f"sum by (site) (lockstep_events_unsent{{{AT}}})", "{{site}} unsent"),
                    (f"sum by (site) (lockstep_events_waiting{{{AT}}})", "{{site}} waiting"),
                ],
                "none",
                "Gerrit is down or does not ask.",
            ),
            graph(
                "Repositories without hooks",
                [(f"sum by (site) (lockstep_guards_off{{{AT}}})", "{{site}}")],
                "none",
                "Plain git servers only: refs can bypass Lockstep there.",
            ),
            graph(
                "Locks that programs left behind",
                [(f"sum by (site) (lockstep_left_locks{{{AT}}})", "{{site}}")],
                "none",
                "Commits are not visible where they are.",
            ),
            graph(
                "Locks of operators, and maintenance",
                [(f"max by (kind) (lockstep_locks{{{AT}}})", "{{kind}}")],
                "none",
                "Their holders alone commit: `lockstep lock list`.",
            ),
            graph(
                "Errors of operations on repositories",
                [
                    (
                        f"sum by (site, op, kind) (rate(lockstep_git_errors_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} {{op}} {{kind}}",
                    )
                ],
                "ops",
                "The disk, or a damaged repository.",
            ),
        ],
    )


def shadow():
    return board(
        "lockstep-shadow",
        "Lockstep: shadow mode",
        [
            stat(
                "Projects that are watched",
                f"sum by (site) (lockstep_shadow_projects{{{AT}}})",
                "none",
                "Other numbers at two sites: a project is missing at one of them, or cannot be read.",
                "{{site}}",
            ),
            stat(
                "Problems",
                f"sum by (site) (lockstep_shadow_problems{{{AT}}})",
                "none",
                "Above zero: Lockstep would not take something. `lockstep shadow report` names it, with its remedy.",
                "{{site}}",
            ),
            stat(
                "Since the last look",
                f"max by (site) (time() - lockstep_shadow_looked_timestamp_seconds{{{AT}}})",
                "s",
                "It grows: the disk does not answer. Moves of this time are not in the journal.",
                "{{site}}",
            ),
            graph(
                "Proposals",
                [(f"sum by (site) (rate(lockstep_shadow_proposals_total{{{AT}}}[$__rate_interval]))", "{{site}}")],
                "ops",
                "The commits of this site under Lockstep, as far as they begin here, and those that arrive. Zero at "
                "one site while others move: its replication stands still.",
            ),
            graph(
                "Refs in proposals",
                [(f"sum by (site) (rate(lockstep_shadow_refs_total{{{AT}}}[$__rate_interval]))", "{{site}}")],
                "ops",
                "Sites with the same projects have the same curve, later by the lag of their replication.",
            ),
            graph(
                "Duration of a look, p50 and p99",
                [quantile(0.5, "lockstep_shadow_look_seconds"), quantile(0.99, "lockstep_shadow_look_seconds")],
                "s",
                "Moves within one look count as one proposal, so it should stay below a second.",
            ),
        ],
        of="lockstep_shadow_projects",
    )
