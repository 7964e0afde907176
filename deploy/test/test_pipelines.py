"""The templates of the infrastructure pipeline: their form, their steps, and the commands of the steps."""

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field

import pytest
import yaml
from conftest import DEPLOY, TOOLS, TOP, run

PIPELINES = DEPLOY / "pipelines"
GITHUB, GITHUB_STEP = PIPELINES / "github.yml", PIPELINES / "github-step.yml"
GITLAB = PIPELINES / "gitlab-ci.yml"
ZUUL, ZUUL_PIPELINES, ZUUL_STEP = (PIPELINES / f"zuul/{name}.yaml" for name in ("zuul", "pipelines", "step"))
TARGETS = dict(re.findall(r"^([a-z0-9-]+):.*?## (.*)$", (TOP / "Makefile").read_text(), re.MULTILINE))
ENVIRONMENTS = ["stage", "prod"]
# The steps in their order, each with its environment.
CHAIN = [
    ("infra-lint", ""),
    ("infra-unit", ""),
    ("infra-policy", ""),
    *(("infra-preview", environment) for environment in ENVIRONMENTS),
    *((step, environment) for environment in ENVIRONMENTS for step in ("infra-promote", "infra-verify", "infra-drill")),
]
ROLLBACKS = [("infra-rollback", environment) for environment in ENVIRONMENTS]


@dataclass
class Job:
    """A job of a template. Its command is one make target."""

    step: str
    environment: str
    # The jobs that must have succeeded.
    needs: set = field(default_factory=set)
    # The thing that holds it until somebody agrees.
    gate: str = ""
    # Whether it begins only after a change is merged.
    is_after_merge: bool = False

    @property
    def name(self):
        return (self.step, self.environment)


def load(path):
    return yaml.safe_load(path.read_text())


def github():
    """The jobs of GitHub's template."""
    whole = load(GITHUB)
    jobs = {}
    for name, of in whole["jobs"].items():
        given, condition = of["with"], of.get("if", "")
        needs = of.get("needs", [])
        jobs[name] = Job(
            given["step"],
            given.get("environment", ""),
            set([needs] if isinstance(needs, str) else needs),
            given.get("gate", ""),
            "'push'" in condition or "'workflow_dispatch' &&" in condition,
        )
    return jobs


def merged(jobs, name):
    """A job of GitLab with those that it extends."""
    of = dict(jobs[name])
    parents = of.pop("extends", [])
    result = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        result |= merged(jobs, parent)
    variables = {**result.get("variables", {}), **of.get("variables", {})}
    return {**result, **of, "variables": variables}


def gitlab():
    """The jobs of GitLab's template."""
    whole = load(GITLAB)
    words = {"workflow", "stages", "variables", "default"}
    jobs = {}
    for name in whole:
        if name in words or name.startswith("."):
            continue
        of = merged(whole, name)
        (command,) = of["script"]
        manual = any(rule.get("when") == "manual" for rule in of.get("rules", []))
        on_main = [rule["if"] for rule in of.get("rules", [])] == ["$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"]
        place = of.get("environment", {}).get("name", "")
        jobs[name] = Job(
            re.fullmatch(r"make ([a-z-]+)", command)[1],
            of["variables"].get("ENVIRONMENT", ""),
            set(of.get("needs", [])),
            f"{place}, by hand" if manual else place,
            on_main,
        )
    return jobs


def zuul_jobs():
    """Zuul's jobs with what they inherit."""
    items = [part["job"] for part in load(ZUUL) if "job" in part]
    found = {}
    for of in items:
        parent = found.get(of.get("parent"), {})
        variables = {**parent.get("vars", {}), **of.get("vars", {})}
        found[of["name"]] = {**parent, "abstract": False, **of, "vars": variables}
    return found


