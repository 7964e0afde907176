"""All objects of a site."""

from __future__ import annotations

from lockstep_pulumi.objects import beside
from lockstep_pulumi.objects.args import SidecarArgs, Value
from lockstep_pulumi.objects.pod import stateful_set


def objects(args: SidecarArgs) -> list[Value]:
    """The objects of a site, in the order in which they are created."""
    return [
        *beside.rights(args),
        *beside.config_maps(args),
        *beside.services(args),
        beside.budget(args),
        beside.network_policy(args),
        *beside.certificate(args),
        stateful_set(args),
        *beside.monitoring(args),
    ]
