"""The dashboard of the cost: units of AWS that Lockstep counts, times prices that are variables of the dashboard.

It shows the part of a bill that depends on load: requests, bytes and streams. Storage, backups, keys, endpoints,
transfer between Regions and the machines are not in it, and neither are the units of writes that DynamoDB refused.
"""

from panels import AT, board, graph, price, stat

# Seconds of a month of 730 hours.
MONTH = 2_628_000
# List prices of us-east-1 in USD, as they were known in November 2026. They were not read again from AWS.
PRICES = [
    price("write_price", "USD per million write units", "0.625"),
    price("read_price", "USD per million read units", "0.125"),
    price("stream_price", "USD per hour of a stream", "0.04"),
    price("in_price", "USD per GiB into a stream", "0.08"),
    price("out_price", "USD per GiB out of a stream", "0.04"),
    price("put_price", "USD per thousand blobs stored", "0.005"),
    price("get_price", "USD per thousand blobs fetched", "0.0004"),
]


def over_range(metric, more=""):
    """The rate of a counter over the time that the dashboard shows, over all nodes. Zero while it has no series."""
    return f"(sum(rate({metric}{{{AT}{more}}}[$__range])) or vector(0))"


def rate(metric, by, more=""):
    return f"sum by ({by}) (rate({metric}{{{AT}{more}}}[$__rate_interval]))"


def units(kind):
    return over_range("lockstep_refdb_request_units_total", f', kind="{kind}"')


def blobs(call):
    return over_range("lockstep_blob_calls_total", f', call="{call}"')


REFDB = f"({units('write')} * $write_price + {units('read')} * $read_price) / 1e6"
STREAMS = f"count(count by (site) (lockstep_ready{{{AT}}}))"
BYTES = (
    f"({over_range('lockstep_eventlog_appended_bytes_total')} * $in_price + "
    f"{over_range('lockstep_eventlog_read_bytes_total')} * $out_price) / 2^30"
)
BLOBS = f"({blobs('put')} * $put_price + {blobs('get')} * $get_price) / 1e3"


def cost():
    return board(
        "lockstep-cost",
        "Lockstep: cost",
        [
            stat(
                "Refdb, per month",
                f"{REFDB} * {MONTH}",
                "currencyUSD",
                "Request units of on-demand tables, if every hour is like the time that is shown. A global table with "
                "strong reads costs a multiple: change the prices above.",
            ),
            stat(
                "Event log, per month",
                f"{BYTES} * {MONTH} + {STREAMS} * $stream_price * 730",
                "currencyUSD",
                "On-demand streams, one per site, and their bytes. AWS rounds each record up to a KiB. For provisioned "
                "streams, set the price of an hour to that of all shards, and the prices of bytes to zero.",
            ),
            stat(
                "Blob store, per month",
                f"{BLOBS} * {MONTH}",
                "currencyUSD",
                "Requests alone. A large blob is stored in several requests. Storage is not in it.",
            ),
            stat(
                "Refdb, per thousand refs",
                f"1000 * {REFDB} / sum(rate(lockstep_commit_refs_total{{{AT}}}[$__range]))",
                "currencyUSD",
                "It rises while few commit: heartbeats and marks cost the same at any load.",
            ),
            graph(
                "Request units",
                [(rate("lockstep_refdb_request_units_total", "site, kind"), "{{site}} {{kind}}")],
                "ops",
                "As DynamoDB tells them. A ref of a transaction takes two write units, and more above 1 KiB.",
            ),
            graph(
                "Write units per ref",
                [
                    (
                        rate("lockstep_refdb_request_units_total", "site", ', kind="write"')
                        + " / "
                        + rate("lockstep_commit_refs_total", "site"),
                        "{{site}}",
                    )
                ],
                "none",
                "Two per ref, and those of the slot, the marks and the heartbeats. It falls under load.",
            ),
            graph(
                "Bytes of the event log",
                [
                    (rate("lockstep_eventlog_appended_bytes_total", "site"), "{{site}} appended"),
                    (rate("lockstep_eventlog_read_bytes_total", "site"), "{{site}} read"),
                ],
                "Bps",
                "Every node reads the streams of all sites, so reads grow with the number of nodes.",
            ),
            graph(
                "Bytes per record",
                [
                    (
                        rate("lockstep_eventlog_appended_bytes_total", "site")
                        + " / "
                        + rate("lockstep_eventlog_appended_records_total", "site"),
                        "{{site}}",
                    )
                ],
                "bytes",
                "`commit.inline_pack_bytes` decides which packs travel in a record, and which in the blob store.",
            ),
            graph(
                "Blobs",
                [(rate("lockstep_blob_calls_total", "site, call"), "{{site}} {{call}}")],
                "ops",
                "Stored by the site that commits, fetched by each node that cannot have the pack from a peer.",
            ),
            graph(
                "Bytes of blobs",
                [(rate("lockstep_blob_bytes_total", "site, call"), "{{site}} {{call}}")],
                "Bps",
                "Bytes that leave a Region are billed as transfer, which this dashboard does not count.",
            ),
        ],
        prices=PRICES,
    )
