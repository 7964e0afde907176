"""A site in Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from lockstep_pulumi.objects.args import SidecarArgs, Value
from lockstep_pulumi.objects.site import objects

# The classes of the objects that Kubernetes itself knows. All others are custom resources.
KINDS: Mapping[str, Callable[..., pulumi.CustomResource]] = {
    "ConfigMap": kubernetes.core.v1.ConfigMap,
    "NetworkPolicy": kubernetes.networking.v1.NetworkPolicy,
    "PodDisruptionBudget": kubernetes.policy.v1.PodDisruptionBudget,
    "Role": kubernetes.rbac.v1.Role,
    "RoleBinding": kubernetes.rbac.v1.RoleBinding,
    "Secret": kubernetes.core.v1.Secret,
    "Service": kubernetes.core.v1.Service,
    "ServiceAccount": kubernetes.core.v1.ServiceAccount,
    "StatefulSet": kubernetes.apps.v1.StatefulSet,
}


def created(name: str, value: Value, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Creates an object from its plain value."""
    kind = value["kind"]
    fields: dict[str, Any] = {key: part for key, part in value.items() if key not in ("apiVersion", "kind")}
    if kind in KINDS:
        return KINDS[kind](name, opts=opts, **{snake(key): part for key, part in fields.items()})
    metadata, spec = fields["metadata"], fields["spec"]
    return kubernetes.apiextensions.CustomResource(
        name, api_version=value["apiVersion"], kind=kind, metadata=metadata, spec=spec, opts=opts
    )


def snake(key: str) -> str:
    """The name of a Python argument for a field: role_ref for roleRef."""
    return re.sub("([A-Z])", r"_\1", key).lower()


class Sidecar(pulumi.ComponentResource):
    """Gerrit with the sidecar: the same objects as the chart `deploy/helm/lockstep`."""

    # The name of the StatefulSet. The name of a pod is the name of a node.
    name: str

    def __init__(
        self,
        name: str,
        args: SidecarArgs,
        files: Mapping[str, pulumi.Input[str]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Creates the objects. `files` are secret files in /etc/lockstep-secrets. `opts` may name the cluster."""
        super().__init__("lockstep:index:Sidecar", name, None, opts)
        inside = pulumi.ResourceOptions(parent=self)
        before: list[pulumi.Resource] = []
        if files:
            metadata: Any = {**args.metadata(), "name": args.secrets}
            texts = {key: pulumi.Output.secret(text) for key, text in files.items()}
            before.append(
                kubernetes.core.v1.Secret(f"{name}-secrets", metadata=metadata, string_data=texts, opts=inside)
            )
        for value in objects(args):
            kind = value["kind"]
            waits = pulumi.ResourceOptions(depends_on=before if kind == "StatefulSet" else None)
            options = pulumi.ResourceOptions.merge(inside, waits)
            unique = f"{name}-{kind.lower()}{value['metadata']['name'].removeprefix(args.name)}"
            before.append(created(unique, value, options))
        self.name = args.name
        self.register_outputs({"name": args.name})
