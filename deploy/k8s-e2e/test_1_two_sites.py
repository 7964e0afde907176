"""Two sites with one git server each: from nothing to a push that reaches the other site, and what Kubernetes does to
pods."""

import json
import subprocess
import time

import client
import kube
import sites
from conftest import ready


def shows(site, project, branch, commit):
    url = client.service(site)
    return lambda: client.value(url, project, f"refs/heads/{branch}") == commit


def test_a_push_at_one_site_reaches_the_other(two_sites):
    for origin, other in (two_sites, reversed(two_sites)):
        clone = client.Clone("demo", f"from-{origin}")
        commit = clone.commit()
        clone.push_patiently(client.service(origin))
        kube.until(f"{other} shows the push of {origin}", 30, shows(other, "demo", clone.branch, commit))


def test_the_sidecar_runs_as_nobody_special_on_a_read_only_root(two_sites):
    pid, _ = kube.process("muc-1", "muc-1-0", "lockstep")
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
    assert status["Uid"].split() == ["1000"] * 4
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    with open(f"/proc/{pid}/mounts") as file:
        root = next(line.split() for line in file if line.split()[1] == "/")
    assert "ro" in root[3].split(","), root
    said = kube.kubectl(
        *("--namespace", "muc-1", "exec", "muc-1-0", "--container", "lockstep", "--", "sh", "-c", "true"), check=False
    )
    assert said.returncode != 0 and "executable file not found" in said.stderr, said.stderr


def test_a_second_sidecar_on_a_volume_is_refused(two_sites):
    """On the other node of the cluster, as after a volume was attached twice."""
    template = kube.get("muc-1", "statefulset", "muc-1")["spec"]["template"]["spec"]
    at = kube.get("muc-1", "pod", "muc-1-0")["spec"]["nodeName"]
    container = dict(template["initContainers"][0])
    for key in ("restartPolicy", "startupProbe", "readinessProbe", "livenessProbe"):
        del container[key]
    for variable in container["env"]:
        if variable["name"] == "LOCKSTEP_NODE":
            variable.pop("valueFrom")
            variable["value"] = "muc-1-0"
    claim = {"claimName": "gerrit-site-muc-1-0"}
    volumes = [*template["volumes"], {"name": "gerrit-site", "persistentVolumeClaim": claim}]
    other = "node-2" if at == "node-1" else "node-1"
    spec = {
        "containers": [container],
        "volumes": volumes,
        "securityContext": template["securityContext"],
        "restartPolicy": "Never",
        "serviceAccountName": "lockstep",
        "automountServiceAccountToken": False,
        "nodeName": other,
    }
    before = kube.restarts("muc-1", "muc-1-0")
    kube.apply([sites.named("Pod", "second", "muc-1", spec=spec)])
    try:
        ended = lambda: kube.pod_status("muc-1", "second")["phase"] == "Failed"
        kube.until("the second sidecar on the volume ends", 60, ended)
        said = kube.logs("muc-1", "second")
        print("    it says:", said.splitlines()[-1])
        assert "another" in said and "lock" in said, said
    finally:
        kube.kubectl("--namespace", "muc-1", "delete", "pod", "second", "--grace-period=1")
    assert kube.is_ready("muc-1", "muc-1-0") and kube.restarts("muc-1", "muc-1-0") == before
    clone = client.Clone("demo", "after-the-second")
    clone.commit()
    clone.push_patiently(client.service("muc-1"), patience=5)


def test_a_killed_sidecar_comes_back_alone(two_sites):
    before, server = kube.restarts("muc-1", "muc-1-0"), kube.restarts("muc-1", "muc-1-0", "git")
    pid, _ = kube.process("muc-1", "muc-1-0", "lockstep")
    with client.Load(client.service("muc-1"), "demo", "during-a-kill"):
        subprocess.run(["kill", "-9", str(pid)], check=True)
        kube.until("the kubelet has started it again", 60, lambda: kube.restarts("muc-1", "muc-1-0") == before + 1)
        ready("muc-1", 1)
    assert kube.restarts("muc-1", "muc-1-0", "git") == server


def test_a_sidecar_that_was_killed_for_its_memory_comes_back_alone(two_sites):
    """The kernel kills it, because the memory of its container is full."""
    before = kube.restarts("muc-1", "muc-1-0")
    # The second end within minutes: the kubelet waits for 20 s before it starts the container again.
    with client.Load(client.service("muc-1"), "demo", "during-an-oom", patience=60):
        kube.fill_memory("muc-1", "muc-1-0", "lockstep", mebibytes=400)
        kube.until("the kubelet has started it again", 60, lambda: kube.restarts("muc-1", "muc-1-0") == before + 1)
        last = kube.container("muc-1", "muc-1-0", "lockstep")["lastState"]["terminated"]
        print("    the kubelet's reason:", last["reason"], last["exitCode"])
        assert last["exitCode"] == 137
        ready("muc-1", 1)


