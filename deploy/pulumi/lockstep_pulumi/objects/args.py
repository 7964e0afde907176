"""The settings of a site in Kubernetes. They are the values of the chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.names import site_problem

Value = Mapping[str, Any]

MODES = ("active", "shadow", "off")


def mode_problem(mode: str) -> str | None:
    """The problem with a mode, if there is one."""
    return unless(mode in MODES, f"mode: {mode!r}; write active, shadow or off")


@dataclass(frozen=True)
class GerritArgs:
    """Gerrit's own container."""

    image: str
    # The release: it selects the bridge's jar.
    version: str = "3.13"
    # The text of gerrit.config. The part of the bridge is added.
    config: str = ""
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Sequence[Value] = ()
    cpu: str = "2"
    memory: str = "8Gi"
    # A Secret with files of Gerrit's etc folder that are the same at all sites, and the names of the files.
    shared_secret: str = ""
    shared_files: Sequence[str] = ()


@dataclass(frozen=True)
class TlsArgs:
    """Mutual TLS between nodes: a Secret with tls.crt, tls.key and ca.crt, or an issuer of cert-manager."""

    secret: str = ""
    issuer: str = ""
    issuer_kind: str = "ClusterIssuer"
    trust_domain: str = "lockstep"

    def __post_init__(self) -> None:
        """Refuses two certificates, and none."""
        refuse(unless(bool(self.secret) != bool(self.issuer), "tls: set one of secret and issuer"))


@dataclass(frozen=True)
class NetworkArgs:
    """The clients of the pods and the networks that pods may reach: entries of `from`, and networks."""

    clients: Sequence[Value] = ()
    peers: Sequence[Value] = ()
    monitoring: Sequence[Value] = ()
    aws: Sequence[str] = ("0.0.0.0/0",)
    extra_egress: Sequence[Value] = ()


@dataclass(frozen=True)
class PlacementArgs:
    """Where the pods run."""

    tolerations: Sequence[Value] = ()
    affinity: Value = field(default_factory=dict)
    # Labels of nodes, beside the architecture, for which an image exists.
    node_selector: Mapping[str, str] = field(default_factory=dict)
    priority_class: str = ""
    # ScheduleAnyway or DoNotSchedule.
    zones: str = "ScheduleAnyway"


@dataclass(frozen=True)
class SidecarArgs:
    """A whole site: Gerrit and the sidecar in one StatefulSet, and what belongs to it."""

    site: str
    # The sites with which the list of sites begins.
    sites: Sequence[str]
    namespace: str
    # The image of the sidecar, with its digest.
    image: str
    gerrit: GerritArgs
    # The sidecar's configuration, as docs/configuration.md lists it.
    config: Value = field(default_factory=dict)
    # "active": Gerrit commits through Lockstep. "shadow": Gerrit runs with the replication that it has, and the sidecar
    # watches. "off": Gerrit runs alone.
    mode: str = "active"
    replicas: int = 1
    most_replicas: int = 3
    # Pods with a lower number keep the old version in an upgrade.
    partition: int = 0
    aws_region: str = ""
    # Outside of EKS: the role that the sidecar takes with a token of the cluster.
    role_arn: str = ""
    # The ARN of a role for the annotation of the service account, where the cluster uses it instead of Pod Identity.
    annotated_role: str = ""
    tls: TlsArgs | None = None
    pull_secrets: Sequence[str] = ()
    cpu: str = ""
    memory: str = ""
    env: Sequence[Value] = ()
    storage: str = "100Gi"
    storage_class: str = ""
    service_type: str = "ClusterIP"
    service_annotations: Mapping[str, str] = field(default_factory=dict)
    peers_service: str = ""
    placement: PlacementArgs = field(default_factory=PlacementArgs)
    network: NetworkArgs = field(default_factory=NetworkArgs)
    # Objects of the Prometheus operator, and dashboards for Grafana.
    monitors: bool = False
    rules: bool = False
    rules_labels: Mapping[str, str] = field(default_factory=dict)
    dashboards: bool = False

    def __post_init__(self) -> None:
        """Refuses what no schema can say. The configuration has a schema of its own."""
        listens = [
            unless(
                str(self.section(section).get("listen", port)).endswith(port),
                f"config.{section}.listen: write 0.0.0.0{port}, the port of the pod",
            )
            for section, port in (("tls", ":7422"), ("operators", ":7423"))
        ]
        urls = [str(peer.get("url", "")) for peer in self.section("peers").values() if isinstance(peer, Mapping)]
        refuse(
            site_problem("site", self.site),
            unless(self.site in self.sites, f"sites: {self.site} is missing; list the names of all sites"),
            mode_problem(self.mode),
            unless(
                0 <= self.replicas <= self.most_replicas,
                f"replicas: {self.replicas} is more than most_replicas, {self.most_replicas}; raise most_replicas",
            ),
            unless(
                "listen" not in self.section("health"),
                "config.health.listen: the pod sets it for the kubelet's probes; remove it",
            ),
            unless(
                self.mode == "off" or bool(self.section("blobs").get("url")),
                "config.blobs.url: name the blob store, s3://bucket/prefix",
            ),
            unless(
                self.tls is not None or not any(url.startswith("https://") for url in urls),
                "config.peers: https needs a certificate of this site; set tls",
            ),
            *listens,
        )

    def section(self, name: str) -> Value:
        """A section of the configuration. It is empty if it is missing, or no table, which the schema tells."""
        found = self.config.get(name)
        return found if isinstance(found, Mapping) else {}

    @property
    def name(self) -> str:
        """The name of the StatefulSet and of everything beside it. Pods are nodes, so it is unique over all sites."""
        return f"gerrit-{self.site}"[:40].rstrip("-")

    @property
    def is_active(self) -> bool:
        """Whether Gerrit commits through the sidecar."""
        return self.mode == "active"

    @property
    def has_sidecar(self) -> bool:
        """Whether there is a sidecar. In the mode shadow, Gerrit does not know of it."""
        return self.mode != "off"

    @property
    def tls_secret(self) -> str:
        """The Secret with the certificate. Empty without TLS."""
        if self.tls is None:
            return ""
        return self.tls.secret or f"{self.name}-tls"

    @property
    def needs_tls_secret(self) -> bool:
        """Whether a pod waits for the certificate. The issuer makes none for a sidecar that watches."""
        return self.tls is not None and (self.is_active or not self.tls.issuer)

    @property
    def secrets(self) -> str:
        """The Secret whose keys are files in /etc/lockstep-secrets."""
        return f"{self.name}-secrets"

    @property
    def selector(self) -> dict[str, str]:
        """The labels by which the pods are found."""
        return {"app.kubernetes.io/name": "lockstep", "app.kubernetes.io/instance": self.name}

    @property
    def labels(self) -> dict[str, str]:
        """The labels of every object."""
        return {**self.selector, "app.kubernetes.io/managed-by": "pulumi", "lockstep/site": self.site}

    def metadata(self, suffix: str = "", labels: Value | None = None, annotations: Value | None = None) -> Value:
        """The metadata of an object."""
        metadata: dict[str, Any] = {
            "name": f"{self.name}{suffix}",
            "namespace": self.namespace,
            "labels": {**self.labels, **(labels or {})},
        }
        return {**metadata, "annotations": dict(annotations)} if annotations else metadata
