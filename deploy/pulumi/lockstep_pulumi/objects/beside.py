"""Everything beside the StatefulSet: Services, rights, limits of the network, monitoring, the certificate."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from lockstep_pulumi.objects.args import SidecarArgs, Value
from lockstep_pulumi.objects.settings import gerrit_config, settings, toml

USERS = (("http", 8080), ("ssh", 29418))


def _of(kind: str, version: str, metadata: Value, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _tcp(*names: str) -> list[Value]:
    return [{"port": name, "protocol": "TCP"} for name in names]


def config_maps(args: SidecarArgs) -> list[Value]:
    """The configurations of the sidecar and of Gerrit."""
    gerrit = _of("ConfigMap", "v1", args.metadata("-gerrit"), data={"gerrit.config": gerrit_config(args)})
    if not args.has_sidecar:
        return [gerrit]
    return [_of("ConfigMap", "v1", args.metadata(), data={"lockstep.toml": toml(settings(args))}), gerrit]


def rights(args: SidecarArgs) -> list[Value]:
    """The service account. The sidecar sets one label on its own pod, and names of pods are all that a Role knows."""
    annotations = {"eks.amazonaws.com/role-arn": args.annotated_role} if args.annotated_role else None
    account = _of("ServiceAccount", "v1", args.metadata(annotations=annotations), automountServiceAccountToken=False)
    if not args.is_active:
        return [account]
    group = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": [""],
        "resources": ["pods"],
        "resourceNames": [f"{args.name}-{number}" for number in range(args.most_replicas)],
        "verbs": ["get", "patch"],
    }
    return [
        account,
        _of("Role", f"{group}/v1", args.metadata(), rules=[rule]),
        _of(
            "RoleBinding",
            f"{group}/v1",
            args.metadata(),
            roleRef={"apiGroup": group, "kind": "Role", "name": args.name},
            subjects=[{"kind": "ServiceAccount", "name": args.name, "namespace": args.namespace}],
        ),
    ]


def service(args: SidecarArgs, suffix: str, ports: list[tuple[str, int]], **fields: Any) -> Value:
    """A Service of the pods."""
    annotations = fields.pop("annotations", None)
    selector = {**args.selector, **fields.pop("selector", {})}
    metadata = args.metadata(suffix, fields.pop("labels", None), annotations)
    listed = [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports]
    return _of("Service", "v1", metadata, spec={**fields, "selector": selector, "ports": listed})


def services(args: SidecarArgs) -> list[Value]:
    """The names of the pods, the pods that are ready, those that take writes, and what the sidecar listens on."""
    hidden = {"clusterIP": "None", "publishNotReadyAddresses": True}
    users: dict[str, Any] = {"type": args.service_type, "annotations": args.service_annotations}
    peers = [("peers", 7422)] if args.is_active else []
    found = [
        service(args, "", [*USERS, *peers], **hidden),
        service(args, "-read", list(USERS), **users),
        service(args, "-write", list(USERS), **users, selector={"lockstep/role": "active"} if args.is_active else {}),
    ]
    if args.is_active:
        found.append(service(args, "-metrics", [("health", 7421)], **hidden, labels={"lockstep/metrics": "true"}))
    if args.is_active and args.peers_service:
        found.append(service(args, "-peers", peers, type=args.peers_service, publishNotReadyAddresses=True))
    if args.is_active and "listen" in args.section("operators"):
        found.append(service(args, "-operators", [("operators", 7423)], publishNotReadyAddresses=True))
    return found


def budget(args: SidecarArgs) -> Value:
    """One pod at a time may be evicted."""
    limits = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    spec = {**limits, "selector": {"matchLabels": args.selector}}
    return _of("PodDisruptionBudget", "policy/v1", args.metadata(), spec=spec)


def network_policy(args: SidecarArgs) -> Value:
    """The rule that bounds the clients of the pods, and the networks that pods may reach."""
    network = args.network

    def rule(ports: list[Value], way: str, entries: Any) -> Value:
        return {"ports": ports, way: [dict(one) for one in entries]} if entries else {"ports": ports}

    ingress = [rule(_tcp("http", "ssh"), "from", network.clients)]
    everybody: list[Value] = [{"namespaceSelector": {}}]
    if args.is_active:
        own: Value = {"podSelector": {"matchLabels": args.selector}}
        ingress.append(rule(_tcp("peers"), "from", [own, *network.peers] if network.peers else ()))
    if args.has_sidecar:
        ingress.append(rule(_tcp("health"), "from", network.monitoring or everybody))
    if args.is_active and "listen" in args.section("operators"):
        ingress.append(rule(_tcp("operators"), "from", ()))
    credentials = [{"ipBlock": {"cidr": cidr}} for cidr in ("169.254.170.23/32", "169.254.169.254/32")]

    def port(number: int, protocol: str = "TCP") -> Value:
        return {"port": number, "protocol": protocol}

    egress: list[Value] = [
        {"ports": [port(53, "UDP"), port(53)]},
        {"ports": [port(443), port(6443)], "to": [{"ipBlock": {"cidr": cidr}} for cidr in network.aws]},
        {"ports": [port(7422)]},
        {"ports": [port(80)], "to": credentials},
        *(dict(one) for one in network.extra_egress),
    ]
    spec = {
        "podSelector": {"matchLabels": args.selector},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    }
    return _of("NetworkPolicy", "networking.k8s.io/v1", args.metadata(), spec=spec)


def certificate(args: SidecarArgs) -> list[Value]:
    """The certificate of cert-manager, if there is an issuer."""
    if not args.is_active or args.tls is None or not args.tls.issuer:
        return []
    tls, host = args.tls, f"{args.namespace}.svc"
    spec = {
        "secretName": args.tls_secret,
        "issuerRef": {"name": tls.issuer, "kind": tls.issuer_kind, "group": "cert-manager.io"},
        "duration": "2160h",
        "renewBefore": "720h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["digital signature", "server auth", "client auth"],
        "uris": [f"spiffe://{tls.trust_domain}/{args.site}/{args.name}"],
        "dnsNames": [f"{args.name}.{host}", f"*.{args.name}.{host}", f"{args.name}-peers.{host}"],
    }
    return [_of("Certificate", "cert-manager.io/v1", args.metadata(), spec=spec)]


@cache
def _rules() -> Any:
    return yaml.safe_load(files("lockstep_pulumi").joinpath("data/rules.yaml").read_text())


def monitoring(args: SidecarArgs) -> list[Value]:
    """Objects of the Prometheus operator, and dashboards. A sidecar in shadow mode has them, too."""
    group = "monitoring.coreos.com/v1"
    found: list[Value] = []
    if args.has_sidecar and args.monitors:
        labels = {"site": "__meta_kubernetes_pod_label_lockstep_site", "node": "__meta_kubernetes_pod_name"}
        relabelings = [{"sourceLabels": [source], "targetLabel": target} for target, source in labels.items()]
        endpoint = {"port": "health", "path": "/metrics", "interval": "15s", "relabelings": relabelings}
        spec = {"selector": {"matchLabels": args.selector}, "podMetricsEndpoints": [endpoint]}
        found.append(_of("PodMonitor", group, args.metadata(), spec=spec))
    if args.has_sidecar and args.rules:
        found.append(_of("PrometheusRule", group, args.metadata(labels=args.rules_labels), spec=_rules()))
    if args.has_sidecar and args.dashboards:
        folder = files("lockstep_pulumi").joinpath("data")
        boards = sorted(
            (file for file in folder.iterdir() if file.name.startswith("lockstep-")), key=lambda it: it.name
        )
        metadata = args.metadata("-dashboards", {"grafana_dashboard": "1"})
        texts = {file.name: json.dumps(json.loads(file.read_text()), indent=1) + "\n" for file in boards}
        found.append(_of("ConfigMap", "v1", metadata, data=texts))
    return found
