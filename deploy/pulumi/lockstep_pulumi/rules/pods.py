"""Rules for pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockstep_pulumi.objects.pod import spec
from lockstep_pulumi.rules.model import Props, Rule, Thing

WORKLOADS = ("DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet")
PROBES = {"startupProbe": "/startz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
# The time in which Gerrit ends, and then the sidecar ends its incarnation, in seconds.
GRACE = 160


def pod(thing: Thing) -> Props:
    """The spec of the pods of a workload."""
    found: Props = thing.props.get("spec", {})
    if thing.kind == "Pod":
        return found
    inside: Props = found.get("template", {}).get("spec", {})
    return inside


def containers(thing: Thing) -> list[Props]:
    """All containers of the pods."""
    inside = pod(thing)
    return [*inside.get("initContainers", []), *inside.get("containers", [])]


def has_sidecar(thing: Thing) -> bool:
    """Whether the pods have the sidecar."""
    return any(one.get("name") == "lockstep" for one in containers(thing))


def image_named(thing: Thing) -> Iterator[str]:
    """No image whose content may change at any time."""
    for one in containers(thing):
        image = str(one.get("image", ""))
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"the image {image!r} of {one.get('name')} has no version"


def image_pinned(thing: Thing) -> Iterator[str]:
    """Images by digest."""
    for one in containers(thing):
        if "@sha256:" not in str(one.get("image", "")):
            yield f"the image {one.get('image')!r} of {one.get('name')} has no digest"


def not_root(thing: Thing) -> Iterator[str]:
    """No container runs as root."""
    common = pod(thing).get("securityContext", {})
    for one in containers(thing):
        own = {**common, **one.get("securityContext", {})}
        if own.get("runAsNonRoot") is not True or own.get("runAsUser") == 0:
            yield f"{one.get('name')} may run as root"


def confined(thing: Thing) -> Iterator[str]:
    """No rights beyond those of a user, and a read-only root."""
    common = pod(thing).get("securityContext", {})
    for one in containers(thing):
        own = one.get("securityContext", {})
        problems = {
            "its root file system is writable": own.get("readOnlyRootFilesystem") is not True,
            "it may gain rights": own.get("allowPrivilegeEscalation") is not False or own.get("privileged") is True,
            "it keeps capabilities": list(own.get("capabilities", {}).get("drop", [])) != ["ALL"],
            "it has no seccomp profile": not (own.get("seccompProfile") or common.get("seccompProfile")),
        }
        yield from (f"{one.get('name')}: {problem}" for problem, is_there in problems.items() if is_there)


def apart_from_host(thing: Thing) -> Iterator[str]:
    """Nothing of the node is inside of the pod."""
    inside = pod(thing)
    yield from (f"{field} is on" for field in ("hostNetwork", "hostPID", "hostIPC") if inside.get(field))
    for volume in inside.get("volumes", []):
        if "hostPath" in volume:
            yield f"the volume {volume.get('name')} is a folder of the node"


def probed(thing: Thing) -> Iterator[str]:
    """The probes of the sidecar."""
    for one in containers(thing):
        if one.get("name") != "lockstep":
            continue
        for probe, wanted in PROBES.items():
            path = one.get(probe, {}).get("httpGet", {}).get("path")
            if path != wanted:
                yield f"{probe} asks for {path}, and not for {wanted}"


def bounded(thing: Thing) -> Iterator[str]:
    """A memory limit that is the request, so the pod is not the first to be evicted."""
    for one in containers(thing):
        resources = one.get("resources", {})
        limit, request = resources.get("limits", {}).get("memory"), resources.get("requests", {}).get("memory")
        if limit is None or limit != request:
            yield f"{one.get('name')} has the memory limit {limit} and the request {request}"


def ends_slowly(thing: Thing) -> Iterator[str]:
    """Enough time for Gerrit and then the sidecar to end."""
    grace = pod(thing).get("terminationGracePeriodSeconds", 30)
    if has_sidecar(thing) and grace < GRACE:
        yield f"the pod is killed {grace:g} s after its end began, and Gerrit and sidecar need {GRACE}"


def no_token(thing: Thing) -> Iterator[str]:
    """No container gets a token of the API server that it does not use."""
    if thing.kind == "ServiceAccount":
        automount = thing.props.get("automountServiceAccountToken")
    else:
        automount = pod(thing).get("automountServiceAccountToken")
    if automount is not False:
        yield "every container gets a token of the API server"


def stays(thing: Thing) -> Iterator[str]:
    """A pod with a volume is not moved by Karpenter, and does not run on spot nodes."""
    if not has_sidecar(thing) or thing.kind != "StatefulSet":
        return
    template = thing.props.get("spec", {}).get("template", {})
    annotations = template.get("metadata", {}).get("annotations", {})
    if annotations.get("karpenter.sh/do-not-disrupt") != "true":
        yield "Karpenter may move the pod"
    inside = pod(thing)
    capacity: Any = inside.get("nodeSelector", {}).get("karpenter.sh/capacity-type")
    if capacity == "spot":
        yield "the pod wants a spot node, which ends within two minutes"


def on_amd64(thing: Thing) -> Iterator[str]:
    """The architecture of the image."""
    if has_sidecar(thing) and pod(thing).get("nodeSelector", {}).get("kubernetes.io/arch") != "amd64":
        yield "the pod may start on an architecture without an image"


def native(thing: Thing) -> Iterator[str]:
    """The sidecar starts before Gerrit and ends after it."""
    for one in pod(thing).get("containers", []):
        if one.get("name") == "lockstep":
            yield "the sidecar is a container beside Gerrit, so it may start after it and end before it"


assert spec()["pod"]["terminationGracePeriodSeconds"] >= GRACE

RULES = (
    Rule(
        "image-named", "Images have a version", "Name a tag or, better, a digest", "high", image_named,
        kinds=WORKLOADS,
    ),
    Rule(
        "image-pinned", "Images have a digest", "Write NAME@sha256:...", "medium", image_pinned, kinds=WORKLOADS,
        is_mandatory=False,
    ),
    Rule(
        "not-root", "No container runs as root", "Set runAsNonRoot, and runAsUser to 1000", "high", not_root,
        kinds=WORKLOADS,
    ),
    Rule(
        "confined", "Containers have no rights beyond those of a user",
        "Take the security context of deploy/spec/spec.yaml", "high", confined, kinds=WORKLOADS,
    ),
    Rule(
        "apart-from-host", "Pods see nothing of their node", "Use a PersistentVolumeClaim or an emptyDir", "critical",
        apart_from_host, kinds=WORKLOADS,
    ),
    Rule(
        "probed", "The sidecar has the probes that no outage of AWS fails",
        "Take the probes of deploy/spec/spec.yaml", "high", probed, kinds=WORKLOADS,
    ),
    Rule(
        "memory-bounded", "The memory limit of a container is its request", "Set both to the same value", "medium",
        bounded, kinds=WORKLOADS,
    ),
    Rule(
        "ends-slowly", "A pod has the time to end Gerrit and the sidecar",
        "Set terminationGracePeriodSeconds to 180", "high", ends_slowly, kinds=WORKLOADS,
    ),
    Rule(
        "no-token", "Containers get no token of the API server by default",
        "Set automountServiceAccountToken to false, and project a token where it is used", "medium", no_token,
        kinds=("ServiceAccount", *WORKLOADS),
    ),
    Rule(
        "gerrit-stays", "Gerrit's pods are not moved, and not on spot nodes",
        "Set the annotation karpenter.sh/do-not-disrupt to true, and no capacity type spot", "high", stays,
        kinds=("StatefulSet",),
    ),
    Rule(
        "on-amd64", "Pods run where the image does", "Set the node selector kubernetes.io/arch to amd64", "medium",
        on_amd64, kinds=WORKLOADS,
    ),
    Rule(
        "sidecar-native", "The sidecar is an init container with restartPolicy Always",
        "Use Kubernetes 1.29 or later", "low", native, kinds=WORKLOADS, is_mandatory=False,
    ),
)  # fmt: skip
