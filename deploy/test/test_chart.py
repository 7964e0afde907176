"""The chart: what it renders, for each case and version of Kubernetes, and what it refuses."""

import json
import re
import shutil
import tomllib

import kubernetes_validate
import pytest
import yaml
from conftest import (
    BEFORE_NATIVE,
    CASES,
    CHART,
    DEPLOY,
    LEAST,
    NATIVE,
    TOOLS,
    TOP,
    containers,
    helm,
    only,
    pod,
    rendered,
    run,
)
from crds import Crds

BOTH = [NATIVE, BEFORE_NATIVE]
ACTIVE = [case for case in CASES if case.stem not in ("off", "shadow")]
# Gerrit's public image needs native sidecars.
EACH = [(case, of) for case in CASES for of in BOTH if (case.stem, of) != ("public-image", BEFORE_NATIVE)]


def name(case):
    return case.stem


class Blocks(yaml.SafeDumper):
    """Writes a text of several lines as a block."""


def block(dumper, text):
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Blocks.add_representer(str, block)


@pytest.mark.parametrize("case, kubernetes", EACH, ids=lambda value: getattr(value, "stem", value))
def test_every_object_has_the_form_that_kubernetes_takes(case, kubernetes):
    crds = Crds()
    for part in rendered(case, kubernetes=kubernetes):
        where = f"{part['kind']} {part['metadata']['name']}"
        if crds.has(part):
            assert crds.problems(part) == [], where
        else:
            # Before 1.29, restartPolicy of a container is unknown, and refused.
            kubernetes_validate.validate(part, kubernetes.rsplit(".", 1)[0], strict=True)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_the_chart_renders_what_is_golden(case, request):
    text = helm([case]).stdout
    # The dashboards are compared with their source elsewhere, and would be most of the file.
    parts = [part for part in yaml.safe_load_all(text) if part and not part["metadata"]["name"].endswith("-dashboards")]
    for part in parts:
        if part["kind"] == "PrometheusRule":
            part["spec"] = "as deploy/observability/rules.yaml"
    golden = DEPLOY / f"test/golden/{case.stem}.yaml"
    new = yaml.dump_all(parts, Dumper=Blocks, sort_keys=False, width=120)
    if request.config.getoption("--write-golden"):
        golden.write_text(new)
    assert golden.read_text() == new, f"{golden} differs; if that is right, run deploy/test/run --write-golden"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_the_chart_passes_helm_lint(case):
    ran = run(TOOLS / "helm", "lint", "--strict", CHART, "--values", case)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_sidecar_is_native_from_1_29_and_a_container_before():
    inside = {kubernetes: pod(rendered(LEAST, kubernetes=kubernetes)) for kubernetes in [*BOTH, "1.29.0"]}
    for kubernetes in (NATIVE, "1.29.0"):
        last = inside[kubernetes]["initContainers"][-1]
        assert (last["name"], last["restartPolicy"]) == ("lockstep", "Always")
        assert [part["name"] for part in inside[kubernetes]["containers"]] == ["gerrit"]
    before = inside[BEFORE_NATIVE]
    assert [part["name"] for part in before["containers"]] == ["gerrit", "lockstep"]
    assert "restartPolicy" not in before["containers"][1]
    assert "lockstep" not in [part["name"] for part in before["initContainers"]]


@pytest.mark.parametrize(
    "case, kubernetes", [each for each in EACH if each[0] in ACTIVE], ids=lambda value: getattr(value, "stem", value)
)
def test_the_configuration_passes_the_check_of_the_real_command(case, kubernetes, lockstep, tmp_path):
    parts = rendered(case, kubernetes=kubernetes)
    text = only(parts, "ConfigMap", only(parts, "StatefulSet")["metadata"]["name"])["data"]["lockstep.toml"]
    file = tmp_path / "lockstep.toml"
    file.write_text(text)
    variables = environment(containers(pod(parts))["lockstep"], only(parts, "StatefulSet")["metadata"]["name"])
    ran = run(lockstep, "config", "check", "--config", file, env=variables)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"(site {yaml.safe_load(case.read_text())['site']}, node {variables['LOCKSTEP_NODE']})" in ran.stdout
    # A setting that the check refuses shows that the file is read with these variables.
    ran = run(lockstep, "config", "check", "--config", file, env={**variables, "LOCKSTEP_HANDOVER__POD": "nowhere"})
    assert ran.returncode == 1 and "handover.pod" in ran.stderr


