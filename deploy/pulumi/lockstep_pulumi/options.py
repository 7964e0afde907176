"""Options of resources."""

from __future__ import annotations

import pulumi


def below(parent: pulumi.Resource) -> pulumi.ResourceOptions:
    """A resource of a component."""
    return pulumi.ResourceOptions(parent=parent)


def kept(parent: pulumi.Resource, adopted_id: str | None = None) -> pulumi.ResourceOptions:
    """A resource whose loss is a loss of data: Pulumi refuses to delete it until `protect` is off.

    With `adopted_id` Pulumi takes over the existing resource of this id instead of creating one. Remove it after the
    first deployment.
    """
    return pulumi.ResourceOptions(parent=parent, protect=True, import_=adopted_id)