def zuul():
    """The jobs of Zuul's template. A pipeline begins when the one before it has succeeded."""
    jobs, pipelines = zuul_jobs(), {part["pipeline"]["name"]: part["pipeline"] for part in load(ZUUL_PIPELINES)}
    (project,) = [part["project"] for part in load(ZUUL) if "project" in part]
    found, before = {}, set()
    for pipeline in ("check", "gate", "promote", "production", "rollback-stage", "rollback-prod"):
        after = pipelines[pipeline]["post-review"] if pipeline not in ("check", "gate") else False
        asked = pipelines[pipeline].get("require", {}).get("gerrit", {})
        votes = [next(iter(vote)) for vote in asked.get("approval", [])] if asked.get("status") == "MERGED" else []
        here = set()
        for entry in project[pipeline]["jobs"]:
            name, more = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            of = jobs[name]
            assert not of["abstract"], f"{name} is abstract"
            step = of["vars"]["step"]
            tests = step in ("infra-lint", "infra-unit", "infra-policy")
            needs = set(more.get("dependencies", ())) or (before if not tests else set())
            here.add(name)
            found.setdefault(
                name, Job(step, "" if tests else of["vars"]["deploy_to"], needs, ", ".join(votes), after)
            )
        if not pipeline.startswith("rollback"):
            before = before | here
    return found


TEMPLATES = {"github": github, "gitlab": gitlab, "zuul": zuul}


@pytest.fixture(params=TEMPLATES)
def jobs(request):
    return TEMPLATES[request.param]()


def before(jobs, name):
    """All jobs that must have succeeded before a job begins."""
    found, left = set(), set(jobs[name].needs)
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left |= jobs[one].needs
    return found


def test_each_job_is_one_make_target_that_exists(jobs):
    for name, job in jobs.items():
        assert job.step in TARGETS, name
        assert TARGETS[job.step].startswith("Pipeline: "), name


def test_every_target_of_the_pipeline_is_a_step():
    targets = {target for target, what in TARGETS.items() if what.startswith("Pipeline: ")}
    assert targets == {step for step, _ in [*CHAIN, *ROLLBACKS]}
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", (TOP / "Makefile").read_text(), re.MULTILINE)[1]
    assert targets <= set(phony.replace("\\", "").split())


def test_the_three_templates_have_the_same_steps_in_the_same_order(jobs):
    assert sorted(job.name for job in jobs.values()) == sorted([*CHAIN, *ROLLBACKS])
    names = {job.name: name for name, job in jobs.items()}
    for at, step in enumerate(CHAIN[1:], 1):
        earlier = {jobs[name].name for name in before(jobs, names[step])}
        # Previews of environments go side by side.
        wanted = {one for one in CHAIN[:at] if one[0] != step[0] or one[1] == step[1] or step[0] != "infra-preview"}
        wanted -= {step}
        assert earlier == wanted, step


def test_production_and_rollbacks_wait_for_somebody(jobs):
    for name, job in jobs.items():
        if job.name == ("infra-promote", "prod"):
            assert job.gate in ("prod", "prod, by hand", "Stage, Production"), name
            assert ("infra-drill", "stage") in {jobs[one].name for one in before(jobs, name)}
        # No other job of production has the place that changes it.
        elif job.environment == "prod" and job.step != "infra-rollback":
            assert job.gate not in ("prod", "prod, by hand"), name
        if job.step in ("infra-promote", "infra-rollback"):
            assert job.is_after_merge, name
        if job.step == "infra-rollback":
            assert job.gate and not job.needs & {"drill-prod"}, name


def test_an_environment_of_the_templates_has_an_estate_and_approvals():
    for environment in ENVIRONMENTS:
        assert (DEPLOY / f"pulumi/program/{environment}.yaml").exists()
        assert (DEPLOY / f"pulumi/program/approvals/{environment}.yaml").exists()


def test_github_pins_each_action_by_its_commit():
    text = GITHUB.read_text() + GITHUB_STEP.read_text()
    uses = re.findall(r"uses: (\S+)(.*)", text)
    actions = [(name, note) for name, note in uses if not name.startswith("./.github/workflows/")]
    assert actions and {name for name, _ in uses} - dict(actions).keys() == {"./.github/workflows/lockstep-step.yml"}
    for name, note in actions:
        assert re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}", name), name
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", note), f"{name}: name its version"
    steps = load(GITHUB_STEP)["jobs"]["step"]["steps"]
    (command,) = [step["run"] for step in steps if "run" in step]
    assert command == 'make "$STEP" REPORT="$GITHUB_STEP_SUMMARY"'


