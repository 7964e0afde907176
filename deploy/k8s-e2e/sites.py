"""Sites as Kubernetes objects: a StatefulSet of git servers, each with Lockstep as a native sidecar.

The sidecar is that of deploy/spec/spec.yaml. A site is a name space. Its pods are its nodes: `muc-1-0` is the first
node of the site `muc-1`.
"""

import base64
import os
import shutil

import kube
import yaml

IMAGE = "localhost/lockstep:e2e"
GIT_IMAGE = "localhost/lockstep-git:e2e"
EMULATORS_IMAGE = "localhost/lockstep-emulators:e2e"
USER = 1000
SITES = ["muc-1", "ber-1", "ham-1"]
# The most nodes that a site has in these tests. Each has a volume.
MOST_NODES = 3
VOLUMES = os.path.join(kube.RUN, "volumes")
GIT_PORT = {"name": "git", "port": 9418, "targetPort": "git"}
RESOURCES = {"cpu": "100m", "memory": "256Mi"}
LOCKED_DOWN = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def named(kind, name, namespace=None, version="v1", **more):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **more.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def host(site, number):
    return f"{site}-{number}.lockstep.{site}.svc.cluster.local"


def emulators():
    """The emulators of DynamoDB and Kinesis, and in front of them the only way to them. Without the front nobody
    reaches them, and they forget nothing: an outage of AWS."""

    def deployment(name, args):
        labels = {"app": name}
        container = {
            "name": name,
            "image": EMULATORS_IMAGE,
            "imagePullPolicy": "Never",
            "args": args,
            "securityContext": LOCKED_DOWN | {"runAsUser": USER},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        }
        pod = {
            "metadata": {"labels": labels},
            "spec": {
                "containers": [container],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                # The node that the tests do not drain.
                "nodeSelector": {"kubernetes.io/hostname": "node-1"},
            },
        }
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod, "strategy": {"type": "Recreate"}}
        return named("Deployment", name, "aws", "apps/v1", spec=spec)

    def service(name, app):
        ports = [{"name": "dynamodb", "port": 8000}, {"name": "kinesis", "port": 4567}]
        return named("Service", name, "aws", spec={"selector": {"app": app}, "ports": ports})

    return [
        named("Namespace", "aws"),
        deployment("emulators", ["/tmp/emulators", "0.0.0.0"]),
        service("emulators", "emulators"),
        deployment("front", ["--front", "emulators.aws.svc.cluster.local", "0.0.0.0"]),
        service("endpoints", "front"),
    ]


def configuration(site, sites, more, prefix):
    # One file serves all nodes of the site: the first nodes of all sites. A node leaves out itself.
    peers = "".join(f'[peers.{one}-0]\nurl = "https://{host(one, 0)}:7422"\n' for one in sites)
    allow = ", ".join(f'"spiffe://lockstep/{other}/*"' for other in sites)
    names = ", ".join(f'"{one}"' for one in sites)
    return f"""\
site = "{site}"
sites = [{names}]
root = "/var/gerrit/git"
state = "/var/gerrit/git/.lockstep"

[api]
socket = "/run/lockstep/api.sock"

[refdb]
prefix = "{prefix}"
region = "eu-central-1"
endpoint = "http://endpoints.aws.svc.cluster.local:8000"

[eventlog]
prefix = "{prefix}"
region = "eu-central-1"
endpoint = "http://endpoints.aws.svc.cluster.local:4567"
poll_interval = "250ms"

[blobs]
url = "file:///blobs/{prefix}"

# After a kill, every slot of the window is read or poisoned. The emulators are a debug build, and take long for many.
[commit]
lanes = 2
window = 16

[tls]
certificate_file = "/etc/lockstep-tls/tls.crt"
key_file = "/etc/lockstep-tls/tls.key"
trust_file = "/etc/lockstep-tls/ca.crt"
listen = "0.0.0.0:7422"
allow = [{allow}]

{peers}
{more}
"""


