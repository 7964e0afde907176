"""Two sites with a real Gerrit each, and Lockstep as a native sidecar beside it."""

import subprocess
import tempfile

import client
import gerrits
import kube
import pytest
from conftest import ready

FIRST, SECOND = gerrits.SITES


@pytest.fixture(scope="module")
def two_gerrits(aws, program):
    """A Gerrit that was there before is seeded; the second site is a copy of it without its repositories."""
    with tempfile.TemporaryDirectory() as folder:
        site = gerrits.found(folder)
        gerrits.place(FIRST, site, with_repositories=True)
        gerrits.place(SECOND, site, with_repositories=False)
    for site in gerrits.SITES:
        kube.apply(gerrits.objects(site, program))
    for site in gerrits.SITES:
        runs = lambda: kube.container(site, f"{site}-0", "lockstep")["ready"]
        kube.until(f"the sidecar of {site} is ready", 120, runs)
    # A Gerrit that is denied ends, and the kubelet starts it again until its projects are in the refdb.
    # The command may be repeated, and says so when the refdb did not answer in time.
    said = kube.until("the repositories are seeded", 300, lambda: kube.lockstep(FIRST, 0, "seed", seconds=180))
    print("   ", said.strip().splitlines()[-1])
    for site in gerrits.SITES:
        ready(site, 1, seconds=600)
    return gerrits.SITES


def test_the_jar_of_the_release_is_in_the_folder_of_gerrit(two_gerrits):
    said = kube.logs(FIRST, f"{FIRST}-0", "lockstep-bridge")
    print("   ", said.strip())
    assert "lockstep-bridge-gerrit-3.13" in said


def test_a_change_is_made_at_one_site_and_submitted_at_the_other(two_gerrits):
    gerrits.rest(FIRST, "PUT", "/projects/demo", {"create_empty_commit": True})
    kube.until(f"{SECOND} has the project", 60, lambda: gerrits.rest(SECOND, "GET", "/projects/demo"))
    number = change(FIRST)
    found = lambda: gerrits.rest(SECOND, "GET", f"/changes/?q=change:{number}")
    kube.until(f"{SECOND} finds the change", 60, found)
    path = f"/changes/demo~{number}"
    gerrits.rest(SECOND, "POST", f"{path}/revisions/current/review", {"labels": {"Code-Review": 2}})
    gerrits.rest(SECOND, "POST", f"{path}/submit", {})
    merged = lambda: gerrits.rest(FIRST, "GET", path)["status"] == "MERGED"
    kube.until(f"{FIRST} shows it as merged", 60, merged)


def change(site):
    """Pushes a change for review, and returns its number."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://admin:secret@{gerrits.address(site)}/a/demo"
        client.git("clone", "--quiet", url, folder)
        parent = client.git("-C", folder, "rev-parse", "HEAD").strip()
        client.git("-C", folder, "config", "user.email", "admin@example.com")
        message = ("--message", "A change", "--message", f"Change-Id: I{parent}")
        author = ("-c", "user.name=Administrator", "-c", "user.email=admin@example.com")
        who = {"GIT_COMMITTER_EMAIL": "admin@example.com", "GIT_AUTHOR_EMAIL": "admin@example.com"}
        commit = ("git", "-C", folder, *author, "commit", "--quiet", "--allow-empty", *message)
        kube.command(*commit, env={**client.ENV, **who})
        client.git("-C", folder, "push", "--quiet", "origin", "HEAD:refs/for/master")
    return gerrits.rest(site, "GET", f"/changes/?q=change:I{parent}")[0]["_number"]


def test_a_killed_gerrit_comes_back_beside_its_sidecar(two_gerrits):
    pod = f"{FIRST}-0"
    sidecar, before = kube.restarts(FIRST, pod), kube.restarts(FIRST, pod, "gerrit")
    subprocess.run(["kill", "-9", str(kube.process(FIRST, pod, "gerrit")[0])], check=True)
    kube.until("the kubelet has started it again", 120, lambda: kube.restarts(FIRST, pod, "gerrit") > before)
    ready(FIRST, 1, seconds=300)
    assert kube.restarts(FIRST, pod) == sidecar


def test_a_gerrit_that_was_killed_for_its_memory_comes_back_beside_its_sidecar(two_gerrits):
    pod = f"{FIRST}-0"
    sidecar, before = kube.restarts(FIRST, pod), kube.restarts(FIRST, pod, "gerrit")
    kube.fill_memory(FIRST, pod, "gerrit", mebibytes=1600)
    kube.until("the kubelet has started it again", 180, lambda: kube.restarts(FIRST, pod, "gerrit") > before)
    last = kube.container(FIRST, pod, "gerrit")["lastState"]["terminated"]
    print("    the kubelet's reason:", last["reason"], last["exitCode"])
    assert last["exitCode"] == 137
    ready(FIRST, 1, seconds=300)
    assert kube.restarts(FIRST, pod) == sidecar
    number = change(FIRST)
    path = f"/changes/demo~{number}"
    kube.until(f"{SECOND} has a change that was made afterwards", 60, lambda: gerrits.rest(SECOND, "GET", path))


def test_a_killed_sidecar_comes_back_beside_its_gerrit(two_gerrits):
    pod = f"{FIRST}-0"
    sidecar, before = kube.restarts(FIRST, pod), kube.restarts(FIRST, pod, "gerrit")
    subprocess.run(["kill", "-9", str(kube.process(FIRST, pod, "lockstep")[0])], check=True)
    kube.until("the kubelet has started it again", 60, lambda: kube.restarts(FIRST, pod) == sidecar + 1)
    ready(FIRST, 1)
    assert kube.restarts(FIRST, pod, "gerrit") == before
    number = change(FIRST)
    path = f"/changes/demo~{number}"
    kube.until(f"{SECOND} has a change that was made afterwards", 60, lambda: gerrits.rest(SECOND, "GET", path))
