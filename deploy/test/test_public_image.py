"""The chart with Gerrit's public image: the objects, and the scripts of its init containers with a Gerrit that only
records how it is called. The image itself is not here."""

import http.server
import os
import subprocess
import threading

import pytest
import yaml
from conftest import CHART, DEPLOY, containers, helm, only, pod, rendered, run

CASE = DEPLOY / "test/cases/public-image.yaml"
# The volumes that the Dockerfile of the image declares: https://github.com/GerritCodeReview/docker-gerrit, almalinux/9.
DECLARED = ["cache", "db", "etc", "git", "index"]
SERVER_ID = "3f0c7f0e-6d0b-4a5e-9f43-6f1f0c6f0a11"
LATER = ("--set", "gerrit.publicImage.initialise=false")


def test_the_volume_is_mounted_over_each_volume_of_the_image():
    """containerd mounts an empty folder over each declared one that the pod does not mount by itself."""
    inside = pod(rendered(CASE))
    image = yaml.safe_load(CASE.read_text())["gerrit"]["image"]
    users = [part for part in containers(inside).values() if part["image"] == image]
    assert [part["name"] for part in users] == [
        "gerrit-programs",
        "gerrit-initialise",
        "gerrit-config",
        "gerrit-index",
        "gerrit",
    ]
    for part in users[1:]:
        mounts = {mount["mountPath"]: mount for mount in part["volumeMounts"]}
        assert mounts["/var/gerrit"]["name"] == "gerrit-site" and "subPath" not in mounts["/var/gerrit"]
        for folder in DECLARED:
            wanted = {"name": "gerrit-site", "mountPath": f"/var/gerrit/{folder}", "subPath": folder}
            assert mounts[f"/var/gerrit/{folder}"] == wanted, part["name"]
    first = [mount["mountPath"] for mount in users[0]["volumeMounts"]]
    assert "/volume" in first and not any(path.startswith("/var/gerrit") for path in first)
    # The sidecar has an image of its own, and sees the same folders without them.
    assert [mount["mountPath"] for mount in containers(inside)["lockstep"]["volumeMounts"]].count("/var/gerrit") == 1


def test_programs_come_first_and_the_index_behind_the_sidecar():
    names = lambda *args: [part["name"] for part in pod(rendered(CASE, *args))["initContainers"]]
    rest = ["gerrit-config", "lockstep", "gerrit-index"]
    assert names() == ["gerrit-programs", "lockstep-bridge", "gerrit-initialise", *rest]
    assert names(*LATER) == ["gerrit-programs", "lockstep-bridge", *rest]
    assert names(*LATER, "--set", "mode=off") == ["gerrit-programs", "gerrit-config", "gerrit-index"]


def test_gerrit_starts_without_the_entrypoint_that_would_initialise_it():
    gerrit = containers(pod(rendered(CASE)))["gerrit"]
    assert gerrit["command"] == ["/var/gerrit/bin/gerrit.sh", "run", "-d", "/var/gerrit"] and "args" not in gerrit
    config = only(rendered(CASE), "ConfigMap", "gerrit-muc-1-gerrit")["data"]["gerrit.config"]
    assert value(config, "gerrit.serverId") == [SERVER_ID]
    assert value(config, "cache.directory") == ["cache"]
    assert value(config, "gerrit.canonicalWebUrl") == ["https://git.example.org/"]
    assert value(config, "container.heapLimit") == ["6g"]
    assert "--add-opens java.base/java.net=ALL-UNNAMED" in value(config, "container.javaOptions")
    of_user = rendered(CASE, "--set-json", 'gerrit.command=["/entrypoint.sh"]')
    assert containers(pod(of_user))["gerrit"]["command"] == ["/entrypoint.sh"]


def value(text, key):
    ran = run("git", "config", "--file", "-", "--get-all", key, input=text)
    return ran.stdout.splitlines()


