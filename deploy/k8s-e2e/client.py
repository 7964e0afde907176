"""git as a user has it: clones, pushes, and a script that repeats a refused push."""

import os
import subprocess
import tempfile
import threading
import time

import kube

ENV = {
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


def service(site):
    """The address of a site for its users, behind which are its ready pods."""
    return f"git://{kube.get(site, 'service', 'git')['spec']['clusterIP']}"


def pod(site, number):
    """The address of one pod, ready or not."""
    status = kube.pod_status(site, f"{site}-{number}")
    if "podIP" not in status:
        raise kube.Failed(f"{site}-{number} has no address yet")
    return f"git://{status['podIP']}"


def git(*args, check=True, seconds=60):
    return kube.command("git", *args, check=check, env=ENV, seconds=seconds)


def value(url, project, ref):
    """The value of a ref at a server; None if it has none."""
    for line in git("ls-remote", f"{url}/{project}.git", ref, seconds=20).splitlines():
        return line.split()[0]
    return None


class Clone:
    """A working copy that pushes to one branch of a project, to any address."""

    def __init__(self, project, branch="main"):
        self.project, self.branch = project, branch
        self.folder = tempfile.mkdtemp(prefix="lockstep-k8s-")
        git("init", "--quiet", "--initial-branch", branch, self.folder)

    def commit(self, text="a commit"):
        git("-C", self.folder, "commit", "--quiet", "--allow-empty", "--message", text)
        return git("-C", self.folder, "rev-parse", "HEAD").strip()

    def push(self, url, seconds=60):
        """One push of the branch. Returns git's output, and whether it was taken."""
        target = f"{url}/{self.project}.git"
        try:
            ran = git("-C", self.folder, "push", target, f"HEAD:refs/heads/{self.branch}", check=False, seconds=seconds)
        except subprocess.TimeoutExpired:
            return f"no answer within {seconds} s", False
        return ran.stdout + ran.stderr, ran.returncode == 0

    def push_patiently(self, url, patience=30):
        """Repeats a push that was not taken, as a script of a user does, for at most `patience` seconds."""
        began = time.monotonic()
        while True:
            said, taken = self.push(url)
            took = time.monotonic() - began
            if taken:
                return took
            if took > patience:
                raise kube.Failed(f"the push was not taken within {patience} s; git says: {said}")
            time.sleep(0.5)


class Load:
    """A user who commits and pushes all the time, until the block ends. It fails if one push is not taken in time."""

    def __init__(self, url, project, branch, patience=30):
        self.clone, self.url, self.patience = Clone(project, branch), url, patience
        self.ends, self.waits, self.last, self.error = threading.Event(), [], None, None

    def run(self):
        try:
            while not self.ends.is_set():
                commit = self.clone.commit()
                self.waits.append(self.clone.push_patiently(self.url, self.patience))
                self.last = commit
        except Exception as error:  # It is raised again where the block ends.
            self.error = error

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        kube.until("the first push of the user is taken", self.patience, lambda: self.waits or self.error)
        return self

    def __exit__(self, kind, *_):
        self.ends.set()
        self.thread.join()
        if self.error and kind is None:
            raise self.error
        if self.waits:
            slowest = max(self.waits)
            print(f"    {len(self.waits)} pushes, all taken; the slowest after {slowest:.1f} s", flush=True)


