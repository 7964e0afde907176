"""The dashboard of failovers: roles, safety, drills."""

from panels import AT, board, graph, stat


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