REFUSED = [
    (["--set", "gerrit.publicImage.enabled=false", *LATER], "gerritcodereview/gerrit:3.13.5 has its programs in"),
    (["--set", "gerrit.publicImage.enabled=false"], "gerrit.image: docker.io"),
    (["--set", "gerrit.publicImage.enabled=false", "--set", "gerrit.image=own:1"], "gerrit.publicImage.initialise: "),
    (["--set", "gerrit.publicImage.serverId="], "gerrit.publicImage.serverId: give all sites the same UUID"),
    (["--set", "gerrit.publicImage.serverId=none"], "serverId"),
    (["--set", "gerrit.config=serverId = x"], "gerrit.config: it has a serverId"),
    (["--set", "bridge.enabled=false"], "gerrit.publicImage.enabled: a plain git server has no Gerrit"),
    (["--set-json", 'gerrit.shared={"secretName": "", "files": []}'], "gerrit.shared.secretName: all sites need"),
    (["--set", "gerrit.publicImage.enable=true"], "enable"),
]


@pytest.mark.parametrize("args, says", REFUSED, ids=lambda value: " ".join(value)[:60])
def test_values_that_do_not_fit_are_refused_by_their_name(args, says):
    ran = helm([CASE], *args)
    assert ran.returncode != 0 and says in ran.stderr, ran.stdout[:300] + ran.stderr


def test_it_needs_native_sidecars_and_no_host_keys_where_ssh_is_off():
    ran = helm([CASE], kubernetes="1.28.0")
    assert ran.returncode != 0 and "needs Kubernetes 1.29" in ran.stderr, ran.stderr
    config = "gerrit.config=[sshd]\n\tlistenAddress = off"
    ran = helm([CASE], "--set-json", 'gerrit.shared={"secretName": "", "files": []}', "--set", config)
    assert ran.returncode == 0, ran.stderr


JAVA = """#!/bin/sh
# Records how it is called, and does what counts here of Gerrit.
echo "$*" >> "$CALLS"
case "$*" in
  *" init "*) mkdir -p "$SITE_FOLDER/git/All-Projects.git" "$SITE_FOLDER/git/All-Users.git"
    touch "$SITE_FOLDER/etc/ssh_host_rsa_key" ;;
  *" reindex "*)
    for kind in accounts changes groups projects; do
      git config --file "$SITE_FOLDER/index/gerrit_index.config" "index.${kind}_0077.ready" true
    done ;;
esac
"""


class Site:
    """The image's folder, a volume, and a way to run the chart's scripts on them."""

    def __init__(self, home):
        self.image, self.volume, self.calls = home / "image", home / "volume", home / "calls"
        for path in ("bin/gerrit.war", "bin/gerrit.sh", "lib/a.jar", "plugins/b.jar", "etc/gerrit.config"):
            (self.image / path).parent.mkdir(parents=True, exist_ok=True)
            (self.image / path).write_text(path)
        (self.image / "bin/gerrit.sh").chmod(0o755)
        self.volume.mkdir()
        self.calls.touch()
        self.programs = home / "bin"
        self.programs.mkdir()
        (self.programs / "java").write_text(JAVA)
        (self.programs / "java").chmod(0o755)
        self.config = home / "gerrit.config"
        parts = rendered(CASE)
        self.config.write_text(only(parts, "ConfigMap", "gerrit-muc-1-gerrit")["data"]["gerrit.config"])
        self.environment = {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "IMAGE_SITE": str(self.image),
            "VOLUME": str(self.volume),
            "SITE_FOLDER": str(self.volume),
            "CONFIG": str(self.config),
            "CALLS": str(self.calls),
            "POD_NAME": "gerrit-muc-1-0",
            "SIDECAR": "false",
        }

    def script(self, name, seconds=30, **more):
        text = (CHART / f"files/public-image/{name}.sh").read_text()
        environment = {**self.environment, **more}
        return subprocess.run(
            ["bash", "-ec", text], env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )

    def did(self):
        """The commands of Gerrit that ran."""
        known = ("init", "reindex")
        return [word for line in self.calls.read_text().splitlines() for word in line.split() if word in known]


@pytest.fixture
def site(tmp_path):
    found = Site(tmp_path)
    ran = found.script("programs")
    assert ran.returncode == 0, ran.stderr
    return found


