"""The dashboard of the refdb: calls, errors and request units."""

from panels import AT, board, graph, quantile, stat


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
            stat(
                "Endpoints of AWS out of reach",
                f"sum(lockstep_aws_open_circuits{{{AT}}})",
                "short",
                "Above zero: no connection can be made, and calls end at once.",
            ),
            graph(
                "Circuits of AWS that opened",
                [
                    (
                        f"sum by (site, service) (increase(lockstep_aws_circuits_opened_total{{{AT}}}[1h]))",
                        "{{site}} {{service}}",
                    )
                ],
                "short",
                "A connection could not be made five times in a row.",
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
