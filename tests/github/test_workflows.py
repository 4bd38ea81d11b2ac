"""What holds for every workflow and action, whatever it does: linters find nothing, and the rules of the house."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.record import is_record_path
from tests.github.files import ACTIONS, GITHUB, ROOT, WORKFLOWS, jobs, read, steps, triggers

BIN = Path(sys.executable).parent
SITE = """${{ fromJSON(inputs.runner || vars.EDGETRAIN_RUNNER || '["self-hosted", "edgetrain"]') }}"""
ELSEWHERE = "${{ vars.EDGETRAIN_PR_RUNNER || 'ubuntu-latest' }}"
# A pull request's tests are run as root: never where a later job holds a token that writes comments.
TESTS = ELSEWHERE.replace("EDGETRAIN_PR_RUNNER", "EDGETRAIN_TESTS_RUNNER")
READ = {"contents": "read"}
JOBS = {
    ("apply.yml", "due"): (SITE, READ),
    ("apply.yml", "release"): (SITE, READ),
    ("apply.yml", "train"): (SITE, READ),
    ("cancel.yml", "cancel"): (SITE, READ),
    ("comment.yml", "comment"): (ELSEWHERE, {"actions": "read", "pull-requests": "write", **READ}),
    ("data-watch.yml", "data-watch"): (SITE, READ),
    ("doctor.yml", "doctor"): (SITE, READ),
    ("drift.yml", "drift"): (SITE, READ),
    ("pull-request.yml", "check"): (ELSEWHERE, READ),
    ("retry.yml", "retry"): (SITE, READ),
    ("tests.yml", "test"): (TESTS, READ),
}
# From outside: what the event of anybody's pull request, comment or issue carries.
UNTRUSTED = {
    "discussion",
    "discussion_comment",
    "fork",
    "issue_comment",
    "issues",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "watch",
}
BAD = """\
name: bad
on: pull_request_target
jobs:
  bad:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: echo ${{ github.event.pull_request.title }}