def test_programs_are_copied_and_nothing_else_of_the_image(site):
    assert (site.volume / "bin/gerrit.war").read_text() == "bin/gerrit.war"
    assert os.access(site.volume / "bin/gerrit.sh", os.X_OK)
    assert (site.volume / "plugins/b.jar").exists() and (site.volume / "lib/a.jar").exists()
    assert not (site.volume / "etc/gerrit.config").exists(), "the settings are those of the chart"
    # A newer image replaces them, and keeps what others have put there.
    (site.volume / "lib/lockstep-bridge.jar").touch()
    (site.image / "bin/gerrit.war").write_text("newer")
    assert site.script("programs").returncode == 0
    assert (site.volume / "bin/gerrit.war").read_text() == "newer"
    assert (site.volume / "lib/lockstep-bridge.jar").exists()


def test_an_image_of_another_form_is_named(site):
    (site.image / "bin/gerrit.war").unlink()
    ran = site.script("programs")
    assert ran.returncode == 1 and "gerrit.image: it has no" in ran.stderr


def test_the_first_pod_of_the_first_site_is_initialised_once_and_without_the_bridge(site):
    ran = site.script("initialise")
    assert ran.returncode == 0, ran.stderr
    assert site.did() == ["init", "reindex"]
    config = (site.volume / "etc/gerrit.config").read_text()
    assert value(config, "gerrit.serverId") == [SERVER_ID]
    assert value(config, "gerrit.installDbModule") == value(config, "gerrit.installModule") == []
    assert not list((site.volume / "etc").glob("ssh_host_*")), "the keys are those of the Secret"
    # The sidecar was there: whatever is on the volume now, nobody creates anything.
    (site.volume / "git/.lockstep").mkdir()
    ran = site.script("initialise")
    assert ran.returncode == 0 and "set it to false" in ran.stdout and len(site.did()) == 2


def test_no_other_pod_is_initialised(site):
    ran = site.script("initialise", POD_NAME="gerrit-muc-1-1")
    assert ran.returncode == 0 and site.did() == [] and not (site.volume / "git/All-Projects.git").exists()


class Sidecar(http.server.BaseHTTPRequestHandler):
    """Answers /readyz, after it has not been ready once."""

    asked = []

    def do_GET(self):  # noqa: N802
        self.asked.append(self.path)
        self.send_response(503 if len(self.asked) == 1 else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_the_index_of_a_further_site_waits_for_the_sidecar_and_its_repositories(site):
    (site.volume / "etc/gerrit.config").write_text("")
    Sidecar.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sidecar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    more = {"SIDECAR": "true", "HEALTH_PORT": str(server.server_port)}
    try:
        # It is ready, and has no repositories: nobody has seeded yet.
        with pytest.raises(subprocess.TimeoutExpired):
            site.script("index", seconds=5, **more)
        assert site.did() == [] and len(Sidecar.asked) >= 2 and set(Sidecar.asked) == {"/readyz"}
        for name in ("All-Projects", "All-Users"):
            (site.volume / f"git/{name}.git").mkdir()
        ran = site.script("index", **more)
        assert ran.returncode == 0 and site.did() == ["reindex"], ran.stderr
    finally:
        server.shutdown()
        server.server_close()
    # It is complete, so the next start asks nobody.
    ran = site.script("index", SIDECAR="true", HEALTH_PORT="1")
    assert ran.returncode == 0 and site.did() == ["reindex"]


def test_an_index_that_was_not_finished_is_made_again(site):
    for name in ("All-Projects", "All-Users"):
        (site.volume / f"git/{name}.git").mkdir()
    index = site.volume / "index/gerrit_index.config"
    run("git", "config", "--file", index, "index.accounts_0013.ready", "true")
    run("git", "config", "--file", index, "index.changes_0084.ready", "false")
    ran = site.script("index")
    assert ran.returncode == 0 and site.did() == ["reindex"], ran.stderr


def test_projects_of_other_names_are_waited_for(site):
    (site.volume / "etc/gerrit.config").write_text("[gerrit]\n\tallProjects = Root\n\tallUsers = People\n")
    for name in ("Root", "People"):
        (site.volume / f"git/{name}.git").mkdir()
    assert site.script("index").returncode == 0 and site.did() == ["reindex"]
