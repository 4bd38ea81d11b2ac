"""A new site's repository: every file of it holds to the contract that its reader has."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetrain.core.codeowners import owners_of, parse
from edgetrain.core.kinds import KINDS, kind_at
from edgetrain.repo.reader import read
from edgetrain.repo.schema import check
from edgetrain.scaffold import site
from edgetrain.scaffold.answers import (
    Answers,
)
from tests.scaffold.samples import ALL, GHES, GITHUB, KEY, LONE, SHA

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ON_FORGE = {name: answers for name, answers in ALL.items() if answers.forge != "none"}
WORKFLOWS = ("apply", "cancel", "comment", "data-watch", "doctor", "drift", "pull-request", "retry")


def written(folder: Path, answers: Answers) -> Path:
    for path, text in site.files(answers).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def workflow(answers: Answers, name: str) -> dict[str, Any]:
    data = yaml.safe_load(site.files(answers)[f".github/workflows/{name}.yml"])
    return {"on" if key is True else key: value for key, value in data.items()}


def tool(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / name, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("name", ALL)
def test_manifests_pass_their_schemas(name: str) -> None:
    seen = set()
    for path, text in site.files(ALL[name]).items():
        kind = kind_at(path)
        if kind is None:
            continue
        document, problems = read(text.encode(), path)
        assert document is not None
        assert problems == []
        assert check(document, kind.name) == []
        seen.add(kind.name)
    assert seen == {"Configuration", "ComputeTarget", "Experiment", "Model"}


@pytest.mark.parametrize("name", ALL)
def test_every_file_ends_with_one_newline_and_names_no_placeholder(name: str) -> None:
    for path, text in site.files(ALL[name]).items():
        assert text.endswith("\n") and not text.endswith("\n\n"), path
        assert "<<" not in text and "<%" not in text, path
        assert not re.search(r"[ \t]$", text, re.MULTILINE), path


@pytest.mark.parametrize("name", ON_FORGE)
def test_linters_find_nothing_in_the_workflows(name: str, tmp_path: Path) -> None:
    root = written(tmp_path / "site", ON_FORGE[name])
    found = tool("zizmor", "--offline", "--no-progress", "--persona", "pedantic", ".", cwd=root)
    assert found.returncode == 0, found.stdout
    assert "No findings" in found.stdout
    files = sorted((root / ".github/workflows").glob("*.yml"))
    assert tuple(file.stem for file in files) == WORKFLOWS
    linted = tool("actionlint", *files, cwd=root)
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize("name", ["github", "ghes"])
def test_the_published_schemas_hold(name: str, tmp_path: Path) -> None:
    root = written(tmp_path / "site", ON_FORGE[name])
    github = root / ".github"
    forms = [file for file in (github / "ISSUE_TEMPLATE").glob("*.yml") if file.stem != "config"]
    assert forms
    for schema, files in {
        "vendor.github-workflows": list((github / "workflows").glob("*.yml")),
        "vendor.dependabot": [github / "dependabot.yml"],
        "vendor.github-issue-config": [github / "ISSUE_TEMPLATE/config.yml"],
        "vendor.github-issue-forms": forms,
    }.items():
        done = tool("check-jsonschema", "--builtin-schema", schema, *files, cwd=root)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_call_gives_what_the_called_workflow_takes(name: str) -> None:
    ours = workflow(GITHUB, name)
    called = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    (job,) = ours["jobs"].values()
    assert job["uses"] == f"acme/edgetrain/.github/workflows/{name}.yml@{SHA}"
    assert job["with"]["edgetrain-ref"] == SHA
    inputs = called[True]["workflow_call"]["inputs"]
    assert set(job["with"]) <= set(inputs)
    assert {key for key, value in inputs.items() if value.get("required")} <= set(job["with"])
    needed: dict[str, str] = {}
    for theirs in called["jobs"].values():
        needed |= {right: level for right, level in theirs["permissions"].items() if needed.get(right) != "write"}
    # A right that the caller lacks keeps the whole run from starting; one too many is given away.
    assert job["permissions"] == needed
    assert ours["permissions"] == {}
    # The comment waits for the check by its name, and each is woken as the called one would be.
    assert ours["name"] == called["name"]
    assert set(ours["on"]) == set(called[True]) - {"workflow_call"}


def _ours(text: object) -> object:
    """What a called workflow's expression is for this site."""
    told = re.sub(r"\$\{\{ inputs\.site \|\| vars\.EDGETRAIN_SITE \}\}", "st-anna", str(text))
    return told.replace("${{ vars.EDGETRAIN_EXTRAS }}", "azureml").replace(
        "${{ vars.EDGETRAIN_ENVIRONMENT }}", "st-anna"
    )