def test_github_gives_each_job_the_rights_of_its_step_alone():
    assert load(GITHUB)["permissions"] == {}
    for name, of in load(GITHUB)["jobs"].items():
        wanted = {"contents": "write" if of["with"]["step"] in ("infra-promote", "infra-rollback") else "read"}
        if "gate" in of["with"]:
            wanted["id-token"] = "write"
        assert of["permissions"] == wanted, name
        assert ("secrets" in of) == ("gate" in of["with"]), name


def test_zuul_shows_secrets_to_reviewed_jobs_alone_and_beside_their_playbook():
    items = {part["job"]["name"]: part["job"] for part in load(ZUUL) if "job" in part}
    for name, of in items.items():
        if "secrets" in of:
            assert of["post-review"] is True, name
            # A secret reaches only the playbook of the job that names it.
            assert of["run"] == "playbooks/lockstep-step.yaml", name
    for name, of in zuul_jobs().items():
        if not of["abstract"] and of["vars"]["step"] not in ("infra-lint", "infra-unit", "infra-policy"):
            (secret,) = of["secrets"]
            wanted = of["vars"]["deploy_to"]
            preview = "preview-" if of["vars"]["step"] == "infra-preview" else ""
            assert secret == {"name": "access", "secret": f"lockstep-{preview}{wanted}"}, name
    (play,) = load(ZUUL_STEP)
    task = play["tasks"][0]["block"][0]
    assert task["ansible.builtin.command"]["cmd"] == "make {{ step }}"


def test_the_variables_of_the_templates_are_those_of_the_makefile():
    makefile = (TOP / "Makefile").read_text()
    known = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE)) | {"STEP", "INFRA_TOKEN"}
    given = set(load(GITHUB_STEP)["jobs"]["step"]["steps"][-1]["env"])
    assert {name for name in given if not name.startswith("PULUMI_")} <= known
    page = (PIPELINES / "README.md").read_text()
    for name in given - {"STEP"}:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    "schema, file", [("github-workflows", GITHUB), ("github-workflows", GITHUB_STEP), ("gitlab-ci", GITLAB)]
)
def test_a_template_has_the_form_of_its_schema(schema, file, tmp_path):
    command = [TOOLS / "python/bin/check-jsonschema", "--builtin-schema", f"vendor.{schema}"]
    if schema == "gitlab-ci":
        command += ["--data-transform", "gitlab-ci"]
    ran = run(*command, file)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # The schema is not a blank cheque: a step without its command, and a word that it does not know, are refused.
    spoiled = tmp_path / file.name
    text = file.read_text()
    for word, wrong in (("needs: lint", "need: lint"), ("script: [make", "skript: [make"), ("runs-on:", "run-on:")):
        text = text.replace(word, wrong)
    spoiled.write_text(text)
    assert spoiled.read_text() != file.read_text()
    assert run(*command, spoiled).returncode == 1


@pytest.mark.parametrize(
    "file, right, wrong",
    [
        (ZUUL, "post-review: true", "post-reviewed: true"),
        (ZUUL, "abstract: true", "abstract: sometimes"),
        (ZUUL, "secret: lockstep-prod}", "from: lockstep-prod}"),
        (ZUUL, "dependencies: [lockstep-lint]", "depends: [lockstep-lint]"),
        (ZUUL, "rollback-prod: {jobs: ", "rollback-prod: {job: "),
        (ZUUL_PIPELINES, "manager: dependent", "manager: gated"),
        (ZUUL_PIPELINES, "event: change-merged", "event: merged"),
        (ZUUL_PIPELINES, "current-patchset: true", "latest-patchset: true"),
        (ZUUL_PIPELINES, "success: {gerrit: {Stage: 1}}", "succeeded: {gerrit: {Stage: 1}}"),
    ],
)
def test_zuul_has_the_form_of_our_schema_of_it(file, right, wrong, tmp_path):
    """Zuul has no schema that can be had apart from it, so this one is ours. It knows the words that we use."""
    command = [TOOLS / "python/bin/check-jsonschema", "--schemafile", DEPLOY / "test/zuul.schema.json"]
    ran = run(*command, file)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    spoiled = tmp_path / file.name
    assert right in file.read_text()
    spoiled.write_text(file.read_text().replace(right, wrong, 1))
    assert run(*command, spoiled).returncode == 1


