"""The pages of docs/install: each block is run, or says why it cannot be, and then its parts are checked."""

import json
import re
import shutil
import subprocess
import time

import kubernetes_validate
import pytest
from conftest import BEFORE_NATIVE, NATIVE, TOOLS, TOP, objects, run
from crds import Crds
from pages import REASONS, Shell, blocks
from test_live import free_port

INSTALL = TOP / "docs/install"
PAGES = sorted(INSTALL.glob("*.md"))
ALL = [block for page in PAGES for block in blocks(page)]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
# The pages whose commands need no second machine.
CLUSTERS = ["eks.md", "openstack.md", "k8s-gerrit-operator.md", "existing-gerrit.md"]
KUBERNETES = "1.34"
KUBECTL = """#!/bin/sh
# There is no cluster: of kubectl, only `kustomize` is there.
[ "$1" = kustomize ] || { echo "kubectl $1 needs a cluster" >&2; exit 97; }
shift
exec KUSTOMIZE build "$@"
"""


def of_page(name):
    return [block for block in ALL if block.page == name]


@pytest.fixture
def place(tmp_path, lockstep):
    """A folder in which the pages' relative paths lead into the tree, and one with the programs that they name."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "lockstep").symlink_to(lockstep)
    (path / "helm").symlink_to(TOOLS / "helm")
    (path / "kubectl").write_text(KUBECTL.replace("KUSTOMIZE", str(TOOLS / "kustomize")))
    (path / "kubectl").chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()
    # Kustomize follows no link out of its folder.
    shutil.copytree(TOP / "deploy/kustomize", here / "deploy/kustomize")
    (here / "deploy/helm").symlink_to(TOP / "deploy/helm")
    return here


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.where)
def test_each_block_is_run_or_says_what_it_needs(block):
    assert subprocess.run(["bash", "-n"], input=block.text, text=True, check=False).returncode == 0
    if not block.reason:
        assert re.fullmatch(r"|set|set each|each|at (muc-1|ber-1)", block.mark), f"{block.where}: {block.mark!r}"
        return
    assert block.reason in REASONS, f"{block.where}: {block.reason!r} is no known reason"
    needs = [command for command in block.commands() if re.search(REASONS[block.reason], command)]
    assert needs, f"{block.where}: no command of it needs {block.reason}: run it"


def test_the_blocks_that_are_run_are_most_of_those_that_could_be():
    """Each page has blocks that run. The number may only grow."""
    count = {page.name: len([block for block in of_page(page.name) if not block.reason]) for page in PAGES}
    assert count["plain-git.md"] >= 9 and count["uninstall.md"] >= 4
    assert all(count[page] >= 2 for page in CLUSTERS), count


HELP = {}


def shows(lockstep, path):
    """The help of a command of lockstep, or None."""
    if path not in HELP:
        ran = run(lockstep, *path, "--help")
        HELP[path] = ran.stdout if ran.returncode == 0 else None
    return HELP[path]


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.where)
def test_commands_have_the_options_that_the_pages_name(block, lockstep):
    for command in block.commands():
        for part in re.findall(r"(?:^|\$\(|-- |\| |-exec |until |if |do )(lockstep [^|;)]+)", command):
            given = re.sub(r"[\"'$\\{}]", "", part).split()[1:]
            path = tuple(word for word in given[:2] if re.fullmatch(r"[a-z][a-z-]*", word))
            # The second word may be an argument: then it is not in the usage of the help.
            while path and not re.search(rf"Usage: \S+ {' '.join(path)}\b", shows(lockstep, path) or ""):
                path = path[:-1]
            assert path, f"{block.where}: {part}"
            for option in (word.partition("=")[0] for word in given if word.startswith("--")):
                assert re.search(rf"{option}\b", shows(lockstep, path)), f"{block.where}: {option} of {' '.join(path)}"
        for target in re.findall(r"^make ([a-z0-9-]+)", command):
            assert target in TARGETS, f"{block.where}: make {target}"


def values(block):
    """The values that a reader sets."""
    lines = [line for line in block.text.splitlines() if line.strip()]
    assert all(line.startswith("export ") for line in lines), block.where
    return re.findall(r"(\w+)=", block.text)


@pytest.mark.parametrize("page", CLUSTERS)
def test_the_commands_for_a_cluster_work_as_they_stand(page, place):
    shell = Shell(place, {}, place.parent / "bin", place.parent / "log")
    try:
        for block in of_page(page):
            if not block.reason:
                assert block.mark in ("", "set"), block.where
                shell.run(block.text)
        rest = [command for block in of_page(page) if block.reason == "a cluster" for command in block.commands()]
        installs(rest, shell)
    finally:
        shell.stop()
    rendered = sorted(place.rglob("rendered*.yaml"))
    assert rendered, "the page renders nothing"
    for path in rendered:
        crds = Crds()
        parts = objects(path.read_text())
        assert parts, path
        for part in parts:
            where = f"{path.name}: {part['kind']} {part['metadata']['name']}"
            if crds.has(part):
                assert crds.problems(part) == [], where
            else:
                kubernetes_validate.validate(part, KUBERNETES, strict=True)
    for path in place.glob("*.json"):
        document = json.loads(path.read_text())
        assert document["Version"] == "2012-10-17" and document["Statement"], path


def installs(commands, shell):
    """The commands that would change a cluster render the same objects, with the values that the page has written."""
    done = 0
    for command in commands:
        given = re.match(r"helm (--namespace \S+) (?:install|upgrade) (.*)", command)
        if given:
            shell.run(f"helm {given[1]} template --kube-version 1.34.0 {given[2]} > rendered-installed-{done}.yaml")
            done += 1
        given = re.match(r"kubectl apply --kustomize (\S+)", command)
        if given:
            shell.run(f"kubectl kustomize {given[1]} > rendered-applied-{done}.yaml")
            done += 1
        given = re.match(r"kubectl apply --filename (\S+)", command)
        if given:
            shell.run(f"test -s {given[1]}")
            done += 1
    assert done, "the page installs nothing"


def test_the_image_of_the_operators_policy_is_the_one_of_the_page(place):
    shell = Shell(place, {}, place.parent / "bin", place.parent / "log")
    try:
        for block in of_page("k8s-gerrit-operator.md"):
            if not block.reason:
                shell.run(block.text)
    finally:
        shell.stop()
    text = (place / "rendered-policy.yaml").read_text()
    assert text.count("registry.example.org/lockstep@sha256:") == 2 and "lockstep:0.1.0" not in text


class Sites:
    """Two machines of plain git, and one of a user. Emulators are in the place of AWS."""

    def __init__(self, place, lockstep):
        self.home, path = place.parent, place.parent / "bin"
        emulators = lockstep.parent / "examples/shared-emulators"
        if not emulators.exists():
            pytest.skip("no emulators: cargo build --package lockstep --example shared-emulators")
        self.aws = subprocess.Popen([emulators, self.home / "aws"], stdout=subprocess.PIPE, text=True)
        told = dict(self.aws.stdout.readline().strip().split("=", 1) for _ in range(2))
        ports = {site: (free_port(), free_port()) for site in ("muc-1", "ber-1")}
        (self.home / "blobs").mkdir()
        # Sockets have short paths.
        self.run = {site: self.home / site / "run" for site in ports}
        self.shells = {}
        for site, other in (("muc-1", "ber-1"), ("ber-1", "muc-1")):
            home = self.home / site
            for folder in ("git", "run", "etc/tls"):
                (home / folder).mkdir(parents=True)
            variables = {
                "SITE": site,
                "OTHER": other,
                "HOST": "127.0.0.1",
                "OTHER_PEER": f"127.0.0.1:{ports[other][0]}",
                "GIT_ROOT": str(home / "git"),
                "RUN": str(home / "run"),
                "ETC": str(home / "etc"),
                "PEERS": f"127.0.0.1:{ports[site][0]}",
                "HEALTH": f"127.0.0.1:{ports[site][1]}",
                "BLOBS": f"file://{self.home}/blobs",
                "REGION": "eu-central-1",
                "ACCOUNT": "123456789012",
            }
            self.names = sorted(variables)
            variables |= {
                "LOCKSTEP_REFDB__ENDPOINT": told["DYNAMODB_ENDPOINT"],
                "LOCKSTEP_EVENTLOG__ENDPOINT": told["KINESIS_ENDPOINT"],
            }
            self.shells[site] = Shell(home, variables, path, home / "log")
        user = {"MUC": "127.0.0.1", "BER": "127.0.0.1"}
        user |= {"SERVER": str(self.home / "muc-1/git"), "OTHER_SERVER": str(self.home / "ber-1/git")}
        self.shells["user"] = Shell(place, user, path, self.home / "user-log")
        self.place = place

    def take(self, block):
        """Runs a block at the machine that it is for."""
        machines = {"": ["user"], "each": ["muc-1", "ber-1"]}.get(block.mark) or [block.mark.removeprefix("at ")]
        out = {}
        for machine in machines:
            try:
                out[machine] = self.shells[machine].run(block.text)
            except AssertionError as error:
                logs = "\n".join(path.read_text()[-1500:] for path in self.home.glob("*/run/lockstep.log"))
                raise AssertionError(f"{block.where} at {machine}: {error}\n{logs}") from None
        return out

    def copies_certificates(self):
        """The block that needs another machine copies the certificates."""
        for site in ("muc-1", "ber-1"):
            shutil.copytree(self.place / f"{site}-tls", self.home / site / "etc/tls", dirs_exist_ok=True)

    def repository(self):
        """The repository that exists before Lockstep does."""
        shell = self.shells["muc-1"]
        shell.run(
            'git init --quiet --bare "$GIT_ROOT/app.git" && git clone --quiet "$GIT_ROOT/app.git" before 2> /dev/null\n'
            "git -C before commit --quiet --allow-empty --message 'before Lockstep'\n"
            "git -C before push --quiet origin HEAD:refs/heads/main\n"
            'git -C "$GIT_ROOT/app.git" symbolic-ref HEAD refs/heads/main'
        )

    def stop(self):
        for shell in self.shells.values():
            shell.stop()
        self.aws.terminate()
        self.aws.wait(timeout=20)


@pytest.fixture
def sites(place, lockstep):
    found = Sites(place, lockstep)
    try:
        yield found
    finally:
        found.stop()


def refs(repository):
    ran = run("git", "-C", repository, "for-each-ref", "--format=%(refname) %(objectname)")
    assert ran.returncode == 0, ran.stderr
    return sorted(line for line in ran.stdout.splitlines() if not line.startswith("refs/lockstep/"))


def test_plain_git_is_installed_used_and_uninstalled_by_the_commands_of_the_pages(sites):
    sites.repository()
    out = {}
    for block in of_page("plain-git.md"):
        if block.mark == "set each":
            assert sorted(values(block)) == sites.names, "the page sets other values than the test"
        elif block.reason == "another machine":
            sites.copies_certificates()
        elif not block.reason:
            out[block.line] = sites.take(block)
    told = "\n".join(text for each in out.values() for text in each.values())
    # Peers answer by mutual TLS, or `lockstep peers` would have failed. The two sites hold the same refs.
    assert told.count("0 differ") == 2, told
    muc, ber = (sites.home / site / "git" for site in ("muc-1", "ber-1"))
    assert refs(muc / "app.git") == refs(ber / "app.git") != []
    policy = json.loads((sites.home / "ber-1/policy-ber-1.json").read_text())
    assert "stream/prod-ber-1" in json.dumps(policy)
    assert (muc / "tools/build.git/hooks/proc-receive").exists()

    before = refs(muc / "app.git")
    for block in of_page("uninstall.md"):
        if block.mark == "each" or block.mark.startswith("at "):
            sites.take(block)
    for root in (muc, ber):
        assert not (root / ".lockstep").exists()
        for repository in (root / "app.git", root / "tools/build.git"):
            assert not (repository / "hooks/proc-receive").exists()
            listed = run("git", "-C", repository, "config", "--local", "--list").stdout
            assert "lockstep" not in listed and "procreceive" not in listed.lower(), listed
    assert refs(muc / "app.git") == before
    # Each is a plain repository again: a push goes to one, and the other does not follow.
    sites.shells["user"].run(
        "git -C app commit --quiet --allow-empty --message 'without Lockstep'\n"
        "git -C app push --quiet origin HEAD:refs/heads/main"
    )
    assert refs(muc / "app.git") != before == refs(ber / "app.git")


def test_sites_that_another_replication_made_equal_are_taken_over_by_the_commands_of_the_pages(sites):
    sites.repository()
    muc, ber = (sites.home / site / "git" for site in ("muc-1", "ber-1"))
    # Another replication has made the sites equal, but for one ref of which one site is behind.
    shutil.copytree(muc / "app.git", ber / "app.git")
    sites.shells["muc-1"].run(
        "git -C before commit --quiet --allow-empty --message 'not yet replicated'\n"
        "git -C before push --quiet origin HEAD:refs/heads/late"
    )
    compare, *rest = of_page("migrate.md")
    sites.take(compare)
    told = [(sites.home / site / f"refs-{site}.txt").read_text() for site in ("muc-1", "ber-1")]
    assert told[0] != told[1] and told[0].split()[0] == told[1].split()[0] == "app.git"
    wanted = refs(muc / "app.git")
    for block in of_page("plain-git.md"):
        # Up to the sidecars. Their repositories come by the seed.
        if block.mark == "at muc-1":
            break
        if block.reason == "another machine":
            sites.copies_certificates()
        elif block.mark in ("", "each"):
            sites.take(block)
    for block in rest:
        if not block.reason:
            sites.take(block)
    assert refs(ber / "app.git") == refs(muc / "app.git") == wanted
    sites.take(compare)
    told = [(sites.home / site / f"refs-{site}.txt").read_text() for site in ("muc-1", "ber-1")]
    assert told[0] == told[1]


def test_a_command_of_a_page_that_fails_fails_the_test(place):
    shell = Shell(place, {}, place.parent / "bin", place.parent / "log")
    began = time.monotonic()
    try:
        with pytest.raises(AssertionError, match="a command failed"):
            shell.run("echo before\nlockstep no-such-command\necho after")
        assert time.monotonic() - began < 30
    finally:
        shell.stop()


def source(path):
    return (TOP / path).read_text()


def test_the_matrix_names_the_versions_that_are_tested():
    table = source("docs/install/upgrade.md").partition("## Compatibility")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE))
    tools, program = source("deploy/test/tools"), source("deploy/pulumi/run")

    def pinned(name, text=tools):
        return re.search(rf"^{name}=([0-9.]+)$", text, re.MULTILINE)[1]

    assert rows["Helm"] == pinned("helm")
    assert rows["Kustomize"] == pinned("kustomize")
    operators = [pinned(name) for name in ("prometheus_operator", "cert_manager", "external_secrets")]
    assert rows["CRDs of the Prometheus operator, cert-manager, External Secrets"] == ", ".join(operators)
    assert rows["CRDs of Karpenter"] == pinned("karpenter", program)
    sdk = rows["Pulumi's SDK"]
    assert f"\npulumi=={sdk}\n" in source("deploy/pulumi/requirements.txt")
    kubernetes = pinned("kubernetes", source("deploy/k8s-e2e/binaries"))
    assert rows["Kubernetes, real API server and kubelets"] == kubernetes
    git = re.search(r"^git 1:([0-9.]+)-", source("deploy/image/packages.amd64.lock"), re.MULTILINE)[1]
    assert rows["git in the image"] == git
    rendered = [version.rpartition(".")[0] for version in (BEFORE_NATIVE, NATIVE)]
    assert rows["Kubernetes, the chart's objects against the schemas of"] == ", ".join(rendered)
    listed = re.search(r'"kubernetes", \[(.+?)\]', source("deploy/test/test_kustomize.py"))[1].replace('"', "")
    assert rows["Kubernetes, the Kustomize component against the schemas of"] == listed
    releases = source("docs/gerrit.md").partition("## Releases")[2].partition("\n\n| end-to-end")[0]
    of_gerrit = re.findall(r"^\| 3\.\d+ \| `[^`]+` \| ([0-9.]+)[^|]*\| ([0-9.]+) \|", releases, re.MULTILINE)
    assert rows["Gerrit, the bridge against JGit's contract"] == ", ".join(bridge for bridge, _ in of_gerrit)
    assert rows["Gerrit, in a real server with its sidecar"] == ", ".join(server for _, server in of_gerrit)


def test_the_sizes_are_those_of_the_pages_that_measured_them():
    """Each figure of the page stands in the page with its circumstances, so that a new measurement changes both."""
    pages = ("docs/performance.md", "docs/deploy.md", "docs/load/README.md")
    measured = re.sub(r"\s+", " ", "".join(source(page) for page in pages))
    figures = 0
    for row in re.findall(r"^\| (?!figure|operation|---)([^|]+) \| ([^|]+) \|", source("docs/install/sizing.md"), re.M):
        for figure in re.findall(r"\d[\d,.]*(?: (?:MiB|ms|s))?", row[1]):
            figures += 1
            number = figure.rstrip(",.").split()[0]
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]\d)", measured), f"{row[0]}: {figure}"
    assert figures > 40


def test_the_pages_that_readers_find_are_all_pages():
    index = (INSTALL / "README.md").read_text()
    for page in PAGES:
        assert page.name == "README.md" or f"({page.name})" in index, page.name
