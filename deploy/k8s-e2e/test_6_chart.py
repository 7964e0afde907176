"""Two sites that Helm installs from deploy/helm, with a Gerrit in the form of its public image: from empty volumes to
two Gerrits that Lockstep accepts, the Services of users, an upgrade, and Lockstep off and on again."""

import json
import os
import tempfile
import urllib.request

import client
import kube
import pytest
import sites
from conftest import ready

CHART = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "helm", "lockstep")
SITES = ["chart-1", "chart-2"]
FIRST, SECOND = SITES
GERRIT_CONFIG = """\
[auth]
\ttype = DEVELOPMENT_BECOME_ANY_ACCOUNT
[sshd]
\tlistenAddress = off
[container]
\theapLimit = 512m
[sendemail]
\tenable = false
"""


def values(site, **more):
    """The values of a site. The StatefulSet has the name of the site, which is that of the name space."""
    endpoints = "http://endpoints.aws.svc.cluster.local"
    size = {"cpu": "100m", "memory": "1536Mi"}
    found = {
        "site": site,
        "sites": SITES,
        "fullnameOverride": site,
        "image": {"repository": "localhost/lockstep", "tag": "e2e", "pullPolicy": "Never"},
        "config": {
            "refdb": {"region": "eu-central-1", "prefix": "chart", "endpoint": f"{endpoints}:8000"},
            "eventlog": {
                "region": "eu-central-1",
                "prefix": "chart",
                "endpoint": f"{endpoints}:4567",
                "poll_interval": "250ms",
            },
            "blobs": {"url": "file:///var/gerrit/blobs"},
            "commit": {"lanes": 2, "window": 16},
        },
        "sidecar": {
            "resources": {"requests": sites.RESOURCES, "limits": {"memory": sites.RESOURCES["memory"]}},
            "env": [{"name": name, "value": "emulated"} for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")],
        },
        "gerrit": {
            "image": "localhost/lockstep-public-gerrit:e2e",
            "publicImage": {
                "enabled": True,
                "serverId": "3f0c7f0e-6d0b-4a5e-9f43-6f1f0c6f0a11",
                "initialise": site == FIRST,
            },
            "config": GERRIT_CONFIG,
            "resources": {"requests": size, "limits": {"memory": size["memory"]}},
        },
        "bridge": {"gerritVersion": ".".join(os.environ["LOCKSTEP_GERRIT_VERSION"].split(".")[:2])},
        "storage": {"size": "1Gi", "className": "by-hand"},
    }
    return found | more


def helm(action, site, **more):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values(site, **more), file)
        file.flush()
        return kube.helm(action, "lockstep", CHART, "--namespace", site, "--values", file.name, seconds=180)


@pytest.fixture(scope="module")
def two_releases(aws, program):
    for site in SITES:
        kube.apply([sites.named("Namespace", site), sites.volume(site, 0)])
        sites.share_blobs(f"{site}-0")
        helm("install", site)
    for site in SITES:
        runs = lambda: kube.container(site, f"{site}-0", "lockstep")["ready"]
        # The first site is initialised before its sidecar starts.
        kube.until(f"the sidecar of {site} is ready", 400, runs)
    return SITES


def state(site, name):
    return next(iter(kube.container(site, f"{site}-0", name)["state"]))


def test_a_further_site_waits_for_the_repositories_of_the_first_one(two_releases):
    """Nothing is seeded yet. The first site was initialised, and the second one creates nothing of its own."""
    kube.until("the second site waits", 60, lambda: "waits until" in kube.logs(SECOND, f"{SECOND}-0", "gerrit-index"))
    assert state(SECOND, "gerrit-index") == "running" and state(SECOND, "gerrit") == "waiting"
    assert os.path.isdir(os.path.join(sites.VOLUMES, f"{FIRST}-0/git/All-Projects.git"))
    assert not os.path.exists(os.path.join(sites.VOLUMES, f"{SECOND}-0/git/All-Projects.git"))
    # The volume was mounted where the image declares volumes of its own: what was written there is on it.
    assert os.path.exists(os.path.join(sites.VOLUMES, f"{SECOND}-0/etc/gerrit.config"))


def version(site):
    address = kube.pod_status(site, f"{site}-0")["podIP"]
    try:
        with urllib.request.urlopen(f"http://{address}:8080/config/server/version", timeout=20) as answer:
            return answer.read().decode().split()[-1]
    except OSError as error:
        raise kube.Failed(f"{site}: {error}")


def test_a_seed_lets_both_gerrits_start(two_releases):
    said = kube.until("the repositories are seeded", 300, lambda: kube.lockstep(FIRST, 0, "seed", seconds=180))
    print("   ", said.strip().splitlines()[-1])
    for site in two_releases:
        ready(site, 1, seconds=600)
        print(f"    the Gerrit of {site} says: {version(site)}")
    index = kube.container(SECOND, f"{SECOND}-0", "gerrit-index")
    assert index["state"]["terminated"]["exitCode"] == 0
    for site in two_releases:
        said = kube.lockstep(site, 0, "verify", check=False, seconds=180)
        assert said.returncode == 0, said.stdout + said.stderr