def spec():
    """The sidecar in a pod, as the chart and the Kustomize component have it."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "spec", "spec.yaml")) as file:
        return yaml.safe_load(file)


def ours(container, image):
    """A container of the spec with the image and the size of the tests. Nothing else of it is changed."""
    return container | {
        "image": image,
        "imagePullPolicy": "Never",
        "resources": {"requests": RESOURCES, "limits": {"memory": RESOURCES["memory"]}},
    }


def sidecar():
    """Lockstep beside a server, as a native sidecar. The tests add credentials for the emulators, and a blob folder."""
    container = ours(spec()["sidecar"], IMAGE)
    container["restartPolicy"] = "Always"
    container["envFrom"] = [{"secretRef": {"name": "aws"}}]
    container["volumeMounts"].append({"name": "blobs", "mountPath": "/blobs"})
    return container


def git_server():
    """git's own server. `timeout 0` sets no limit: it passes SIGTERM on, which the first process of a container would
    otherwise ignore."""
    return {
        "name": "git",
        "image": GIT_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["timeout", "0", "git", "daemon", "--base-path=/var/gerrit/git", "--export-all"],
        "args": ["--enable=receive-pack", "--reuseaddr", "--listen=0.0.0.0", "--verbose"],
        "ports": [{"name": "git", "containerPort": 9418}],
        "readinessProbe": {"tcpSocket": {"port": "git"}, "periodSeconds": 2},
        "securityContext": spec()["sidecar"]["securityContext"],
        "resources": {"requests": RESOURCES, "limits": {"memory": RESOURCES["memory"]}},
        "volumeMounts": [
            {"name": "gerrit-site", "mountPath": "/var/gerrit"},
            {"name": "lockstep-tmp", "mountPath": "/tmp"},
            *spec()["gerrit"]["volumeMounts"],
        ],
    }


def stateful_set(site, replicas, server):
    labels = {"site": site}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    pod = spec()["pod"] | {
        "serviceAccountName": "lockstep",
        "initContainers": [sidecar()],
        "containers": [server],
        "topologySpreadConstraints": [spread],
        "volumes": [*spec()["volumes"], {"name": "blobs", "hostPath": {"path": os.path.join(VOLUMES, "blobs")}}],
    }
    claim = {
        "metadata": {"name": "gerrit-site"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "by-hand",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    body = {
        "serviceName": "lockstep",
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        "volumeClaimTemplates": [claim],
    }
    return named("StatefulSet", site, site, "apps/v1", spec=body)


def volume(site, number):
    """A folder of this machine, which the pods of both nodes of the cluster see: a volume that moves with its pod."""
    pod = f"{site}-{number}"
    path = folder(pod)
    body = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "by-hand",
        "hostPath": {"path": path},
        "claimRef": {"namespace": site, "name": f"gerrit-site-{pod}"},
    }
    return named("PersistentVolume", pod, spec=body)


def folder(name):
    path = os.path.join(VOLUMES, name)
    os.makedirs(path, exist_ok=True)
    os.chown(path, USER, USER)
    return path


def share_blobs(pod):
    """Shows the folder of all blobs in a pod's volume: the chart has no mount for it, because blobs are in S3."""
    inside = os.path.join(folder(pod), "blobs")
    os.makedirs(inside, exist_ok=True)
    kube.command("mount", "--bind", folder("blobs"), inside)


def unshare_blobs():
    """Ends what share_blobs began, so that the folders can be removed."""
    with open("/proc/mounts") as file:
        inside = [line.split()[1] for line in file if line.split()[1].startswith(VOLUMES + "/")]
    for path in sorted(inside, reverse=True):
        kube.command("umount", "--lazy", path)


def secrets(site, authority, program):
    """The certificate of a site's nodes, made by `lockstep certs`, and the credentials that the emulators take."""
    out = os.path.join(authority, site)
    if not os.path.isdir(out):
        hosts = [word for number in range(MOST_NODES) for word in ("--host", host(site, number))]
        names = ("--site", site, "--node", f"{site}-0", *hosts)
        kube.command(program, "certs", "issue", "--dir", authority, *names, "--out", out)
    data = {}
    for name in ("tls.crt", "tls.key", "ca.crt"):
        with open(os.path.join(out, name), "rb") as content:
            data[name] = base64.b64encode(content.read()).decode()
    keys = {"AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated"}
    return [named("Secret", "lockstep-tls", site, data=data), named("Secret", "aws", site, stringData=keys)]


def site(name, sites, replicas, program, server=None, more="[git]\ninstall_hooks = true", prefix="e2e"):
    """Everything of a site. Sites with one prefix share tables and streams."""
    authority = os.path.join(kube.RUN, "authority")
    if not os.path.isdir(authority):
        kube.command(program, "certs", "init", "--dir", authority)
    labels = {"site": name}
    peers = {"clusterIP": "None", "publishNotReadyAddresses": True, "ports": [{"name": "peers", "port": 7422}]}
    return [
        named("Namespace", name),
        named("ServiceAccount", "lockstep", name),
        *secrets(name, authority, program),
        named("ConfigMap", "lockstep", name, data={"lockstep.toml": configuration(name, sites, more, prefix)}),
        named("Service", "lockstep", name, spec={"selector": labels, **peers}),
        named("Service", "git", name, spec={"selector": labels, "ports": [GIT_PORT]}),
        named(
            "PodDisruptionBudget",
            "lockstep",
            name,
            "policy/v1",
            spec={
                "maxUnavailable": 1,
                "selector": {"matchLabels": labels},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        ),
        *(volume(name, number) for number in range(MOST_NODES)),
        stateful_set(name, replicas, server or git_server()),
    ]


def clear():
    """Removes everything of an earlier run: name spaces, volumes, and their folders."""
    names = ["aws", *SITES, "start-1", "gerrit-1", "gerrit-2", "injected-1", "chart-1", "chart-2", "many"]
    for name in names:
        # An orderly end would wait for emulators that are gone, too.
        kube.kubectl("--namespace", name, "delete", "pod", "--all", "--force", "--grace-period=0", check=False)
    kube.kubectl("delete", "namespace", "--ignore-not-found", "--wait=true", "--timeout=180s", *names, seconds=200)
    kube.kubectl("delete", "persistentvolume", "--all", "--wait=true", "--timeout=60s")
    kube.kubectl("delete", "node", "--selector", "type=kwok")
    unshare_blobs()
    shutil.rmtree(VOLUMES, ignore_errors=True)
    folder("blobs")