@pytest.mark.parametrize("name", ["apply", "cancel", "doctor", "drift", "retry"])
def test_what_signs_in_to_azure_is_written_out_alike_with_that_right_more(name: str) -> None:
    called = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    ours = workflow(ALL["github-azureml"], name)
    assert set(ours["jobs"]) == set(called["jobs"])
    for job, theirs in called["jobs"].items():
        mine = ours["jobs"][job]
        assert mine["permissions"] == {**theirs["permissions"], "id-token": "write"}
        assert mine["runs-on"] == """${{ fromJSON(vars.EDGETRAIN_RUNNER || '["self-hosted", "st-anna"]') }}"""
        for key in ("env", "if", "needs", "outputs", "concurrency", "timeout-minutes", "environment", "name"):
            wanted = theirs.get(key)
            assert str(mine.get(key)) == _ours(wanted), key
        assert mine["steps"][0]["with"]["ref"] == SHA
        assert mine["steps"][0]["with"]["repository"] == "acme/edgetrain"
        assert [_told(step) for step in mine["steps"][1:]] == [_told(step, _ours) for step in theirs["steps"][1:]]


def _told(step: dict[str, Any], change: Any = str) -> dict[str, str]:
    told = {key: value for key, value in step.items() if key != "with"} | step.get("with", {})
    return {key: str(change(value)) for key, value in told.items()}


@pytest.mark.parametrize("name", ["pull-request", "comment"])
def test_what_github_enterprise_server_can_not_call_is_written_out_alike(name: str) -> None:
    called = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    (ours,), (theirs,) = workflow(GHES, name)["jobs"].values(), called["jobs"].values()
    assert "uses" not in ours
    assert ours["permissions"] == theirs["permissions"]
    assert ours.get("if") == theirs.get("if")
    assert [step.get("with", {}).get("path") for step in ours["steps"][:2]] == [
        step["with"]["path"] for step in theirs["steps"][:2]
    ]
    assert all(step["with"]["persist-credentials"] is False for step in ours["steps"][:2])
    assert ours["steps"][0]["with"]["ref"] == SHA


def test_github_enterprise_server_gets_an_artifact_action_that_runs_there() -> None:
    action = yaml.safe_load((ROOT / ".github/actions/check/action.yml").read_text())
    ours = workflow(GHES, "pull-request")["jobs"]["check"]["steps"]
    used = [step for step in ours if "upload-artifact" in step.get("uses", "")]
    theirs = [step for step in action["runs"]["steps"] if "upload-artifact" in step.get("uses", "")]
    # v3.2.1-node20; what is newer fails there. Else the two are alike.
    assert {step["uses"] for step in used} == {"actions/upload-artifact@c24449f33cd45d4826c6702db7e49f7cdb9b551d"}
    assert [step["with"] for step in used] == [step["with"] for step in theirs]
    assert [step.get("if") for step in used] == [step.get("if") for step in theirs]
    (run,) = [step["run"] for step in action["runs"]["steps"] if "github check" in step.get("run", "")]
    (mine,) = [step["run"] for step in ours if "github check" in step.get("run", "")]
    assert mine == run.replace('"$DIRECTORY"', "proposal")
    assert "upload-artifact" not in "".join(
        text for path, text in site.files(GITHUB).items() if path.startswith(".github/workflows/")
    )


def test_github_enterprise_server_is_named_everywhere() -> None:
    files = site.files(ALL["ghes-azureml"])
    forge = yaml.safe_load(files["edgetrain.yaml"])["spec"]["forge"]
    assert forge["server"] == "https://git.hosp.example"
    assert forge["api"] == "https://api.git.hosp.example/v3"
    assert yaml.safe_load(site.files(GHES)["edgetrain.yaml"])["spec"]["forge"]["api"] == (
        "https://git.hosp.example/api/v3"
    )
    auth = yaml.safe_load(files["edgetrain.yaml"])["spec"]["workspace"]["auth"]
    assert auth["type"] == "service-principal"
    assert auth["certificate"] == {"secret": "azure-certificate"}
    told = " ".join(step.where + " ".join(step.commands) for step in site.steps(ALL["ghes-azureml"]))
    assert "https://github.com" not in told
    ids = [step.id for step in site.steps(ALL["ghes-azureml"])]
    assert {"pull-request-runner", "certificate", "actions"} <= set(ids)
    assert "federated-credential" not in ids
    assert "id-token" not in "".join(files.values())
    assert "federated-credential" in [step.id for step in site.steps(ALL["github-azureml"])]
    assert yaml.safe_load(files[".pre-commit-config.yaml"])["repos"][0]["repo"].startswith(
        "https://git.hosp.example/"
    )


