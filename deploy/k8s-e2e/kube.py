"""The cluster as the tests see it: kubectl, conditions that are waited for, and the processes of containers."""

import json
import os
import subprocess
import time

HOME = os.environ.get("LOCKSTEP_K8S") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lockstep-k8s"
)
RUN = os.path.join(HOME, "run")


class Failed(AssertionError):
    """A command failed, or a condition did not come true. The text has what was seen last."""


def command(*args, input=None, check=True, env=None, seconds=120):
    """Runs a program, and returns its output. With `check=False`, also if it fails."""
    ran = subprocess.run(
        args, input=input, capture_output=True, text=True, timeout=seconds, env={**os.environ, **(env or {})}
    )
    if check and ran.returncode != 0:
        raise Failed(f"{' '.join(args)} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    return ran.stdout if check else ran


def kubectl(*args, **more):
    return command(os.path.join(HOME, "bin", "kubectl"), "--kubeconfig", os.path.join(RUN, "kubeconfig"), *args, **more)


def get(namespace, *what):
    """An object, or a list of objects."""
    return json.loads(kubectl("--namespace", namespace, "get", *what, "--output", "json"))


def apply(objects):
    """Creates objects, or makes them as given."""
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", input=json.dumps(items))


def until(what, seconds, condition):
    """Waits until the condition returns something true, and returns that. Prints how long it took."""
    began, seen = time.monotonic(), None
    while True:
        try:
            answer = condition()
            if answer:
                took = time.monotonic() - began
                print(f"    {what}: after {took:.1f} s", flush=True)
                return answer
            seen = answer
        except (Failed, subprocess.TimeoutExpired) as failed:
            seen = failed
        if time.monotonic() - began > seconds:
            raise Failed(f"{what}: not within {seconds} s; last seen: {seen}")
        time.sleep(0.3)


def pod_status(namespace, pod):
    return get(namespace, "pod", pod)["status"]


def is_ready(namespace, pod):
    conditions = pod_status(namespace, pod).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def available(name):
    """Whether a Deployment of the emulators' name space has a ready pod."""
    return get("aws", "deployment", name)["status"].get("availableReplicas", 0) > 0


def container(namespace, pod, name):
    """The status of a container, whether it is a sidecar or not."""
    status = pod_status(namespace, pod)
    both = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
    for one in both:
        if one["name"] == name:
            return one
    raise Failed(f"{pod} has no container {name} yet")


def restarts(namespace, pod, name="lockstep"):
    return container(namespace, pod, name)["restartCount"]


def process(namespace, pod, name):
    """The process id, on this machine, of a container's first process, and the folder of its memory cgroup."""
    identity = container(namespace, pod, name)["containerID"].removeprefix("containerd://")
    node = get(namespace, "pod", pod)["spec"]["nodeName"]
    socket = os.path.join(RUN, node, "containerd.sock")
    tasks = command("ctr", "--address", socket, "--namespace", "k8s.io", "tasks", "ls")
    pid = next(int(line.split()[1]) for line in tasks.splitlines() if line.startswith(identity))
    with open(f"/proc/{pid}/cgroup") as file:
        path = next(line.strip().split(":", 2)[2] for line in file if line.split(":")[1] == "memory")
    return pid, "/sys/fs/cgroup/memory" + path


def fill_memory(namespace, pod, name, mebibytes):
    """Takes memory in the cgroup of a container until the kernel kills the container's first process, or so much is
    taken."""
    pid, cgroup = process(namespace, pod, name)
    # The kernel shall choose that process, and not the one that takes the memory.
    with open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("1000")
    take = (
        "import os, sys\n"
        "open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "held = []\n"
        "while os.path.exists('/proc/' + sys.argv[2]) and len(held) < int(sys.argv[3]):\n"
        "    held.append(b'x' * (1 << 20))\n"
    )
    subprocess.run(["python3", "-c", take, cgroup, str(pid), str(mebibytes)], timeout=120, check=False)


def endpoints(namespace, service):
    """The names of the pods to which a Service leads now."""
    slices = get(namespace, "endpointslices", "--selector", f"kubernetes.io/service-name={service}")["items"]
    found = [one for part in slices for one in part.get("endpoints") or []]
    return sorted(one["targetRef"]["name"] for one in found if one["conditions"].get("ready"))


def helm(*args, **more):
    """Runs helm on the cluster."""
    return command(os.path.join(HOME, "bin", "helm"), "--kubeconfig", os.path.join(RUN, "kubeconfig"), *args, **more)


def logs(namespace, pod, name="lockstep", previous=False):
    extra = ["--previous"] if previous else []
    return kubectl("--namespace", namespace, "logs", pod, "--container", name, *extra)


def lockstep(site, number, *args, check=True, seconds=120):
    """A command of Lockstep's, in the sidecar of one node of a site."""
    pod = f"{site}-{number}"
    where = ("--namespace", site, "exec", pod, "--container", "lockstep", "--")
    return kubectl(*where, "lockstep", *args, check=check, seconds=seconds)