def environment(sidecar, statefulset):
    """The environment of the container, with the values that the kubelet would fill in."""
    fields = {
        "metadata.name": f"{statefulset}-0",
        "metadata.namespace": "gerrit",
        "metadata.uid": "7c0a2c3e-5b7c-4f0e-9d0e-0a1b2c3d4e5f",
    }
    known = {}
    for variable in sidecar["env"]:
        value = variable.get("value")
        if value is None:
            value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        known[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], value)
    return known


def test_a_value_of_the_user_wins_over_that_of_the_chart():
    parts = rendered(
        DEPLOY / "test/cases/full.yaml", "--set", "config.handover.timeout=30s", "--set", "config.gerrit.refresh=none"
    )
    config = tomllib.loads(only(parts, "ConfigMap", "gerrit-muc-1")["data"]["lockstep.toml"])
    assert config["handover"] == {"pod_label": "lockstep/role", "timeout": "30s"}
    assert config["gerrit"]["refresh"] == "none"
    sites = ["muc-1", "ber-1", "eu-aws"]
    assert config["tls"]["allow"] == [f"spiffe://lockstep/{site}/*" for site in sites]


def settings_of(parts):
    name = only(parts, "StatefulSet")["metadata"]["name"]
    return tomllib.loads(only(parts, "ConfigMap", name)["data"]["lockstep.toml"])


