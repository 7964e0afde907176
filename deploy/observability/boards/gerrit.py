"""The dashboard of Gerrit: refreshes, stream events, repositories and the sidecar."""

from panels import AT, board, graph, stat


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
