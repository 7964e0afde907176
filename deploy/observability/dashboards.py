"""Dashboards for Grafana, one file each in boards/. Each panel is one question; its description says what a bad value
means."""

from boards.costs import cost
from boards.failover import failover
from boards.gerrit import gerrit
from boards.refdb import refdb
from boards.replication import replication
from boards.shadow import shadow
from boards.streams import streams


def boards():
    return [replication(), refdb(), streams(), failover(), gerrit(), cost(), shadow()]
