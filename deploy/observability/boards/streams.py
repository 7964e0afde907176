"""The dashboard of the streams: appends, reads and the journal behind them."""

from panels import AT, board, graph, stat


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
                "Shared reads: records by source",
                [
                    (
                        f"sum by (site, source) (rate(lockstep_reader_records_total{{{AT}}}[$__rate_interval]))",
                        "{{site}} from the {{source}}",
                    )
                ],
                "ops",
                "Within a site one node reads a shard from the stream. The others have its records from this sibling.",
            ),
            graph(
                "Shared reads: readers",
                [
                    (f"sum by (site, node) (lockstep_reader_leases{{{AT}}})", "{{node}} reads shards for its site"),
                    (
                        f"sum by (site, change) (increase(lockstep_reader_lease_changes_total{{{AT}}}[10m]))",
                        "{{site}} leases {{change}} in 10 minutes",
                    ),
                    (
                        f"sum by (site, reason) (increase(lockstep_reader_alone_total{{{AT}}}[10m]))",
                        "{{site}} read alone in 10 minutes: {{reason}}",
                    ),
                ],
                "none",
                "A node reads alone while its sibling has nothing for it: `lockstep status` tells the reason.",
            ),
            graph(
                "Shards of a stream with an autoscaler",
                [
                    (f"max by (site) (lockstep_eventlog_shards{{{AT}}})", "{{site}} shards"),
                    (f"max by (site) (lockstep_eventlog_shard_changes{{{AT}}})", "{{site}} changes in 24 hours"),
                ],
                "none",
                "Kinesis allows ten changes in 24 hours. `lockstep aws history` has the reasons.",
            ),
            graph(
                "Load of a stream with an autoscaler",
                [(f"max by (site) (lockstep_eventlog_load_percent{{{AT}}})", "{{site}}")],
                "percent",
                "Above the target (60 percent by default) shards are added.",
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