def test_the_services_of_users_lead_to_the_pods_that_they_are_for(two_releases):
    """The sidecar labels its pod with the rights of the chart's Role."""
    for site in two_releases:
        both = lambda: kube.endpoints(site, f"{site}-read") == kube.endpoints(site, f"{site}-write") == [f"{site}-0"]
        kube.until(f"both Services of {site} lead to its pod", 60, both)
    epoch = epoch_of(SECOND)
    change = ("site", "role", SECOND, "standby", "--expect-epoch", str(epoch), "--reason", "one active site")
    kube.lockstep(FIRST, 0, *change)
    only = lambda: kube.endpoints(SECOND, f"{SECOND}-write") == []
    kube.until("the Service for writes leads nowhere at a standby", 90, only)
    assert kube.endpoints(SECOND, f"{SECOND}-read") == [f"{SECOND}-0"]
    assert kube.endpoints(FIRST, f"{FIRST}-write") == [f"{FIRST}-0"]


def test_an_upgrade_keeps_the_site_and_initialises_nothing(two_releases):
    before = refs(FIRST)
    identity = kube.get(FIRST, "pod", f"{FIRST}-0")["metadata"]["uid"]
    changed = values(FIRST)["gerrit"]
    changed["publicImage"]["initialise"] = False
    helm("upgrade", FIRST, gerrit=changed)
    other = lambda: kube.get(FIRST, "pod", f"{FIRST}-0")["metadata"]["uid"] != identity
    kube.until("the pod is another one", 240, other)
    ready(FIRST, 1, seconds=600)
    names = [one["name"] for one in kube.get(FIRST, "pod", f"{FIRST}-0")["spec"]["initContainers"]]
    assert names == ["gerrit-programs", "lockstep-bridge", "gerrit-config", "lockstep", "gerrit-index"]
    assert refs(FIRST) == before
    index = kube.logs(FIRST, f"{FIRST}-0", "gerrit-index")
    assert "eindex" not in index, f"the index was there: {index}"


def refs(site):
    """The refs of All-Projects on the disk, without those of the sidecar."""
    repository = os.path.join(sites.VOLUMES, f"{site}-0/git/All-Projects.git")
    listed = client.git("-c", "safe.directory=*", "-C", repository, "for-each-ref").splitlines()
    return [line for line in listed if "refs/lockstep/" not in line]


def test_a_site_runs_without_lockstep_and_comes_back(two_releases):
    """The chart's `mode`, as docs/failover.md tells it."""
    epoch = epoch_of(SECOND)
    mode = ("site", "mode", SECOND, "off", "--expect-epoch", str(epoch), "--reason", "a rollback")
    kube.lockstep(FIRST, 0, *mode)
    helm("upgrade", SECOND, mode="off")
    # The pod was not ready any more, and a StatefulSet replaces no such pod by itself.
    kube.kubectl("--namespace", SECOND, "delete", "pod", f"{SECOND}-0", seconds=240)
    alone = lambda: "lockstep" not in containers() and kube.is_ready(SECOND, f"{SECOND}-0")
    kube.until("Gerrit runs alone", 600, alone)
    assert version(SECOND)
    helm("upgrade", SECOND)
    kube.until("the sidecar is back", 300, lambda: "lockstep" in containers())
    epoch = epoch_of(SECOND)
    mode = ("site", "mode", SECOND, "active", "--role", "standby", "--expect-epoch", str(epoch), "--reason", "fixed")
    kube.lockstep(FIRST, 0, *mode)
    ready(SECOND, 1, seconds=600)
    said = kube.lockstep(SECOND, 0, "verify", check=False, seconds=180)
    assert said.returncode == 0, said.stdout + said.stderr


def epoch_of(site):
    found = json.loads(kube.lockstep(FIRST, 0, "sites", "--json"))["sites"]
    return next(one["epoch"] for one in found if one["site"] == site)


def containers():
    spec = kube.get(SECOND, "pod", f"{SECOND}-0")["spec"]
    return [one["name"] for one in spec.get("initContainers", []) + spec["containers"]]


def test_an_uninstall_keeps_the_volumes(two_releases):
    kube.helm("uninstall", "lockstep", "--namespace", SECOND, seconds=180)
    gone = lambda: kube.get(SECOND, "pods")["items"] == []
    kube.until("the pods have ended", 300, gone)
    claims = kube.get(SECOND, "persistentvolumeclaims")["items"]
    assert [claim["metadata"]["name"] for claim in claims] == [f"gerrit-site-{SECOND}-0"]
    assert os.path.isdir(os.path.join(sites.VOLUMES, f"{SECOND}-0/git/All-Projects.git"))
