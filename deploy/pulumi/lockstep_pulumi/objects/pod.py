"""The StatefulSet. The sidecar's container is that of `deploy/spec/spec.yaml`."""

from __future__ import annotations

import copy
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from lockstep_pulumi.objects.args import SidecarArgs, Value
from lockstep_pulumi.objects.settings import gerrit_config, settings, toml

# The folder with the token for AWS, outside of EKS.
AWS_TOKEN = "/var/run/secrets/aws"

# The folder of the journal of a sidecar that watches. It lies on the volume of Gerrit, outside of the repositories.
JOURNAL = "/var/lib/lockstep-shadow"

COPY_CONFIG = """\
mkdir -p /var/gerrit/etc
id=$(git config --file /var/gerrit/etc/gerrit.config gerrit.serverId || true)
cp /etc/gerrit-config/gerrit.config /var/gerrit/etc/gerrit.config.new
git config --file /var/gerrit/etc/gerrit.config.new gerrit.instanceId "$POD_NAME"
if [ -n "$id" ] && ! git config --file /var/gerrit/etc/gerrit.config.new gerrit.serverId; then
  git config --file /var/gerrit/etc/gerrit.config.new gerrit.serverId "$id"
fi
mv /var/gerrit/etc/gerrit.config.new /var/gerrit/etc/gerrit.config
"""


@cache
def _spec() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(files("lockstep_pulumi").joinpath("data/spec.yaml").read_text())
    return found


def spec() -> dict[str, Any]:
    """The sidecar in a pod. `deploy/spec/generate` copies it into the package."""
    return copy.deepcopy(_spec())


def sidecar(args: SidecarArgs) -> dict[str, Any]:
    """The sidecar, a native one."""
    found: dict[str, Any] = spec()["sidecar"]
    found |= {"image": args.image, "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always"}
    if args.cpu or args.memory:
        before = found["resources"]["requests"]
        size = {"cpu": args.cpu or before["cpu"], "memory": args.memory or before["memory"]}
        found["resources"] = {"requests": size, "limits": dict(size)}
    if args.aws_region:
        found["env"].append({"name": "AWS_REGION", "value": args.aws_region})
    if args.role_arn:
        found["env"] += [
            {"name": "AWS_ROLE_ARN", "value": args.role_arn},
            {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": f"{AWS_TOKEN}/token"},
        ]
        found["volumeMounts"].append({"name": "aws-token", "mountPath": AWS_TOKEN, "readOnly": True})
    found["env"] += [dict(one) for one in args.env]
    return found if args.is_active else watching(found)


def watching(container: dict[str, Any]) -> dict[str, Any]:
    """The sidecar of the mode shadow: it writes its journal, and can write nothing else of the site."""
    journal = {"name": "gerrit-site", "mountPath": JOURNAL, "subPath": "lockstep-shadow"}
    others = [one | ({"readOnly": True} if one["name"] == "gerrit-site" else {}) for one in container["volumeMounts"]]
    command = ["shadow", "watch", "--config", "/etc/lockstep/lockstep.toml", "--journal", JOURNAL]
    return container | {"args": command, "volumeMounts": [journal, *others]}


def bridge(args: SidecarArgs) -> dict[str, Any]:
    """The container that puts the bridge's jar into Gerrit's lib folder."""
    env = [{"name": "GERRIT_VERSION", "value": args.gerrit.version}]
    found: dict[str, Any] = spec()["bridge"]
    return found | {"image": args.image, "imagePullPolicy": "IfNotPresent", "env": env}


def config_copy(args: SidecarArgs) -> dict[str, Any]:
    """The container that gives each pod a gerrit.config of its own: its instanceId is the name of the pod."""
    common = spec()
    return {
        "name": "gerrit-config",
        "image": args.gerrit.image,
        "command": ["sh", "-ec", COPY_CONFIG],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "HOME", "value": "/tmp"},
        ],
        "resources": common["bridge"]["resources"],
        "securityContext": common["sidecar"]["securityContext"],
        "volumeMounts": [
            {"name": "gerrit-site", "mountPath": "/var/gerrit"},
            {"name": "gerrit-config", "mountPath": "/etc/gerrit-config", "readOnly": True},
            {"name": "gerrit-tmp", "mountPath": "/tmp"},
        ],
    }


