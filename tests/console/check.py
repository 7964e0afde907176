"""The console of `lockstep demo` in headless Chromium: its function, the keyboard, contrast, and the screenshots.

It starts the demo, logs in with the token that the demo prints, and visits each page, in a light and in a dark scheme,
with a script and without one. Then it moves the writes of one site to another with the wizard, by keyboard alone. It
ends with 1 and the findings, if there are any.
"""

import argparse
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Error, Page, sync_playwright

HERE = Path(__file__).parent
PROBES = (HERE / "probes.js").read_text()
PAGES = {
    "overview": "/console",
    "topology": "/console/topology",
    "projects": "/console/projects",
    "ref": "/console/ref?project=demo&ref=refs/heads/main",
    "failover": "/console/failover",
    "plan": "/console/failover/plan?kind=planned&from=eu-aws&to=muc-1",
    "drills": "/console/drills",
    "quarantine": "/console/quarantine",
    "strays": "/console/strays",
    "audit": "/console/audit",
}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# How long anything may take, in seconds.
PATIENCE = 180

findings: list[str] = []


def expect(holds: bool, finding: str) -> None:
    """Keeps a finding, if something does not hold."""
    if not holds:
        findings.append(finding)
        print(f"  FOUND: {finding}", flush=True)


class Demo:
    """The three sites of the demo."""

    def __init__(self, program: str, folder: str) -> None:
        command = [program, "demo", "--dir", folder]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.consoles: dict[str, str] = {}
        self.token = ""
        end = time.monotonic() + PATIENCE
        while not self.token:
            try:
                line = self.lines.get(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                raise SystemExit("the demo has printed no token") from None
            if found := re.match(r"  (\S+) +(https://\S+)/console$", line):
                self.consoles[found[1]] = found[2]
            if found := re.match(r"  token +(\S+)$", line):
                self.token = found[1]

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def stop(self) -> None:
        """Stops the demo as a user does."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def watch(page: Page, base: str) -> None:
    """Notes requests to other hosts, and anything that the policy of the page forbids."""

    def asked(request) -> None:
        expect(request.url.startswith((base, "data:")), f"{page.url} loads {request.url}")

    def said(message) -> None:
        is_policy = "Content Security Policy" in message.text
        expect(not is_policy, f"{page.url}: {message.text}")

    page.on("request", asked)
    page.on("console", said)
    page.on("pageerror", lambda error: expect(False, f"{page.url}: {error}"))


def probe(page: Page, name: str):
    """The answer of one of the probes."""
    return page.evaluate(f"({PROBES})().{name}()")


def open_page(page: Page, address: str) -> None:
    """Opens a page. An answer other than 200 ends the check with its status, and not with a wait for another page."""
    answer = page.goto(address)
    if answer is None or answer.status != 200:
        raise SystemExit(f"{address} was answered {answer and answer.status}: {page.inner_text('body')[:300]}")


def log_in(page: Page, base: str, token: str) -> None:
    """Logs in by keyboard: the field has the focus when the page is there."""
    open_page(page, f"{base}/console")
    page.wait_for_url("**/console/login")
    # A page that has not been drawn yet has no focus, and would lose the first letters.
    page.wait_for_selector("#token:focus")
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{base}/console")


def refuses_a_wrong_token(page: Page, base: str) -> None:
    page.goto(f"{base}/console/login")
    page.fill("#token", "lockstep-operator-0")
    page.press("#token", "Enter")
    page.wait_for_selector("[role=alert]")
    expect("operators.token_file" in page.inner_text("[role=alert]"), "a wrong token is not refused in words")
    expect(not probe(page, "structure"), f"login: {probe(page, 'structure')}")
    expect(not probe(page, "contrast"), f"login: {probe(page, 'contrast')}")


def looks_right(page: Page, name: str, scheme: str) -> None:
    """Contrast and structure, and an answer in the first line."""
    for kind in ["contrast", "structure"]:
        found = probe(page, kind)
        expect(not found, f"{name}, {scheme}, {kind}: {found}")
    first = page.inner_text("main > *:nth-child(2)").strip()
    expect(len(first) > 10, f"{name}: the first line says nothing: {first!r}")


def works_by_keyboard(page: Page, name: str) -> None:
    """The first stop leads to the content, and each further stop shows the focus. Every element is reached."""
    page.keyboard.press("Tab")
    expect(page.evaluate("document.activeElement.className") == "skip", f"{name}: the first stop is not the skip link")
    page.keyboard.press("Enter")
    expect(page.evaluate("document.activeElement.id") == "main", f"{name}: the skip link does not lead to the content")
    page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges(); window.scrollTo(0, 0)")
    page.evaluate("document.querySelector('.skip').focus()")
    wanted, reached = probe(page, "reachable"), 1
    # The live part must not change while its elements are counted.
    for _ in range(wanted * 2):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
              const one = document.activeElement;
              if (!one || one === document.body) return null;
              if (one.classList.contains("skip")) return "again";
              const style = getComputedStyle(one);
              return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 ? "seen" : one.outerHTML;
            }"""
        )
        if stop is None or stop == "again":
            break
        expect(stop == "seen", f"{name}: no focus is seen at {stop[:120]}")
        reached += 1
    expect(reached >= wanted, f"{name}: the keyboard reaches {reached} of {wanted} elements")