def test_zuul_names_nothing_that_is_not_there():
    parts = [*load(ZUUL), *load(ZUUL_PIPELINES)]
    names = lambda kind: {part[kind]["name"] for part in parts if kind in part}
    for part in parts:
        of = part.get("job", {})
        assert set(of.get("semaphores", ())) <= names("semaphore"), of
        assert of.get("parent", "lockstep-step") in names("job"), of
    (project,) = [part["project"] for part in parts if "project" in part]
    assert project.pop("queue") in names("queue")
    assert set(project) == names("pipeline")
    for pipeline, of in project.items():
        listed = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in of["jobs"]]
        assert set(listed) <= names("job")
        for entry in of["jobs"]:
            if isinstance(entry, dict):
                # Zuul refuses a job that waits for one which is not in the same pipeline.
                assert set(entry[next(iter(entry))]["dependencies"]) <= set(listed), pipeline


def test_github_passes_the_security_linter(tmp_path):
    workflows = tmp_path / ".github/workflows"
    workflows.mkdir(parents=True)
    shutil.copy(GITHUB, workflows / "lockstep.yml")
    shutil.copy(GITHUB_STEP, workflows / "lockstep-step.yml")
    zizmor = [TOOLS / "python/bin/zizmor", "--offline", "--no-progress", "--min-severity", "medium", "--format", "json"]
    ran = run(*zizmor, tmp_path)
    assert ran.returncode == 0, [(one["ident"], one["desc"]) for one in json.loads(ran.stdout or "[]")] + [ran.stderr]
    # It finds an action that is pinned by a tag.
    step = workflows / "lockstep-step.yml"
    step.write_text(re.sub(r"@[0-9a-f]{40}", "@v4", step.read_text(), count=1))
    assert run(*zizmor, tmp_path).returncode != 0


STUB = """#!/bin/sh
echo "$@" >> "$STUB_LOG"
"""


def make(tree, target, **variables):
    env = {**os.environ, **variables}
    return run("make", "--no-print-directory", target, cwd=tree, env=env)


@pytest.fixture
def tree(tmp_path):
    """A repository with the Makefile and the pipeline, and programs in the place of the checks and the engine."""
    place, origin = tmp_path / "tree", tmp_path / "origin.git"
    (place / "deploy/pulumi/program").mkdir(parents=True)
    (place / "deploy/pipelines").mkdir()
    shutil.copy(TOP / "Makefile", place)
    shutil.copy(PIPELINES / "deployed", place / "deploy/pipelines")
    shutil.copy(DEPLOY / "pulumi/program/prod.yaml", place / "deploy/pulumi/program")
    stub = place / "deploy/pulumi/run"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (place / ".gitignore").write_text(".cache\n")
    git("init", "--quiet", "--bare", origin)
    git("init", "--quiet", "--initial-branch=main", place)
    git("-C", place, "remote", "add", "origin", origin)
    commit(place, "one")
    return place


def git(*args):
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    ran = run("git", *identity, *args)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def commit(place, text):
    (place / "version").write_text(text)
    git("-C", place, "add", "--all")
    git("-C", place, "commit", "--quiet", "--message", text)
    return git("-C", place, "rev-parse", "HEAD")


def deployed(place, which):
    return git("-C", place, "ls-remote", "origin", f"refs/deployed/prod/{which}").partition("\t")[0]