@pytest.mark.parametrize("name", ON_FORGE)
def test_the_rules_have_owners_of_their_own(name: str) -> None:
    rules = parse(site.files(ON_FORGE[name])[".github/CODEOWNERS"])
    for path in ("edgetrain.yaml", "compute/runner.yaml", ".github/workflows/apply.yml", ".github/allowed_signers"):
        assert owners_of(rules, path) == ("@hosp/platform",)
    assert owners_of(rules, "tools/any.py") == ("@hosp/platform",)
    for path in ("experiments/example/train.py", "models/example/model.yaml", "README.md"):
        assert owners_of(rules, path) == ("@hosp/ds", "@ada")
    assert ".vscode/schemas/model.schema.json" not in site.files(GITHUB, vendored=True)


@pytest.mark.parametrize("name", ON_FORGE)
def test_every_kind_has_a_template_and_what_is_used_is_kept_up_to_date(name: str) -> None:
    files = site.files(ON_FORGE[name])
    kinds = {Path(path).stem for path in files if path.startswith(".github/PULL_REQUEST_TEMPLATE/")}
    # What people propose, by what lies in the folders; a release is a model's channel.
    assert kinds == {"compute", "experiment", "model", "release", "rules"}
    assert all(f"{kind}.md" in files[".github/pull_request_template.md"] for kind in kinds)
    updates = yaml.safe_load(files[".github/dependabot.yml"])["updates"]
    assert {one["package-ecosystem"] for one in updates} == {"github-actions", "pip"}
    assert "experiments/example/requirements.in" in files
    assert "/experiments/*" in next(one for one in updates if one["package-ecosystem"] == "pip")["directories"]


@pytest.mark.parametrize("name", ALL)
def test_editors_find_a_schema_for_every_kind(name: str) -> None:
    files = site.files(ALL[name])
    settings = json.loads(files[".vscode/settings.json"])["yaml.schemas"]
    assert len(settings) == len(KINDS)
    assert all(schema.removeprefix("./") in files for schema in settings)
    json.loads(files[".vscode/extensions.json"])
    for path, text in files.items():
        first = text.splitlines()[0]
        if "$schema=" in first:
            target = (Path("/") / path).parent / first.partition("$schema=")[2]
            assert "/".join(_normal(target)) in files