def visit(browser, demo: Demo, base: str, shots: Path) -> None:
    """Every page, in both schemes."""
    for scheme in ["light", "dark"]:
        size = {"width": 1280, "height": 900}
        context = browser.new_context(ignore_https_errors=True, color_scheme=scheme, viewport=size)
        page = context.new_page()
        watch(page, base)
        if scheme == "light":
            refuses_a_wrong_token(page, base)
        log_in(page, base, demo.token)
        for name, path in PAGES.items():
            print(f"{name}, {scheme}", flush=True)
            page.goto(f"{base}{path}")
            looks_right(page, name, scheme)
            page.screenshot(path=shots / f"{name}-{scheme}.png")
            if scheme == "light":
                works_by_keyboard(page, name)
        context.close()


def works_without_a_script(browser, demo: Demo, base: str) -> None:
    """Search, sorting and the plan need none."""
    print("without a script", flush=True)
    context = browser.new_context(ignore_https_errors=True, java_script_enabled=False)
    page = context.new_page()
    log_in(page, base, demo.token)
    page.goto(f"{base}/console/projects")
    page.fill("#q", "nowhere")
    page.press("#q", "Enter")
    page.wait_for_url("**q=nowhere**")
    expect("None of" in page.inner_text("#shown"), "a search without a match is not told")
    page.fill("#q", "DEM")
    page.press("#q", "Enter")
    page.wait_for_url("**q=DEM**")
    expect("demo" in page.inner_text("tbody"), "the project demo is not found")
    page.click("thead a >> text=lag")
    page.wait_for_url("**sort=lag**")
    expect(page.get_attribute("th >> nth=2", "aria-sort") == "ascending", "the column lag is not sorted")
    page.goto(f"{base}/console/failover")
    page.click("text=Show the plan")
    page.wait_for_url("**/console/failover/plan?**")
    expect("Preflight" in page.inner_text("main"), "the plan has no preflight")
    context.close()


def stays_live(page: Page, base: str) -> None:
    """The live part is read again by itself, and stays."""
    print("live", flush=True)
    page.goto(f"{base}/console")
    for _ in range(2):
        with page.expect_response(lambda answer: answer.url == f"{base}/console" and answer.ok, timeout=20_000):
            pass
    page.wait_for_timeout(500)
    expect(page.locator("#live #answer").count() == 1, "the live part of the overview is lost")
    expect(page.locator("#live").count() == 1, "the live part of the overview is there twice")


