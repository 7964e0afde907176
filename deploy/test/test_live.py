"""A real Prometheus scrapes a real sidecar, and runs every query of the dashboards and the rules."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
import yaml
from conftest import DEPLOY, TOOLS, run
from test_observability import ALERTS, BOARDS, RECORDS, VARIABLE

PATIENCE = 120
# The panels that may have no data while nothing is wrong, without a Gerrit that works, TLS, signed records and an
# autoscaler, and before the first drill. A counter with labels has no series before its first event.
MAY_BE_EMPTY = {
    "Calls that did not get an answer",
    "Refused and repeated records",
    "Certificates",
    "Failures of tasks",
    "Stream events",
    "Refresh tasks",
    "Errors of operations on repositories",
    "Records without a good signature",
    "Blobs",
    "Bytes of blobs",
    "Last drill of each kind",
    "Load of a stream with an autoscaler",
    "Shards of a stream with an autoscaler",
    "Age of the last green drill",
}
# The variables of dashboards that a reader may change, with their first values.
PRICES = {
    variable["name"]: variable["query"]
    for board in BOARDS.values()
    for variable in board["templating"]["list"]
    if variable["type"] == "textbox"
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(found, what, logs):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            value = found()
        except OSError:
            value = None
        if value:
            return value
        time.sleep(0.2)
    tails = "\n".join(path.read_text()[-2000:] for path in logs)
    raise AssertionError(f"not within {PATIENCE} s: {what}\n{tails}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Live:
    """A sidecar with emulators of its own, a watch in shadow mode, and Prometheus beside them."""

    def __init__(self, home, lockstep):
        self.home, self.lockstep, self.running = home, lockstep, []
        self.health, self.prometheus, self.shadow = free_port(), free_port(), free_port()
        self.root, self.socket = home / "git", home / "run/api.sock"
        for folder in ("git", "aws"):
            (home / folder).mkdir()
        (home / "lockstep.toml").write_text(
            f'site = "a"\nnode = "a-0"\nsites = ["a"]\nroot = "{self.root}"\nstate = "{self.root}/.lockstep"\n'
            f'[api]\nsocket = "{self.socket}"\n[git]\ninstall_hooks = true\n'
            f'[gerrit]\nrefresh = "bridge"\n'
            f'[health]\nlisten = "127.0.0.1:{self.health}"\n[embedded]\ndir = "{home}/aws"\n'
        )
        (home / "shadow.toml").write_text(
            f'site = "s"\nnode = "s-0"\nsites = ["s"]\nroot = "{self.root}"\nstate = "{home}/none"\n'
            f'[api]\nsocket = "{home}/run/none.sock"\n[health]\nlisten = "127.0.0.1:{self.shadow}"\n'
            f'[blobs]\nurl = "file://{home}/blobs"\n'
        )
        scrape = {
            "job_name": "lockstep",
            "static_configs": [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"site": site, "node": f"{site}-0"}}
                for port, site in ((self.health, "a"), (self.shadow, "s"))
            ],
        }
        document = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "2s"},
            "rule_files": [str(DEPLOY / "observability/rules.yaml")],
            "scrape_configs": [scrape],
        }
        (home / "prometheus.yml").write_text(yaml.safe_dump(document))

    def start(self):
        self._start("sidecar", self.lockstep, "run", "--config", self.home / "lockstep.toml")
        until(lambda: get(f"http://127.0.0.1:{self.health}/readyz"), "the sidecar is ready", self.logs())
        watch = ("shadow", "watch", "--config", self.home / "shadow.toml", "--journal", self.home / "journal")
        self._start("shadow", self.lockstep, *watch)
        until(lambda: get(f"http://127.0.0.1:{self.shadow}/readyz"), "the watch has looked", self.logs())
        self._start(
            "prometheus",
            TOOLS / "prometheus",
            f"--config.file={self.home}/prometheus.yml",
            f"--storage.tsdb.path={self.home}/data",
            f"--web.listen-address=127.0.0.1:{self.prometheus}",
        )
        until(lambda: get(f"http://127.0.0.1:{self.prometheus}/-/ready"), "Prometheus is ready", self.logs())

    def _start(self, name, *command):
        with open(self.home / f"{name}.log", "w") as log:
            environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
            process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=environment)
        self.running.append(process)

    def logs(self):
        return list(self.home.glob("*.log"))

    def stop(self):
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()

    def use(self):
        """Pushes, and has an update refused, so that the usual metrics have values."""
        made = run(self.lockstep, "project", "create", "demo", "--socket", self.socket)
        assert made.returncode == 0, made.stderr
        clone = self.home / "clone"
        self.git("clone", "-q", self.root / "demo.git", clone)
        for number in range(10):
            self.git("-C", clone, "commit", "-q", "--allow-empty", "-m", f"commit {number}")
            self.git("-C", clone, "push", "-q", "origin", "HEAD:refs/heads/main")
            time.sleep(1)
        # The ref exists, and this update expects that it does not.
        value = self.git("-C", clone, "rev-parse", "HEAD").strip()
        stale = ["--project", "demo", "--old", "absent", "refs/heads/main", value]
        for _ in range(2):
            refused = run(self.lockstep, "update-ref", "--socket", self.socket, *stale)
            assert refused.returncode == 3, refused.stdout + refused.stderr
            time.sleep(1.5)

    def git(self, *command):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "safe.directory=*"]
        ran = run("git", *who, *command)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def query(self, expr):
        choices = {"__rate_interval": "30s", "__range": "30s", "site": ".*", "node": ".*", **PRICES}
        expr = VARIABLE.sub(lambda found: choices[found[1]], expr)
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
        try:
            answer = json.loads(get(url))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from error
        return answer["data"]["result"]


@pytest.fixture(scope="module")
def live(tmp_path_factory, lockstep):
    # The path of a socket has at most 107 bytes.
    home = tmp_path_factory.mktemp("l")
    node = Live(home, lockstep)
    try:
        node.start()
        node.use()
        wanted = 'rate(lockstep_apply_total{site="a"}[30s])'
        until(lambda: node.query(wanted), "Prometheus has a rate", node.logs())
        time.sleep(3)
        yield node
    finally:
        node.stop()
        shutil.rmtree(home / "data", ignore_errors=True)


@pytest.mark.parametrize("board", BOARDS)
def test_every_panel_has_data_from_a_real_prometheus(live, board):
    panels = {
        panel["title"]: [live.query(target["expr"]) for target in panel["targets"]] for panel in BOARDS[board]["panels"]
    }
    empty = {title for title, answers in panels.items() if not any(answers)}
    assert empty <= MAY_BE_EMPTY


def test_every_rule_is_evaluated_by_a_real_prometheus(live):
    for name, rule in {**RECORDS, **ALERTS}.items():
        live.query(rule["expr"])
        assert name
    groups = json.loads(get(f"http://127.0.0.1:{live.prometheus}/api/v1/rules"))["data"]["groups"]
    bad = [(rule["name"], rule["lastError"]) for group in groups for rule in group["rules"] if rule["health"] == "err"]
    assert bad == []
    fires = [rule["name"] for group in groups for rule in group["rules"] if rule.get("state") == "firing"]
    assert fires == [], "nothing is wrong with this site"