def gerrit(args: SidecarArgs) -> dict[str, Any]:
    """Gerrit's own container."""
    own, common = args.gerrit, spec()
    size = {"cpu": own.cpu, "memory": own.memory}
    found: dict[str, Any] = {"name": "gerrit", "image": own.image, "imagePullPolicy": "IfNotPresent"}
    given = {"command": list(own.command), "args": list(own.args), "env": [dict(one) for one in own.env]}
    found |= {key: value for key, value in given.items() if value}
    shared = [
        {"name": "gerrit-shared", "mountPath": f"/var/gerrit/etc/{file}", "subPath": file, "readOnly": True}
        for file in own.shared_files
    ]
    return found | {
        "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"name": "ssh", "containerPort": 29418, "protocol": "TCP"},
        ],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 5, "failureThreshold": 3},
        "resources": {"requests": size, "limits": dict(size)},
        "securityContext": common["sidecar"]["securityContext"],
        "volumeMounts": [
            {"name": "gerrit-site", "mountPath": "/var/gerrit"},
            {"name": "gerrit-tmp", "mountPath": "/tmp"},
            *(common["gerrit"]["volumeMounts"] if args.is_active else []),
            *shared,
        ],
    }


def volumes(args: SidecarArgs) -> list[Value]:
    """The volumes beside the one of Gerrit's site."""
    found: list[Value] = [
        {"name": "gerrit-tmp", "emptyDir": {}},
        {"name": "gerrit-config", "configMap": {"name": f"{args.name}-gerrit"}},
    ]
    if args.gerrit.shared_secret:
        secret = {"secretName": args.gerrit.shared_secret, "defaultMode": 288}
        found.append({"name": "gerrit-shared", "secret": secret})
    if not args.has_sidecar:
        return found
    if args.role_arn:
        token = {"path": "token", "expirationSeconds": 3600, "audience": "sts.amazonaws.com"}
        sources = [{"serviceAccountToken": token}]
        found.append({"name": "aws-token", "projected": {"defaultMode": 288, "sources": sources}})
    named: dict[str, Value] = {
        "lockstep-config": {"configMap": {"name": args.name}},
        # An optional Secret may come later: the pod starts, and the sidecar names the file that it misses.
        "lockstep-secrets": {"secret": {"secretName": args.secrets, "optional": True, "defaultMode": 288}},
        "lockstep-tls": {
            "secret": {
                "secretName": args.tls_secret or f"{args.name}-tls",
                "optional": not args.needs_tls_secret,
                "defaultMode": 288,
            }
        },
    }
    return found + [{"name": one["name"], **named.get(one["name"], one)} for one in spec()["volumes"]]


def pod(args: SidecarArgs) -> dict[str, Any]:
    """The fields of the pod."""
    fields: dict[str, Any] = spec()["pod"]
    confined = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    inits = [config_copy(args)]
    if args.has_sidecar:
        inits = [*([bridge(args)] if args.is_active else []), config_copy(args), sidecar(args)]
    place = args.placement
    optional = {
        "imagePullSecrets": [{"name": name} for name in args.pull_secrets],
        "priorityClassName": place.priority_class,
        "tolerations": [dict(one) for one in place.tolerations],
        "affinity": dict(place.affinity),
    }
    zones = {"topology.kubernetes.io/zone": place.zones, "kubernetes.io/hostname": "DoNotSchedule"}
    return {
        "serviceAccountName": args.name,
        **fields,
        "securityContext": {**fields["securityContext"], **confined},
        **{key: value for key, value in optional.items() if value},
        "nodeSelector": {**place.node_selector, **spec()["nodes"]},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": otherwise,
                "labelSelector": {"matchLabels": args.selector},
            }
            for key, otherwise in zones.items()
        ],
        "initContainers": inits,
        "containers": [gerrit(args)],
        "volumes": volumes(args),
    }


def stateful_set(args: SidecarArgs) -> dict[str, Any]:
    """Gerrit and the sidecar."""
    # A sidecar reads its configuration at its start, so another configuration is another pod.
    text = f"{toml(settings(args)) if args.has_sidecar else ''}{gerrit_config(args)}"
    annotations = {
        "lockstep/config": hashlib.sha256(text.encode()).hexdigest(),
        "karpenter.sh/do-not-disrupt": "true",
    }
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": args.storage}}}
    if args.storage_class:
        claim["storageClassName"] = args.storage_class
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": args.metadata(),
        "spec": {
            "serviceName": args.name,
            "replicas": args.replicas,
            "podManagementPolicy": "OrderedReady",
            "minReadySeconds": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": args.partition}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "selector": {"matchLabels": args.selector},
            "template": {"metadata": {"labels": args.labels, "annotations": annotations}, "spec": pod(args)},
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "gerrit-site"},
                    "spec": claim,
                }
            ],
        },
    }
