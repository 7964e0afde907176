"""The dashboard of shadow mode: the watch beside another replication."""

from panels import AT, board, graph, quantile, stat


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