def test_three_nodes_of_a_site_reach_each_other_by_the_names_of_their_pods():
    parts = rendered(DEPLOY / "test/cases/full.yaml", "--set", "replicas=3")
    site, config = only(parts, "StatefulSet"), settings_of(parts)
    name, labels = site["metadata"]["name"], site["spec"]["template"]["metadata"]["labels"]
    sidecar = containers(pod(parts))["lockstep"]
    # A node has the name of its pod, and the headless Service of the StatefulSet gives that name an address at once.
    variables = {variable["name"]: variable.get("valueFrom") for variable in sidecar["env"]}
    assert variables["LOCKSTEP_NODE"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    service = only(parts, "Service", site["spec"]["serviceName"])["spec"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
    assert service["selector"].items() <= labels.items()
    port = next(port for port in service["ports"] if port["name"] == "peers")
    inside = next(one["containerPort"] for one in sidecar["ports"] if one["name"] == port["targetPort"])
    assert port["port"] == inside and config["tls"]["listen"] == f"0.0.0.0:{inside}"
    hosts = [f"{name}-{number}.{site['spec']['serviceName']}.gerrit.svc" for number in range(3)]
    urls = [config["siblings"]["url"].replace("{node}", f"{name}-{number}") for number in range(3)]
    assert urls == [f"https://{host}:{inside}" for host in hosts]
    # All of them have the certificate that a caller expects, and each lets the others in.
    certificate = only(parts, "Certificate")["spec"]
    assert certificate["uris"] == [config["siblings"]["identity"]] == ["spiffe://lockstep/muc-1/gerrit-muc-1"]
    assert {"client auth", "server auth"} <= set(certificate["usages"])
    assert [one for one in config["tls"]["allow"] if config["siblings"]["identity"].startswith(one.rstrip("*"))]
    assert config.get("eventlog", {}).get("sharing", "auto") == "auto"


def test_the_network_policy_lets_the_nodes_of_a_site_talk():
    full = DEPLOY / "test/cases/full.yaml"
    for args in (["--set", "replicas=3"], ["--set-json", "networkPolicy.peers=[]"]):
        parts = rendered(full, *args)
        labels = only(parts, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
        policy = only(parts, "NetworkPolicy")["spec"]
        rule = next(rule for rule in policy["ingress"] if [port["port"] for port in rule["ports"]] == ["peers"])
        selectors = [one["podSelector"]["matchLabels"] for one in rule.get("from", []) if "podSelector" in one]
        # Without `from`, everybody may connect.
        assert "from" not in rule or [one for one in selectors if one and one.items() <= labels.items()], args
        assert {"ports": [{"port": 7422, "protocol": "TCP"}]} in policy["egress"], args


def test_a_site_grows_and_shrinks_without_a_restart_of_any_node():
    of = lambda count: rendered(DEPLOY / "test/cases/full.yaml", "--set", f"replicas={count},canary.partition=0")
    one, three = of(1), of(3)
    assert [only(parts, "StatefulSet")["spec"]["replicas"] for parts in (one, three)] == [1, 3]
    differ = [new["kind"] for old, new in zip(one, three, strict=True) if old != new]
    assert differ == ["StatefulSet"], "nothing else depends on the number of replicas"
    assert pod(one) == pod(three)
    notes = [only(parts, "StatefulSet")["spec"]["template"]["metadata"]["annotations"] for parts in (one, three)]
    assert notes[0] == notes[1]


def test_a_site_alone_has_siblings_and_one_without_a_certificate_has_none():
    alone = settings_of(rendered(LEAST, "--set", "tls.secretName=ours", "--set", "tls.trustDomain=example"))
    assert alone["tls"]["allow"] == ["spiffe://example/muc-1/*"] and alone["tls"]["listen"]
    assert alone["siblings"]["identity"] == "spiffe://example/muc-1/gerrit-muc-1"
    own = ("--set", "tls.secretName=ours", "--set", "config.siblings.identity=gerrit.example.org")
    assert settings_of(rendered(LEAST, *own))["siblings"]["identity"] == "gerrit.example.org"
    without = settings_of(rendered(LEAST, "--set", "replicas=3"))
    assert "siblings" not in without and "tls" not in without


@pytest.mark.parametrize("case, kubernetes", EACH, ids=lambda value: getattr(value, "stem", value))
def test_every_container_is_confined(case, kubernetes):
    inside = pod(rendered(case, kubernetes=kubernetes))
    assert inside["automountServiceAccountToken"] is False
    assert inside["securityContext"]["runAsNonRoot"] is True
    assert inside["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    for container in containers(inside).values():
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] == 1000, container["name"]
        assert context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, container["name"]
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert ":latest" not in container["image"] and ("@" in container["image"] or ":" in container["image"])


def test_only_the_sidecar_gets_the_token_of_the_service_account():
    inside = pod(rendered(LEAST))
    volumes = [volume["name"] for volume in inside["volumes"] if "projected" in volume]
    assert volumes == ["lockstep-token"]
    assert not [
        part for part in inside["containers"] if any("token" in mount["name"] for mount in part["volumeMounts"])
    ]
    with_token = [
        part["name"]
        for part in containers(inside).values()
        if any(mount["name"] in volumes for mount in part["volumeMounts"])
    ]
    assert with_token == ["lockstep"]


def test_outside_of_eks_the_sidecar_takes_its_role_with_a_token_for_aws():
    inside = pod(rendered(DEPLOY / "test/cases/plain-git.yaml"))
    sidecar = containers(inside)["lockstep"]
    variables = {variable["name"]: variable.get("value") for variable in sidecar["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
    assert variables["AWS_WEB_IDENTITY_TOKEN_FILE"] == mounts["aws-token"] + "/token"
    token = next(volume for volume in inside["volumes"] if volume["name"] == "aws-token")["projected"]["sources"][0]
    assert token["serviceAccountToken"]["audience"] == "sts.amazonaws.com"


def test_the_role_allows_get_and_patch_of_the_pods_of_this_site_alone():
    parts = rendered(DEPLOY / "test/cases/full.yaml")
    rules = only(parts, "Role")["rules"]
    names = ["gerrit-muc-1-0", "gerrit-muc-1-1", "gerrit-muc-1-2"]
    assert rules == [{"apiGroups": [""], "resources": ["pods"], "resourceNames": names, "verbs": ["get", "patch"]}]
    assert only(parts, "StatefulSet")["spec"]["replicas"] <= len(names)
    assert not [part for part in parts if part["kind"].startswith("Cluster")]


def test_the_services_lead_to_the_pods_that_they_are_for():
    parts = rendered(DEPLOY / "test/cases/full.yaml")
    labels = only(parts, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    services = {part["metadata"]["name"]: part["spec"] for part in parts if part["kind"] == "Service"}
    assert set(services) == {
        f"gerrit-muc-1{end}" for end in ("", "-read", "-write", "-metrics", "-peers", "-operators")
    }
    for service, of in services.items():
        wanted = dict(of["selector"])
        assert wanted.pop("lockstep/role", None) == ("active" if service == "gerrit-muc-1-write" else None), service
        assert wanted.items() <= labels.items(), service
    assert "lockstep/role" not in labels, "the sidecar sets it"
    ports = {port["name"] for part in containers(pod(parts)).values() for port in part.get("ports", [])}
    assert {port["targetPort"] for of in services.values() for port in of["ports"]} <= ports
    assert services["gerrit-muc-1"]["clusterIP"] == services["gerrit-muc-1-metrics"]["clusterIP"] == "None"


def test_a_service_monitor_reads_the_same_metrics_as_a_pod_monitor():
    of_pods = only(rendered(LEAST, "--set", "monitoring.podMonitor.enabled=true"), "PodMonitor")["spec"]
    parts = rendered(LEAST, "--set", "monitoring.serviceMonitor.enabled=true")
    of_services = only(parts, "ServiceMonitor")
    assert Crds().problems(of_services) == []
    assert of_services["spec"]["endpoints"] == of_pods["podMetricsEndpoints"]
    wanted = of_services["spec"]["selector"]["matchLabels"].items()
    found = [part for part in parts if part["kind"] == "Service" and wanted <= part["metadata"]["labels"].items()]
    assert [part["metadata"]["name"] for part in found] == ["gerrit-muc-1-metrics"]
    assert of_services["spec"]["endpoints"][0]["port"] in [port["name"] for port in found[0]["spec"]["ports"]]


def test_no_secret_is_in_a_configmap_or_an_argument():
    secret = re.compile(r"(?i)(password|token|secret|private[ _-]?key)\s*=\s*(\S+)|-----BEGIN")
    for case in CASES:
        for part in rendered(case):
            assert part["kind"] != "Secret", "secrets come from Secrets of the operator, and never from values"
            text = json.dumps(part) if part["kind"] != "ConfigMap" else "\n".join(part["data"].values())
            if part["kind"] == "ConfigMap" and not part["metadata"]["name"].endswith("-dashboards"):
                found = [match[0] for match in secret.finditer(text)]
                assert found == [], part["metadata"]["name"]
            assert "-----BEGIN" not in text


def test_off_runs_gerrit_alone_with_the_same_volume_and_names():
    active, off = (rendered(DEPLOY / f"test/cases/{case}.yaml") for case in ("least", "off"))
    assert set(containers(pod(off))) == {"gerrit", "gerrit-config"}
    config = only(off, "ConfigMap", "gerrit-muc-1-gerrit")["data"]["gerrit.config"]
    assert "lockstep" not in config and "basePath = git" in config
    assert "installDbModule" in only(active, "ConfigMap", "gerrit-muc-1-gerrit")["data"]["gerrit.config"]
    same = [only(parts, "StatefulSet") for parts in (active, off)]
    for path in (["metadata", "name"], ["spec", "selector"], ["spec", "volumeClaimTemplates"], ["spec", "serviceName"]):
        one, other = same
        for step in path:
            one, other = one[step], other[step]
        assert one == other, path
    kinds = {part["kind"] for part in off}
    assert not kinds & {"Role", "PodMonitor", "Certificate", "ExternalSecret"}


@pytest.mark.parametrize("kubernetes", BOTH)
def test_a_shadow_watches_and_can_write_no_repository(kubernetes):
    case = lambda name: rendered(DEPLOY / f"test/cases/{name}.yaml", kubernetes=kubernetes)
    active, shadow = case("least"), case("shadow")
    sidecar = containers(pod(shadow))["lockstep"]
    assert sidecar["args"][:2] == ["shadow", "watch"] and "lockstep-bridge" not in containers(pod(shadow))
    mounts = {mount["mountPath"]: mount for mount in sidecar["volumeMounts"]}
    assert mounts["/var/gerrit"]["readOnly"], "it changes no repository"
    journal = sidecar["args"][sidecar["args"].index("--journal") + 1]
    assert mounts[journal] == {"name": "gerrit-site", "mountPath": journal, "subPath": "lockstep-shadow"}
    for field in ("image", "securityContext", "readinessProbe", "ports"):
        assert sidecar[field] == containers(pod(active))["lockstep"][field], field
    config = only(shadow, "ConfigMap", "gerrit-muc-1-gerrit")["data"]["gerrit.config"]
    assert "lockstep" not in config
    assert "site" in tomllib.loads(only(shadow, "ConfigMap", "gerrit-muc-1")["data"]["lockstep.toml"])
    assert "Role" not in {part["kind"] for part in shadow}
    # Prometheus scrapes the watch, and nothing else may reach the sidecar.
    assert only(shadow, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"] == "health"
    inside = [rule["ports"] for rule in only(shadow, "NetworkPolicy")["spec"]["ingress"]]
    assert [port["port"] for ports in inside for port in ports] == ["http", "ssh", "health"]


def test_a_shadow_waits_for_no_certificate_that_nobody_makes():
    full = DEPLOY / "test/cases/full.yaml"
    optional = lambda *args: {
        volume["name"]: volume["secret"].get("optional", False)
        for volume in pod(rendered(full, *args))["volumes"]
        if volume["name"] == "lockstep-tls"
    }
    assert optional() == {"lockstep-tls": False}
    assert optional("--set", "mode=shadow") == {"lockstep-tls": True}
    own = ("--set", "tls.certManager.enabled=false,tls.secretName=ours")
    assert optional("--set", "mode=shadow", *own) == {"lockstep-tls": False}


@pytest.mark.parametrize("case", ACTIVE, ids=name)
def test_only_architectures_with_an_image_are_allowed(case, spec):
    assert spec["nodes"].items() <= pod(rendered(case))["nodeSelector"].items()


def test_a_canary_is_the_pod_with_the_highest_number():
    strategy = only(rendered(DEPLOY / "test/cases/full.yaml"), "StatefulSet")["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}


def test_another_configuration_is_another_pod():
    note = lambda *args: only(rendered(LEAST, *args), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    assert note() == note()
    assert note() != note("--set", "config.commit.lanes=4")
    assert note() != note("--set", "gerrit.config=[auth]")


@pytest.mark.parametrize(
    "case, says",
    [
        ("least", "exec gerrit-muc-1-0 -c lockstep -- lockstep status --all"),
        ("full", "Pods below number 2 keep the version before"),
        ("shadow", "lockstep shadow report"),
        ("full", "delete the canary's pod if it is not ready"),
        ("off", "kubectl --namespace default delete pod gerrit-muc-1-0"),
        ("public-image", "upgrade with gerrit.publicImage.initialise=false"),
        ("off", "lockstep site mode muc-1 off --expect-epoch N"),
        ("least", "lockstep site mode muc-1 active --role ROLE --expect-epoch N"),
    ],
)
def test_the_notes_tell_the_next_command(case, says, tmp_path):
    assert says in notes(case, tmp_path)


def test_the_notes_of_a_site_without_a_certificate_say_that_its_nodes_share_no_reads(tmp_path):
    told = "Each node reads every stream by itself"
    three = ["--set", "replicas=3"]
    assert told in notes("least", tmp_path / "without", *three)
    assert told not in notes("least", tmp_path / "one")
    assert told not in notes("least", tmp_path / "with", *three, "--set", "tls.secretName=ours")


def notes(case, folder, *more):
    """The notes of the chart."""
    # helm shows notes only after an installation, so a copy of the chart has them in an object.
    chart = folder / "lockstep"
    shutil.copytree(CHART, chart)
    text = (chart / "templates/NOTES.txt").read_text()
    wrapped = '{{ define "notes" }}' + text + '{{ end }}text: {{ include "notes" . | toJson }}'
    (chart / "templates/notes.yaml").write_text(wrapped)
    values = DEPLOY / f"test/cases/{case}.yaml"
    args = ["--kube-version", NATIVE, "--values", values, "--show-only", "templates/notes.yaml", *more]
    ran = run(TOOLS / "helm", "template", "lockstep", chart, *args)
    assert ran.returncode == 0, ran.stderr
    return yaml.safe_load(ran.stdout)["text"]


REFUSED = [
    # An unknown name, at each depth.
    (["--set", "sight=muc-1"], ["sight"]),
    (["--set", "gerrit.imgae=x"], ["gerrit", "imgae"]),
    (["--set", "config.refdb.regoin=x"], ["config/refdb", "regoin"]),
    (["--set", "config.peers.ber-1.uri=x"], ["config/peers/ber-1", "uri"]),
    (["--set", "config.site=muc-2"], ["config", "site"]),
    (["--set", "networkPolicy.enable=false"], ["networkPolicy", "enable"]),
    # Bad values.
    (["--set", "site="], ["site"]),
    (["--set", "site=MUC"], ["site"]),
    (["--set-json", "sites=[]"], ["sites"]),
    (["--set-json", 'sites=["muc-1","muc-1"]'], ["sites"]),
    (["--set", "mode=watch"], ["mode", "active"]),
    (["--set", "replicas=-1"], ["replicas"]),
    (["--set", "replicas=two"], ["replicas"]),
    (["--set", "mostReplicas=0"], ["mostReplicas"]),
    (["--set", "image.pullPolicy=Sometimes"], ["image/pullPolicy", "IfNotPresent"]),
    (["--set", "image.digest=sha256:abc"], ["image/digest"]),
    (["--set", "gerrit.image="], ["gerrit/image"]),
    (["--set", "bridge.gerritVersion=3.10"], ["bridge/gerritVersion"]),
    (["--set", "storage.size=big"], ["storage/size"]),
    (["--set-json", 'storage.accessModes=["ReadWriteMany"]'], ["storage/accessModes"]),
    (["--set", "services.type=Ingress"], ["services/type"]),
    (["--set", "podDisruptionBudget.maxUnavailable=0"], ["podDisruptionBudget/maxUnavailable"]),
    (["--set", "topologySpread.zones=Never"], ["topologySpread/zones"]),
    (["--set-json", 'networkPolicy.aws=["everywhere"]'], ["networkPolicy/aws"]),
    (["--set", "tls.certManager.duration=90d"], ["tls/certManager/duration"]),
    (["--set", "monitoring.podMonitor.interval=soon"], ["monitoring/podMonitor/interval"]),
    (["--set-json", "config.git.install_hooks=3"], ["config/git/install_hooks"]),
    (["--set-json", "config.refdb.region=3"], ["config/refdb/region"]),
    # Values that do not fit together.
    (["--set-json", 'sites=["ber-1"]'], ["sites: muc-1 is missing"]),
    (["--set", "replicas=4"], ["replicas: 4 is more than mostReplicas, 3"]),
    (["--set", "config.blobs.url="], ["config.blobs.url: name the blob store"]),
    (["--set", "tls.certManager.enabled=true"], ["tls.certManager.issuer.name: name the issuer"]),
    (["--set", "tls.certManager.enabled=true", "--set", "tls.secretName=a"], ["set one of the two"]),
    (["--set", "secrets.externalSecrets.enabled=true"], ["secrets.externalSecrets.store.name: name the store"]),
    (["--set-json", 'gerrit.shared.files=["a"]'], ["gerrit.shared.secretName: name the Secret"]),
    (["--set", "config.operators.listen=0.0.0.0:9"], ["config.operators.listen: 0.0.0.0:9; write 0.0.0.0:7423"]),
    (["--set", "config.health.listen=0.0.0.0:9"], ["config.health.listen: the pod sets it"]),
    (["--set", "aws.roleArn=role/x"], ["aws/roleArn"]),
    (
        ["--set", r"nodeSelector.kubernetes\.io/arch=arm64"],
        ['nodeSelector: kubernetes.io/arch is "arm64"; write amd64'],
    ),
    (["--set", r"nodeSelector.kubernetes\.io/arch=null"], ["nodeSelector: kubernetes.io/arch is", "write amd64"]),
    (
        ["--set", "monitoring.podMonitor.enabled=true", "--set", "monitoring.serviceMonitor.enabled=true"],
        ["monitoring.serviceMonitor.enabled: podMonitor reads the same metrics"],
    ),
    (["--set", "config.peers.b.url=https://b:7422"], ["config.peers.b.url: https needs a certificate"]),
]


@pytest.mark.parametrize("args, parts", REFUSED, ids=lambda value: " ".join(value)[:60])
def test_a_bad_value_is_refused_by_its_name(args, parts):
    ran = helm([DEPLOY / "test/cases/least.yaml"], *args)
    assert ran.returncode != 0, ran.stdout[:500]
    for part in parts:
        assert part in ran.stderr, ran.stderr


def test_the_schema_knows_every_value_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    differences(values, schema, "")


def differences(values, schema, path):
    if "properties" not in schema or values == {}:
        return
    assert set(values) == set(schema["properties"]) - {"global"}, path
    for key, value in values.items():
        if isinstance(value, dict):
            differences(value, schema["properties"][key], f"{path}.{key}")


def test_the_schema_has_every_setting_of_the_sidecar(lockstep):
    page = run(lockstep, "config", "reference").stdout
    assert page == (TOP / "docs/configuration.md").read_text(), "lockstep config reference > docs/configuration.md"
    config = json.loads((CHART / "values.schema.json").read_text())["definitions"]["config"]["properties"]
    assert config["refdb"]["properties"]["region"]["type"] == "string"
    assert "site" not in config and "root" not in config
    assert set(config["peers"]["additionalProperties"]["properties"]) == {"url", "identity", "token_file", "socket"}
