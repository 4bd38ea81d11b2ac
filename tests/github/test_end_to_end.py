"""The workflows from end to end: people propose, review and merge; everything else is the workflows' doing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from testbed.part import until
from tests.apply.site import SCRIPT
from tests.github.site import BOT, DANA, PAT, REPOSITORY, RITA, GithubSite

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")
MANIFEST = "experiments/mean/experiment.yaml"
MODEL = "models/mean/model.yaml"
# Trains until a person at the site gives it leave to end: no test depends on how long it takes.
SLOW = SCRIPT.replace(
    "import argparse",
    "import os, pathlib, select\n"
    "leave = pathlib.Path(os.environ['EDGETRAIN_OUTPUTS'], 'leave')\n"
    "while not leave.exists():\n"
    "    select.select([], [], [], 0.1)\n"
    "leave.unlink()\n"
    "import argparse",
    1,
)


def trained(site: GithubSite, runs: int) -> None:
    """Until so many runs are recorded: the schedule wakes apply, as often as it takes."""
    for _ in range(60):
        if len(run_records(site)) >= runs:
            return
        site.actions.schedule("apply.yml")
        site.settle()
    raise AssertionError(f"no {runs} runs were recorded\n{site.actions.runs[-1].log}")


def run_records(site: GithubSite) -> dict[str, dict[str, Any]]:
    return {path: record for path, record in site.records().items() if record["kind"] == "RunRecord"}


def released(site: GithubSite) -> list[tuple[str, ...]]:
    """What the release records say, in their order."""
    found = sorted((path, record) for path, record in site.records().items() if ".release-" in path)
    return [(path.split("/")[-1].partition(".")[0], record["event"]) for path, record in found]


def kept(site: GithubSite, run: int, name: str = "report") -> dict[str, Any]:
    """The report, or the plan, that the check kept."""
    artifacts = site.server.store.repository(REPOSITORY)["artifacts"].values()
    [number] = [one["id"] for one in artifacts if one["run"] == run and one["name"] == f"edgetrain-{name}"]
    return site.kept_report(number)


def checked(site: GithubSite, number: int) -> str | None:
    head = site.server.pull(REPOSITORY, number)["head"]["sha"]
    return site.server.checks.of(REPOSITORY, head).get("check")


def everything_once(site: GithubSite) -> None:
    """Each record has one commit, signed by the machine, that says what it follows from."""
    for path in site.records():
        assert site.commits_of(path) == 1, path
    machine = site.actions.bare.git("log", "--author=edgetrain@localhost", "--format=%(trailers)%x00", "main")
    commits = [one.strip() for one in machine.split("\0") if one.strip()]
    assert commits
    assert all("Plan: " in one or "Data: " in one for one in commits)  # data watch follows from data, not a plan
    assert not site.tickets()
    no_secret_was_told(site)
    before = len(site.actions.runs), site.actions.bare.branch("main")
    site.actions.dispatch("apply.yml", by=PAT)
    site.settle()
    [quiet] = site.actions.runs[before[0] :]
    results = {name: ended.result for name, ended in quiet.results.items()}
    # What is attached only the workspace can tell, so there the lane is looked into.
    train = "success" if "azuremlVm" in "".join(site.manifests().values()) else "skipped"
    called = {"apply": "success"}  # of the jobs of a called workflow the stand-in tells one end
    assert results in ({"due": "success", "release": "skipped", "train": train}, called)
    assert site.actions.bare.branch("main") == before[1]


def no_secret_was_told(site: GithubSite) -> None:
    """In no log, no summary, no comment, nothing on main: no key and no token."""
    tokens = [one for one in site.server.store.state["tokens"] if len(one) > 20]
    lines = [line for value in site.secrets.values() for line in value.splitlines() if "-----" not in line]
    secrets = [*tokens, *(line for line in lines if len(line) >= 12)]
    numbers = [one["number"] for one in site.server.issues(REPOSITORY)]
    told = [run.log + run.summary for run in site.actions.runs]
    told += [one["body"] for number in numbers for one in site.server.comments(REPOSITORY, number)]
    told.append(site.actions.bare.git("log", "-p", "main", "--", "experiments", "models", "compute"))
    for text in told:
        assert not [secret for secret in secrets if secret in text]


def assert_all_good(site: GithubSite, since: int) -> None:
    """That every run after so many ended well."""
    bad = [run for run in site.actions.runs[since:] if run.conclusion != "success"]
    assert not bad, "\n".join(f"{run.file} {run.conclusion}\n{run.log}" for run in bad)


def test_a_pull_request_becomes_a_model_in_production_and_is_taken_back(site: GithubSite) -> None:
    # A bad manifest: annotations on its lines, a check that failed, a comment that says why.
    bad = site.edited(MANIFEST, "  outputs:", "  output:")
    number = site.propose(bad, title="Shift less", branch="dana/less")
    site.settle()
    check = site.only("pull-request.yml")
    assert (check.conclusion, checked(site, number)) == ("failure", "failure")
    errors = [one for one in check.annotations if one.level == "error"]
    assert {one.where["file"] for one in errors} == {MANIFEST}
    assert str(bad[MANIFEST].splitlines().index("  output:") + 1) in {one.where["line"] for one in errors}
    first = site.comment(number, "edgetrain:plan")
    assert "M204" in first
    assert [one["user"]["login"] for one in site.server.comments(REPOSITORY, number)] == ["github-actions[bot]"]

    # Mended on the same branch: the same comment now says what the merge will do.
    good = site.edited(MANIFEST, "shift: 0.5", "shift: 0.4")
    site.server.commit(REPOSITORY, "dana/less", good, "Mend it", by=DANA)
    site.settle()
    assert checked(site, number) == "success"
    [comment] = site.server.comments(REPOSITORY, number)
    assert comment["body"] != first
    assert "M204" not in comment["body"]
    assert "run/mean" in comment["body"]
    last = site.actions.of("pull-request.yml")[-1].id
    assert kept(site, last)["number"] == number
    assert kept(site, last, "plan")["digest"] == kept(site, last)["plan"]["digest"]
    assert not site.actions.of("apply.yml"), "nothing of a pull request reached the site"

    # Merged: trained, recorded, and proposed by the App, whose pull request is checked too.
    site.approve_and_merge(number)
    site.settle()
    trained(site, 1)
    [record] = run_records(site).values()
    assert record["outcome"] == "candidate"
    assert "mean-" in site.comment(number, "edgetrain:outcome")
    [proposal] = site.pulls()
    assert (proposal["user"]["login"], proposal["head"]["ref"]) == (BOT, "edgetrain/proposal/mean-1")
    assert "score" in proposal["body"]
    assert checked(site, proposal["number"]) == "success"
    assert "score" in "".join(run.summary for run in site.actions.of("apply.yml"))

    # The version is merged, with production pointed at it by its reviewer: released and promoted.
    site.server.commit(REPOSITORY, "edgetrain/proposal/mean-1", site.pointing(1), "Use it", by=RITA)
    site.settle()
    # Nothing is released before the environment's reviewer agrees.
    agreed = site.actions.held["edgetrain-release"] = threading.Event()
    woken = len(site.actions.of("apply.yml"))
    site.approve_and_merge(proposal["number"], by=PAT)
    until(lambda: any("due" in run.results for run in site.actions.of("apply.yml")[woken:]), "a release to be due")
    assert not released(site)
    agreed.set()
    site.settle()
    assert site.version(1)["metadata"]["name"] == "mean-1"
    assert released(site)
    tags = site.tags()
    assert tags["production"] == tags["1"]
    version = site.records()["models/mean/versions/1.release-1.json"]
    review = version["provenance"]["review"]
    assert [one["login"] for one in review["approvals"] if one["counts"]] == [PAT]

    # Taken back by a revert while another training runs, which no job waits for.
    slow = site.propose({"experiments/mean/train.py": SLOW, **site.edited(MANIFEST, "timeout: 2m", "timeout: 20m")})
    site.settle()
    site.approve_and_merge(slow)
    site.settle()
    assert len(run_records(site)) == 1
    back = site.propose({MODEL: site.read(MODEL).replace("production: 1", "")}, title="Revert", by=RITA)
    site.settle()
    site.approve_and_merge(back, by=PAT)
    site.settle()
    assert "production" not in site.tags()
    assert len(run_records(site)) == 1
    site.let_go()
    trained(site, 2)
    everything_once(site)
    assert_all_good(site, 2)


@pytest.mark.long(0.5)
def test_queued_merges_and_a_killed_runner_leave_everything_done_once(site: GithubSite) -> None:
    site.actions.disabled = {"pull-request.yml"}
    more = {
        "experiments/other/experiment.yaml": site.read(MANIFEST)
        .replace("{name: mean}", "{name: other}")
        .replace("0.5", "0.1"),
        "experiments/other/train.py": SCRIPT,
    }
    described = site.edited(MODEL, 'intendedPurpose: "Tests."', 'intendedPurpose: "More tests."')
    changes = (site.edited(MANIFEST, "shift: 0.5", "shift: 0.4"), more, described)
    asked = [site.propose(files, branch=f"dana/{number}") for number, files in enumerate(changes)]
    for number in asked:
        site.approve_and_merge(number)
    until(lambda: len(site.actions.of("apply.yml")) == 3, "all merges to wake apply")
    # In the middle of the first training's start the runner's power goes; two more merges are queued by then.
    until(site.runs, "the training to begin", 300)
    site.actions.kill(site.actions.of("apply.yml")[0])
    site.settle()
    assert site.actions.of("apply.yml")[0].conclusion == "failure"
    again = site.actions.rerun(site.actions.of("apply.yml")[0])
    site.settle()
    assert (again.attempt, again.conclusion) == (2, "success")
    trained(site, 2)
    assert {record["experiment"] for record in run_records(site).values()} == {"mean", "other"}
    assert {record["attempt"] for record in run_records(site).values()} == {1}
    [proposal] = site.pulls()
    assert proposal["user"]["login"] == BOT
    everything_once(site)


@pytest.mark.long(0.5)
def test_drift_keeps_one_issue_and_changed_data_one_pull_request(site: GithubSite) -> None:
    site.actions.disabled = {"pull-request.yml"}
    trained(site, 1)
    [proposal] = site.pulls()
    site.server.commit(REPOSITORY, proposal["head"]["ref"], site.pointing(1), "Use it", by=RITA)
    site.approve_and_merge(proposal["number"], by=PAT)
    site.settle()

    def scheduled(file: str) -> None:
        run = site.actions.schedule(file)
        site.settle()
        assert run.conclusion == "success", run.log

    # Somebody moves a tag by hand: one issue tells of it, and is closed when it is as git says.
    image = site.tags()["production"]
    scheduled("drift.yml")
    assert not site.issues()
    site.registry().tag(site.images, "production", None)
    scheduled("drift.yml")
    scheduled("drift.yml")
    [issue] = site.issues()
    assert (issue["state"], issue["user"]["login"]) == ("open", BOT)
    assert "production" in issue["body"]
    site.registry().tag(site.images, "production", image)
    scheduled("drift.yml")
    [issue] = site.issues()
    assert issue["state"] == "closed"

    # The data changes, and changes again: one pull request asks to train on it.
    scheduled("data-watch.yml")
    assert not site.pulls()
    site.put("b.txt", "4 5 6\n")
    scheduled("data-watch.yml")
    site.put("c.txt", "7 8 9\n")
    scheduled("data-watch.yml")
    [asked] = site.pulls()
    assert (asked["user"]["login"], asked["head"]["ref"]) == (BOT, "edgetrain/data/mean")
    assert "| now | 3 |" in asked["body"]
    assert "b.txt" not in asked["body"] + asked["title"]
    head, base = asked["head"]["sha"], asked["base"]["sha"]
    assert site.actions.bare.git("diff", "--name-only", f"{base}...{head}").splitlines() == [MANIFEST]
    site.approve_and_merge(asked["number"])
    site.settle()
    trained(site, 2)
    digests = {record["inputs"]["table"]["digest"] for record in run_records(site).values()}
    assert len(digests) == 2
    scheduled("data-watch.yml")
    assert not site.pulls()  # scores on other data are not comparable with production's, so there is no candidate
    everything_once(site)