def test_a_promotion_goes_back_to_the_version_that_ran_and_a_rollback_to_the_one_before(tree, tmp_path):
    log = tmp_path / "log"
    of = {"STUB_LOG": str(log), "INFRA_VERIFY": "check '{site}'", "ORGANIZATION": "acme", "WAVES": "muc-2 muc-1,eu-aws"}
    first = git("-C", tree, "rev-parse", "HEAD")
    ran = make(tree, "infra-promote", **of)
    assert ran.returncode == 0, ran.stderr
    words = log.read_text().split()
    assert words[:2] == ["deploy", "rollout"] and "--old" not in words
    assert words[words.index("--stacks") + 1] == "acme/prod-"
    assert "--verify check '{site}'" in log.read_text()
    assert log.read_text().rstrip().endswith("--wave muc-2 --wave muc-1,eu-aws")
    assert (deployed(tree, "now"), deployed(tree, "before")) == (first, "")
    second = commit(tree, "two")
    log.unlink()
    ran = make(tree, "infra-promote", **of)
    assert ran.returncode == 0, ran.stderr
    assert "--old .cache/infra/prod/deploy/pulumi/program" in log.read_text()
    old = tree / ".cache/infra/prod"
    assert (old / "version").read_text() == "one" and (old / "deploy/pulumi/program/prod.yaml").exists()
    assert (deployed(tree, "now"), deployed(tree, "before")) == (second, first)
    # The same version again does not lose the one before.
    assert make(tree, "infra-promote", **of).returncode == 0
    assert (deployed(tree, "now"), deployed(tree, "before")) == (second, first)
    log.unlink()
    ran = make(tree, "infra-rollback", **of)
    assert ran.returncode == 0, ran.stderr
    assert log.read_text().startswith("deploy rollback") and (old / "version").read_text() == "one"
    assert (deployed(tree, "now"), deployed(tree, "before")) == (first, "")
    # A second rollback would bring the bad version again.
    log.unlink()
    ran = make(tree, "infra-rollback", **of)
    assert ran.returncode != 0 and "prod has no version before" in ran.stderr
    assert not log.exists() and deployed(tree, "now") == first


def test_a_promotion_that_failed_is_not_recorded(tree, tmp_path):
    (tree / "deploy/pulumi/run").write_text("#!/bin/sh\nexit 1\n")
    assert make(tree, "infra-promote", INFRA_VERIFY="true").returncode != 0
    assert deployed(tree, "now") == ""


def test_a_repository_that_does_not_answer_is_not_one_without_a_version(tree, tmp_path):
    git("-C", tree, "remote", "set-url", "origin", tmp_path / "gone.git")
    log = tmp_path / "log"
    ran = make(tree, "infra-promote", STUB_LOG=str(log), INFRA_VERIFY="true")
    assert ran.returncode != 0 and "origin does not answer" in ran.stderr
    assert not log.exists(), "nothing is deployed while nobody knows what runs"


def test_two_that_record_at_once_are_not_both_taken(tree, tmp_path):
    script = tree / "deploy/pipelines/deployed"
    other = tmp_path / "other"
    git("clone", "--quiet", tree, other)
    git("-C", other, "remote", "set-url", "origin", tmp_path / "origin.git")
    theirs = commit(other, "theirs")
    # Between the look and the push of one of them, the other one records.
    hook = tree / ".git/hooks/pre-push"
    hook.write_text(f"#!/bin/sh\ncd {other} && unset GIT_DIR && {other}/deploy/pipelines/deployed record prod\n")
    hook.chmod(0o755)
    ran = run(script, "record", "prod", cwd=tree)
    assert ran.returncode != 0, ran.stdout
    assert deployed(tree, "now") == theirs


@pytest.mark.parametrize(
    "words",
    [[], ["checkout", "prod"], ["checkout", "prod", "later", "x"], ["record", "../x"], ["record", "prod", "x"]],
)
def test_wrong_usage_of_the_record_changes_nothing(tree, words):
    ran = run(tree / "deploy/pipelines/deployed", *words, cwd=tree)
    assert ran.returncode == 64 and "deployed checkout ENVIRONMENT" in ran.stderr
    assert deployed(tree, "now") == ""


def test_the_commands_of_the_steps_exist(tmp_path):
    """Each command that the Makefile gives to the program of the rollout is one that the program knows."""
    makefile = (TOP / "Makefile").read_text()
    commands = set(re.findall(r"deploy/pulumi/run deploy ([a-z]+)", makefile))
    source = (DEPLOY / "pulumi/lockstep_pulumi/deploy.py").read_text()
    known = set(re.findall(r'command\(\s*"([a-z]+)"', source))
    assert commands == known - {"report"} and sys.version_info >= (3, 11)