def tells_that_it_is_stale(page: Page, base: str) -> None:
    """A live part that cannot be read again says so, with the time of the last answer and the reason."""
    print("stale", flush=True)
    address = f"{base}/console"
    page.goto(address)
    expect(page.locator("#stale").is_hidden(), "a fresh page is marked as out of date")
    for reason, fails in [
        ("answered 503", lambda route: route.fulfill(status=503, body="busy")),
        ("does not answer", lambda route: route.abort()),
    ]:
        page.route(address, fails)
        page.wait_for_selector(f"#stale:visible:has-text('{reason}')", timeout=20_000)
        said = page.inner_text("#stale")
        expect(bool(re.search(r"Not refreshed since \d\d:\d\d:\d\d UTC", said)), f"the mark has no time: {said}")
        expect(page.locator("#live #answer").count() == 1, "the part that went stale is gone")
        page.unroute(address)
        page.wait_for_selector("#stale", state="hidden", timeout=20_000)


def moves_the_writes(page: Page, base: str, shots: Path) -> None:
    """The wizard, by keyboard alone: from the plan to the end."""
    print("wizard", flush=True)
    page.goto(f"{base}/console/failover")
    page.select_option("#from", "eu-aws")
    page.select_option("#to", "muc-1")
    page.focus("text=Show the plan")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/failover/plan?**")
    end = time.monotonic() + PATIENCE
    while page.locator("#confirm").count() == 0 and time.monotonic() < end:
        page.wait_for_timeout(2_000)
        page.reload()
    if page.locator("#confirm").count() == 0:
        return expect(False, f"the plan is blocked: {page.inner_text('#answer')}")
    page.focus("#reason")
    page.keyboard.type("a test of the console")
    page.keyboard.press("Tab")
    page.keyboard.type("eu-aws")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-outcome=refused]")
    page.go_back()
    page.fill("#reason", "a test of the console")
    page.fill("#confirm", "muc-1")
    page.press("#confirm", "Enter")
    page.wait_for_url("**/console/failover")
    page.screenshot(path=shots / "steps-light.png")
    page.wait_for_selector("[data-step=stand_by][data-state=done]", timeout=PATIENCE * 1_000)
    expect("is done" in page.inner_text("#answer"), f"the failover is not done: {page.inner_text('#answer')}")
    page.goto(f"{base}/console")
    row = page.locator("tr[data-site=eu-aws]")
    expect(row.get_attribute("data-role") == "standby", "eu-aws has not become a standby")
    page.goto(f"{base}/console/audit")
    expect("token demo" in page.inner_text("tbody"), "the audit trail does not name the operator")
    page.screenshot(path=shots / "audit-light.png")
    return None


def ends_a_session(page: Page, base: str) -> None:
    page.goto(f"{base}/console")
    page.click("text=Log out")
    page.wait_for_url("**/console/login")
    page.goto(f"{base}/console/audit")
    expect(page.url.endswith("/console/login"), "a page is shown after the session has ended")


def check(browser, demo: Demo, shots: Path) -> None:
    base = demo.consoles["muc-1"]
    visit(browser, demo, base, shots)
    works_without_a_script(browser, demo, base)
    size = {"width": 1280, "height": 900}
    context = browser.new_context(ignore_https_errors=True, color_scheme="light", viewport=size)
    page = context.new_page()
    watch(page, base)
    log_in(page, base, demo.token)
    stays_live(page, base)
    tells_that_it_is_stale(page, base)
    moves_the_writes(page, base, shots)
    ends_a_session(page, base)
    context.close()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--program", required=True, help="the binary of the sidecar, with the emulators")
    options.add_argument("--chromium", required=True, help="the browser")
    options.add_argument("--shots", required=True, type=Path, help="the folder for the screenshots")
    args = options.parse_args()
    args.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lockstep-console-") as folder, sync_playwright() as playwright:
        demo = Demo(args.program, folder)
        try:
            browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
            try:
                check(browser, demo, args.shots)
            except Error as error:
                expect(False, f"the browser gave up: {error}")
            browser.close()
        finally:
            demo.stop()
    print(f"{len(findings)} findings" + "".join(f"\n- {finding}" for finding in findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
