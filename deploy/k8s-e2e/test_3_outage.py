"""An outage of AWS: nobody reaches DynamoDB and Kinesis. Reads go on, and nobody is restarted."""

import json
import time

import client
import kube
from conftest import ready


def aws(is_there):
    kube.kubectl("--namespace", "aws", "scale", "deployment", "front", f"--replicas={int(is_there)}")
    if is_there:
        kube.until("the emulators can be reached", 60, lambda: kube.available("front"))
    else:
        kube.until("nobody reaches the emulators", 60, lambda: not kube.available("front"))


def test_an_outage_neither_restarts_nor_unreadies_a_node(two_sites):
    clone = client.Clone("demo", "around-the-outage")
    before = clone.commit("before the outage")
    clone.push_patiently(client.service("muc-1"))
    pods = [(site, f"{site}-0") for site in two_sites]
    for site in two_sites:
        url = client.service(site)
        ref = f"refs/heads/{clone.branch}"
        kube.until(f"{site} shows the push", 30, lambda: client.value(url, "demo", ref) == before)
    restarts = [kube.restarts(*pod) for pod in pods]
    aws(False)
    try:
        # Longer than every probe's patience: readiness 4 s, liveness 30 s.
        ends, reads = time.monotonic() + 60, 0
        while time.monotonic() < ends:
            for site, pod in pods:
                assert kube.is_ready(site, pod), f"{pod} is not ready in an outage"
                assert client.value(client.service(site), "demo", ref) == before
                reads += 1
            time.sleep(1)
        assert [kube.restarts(*pod) for pod in pods] == restarts
        print(f"    60 s without AWS: ready all the time, {reads} reads, no restart")
        clone.commit("during the outage")
        said, taken = clone.push(client.service("muc-1"))
        print("    a push:", " ".join(said.split()))
        assert not taken
    finally:
        aws(True)
    took = clone.push_patiently(client.service("muc-1"), patience=30)
    print(f"    the next push was taken {took:.1f} s after AWS was back")
    assert [kube.restarts(*pod) for pod in pods] == restarts


def test_a_pod_that_starts_without_aws_serves_reads_and_takes_writes_when_aws_is_back(two_sites):
    clone = client.Clone("demo", "started-without-aws")
    before = clone.commit("before the outage")
    clone.push_patiently(client.service("ber-1"))
    ref = f"refs/heads/{clone.branch}"
    identity = kube.get("ber-1", "pod", "ber-1-0")["metadata"]["uid"]
    aws(False)
    try:
        kube.kubectl("--namespace", "ber-1", "delete", "pod", "ber-1-0", "--wait=false")
        gone = lambda: kube.get("ber-1", "pod", "ber-1-0")["metadata"]["uid"] != identity
        kube.until("the old pod has ended", 120, gone)
        # Through the pod's own address: it is not ready, because it cannot know whether it has everything.
        serves = lambda: client.value(client.pod("ber-1", 0), "demo", ref) == before
        kube.until("the new pod serves what was there before", 120, serves)
        kube.until("status tells the age of the refs", 120, age_is_told)
        clone.commit("during the outage")
        said, taken = clone.push(client.pod("ber-1", 0))
        print("    a push:", " ".join(said.split()))
        assert not taken and "remote rejected" in said, said
        assert any(word in said.lower() for word in ("starting", "refdb", "not ready")), f"no reason: {said}"
        assert kube.restarts("ber-1", "ber-1-0") == 0
    finally:
        aws(True)
    took = clone.push_patiently(client.pod("ber-1", 0), patience=60)
    print(f"    the push was taken {took:.1f} s after AWS was back")
    ready("ber-1", 1)
    assert kube.restarts("ber-1", "ber-1-0") == 0
    assert took < 10


def age_is_told():
    """A node that is not in step says when it last was: as a time in JSON, and as a sentence."""
    told = kube.lockstep("ber-1", 0, "status", "--json", check=False)
    if not told.stdout.startswith("{"):
        raise kube.Failed(f"no status: {told.stderr}")
    status = json.loads(told.stdout)
    if status["ready"] or status["last_contact_ms"] is None:
        return False
    age = time.time() - status["last_contact_ms"] / 1000
    text = kube.lockstep("ber-1", 0, "status", check=False).stdout
    line = next((line for line in text.splitlines() if "reads show the state of then" in line), None)
    if line:
        assert 0 < age < 600, status["last_contact_ms"]
        print(f"    status, {age:.0f} s after the last contact: {line.strip()}")
    return line
