"""Sites with a real Gerrit: its folder, its container, and its REST API."""

import base64
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request

import kube
import sites

IMAGE = "localhost/lockstep-gerrit:e2e"
SITES = ["gerrit-1", "gerrit-2"]
JVM = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]
MORE = '[gerrit]\nrefresh = "bridge"'


def found(folder):
    """Initialises a Gerrit without Lockstep, as an administrator does first. Returns its folder."""
    site = os.path.join(folder, "site")
    java, war = os.environ["LOCKSTEP_GERRIT_JAVA"], os.environ["LOCKSTEP_GERRIT_WAR"]
    program = (java, *JVM, f"-Duser.home={folder}", "-jar", war, "init", "-d", site)
    kube.command(*program, "--batch", "--dev", "--no-auto-start", seconds=300)
    return site


def place(site, origin, with_repositories):
    """Puts a copy of a Gerrit on the volume of a site's first node, with the settings of docs/gerrit.md."""
    target = sites.folder(f"{site}-0")
    left_out = {"logs", "tmp", "cache", *(() if with_repositories else ("git",))}
    for name in os.listdir(origin):
        if name not in left_out:
            path = os.path.join(origin, name)
            copy = shutil.copytree if os.path.isdir(path) else shutil.copy
            copy(path, os.path.join(target, name))
    settings = {
        "gerrit.basePath": "/var/gerrit/git",
        "gerrit.instanceId": f"{site}-0",
        "gerrit.installDbModule": "io.lockstep.bridge.BridgeDbModule",
        "gerrit.installModule": "io.lockstep.bridge.BridgeModule",
        "gerrit.canonicalWebUrl": f"http://{site}/",
        "core.usePerRequestRefCache": "false",
        "lockstep.socket": "/run/lockstep/api.sock",
        "httpd.listenUrl": "http://*:8080/",
        "sshd.listenAddress": "off",
        "sendemail.enable": "false",
    }
    for key, value in settings.items():
        kube.command("git", "config", "--file", os.path.join(target, "etc/gerrit.config"), key, value)
    subprocess.run(["chown", "--recursive", f"{sites.USER}:{sites.USER}", target], check=True)


def server():
    return {
        "name": "gerrit",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/opt/java/bin/java", *JVM, "-Duser.home=/tmp", "-jar", "/opt/gerrit.war"],
        "args": ["daemon", "-d", "/var/gerrit", "--console-log", "--headless"],
        "ports": [{"name": "git", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/config/server/version", "port": 8080}, "periodSeconds": 2},
        "securityContext": sites.spec()["sidecar"]["securityContext"],
        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1536Mi"}},
        "volumeMounts": [
            {"name": "gerrit-site", "mountPath": "/var/gerrit"},
            {"name": "lockstep-tmp", "mountPath": "/tmp"},
            *sites.spec()["gerrit"]["volumeMounts"],
        ],
    }


def bridge(version):
    """Puts the bridge's jar for Gerrit's release into Gerrit's `lib`, before anything else of the pod starts."""
    container = sites.ours(sites.spec()["bridge"], sites.IMAGE)
    return container | {"env": [{"name": "GERRIT_VERSION", "value": version}]}


def objects(site, program):
    """Everything of a site with a Gerrit."""
    all_objects = sites.site(site, SITES, 1, program, server(), MORE, prefix="gerrit")
    pod = next(one for one in all_objects if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    pod["initContainers"].insert(0, bridge(os.environ["LOCKSTEP_GERRIT_VERSION"]))
    return all_objects


def address(site):
    return f"{kube.pod_status(site, f'{site}-0')['podIP']}:8080"


def rest(site, method, path, body=None):
    """A call of Gerrit's REST API, as the administrator that `init --dev` makes."""
    request = urllib.request.Request(f"http://{address(site)}/a{path}", method=method)
    request.add_header("Authorization", "Basic " + base64.b64encode(b"admin:secret").decode())
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, data=data, timeout=60) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError) as error:
        said = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
        raise kube.Failed(f"{method} {path} at {site}: {error} {said}")
    return json.loads(text.removeprefix(")]}'\n") or "null")
