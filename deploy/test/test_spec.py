"""One source: chart, Kustomize component, admission policy and webhook have the sidecar of deploy/spec/spec.yaml."""

import re
import shutil
import sys

import pytest
import yaml
from conftest import DEPLOY, LEAST, TOP, containers, kustomized, pod, rendered, run


@pytest.mark.parametrize("script", ["spec/generate", "observability/generate"])
def test_nothing_that_is_generated_is_stale(script):
    ran = run(sys.executable, DEPLOY / script, "--check")
    assert ran.returncode == 0, ran.stderr


def test_a_stale_file_is_found(tmp_path):
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__", "test"))
    (tmp_path / "docs").mkdir()
    shutil.copy(TOP / "docs/configuration.md", tmp_path / "docs")
    source = tmp_path / "deploy/spec/spec.yaml"
    source.write_text(source.read_text().replace("periodSeconds: 10", "periodSeconds: 11"))
    ran = run(sys.executable, tmp_path / "deploy/spec/generate", "--check")
    stale = {line.split(" ")[0] for line in ran.stderr.splitlines()}
    assert ran.returncode == 1
    assert stale == {
        "deploy/kustomize/sidecar/patch.yaml",
        "deploy/kustomize/operator/policy.yaml",
        "deploy/kustomize/operator/beta/policy.yaml",
        "deploy/kustomize/operator/webhook/injection.json",
        "deploy/helm/lockstep/files/spec.yaml",
        "deploy/pulumi/lockstep_pulumi/data/spec.yaml",
    }


def test_helm_and_kustomize_render_the_same_sidecar(spec):
    chart = containers(pod(rendered(LEAST)))["lockstep"]
    kustomize = containers(pod(kustomized("site")))["lockstep"]
    wanted = {**spec["sidecar"], "restartPolicy": "Always"}
    # The pull policy is a value of the chart.
    assert {**chart, "imagePullPolicy": None} == {**wanted, "imagePullPolicy": None, "image": "lockstep:0.1.0"}
    assert kustomize == wanted


def test_helm_and_kustomize_render_the_same_volumes_and_pod(spec):
    def names(volumes):
        """The volumes, without the names of objects, which belong to the release."""
        volumes = {volume["name"]: volume for volume in volumes if volume["name"].startswith("lockstep-")}
        text = yaml.safe_dump(volumes)
        return re.sub(r"(name|secretName): (gerrit-muc-1|lockstep)(-secrets|-tls|-[a-z0-9]{10})?\n", r"\1: X\n", text)

    chart, kustomize = pod(rendered(LEAST)), pod(kustomized("site"))
    assert names(chart["volumes"]) == names(kustomize["volumes"]) == names(spec["volumes"])
    for field in ("automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"):
        assert chart[field] == kustomize[field] == spec["pod"][field], field
    assert spec["pod"]["securityContext"].items() <= chart["securityContext"].items()
    assert kustomize["securityContext"] == spec["pod"]["securityContext"]


def test_a_pod_lands_on_nodes_for_which_an_image_exists(spec):
    built = [path.name.split(".")[1] for path in (DEPLOY / "image").glob("packages.*.lock")]
    assert [spec["nodes"]["kubernetes.io/arch"]] == built
    for inside in (pod(rendered(LEAST)), pod(kustomized("site"))):
        assert spec["nodes"].items() <= inside["nodeSelector"].items()


def test_gerrit_has_the_folder_of_the_socket():
    for inside in (pod(rendered(LEAST)), pod(kustomized("site"))):
        mounts = containers(inside)["gerrit"]["volumeMounts"]
        assert {"name": "lockstep-run", "mountPath": "/run/lockstep"} in mounts
        assert {"name": "gerrit-site", "mountPath": "/var/gerrit"} in mounts


def test_the_pod_ends_after_gerrit_and_sidecar_can(spec):
    grace = re.search(
        r"const GRACE: Duration = Duration::from_secs\((\d+)\)", source("daemon/src/node/assembly/run.rs")
    )
    assert spec["pod"]["terminationGracePeriodSeconds"] >= 120 + int(grace[1]) + 15
    # A sidecar that hangs is killed after its own time, and not after Gerrit's too.
    assert 120 > spec["sidecar"]["livenessProbe"]["terminationGracePeriodSeconds"] > int(grace[1])


def test_ports_and_paths_are_those_of_the_code(spec):
    ports = {port["name"]: port["containerPort"] for port in spec["sidecar"]["ports"]}
    example = source("daemon/src/node/config/example.toml")
    for section, port in (("health", "health"), ("tls", "peers"), ("operators", "operators")):
        inside = example.split(f"\n[{section}]")[1].split("\n[")[0]
        assert int(re.search(r'listen = "[0-9.]+:(\d+)"', inside)[1]) == ports[port]
    socket = re.search(r'DEFAULT_SOCKET: &str = "(.+)/api\.sock"', source("daemon/src/node/config/mod.rs"))[1]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["sidecar"]["volumeMounts"]}
    assert mounts["lockstep-run"] == socket
    account = re.search(r'PathBuf::from\("(/var/run/secrets.+)"\)', source("daemon/src/node/config/handover.rs"))[1]
    assert mounts["lockstep-token"] == account


def test_the_table_of_probes_in_the_docs_is_the_spec(spec):
    table = source("docs/operations.md").split("### Probes in Kubernetes")[1].split("\n#")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        of = spec["sidecar"][probe]
        wanted = f"`{of['httpGet']['path']}` every {of['periodSeconds']} s, {of['failureThreshold']} times"
        assert rows[probe] == wanted, probe
        route = of["httpGet"]["path"]
        assert f'.route("{route}"' in source("daemon/src/stages/api/health.rs")


def source(path):
    return (TOP / path).read_text()
