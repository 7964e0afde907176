"""The dashboard of replication: lag, parked and quarantined transactions, verification."""

from panels import AT, board, graph, quantile, stat


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