def _normal(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts[1:]:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return parts


def test_the_ruleset_lets_the_app_alone_pass() -> None:
    ruleset = json.loads(site.files(ALL["github-azureml"])[".github/rulesets/main.json"])
    assert ruleset["bypass_actors"] == [{"actor_id": 123456, "actor_type": "Integration", "bypass_mode": "always"}]
    rules = {rule["type"]: rule.get("parameters", {}) for rule in ruleset["rules"]}
    assert rules["pull_request"]["require_code_owner_review"] is True
    assert rules["pull_request"]["dismiss_stale_reviews_on_push"] is True
    (check_,) = rules["required_status_checks"]["required_status_checks"]
    # A called workflow's check is named after both jobs.
    assert check_["context"] == "check / check"
    assert check_["integration_id"] == 15368  # GitHub Actions: not whoever can write, by a status of that name
    other = json.loads(site.files(GHES)[".github/rulesets/main.json"])
    assert other["rules"][-1]["parameters"]["required_status_checks"] == [{"context": "check"}]


@pytest.mark.parametrize("name", ALL)
def test_the_checklist_says_where_or_how(name: str) -> None:
    steps = site.steps(ALL[name])
    assert len({step.id for step in steps}) == len(steps)
    for step in steps:
        assert step.where or step.commands, step.id
        assert "\n" not in "".join((step.title, step.why, step.where, *step.commands))
        assert step.title in site.files(ALL[name])["README.md"]
    if ALL[name].forge != "none":
        ids = {step.id for step in steps}
        assert {"signing-key", "app", "protection", "environment", "runner", "folders", "check"} <= ids


@pytest.mark.parametrize("name", ALL)
def test_the_commands_of_the_checklist_are_whole(name: str) -> None:
    for step in site.steps(ALL[name]):
        for command in step.commands:
            filled = re.sub(r"<[^<>]+>", "X", command)
            done = subprocess.run(
                ["bash", "-n", "-c", filled], capture_output=True, text=True, timeout=60, check=False
            )
            assert (done.returncode, done.stderr) == (0, ""), command
            for word in shlex.split(filled):
                if word.startswith("{"):
                    json.loads(word.replace("X", "1"))


@pytest.mark.parametrize("name", ON_FORGE)
def test_the_runners_group_takes_the_sites_workflows_and_no_other(name: str) -> None:
    answers = ON_FORGE[name]
    wanted = set()
    for file in WORKFLOWS:
        jobs = workflow(answers, file)["jobs"].values()
        if file not in ("comment", "pull-request"):
            own = f"{answers.repository}/.github/workflows/{file}.yml@refs/heads/{answers.branch}"
            wanted |= {job.get("uses", own) for job in jobs}
    (step,) = [step for step in site.steps(answers) if step.id == "runner"]
    (group,) = [word for word in shlex.split(step.commands[0].replace("<", "").replace(">", "")) if "{" in word]
    found = json.loads(group.replace("repository id", "1"))
    assert found["restricted_to_workflows"] is True
    assert set(found["selected_workflows"]) == wanted
    assert f"REPOSITORY={answers.repository} BRANCH={answers.branch}" in step.commands[1]


def test_the_app_may_not_change_workflows() -> None:
    (app,) = [step for step in site.steps(GITHUB) if step.id == "app"]
    assert "contents=write" in app.where
    assert "workflows" not in app.where


@pytest.mark.parametrize("name", ON_FORGE)
def test_environments_are_bound_to_the_branch_by_name(name: str) -> None:
    """GitHub lets all branches in where "protected" ones are asked for and none has a classic protection rule."""
    steps = {step.id: step for step in site.steps(ON_FORGE[name])}
    signs_in = name == "github-azureml"
    assert ("azure-environment" in steps) is ("federated-credential" in steps) is signs_in
    for step in ("environment", "azure-environment") if signs_in else ("environment",):
        made, bound = steps[step].commands
        whole = json.loads(re.sub(r"<[^<>]+>", "1", shlex.split(made)[1]))
        assert whole["deployment_branch_policy"] == {"protected_branches": False, "custom_branch_policies": True}
        assert ("reviewers" in whole) is (step == "environment")
        assert bound.split("repos/hosp/models/environments/")[1].startswith(
            "edgetrain-release/" if step == "environment" else "st-anna/"
        )
        assert bound.endswith("-f name=main")


def test_what_the_checklist_changes_in_the_checkout_is_committed() -> None:
    steps = {step.id: step for step in site.steps(GITHUB)}
    assert any("git commit" in command for command in steps["signing-key"].commands)
    assert "git push" in steps["app"].commands[-1]
    ids = list(steps)
    assert ids.index("signing-key") < ids.index("repository") < ids.index("app") < ids.index("protection")
    complete = {step.id: step for step in site.steps(ALL["github-azureml"])}
    assert not any("git commit" in command for command in complete["app"].commands)


def test_the_public_half_of_the_key_is_listed() -> None:
    files = site.files(ALL["github-azureml"])
    assert files[".github/allowed_signers"] == f"edgetrain@localhost {KEY}\n"
    machine = yaml.safe_load(files["edgetrain.yaml"])["spec"]["machine"]
    assert machine["email"] == "edgetrain@localhost"
    assert ".github/allowed_signers" not in site.files(GITHUB)


def test_no_git_changes_line_ends(tmp_path: Path) -> None:
    """Whatever a person's git is set to: what is digested has the same bytes in every checkout."""
    origin = written(tmp_path / "site", LONE)
    settings = ("-c", "core.autocrlf=true", "-c", "user.name=x", "-c", "user.email=x@example.org")
    for line in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "Begin")):
        subprocess.run(["git", *settings, *line], cwd=origin, check=True, capture_output=True)
    copy = tmp_path / "copy"
    subprocess.run(["git", *settings, "clone", "--quiet", str(origin), str(copy)], check=True, capture_output=True)
    for path, text in site.files(LONE).items():
        assert (copy / path).read_bytes() == text.encode(), path