"""


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / name, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_zizmor_finds_nothing_at_its_pedantic_persona() -> None:
    done = tool("zizmor", "--offline", "--no-progress", "--persona", "pedantic", GITHUB)
    assert done.returncode == 0, done.stdout
    assert "No findings" in done.stdout


def test_every_exception_from_zizmor_has_its_reason() -> None:
    for file in (*WORKFLOWS, *ACTIONS):
        for line in file.read_text().splitlines():
            if "zizmor:" in line:
                assert re.search(r"# zizmor: ignore\[[a-z-]+\] \w+ \w+", line), f"{file.name}: {line}"


def test_no_configuration_of_zizmor_hides_findings() -> None:
    assert not list(ROOT.glob("zizmor.y*ml")) + list(GITHUB.glob("zizmor.y*ml"))


def test_actionlint_finds_nothing() -> None:
    done = tool("actionlint", *WORKFLOWS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-actions", ACTIONS),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        (
            "vendor.github-issue-forms",
            [file for file in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if file.stem != "config"],
        ),
    ],
)
def test_the_published_schemas_hold(schema: str, files: list[Path]) -> None:
    assert files
    done = tool("check-jsonschema", "--builtin-schema", schema, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linters_bite(tmp_path: Path) -> None:
    file = tmp_path / ".github" / "workflows" / "bad.yml"
    file.parent.mkdir(parents=True)
    file.write_text(BAD)
    found = tool("zizmor", "--offline", "--no-progress", "--persona", "pedantic", tmp_path).stdout
    for finding in ("dangerous-triggers", "template-injection", "unpinned-uses", "artipacked"):
        assert finding in found
    assert "potentially untrusted" in tool("actionlint", file).stdout


def test_jobs_have_exactly_the_runner_and_the_rights_they_need() -> None:
    found = {(file.name, name): (job["runs-on"], job["permissions"]) for file, name, job in jobs()}
    assert found == JOBS
    assert all(read(file)["permissions"] == {} for file in WORKFLOWS)


def test_nothing_from_outside_wakes_a_job_on_the_site() -> None:
    for file, name, job in jobs():
        outside = UNTRUSTED & set(triggers(read(file)))
        assert "pull_request_target" not in outside
        if outside:
            assert job["runs-on"] in (ELSEWHERE, TESTS), f"{file.name}: {name} is woken by {outside}"
            assert job["permissions"] == READ
            assert "environment" not in job


def test_no_secret_of_the_forge_is_used() -> None:
    for file in (*WORKFLOWS, *ACTIONS):
        assert "secrets." not in file.read_text(), file.name
        assert "secrets:" not in file.read_text(), file.name


def test_every_action_is_pinned_and_the_same_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for file in (*WORKFLOWS, *ACTIONS):
        for uses in re.findall(r"uses: (.*)", file.read_text()):
            if uses.startswith("./edgetrain/.github/actions/"):
                continue
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", uses), f"{file.name}: {uses}"
            pins.setdefault(uses.partition("@")[0], set()).add(uses)
    assert all(len(found) == 1 for found in pins.values()), pins
    assert all(name.startswith("actions/") for name in pins), "an action of somebody else needs a reason here"


def test_no_expression_gets_into_a_shell() -> None:
    for file, step in steps():
        assert "${{" not in step.get("run", ""), f"{file.name}: {step['run']}"
        assert "script" not in step.get("with", {}), file.name


def test_a_step_is_one_call() -> None:
    for file, step in steps():
        if file.name == "tests.yml" or "run" not in step:
            continue
        command = step["run"].strip()
        assert re.match(r'edgetrain |python3 -I "\$GITHUB_ACTION_PATH/(\.\./setup/)?setup\.py"$', command), command
        assert not re.search(r"[;|&`\n]|\$\(", command), f"{file.name}: {command}"


def test_every_value_in_a_command_is_quoted() -> None:
    for file, step in steps():
        bare = re.sub(r'"[^"]*"', "", step.get("run", ""))
        assert "$" not in bare, f"{file.name}: {step['run']}"


def test_no_checkout_keeps_its_credential() -> None:
    found = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert found
    assert all(step["with"]["persist-credentials"] is False for step in found)


def test_nothing_is_fetched_but_pinned_packages() -> None:
    for file in (*WORKFLOWS, *ACTIONS):
        assert not re.search(r"\b(curl|wget|pip|npx|npm|docker|apt(-get)?)\b", file.read_text()), file.name


def test_jobs_end_and_the_site_has_one_of_each_at_a_time() -> None:
    for file, name, job in jobs():
        assert 1 <= job["timeout-minutes"] <= 360, f"{file.name}: {name}"
        held = job.get("concurrency") or read(file).get("concurrency")
        assert held, f"{file.name}: {name}"
        if job["runs-on"] == SITE:
            assert held["cancel-in-progress"] is False, f"{file.name}: {name} may not be cut off in the middle"


def matches(pattern: str, path: str) -> bool:
    """Whether a filter of GitHub's matches: `*` within a folder, `**` across."""
    parts = [".*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("/")]
    return re.fullmatch("/".join(parts), path) is not None


@pytest.mark.parametrize(
    ("path", "wakes"),
    [
        ("experiments/cxr/runs/0123456789ab-1.json", False),
        ("experiments/cxr/runs/0123456789ab-1.evaluation-2.json", False),
        ("models/cxr/proposals/2-0123456789ab-1.json", False),
        ("models/cxr/versions/2.release-1.json", False),
        ("models/cxr/versions/2.yaml", True),
        ("models/cxr/model.yaml", True),
        ("experiments/cxr/train.py", True),
        ("compute/vm.yaml", True),
        ("edgetrain.yaml", True),
        (".github/allowed_signers", True),
    ],
)
def test_what_wakes_apply(path: str, wakes: bool) -> None:
    ignored = triggers(read(GITHUB / "workflows" / "apply.yml"))["push"]["paths-ignore"]
    assert any(matches(pattern, path) for pattern in ignored) is not wakes
    assert is_record_path(path) is not wakes, "exactly what the machine writes is left out"


@pytest.mark.parametrize(
    ("path", "wakes"),
    [
        ("tools/edgetrain/core/gate.py", True),
        ("requirements.lock", True),
        (".github/workflows/apply.yml", True),
        ("edgetrain.yaml", True),
        ("experiments/cxr/train.py", False),
        ("compute/vm.yaml", False),
        ("models/cxr/model.yaml", False),
    ],
)
def test_what_wakes_the_tools_own_tests(path: str, wakes: bool) -> None:
    on = triggers(read(GITHUB / "workflows" / "tests.yml"))
    for event in ("pull_request", "push"):
        assert any(matches(pattern, path) for pattern in on[event]["paths-ignore"]) is not wakes
    assert "tests" not in str(read(GITHUB / "workflows" / "pull-request.yml")["jobs"]), "a job of their own"


def test_the_same_inputs_in_every_workflow_of_a_site() -> None:
    common: dict[str, Any] = {}
    for file in WORKFLOWS:
        call = triggers(read(file)).get("workflow_call")
        if file.name == "tests.yml":
            continue
        assert call, f"{file.name} can't be called"
        for name, value in call["inputs"].items():
            if name == "edgetrain-ref" and file.name == "pull-request.yml":
                continue
            assert common.setdefault(name, value) == value, f"{file.name}: {name}"
    assert set(common) == {"site", "runner", "edgetrain-repository", "edgetrain-ref", "run", "reason"}