def test_a_killed_git_server_comes_back_alone(two_sites):
    sidecar, before = kube.restarts("muc-1", "muc-1-0"), kube.restarts("muc-1", "muc-1-0", "git")
    pid, _ = kube.process("muc-1", "muc-1-0", "git")
    with client.Load(client.service("muc-1"), "demo", "during-a-kill-of-git"):
        subprocess.run(["kill", "-9", str(pid)], check=True)
        again = lambda: kube.restarts("muc-1", "muc-1-0", "git") == before + 1
        kube.until("the kubelet has started it again", 60, again)
        ready("muc-1", 1)
    assert kube.restarts("muc-1", "muc-1-0") == sidecar


def test_a_sidecar_that_hangs_is_taken_out_of_the_service_and_restarted_alone(two_sites):
    """The table of probes: readiness fails after two times 5 s, liveness after six times 10 s, and then the sidecar has
    30 s to end. git's server goes on."""
    pod = ("muc-1", "muc-1-0")
    sidecar, server = kube.restarts(*pod), kube.restarts(*pod, "git")
    assert kube.endpoints("muc-1", "git") == ["muc-1-0"]
    pid, _ = kube.process(*pod, "lockstep")
    began = time.monotonic()
    subprocess.run(["kill", "-STOP", str(pid)], check=True)
    try:
        kube.until("the pod is not ready", 40, lambda: not kube.is_ready(*pod))
        kube.until("users are not led to it", 20, lambda: kube.endpoints("muc-1", "git") == [])
        unready = time.monotonic() - began
        # Clones go on, at the pod's own address.
        assert client.value(client.pod("muc-1", 0), "demo", "refs/heads/from-muc-1")
        kube.until("the kubelet has started it again", 180, lambda: kube.restarts(*pod) == sidecar + 1)
        restarted = time.monotonic() - began
    finally:
        subprocess.run(["kill", "-CONT", str(pid)], stderr=subprocess.DEVNULL, check=False)
    print(f"    hanging: out of the Service after {unready:.0f} s, restarted after {restarted:.0f} s")
    # Liveness has more patience than readiness, so that a slow moment restarts nothing.
    assert unready < 40 < 50 < restarted < 150
    ready("muc-1", 1)
    assert kube.restarts(*pod, "git") == server
    kube.until("users are led to it again", 20, lambda: kube.endpoints("muc-1", "git") == ["muc-1-0"])


def test_a_server_waits_for_its_sidecar(aws, program):
    """startupProbe: a sidecar that cannot start names the setting, and its server does not start before it."""
    site, pod = "start-1", "start-1-0"
    kube.apply(sites.site(site, [site], 1, program, more="[git]\ninstall_hooks = 3", prefix="start"))

    def said():
        return [line for line in kube.logs(site, pod).splitlines() if "install_hooks" in line]

    print("    it says:", kube.until("the sidecar names the setting", 120, said)[-1])
    kube.until("the kubelet has started it again", 120, lambda: kube.restarts(site, pod) > 0)
    server = kube.container(site, pod, "git")
    assert "waiting" in server["state"] and not server.get("started") and server["restartCount"] == 0, server
    kube.apply(sites.site(site, [site], 1, program, prefix="start"))
    kube.kubectl("--namespace", site, "delete", "pod", pod, "--grace-period=1")
    ready(site, 1)
    started = [kube.container(site, pod, name)["state"]["running"]["startedAt"] for name in ("lockstep", "git")]
    assert started[0] <= started[1], started
    kube.kubectl("delete", "namespace", site, "--wait=false")


def test_a_deleted_pod_comes_back_with_its_volume(two_sites):
    """Kubernetes may place it on the other node: the volume moves with it."""
    identity = kube.get("muc-1", "pod", "muc-1-0")["metadata"]["uid"]
    at = kube.get("muc-1", "pod", "muc-1-0")["spec"]["nodeName"]
    kube.kubectl("cordon", at)
    try:
        with client.Load(client.service("muc-1"), "demo", "during-a-deletion"):
            began = time.monotonic()
            kube.kubectl("--namespace", "muc-1", "delete", "pod", "muc-1-0", "--wait=false")
            gone = lambda: kube.get("muc-1", "pod", "muc-1-0")["metadata"]["uid"] != identity
            kube.until("the pod has ended", 90, gone)
            ready("muc-1", 1)
            print(f"    from the deletion to ready on the other node: {time.monotonic() - began:.1f} s")
        assert kube.get("muc-1", "pod", "muc-1-0")["spec"]["nodeName"] != at
    finally:
        kube.kubectl("uncordon", at)
    status = json.loads(kube.lockstep("muc-1", 0, "status", "--json"))
    print("    status:", {key: status[key] for key in ("ready", "site", "node") if key in status})


def test_both_sites_agree_afterwards(two_sites):
    said = [kube.lockstep(site, 0, "verify", check=False, seconds=180) for site in two_sites]
    for one in said:
        print("   ", one.stdout.strip().splitlines()[-1])
        assert one.returncode == 0, one.stdout + one.stderr
