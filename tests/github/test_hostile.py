"""Attacks by pull requests, run for real: nothing of them is executed, believed, or brought to the site."""

from __future__ import annotations

import json

import pytest

from tests.apply.site import EXPERIMENT
from tests.github.site import DANA, REPOSITORY, GithubSite

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")
MALLORY = "mallory"
INTO_A_SHELL = "$(touch${IFS}pwned)"
TITLE = "`touch pwned`; ${{ github.token }} ](https://evil.example) <img src=x onerror=alert(1)> @dana"
PWNED = "from pathlib import Path\nPath('pwned').touch()\nraise SystemExit(0)\n"
FORGED = """\
name: pull-request
on: pull_request
permissions: {}
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - env:
          REPORT: REPORT-OF-ANOTHER
        run: printf %s "$REPORT" > report.json
      - uses: actions/upload-artifact@330a01c490aca151604b8cf639adc76d48f6c5d4 # v5.0.0
        with:
          name: edgetrain-report
          path: report.json
"""


def test_a_strangers_pull_request_is_read_and_never_run(site: GithubSite) -> None:
    fork = site.server.fork(REPOSITORY, MALLORY)
    wide = json.loads(site.read("edgetrain.yaml"))
    wide["spec"]["limits"] = {"deletions": {"absolute": 1000}}
    evil = {
        f"experiments/{INTO_A_SHELL}/experiment.yaml": EXPERIMENT,
        "experiments/mean/experiment.yaml": EXPERIMENT.replace("name: mean", f'name: "{INTO_A_SHELL}"'),
        "experiments/mean/::error file=x::y.txt": "x",
        "edgetrain.yaml": json.dumps(wide),
        ".github/CODEOWNERS": "* @mallory\n",
        ".github/workflows/apply.yml": site.read(".github/workflows/apply.yml") + "# mine\n",
        ".github/actions/check/action.yml": PWNED,
        ".github/actions/setup/setup.py": PWNED,
        "tools/edgetrain/__main__.py": PWNED,
        "tools/edgetrain/cli/github_check.py": PWNED,
    }
    site.server.commit(fork, INTO_A_SHELL, evil, TITLE, by=MALLORY)
    number = site.server.open_pull(
        REPOSITORY, f"{MALLORY}:{INTO_A_SHELL}", by=MALLORY, title=TITLE, body=f"{TITLE}\n::set-env name=A::b"
    )
    site.settle()
    check = site.only("pull-request.yml")
    assert check.conclusion == "failure"
    errors = {one.where["file"] for one in check.annotations if one.level == "error"}
    assert "experiments/mean/experiment.yaml" in errors
    assert site.only("comment.yml").conclusion == "success", site.only("comment.yml").log
    comment = site.comment(number, "edgetrain:plan")
    for warned in (".github/CODEOWNERS", ".github/workflows/apply.yml", "tools/edgetrain/", "edgetrain.yaml"):
        assert warned in comment, comment
    assert "](https://evil.example)" not in comment
    assert "<img" not in comment
    assert "@dana" not in comment.replace("@&#8203;dana", "")
    assert not list(site.actions.folder.rglob("pwned"))
    assert {run.file for run in site.actions.runs} == {"pull-request.yml", "comment.yml"}
    assert not list((site.state / "runs").glob("*")) if (site.state / "runs").exists() else True


def test_a_forged_report_is_not_believed(site: GithubSite) -> None:
    victim = site.propose(site.edited("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4"))
    site.settle()
    before = site.comment(victim, "edgetrain:plan")
    [artifact] = [
        one["id"]
        for one in site.server.store.repository(REPOSITORY)["artifacts"].values()
        if one["name"] == "edgetrain-report"
    ]
    report = site.kept_report(artifact)
    assert report["number"] == victim
    report["head"] = "0" * 40
    for forged in (json.dumps(report), json.dumps({**report, "number": 10**9}), "[" * 10_000):
        workflow = FORGED.replace("REPORT-OF-ANOTHER", json.dumps(forged))
        runs = len(site.actions.of("comment.yml"))
        number = site.propose({".github/workflows/pull-request.yml": workflow}, by=DANA)
        site.settle()
        assert site.actions.of("pull-request.yml")[-1].conclusion == "success"
        [refused] = site.actions.of("comment.yml")[runs:]
        assert refused.conclusion == "failure", refused.log
        assert "a fault of edgetrain itself" not in refused.log
        told = site.comment(number, "edgetrain:plan")
        assert "there is no report that can be believed" in told, told
        assert "it changes the workflows that check it" in told, told
    assert site.comment(victim, "edgetrain:plan") == before


INTRUDER = """\
name: pull-request
on: [pull_request, push, workflow_dispatch]
permissions: {}
jobs:
  check:
    runs-on: [self-hosted, edgetrain]
    steps:
      - run: cp -r "$HOME/secrets" "$HOME/pwned"
"""


def test_a_branch_that_brings_a_workflow_for_the_site_is_turned_away_by_its_runner(site: GithubSite) -> None:
    site.propose({".github/workflows/pull-request.yml": INTRUDER}, branch="dana/intrude")
    site.actions.dispatch("pull-request.yml", by=DANA, ref="dana/intrude")
    site.settle()
    runs = site.actions.of("pull-request.yml")
    assert {run.event for run in runs} == {"pull_request", "push", "workflow_dispatch"}
    assert {run.conclusion for run in runs} == {"failure"}
    assert all("this runner takes jobs of hosp/models at refs/heads/main alone" in run.log for run in runs)
    assert not list(site.actions.folder.rglob("pwned"))
    looked = site.actions.schedule("doctor.yml")
    site.settle()
    assert looked.conclusion == "success", looked.log
