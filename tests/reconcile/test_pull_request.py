"""Pull requests checked as data: what the report says of good ones, bad ones, and those made to mislead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.decide import version_manifest
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.pull_request_report import MOST
from tests.reconcile.proposals import (
    DATA,
    EXPERIMENT,
    FILES,
    NEW_DATA,
    Hub,
    codes,
    hub,
    reasons,
    sound,
    with_records,
)

RECORD = "experiments/scan/runs/{}-1.json"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Tests propose to it and leave its main as it is."""
    return with_records(tmp_path_factory.mktemp("site"))


# --- what a good one tells -----------------------------------------------------------------------------


def test_what_the_runs_read_send_resemble_and_take(site: Hub) -> None:
    files = site.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2")
    files["experiments/scan/train.py"] = "print('training harder')\n"
    proposal = site.propose(files)
    checked = proposal.check()
    report = sound(checked)
    assert checked.good and checked.problems == []
    assert (report["head"], report["base"], report["commit"]) == (proposal.head, proposal.base, proposal.commit)
    assert report["merge"] == "merged"
    assert report["changed"] == {"added": 0, "modified": 2, "deleted": 0}
    assert report["plan"]["summary"].startswith("1 to train, ")
    assert report["plan"]["due"] == ""
    (experiment,) = report["experiments"]
    last = experiment["last"]["run"]
    assert last.startswith("scan-") and experiment["last"]["outcome"] == "candidate"
    found = {each["path"]: (each["actual"], each["desired"]) for each in experiment["differences"]}
    assert found["parameters.lr"] == ("0.3", "0.2")
    assert set(found) == {"code", "parameters.lr"}
    assert experiment["code"]["changes"] == [["M", "experiments/scan/train.py"]]
    (images,) = experiment["inputs"]
    assert (images["digest"], images["files"], images["bytes"], images["same"]) == (DATA, 1200, 3_400_000_000, True)
    (model,) = experiment["outputs"]
    assert (model["maxSize"], model["lastSize"]) == (5 * 2**20, 2_000_000)
    (target,) = experiment["targets"]
    assert (target["name"], target["level"], target["run"]) == ("runner", "enforced", last)
    assert experiment["seconds"] == {"median": 250.0, "runs": 2}
    assert report["codeowners"] == [
        {
            "owners": ["@hosp/everybody"],
            "paths": [EXPERIMENT, "experiments/scan/train.py"],
            "count": 2,
        }
    ]
    assert report["owners"] == [{"path": EXPERIMENT, "owners": ["@hosp/ds"]}]
    assert report["attention"] == [] and report["notes"] == []


def test_other_data_is_told_with_the_counts_of_the_last_run(site: Hub) -> None:
    report = sound(site.propose(site.edit(EXPERIMENT, DATA, NEW_DATA)).check())
    (images,) = report["experiments"][0]["inputs"]
    assert (images["digest"], images["files"], images["same"]) == (NEW_DATA, 1200, False)
    assert "inputs.images" in {each["path"] for each in report["experiments"][0]["differences"]}


def test_two_checks_of_one_commit_say_the_same(site: Hub) -> None:
    proposal = site.propose(site.edit(EXPERIMENT, "lr: 0.1", "lr: 0.5"))
    assert json.dumps(proposal.check().report) == json.dumps(proposal.check().report)


def test_what_is_due_without_the_merge_is_told_apart(tmp_path: Path) -> None:
    made = hub(tmp_path)  # its first run is due
    report = sound(made.propose({"README.md": "words\n"}).check())
    assert report["plan"]["summary"] == "no changes"
    assert report["plan"]["due"].startswith("1 to train")
    assert [one["due"] for one in report["changes"]] == [True, True]
    assert report["experiments"] == []


def test_a_version_is_told_as_a_release_with_what_it_brings_out_and_who_guards_it(tmp_path: Path) -> None:
    made = hub(tmp_path)
    run = made.record()
    manifest = version_manifest(run, 1, Recorded.of([run]), ["@hosp/radiology-ai"])
    files: dict[str, Any] = {"models/triage/versions/1.yaml": json.dumps(manifest)}
    files |= made.edit("models/triage/model.yaml", "  gates:", "  channels: {production: 1}\n  gates:")
    checked = made.propose(files).check()
    report = sound(checked)
    assert checked.problems == []
    assert [one["operation"] for one in report["changes"]] == ["register", "push", "tag", "release", "move"]
    assert report["images"] == [
        {
            "version": "triage@1",
            "bytes": 2_000_000,
            "registry": "local",
            "host": "",
            "repository": "triage",
            "workspace": "mlflow",
        }
    ]
    assert report["environment"] == "edgetrain-release"
    assert {tuple(one["owners"]) for one in report["codeowners"]} == {("@hosp/radiology-ai", "@grace")}
    assert reasons(report) == []


def test_a_sweep_differs_by_what_all_of_its_trials_share(tmp_path: Path) -> None:
    made = hub(tmp_path)
    made.record()
    sweep = "searchSpace: {lr: {type: choice, values: [0.5, 0.6]}}\n  samplingAlgorithm: {type: grid}\n"
    sweep += "  objective: {goal: maximize, primaryMetric: auroc}\n  seed: 43\n"
    text = (made.root / EXPERIMENT).read_text().replace("    lr: 0.1\n", "").replace("seed: 42\n", sweep)
    report = sound(made.propose({EXPERIMENT: text}).check())
    assert report["problems"] == []
    (experiment,) = report["experiments"]
    assert experiment["runs"] == 2
    assert [one["path"] for one in experiment["differences"]] == ["seed"]
    assert sorted(one["trial"] for one in report["changes"] if one["trial"]) == ["lr=0.5", "lr=0.6"]


def test_locked_packages_are_compared_with_those_of_the_last_run(tmp_path: Path) -> None:
    made = hub(tmp_path)
    line = "  seed: 42\n"
    digest = " --hash=sha256:" + "a" * 64 + "\n"
    lock = f"numpy==2.1.0 ; python_version < '3.12'{digest}numpy==2.1.9 ; python_version >= '3.12'{digest}"
    with_lock = made.edit(EXPERIMENT, line, line + "  environment: {requirements: requirements.lock}\n")
    made.commit({**with_lock, "experiments/scan/requirements.lock": lock})
    made.record()
    newer = lock.replace("2.1.0", "2.2.0") + "onnx==1.20.0 --hash=sha256:" + "b" * 64 + "\n"
    report = sound(made.propose({"experiments/scan/requirements.lock": newer}).check())
    assert report["experiments"][0]["packages"] == [
        {"path": "numpy", "actual": "2.1.0", "desired": "2.2.0"},
        {"path": "onnx", "actual": "none", "desired": "1.20.0"},
    ]


# --- what needs an eye ---------------------------------------------------------------------------------

WAIVER = '  egress: {waivers: [{code: E701, reason: "|x|", owner: "@hosp/ds", expires: "2027-01-01"}]}\n'


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({".github/workflows/pull-request.yml": "on: push\n"}, "WorkflowsChanged"),
        ({".github/actions/check/action.yml": "runs:\n"}, "WorkflowsChanged"),
        ({".github/CODEOWNERS": "* @mallory\n"}, "CodeownersChanged"),
        ({"docs/CODEOWNERS": "* @mallory\n"}, "CodeownersChanged"),
        ({".github/allowed_signers": "a@b ssh-ed25519 AAAA\n"}, "SignersChanged"),
        ({".github/dependabot.yml": "version: 2\n"}, "GithubChanged"),
        ({"tools/edgetrain/x.py": "x = 1\n"}, "ToolsChanged"),
        ({"requirements.lock": "x==1\n"}, "ToolsChanged"),
        ({"models/.gitattributes": "* linguist-generated\n"}, "AttributesChanged"),
        ({"compute/new.yaml": FILES["compute/runner.yaml"].replace("name: runner", "name: new")}, "TargetChanged"),
    ],
)
def test_a_change_of_what_guards_the_site_is_marked(site: Hub, files: dict[str, Any], reason: str) -> None:
    report = sound(site.propose(files).check())
    assert reasons(report) == [reason]
    assert report["attention"][0]["paths"] == list(files)


@pytest.mark.parametrize(
    ("path", "old", "new", "reason", "field"),
    [
        ("edgetrain.yaml", "absolute: 3", "absolute: 99", "ConfigurationChanged", "spec.limits.deletions.absolute"),
        (
            "edgetrain.yaml",
            "  limits:",
            "  allowUnsandboxed: true\n  limits:",
            "ConfigurationChanged",
            "spec.allow",
        ),
        (
            "edgetrain.yaml",
            "  limits:",
            "  secrets: {key: {source: {file: /etc/shadow}}}\n  limits:",
            "ConfigurationChanged",
            "spec.secrets.key.source.file",
        ),
        ("models/triage/model.yaml", "min: 0.8", "min: 0.1", "GatesChanged", "spec.gates"),
        ("models/triage/model.yaml", "riskClass: high", "riskClass: low", "GatesChanged", "spec.card.riskClass"),
        (EXPERIMENT, "@hosp/ds", "@mallory", "OwnersChanged", "metadata.owners"),
        (EXPERIMENT, "  seed: 42\n", "  seed: 42\n  egress: {logs: forge}\n", "LogsLeave", "spec.egress.logs"),
    ],
)
def test_a_change_within_a_manifest_is_marked_with_what_differs(
    site: Hub, path: str, old: str, new: str, reason: str, field: str
) -> None:
    report = sound(site.propose(site.edit(path, old, new)).check())
    assert reasons(report) == [reason]
    assert report["attention"][0]["differences"][0]["path"].startswith(field)


def test_capacity_and_draining_of_a_target_are_ordinary(site: Hub) -> None:
    edit = site.edit("compute/runner.yaml", "site: ward}", "site: ward, schedulable: false, capacity: {slots: 2}}")
    assert reasons(sound(site.propose(edit).check())) == []


def test_a_new_waiver_is_told_as_new_and_an_old_one_is_not(tmp_path: Path) -> None:
    made = hub(tmp_path)
    made.commit(made.edit(EXPERIMENT, "  seed: 42\n", "  seed: 42\n" + WAIVER))
    more = WAIVER.replace("]}", ', {code: E702, reason: "more", owner: "@hosp/ds", expires: "2027-01-01"}]}')
    report = sound(made.propose(made.edit(EXPERIMENT, WAIVER, more)).check())
    assert [(one["code"], one["new"]) for one in report["waivers"]] == [("E701", False), ("E702", True)]


# --- what is wrong -------------------------------------------------------------------------------------


def test_a_broken_configuration_leaves_problems_and_no_plan(site: Hub) -> None:
    checked = site.propose({"edgetrain.yaml": "spec: [\n"}).check()
    report = sound(checked)
    assert not checked.good and checked.plan is None and report["plan"] is None
    assert {found["path"] for found in report["problems"]} == {"edgetrain.yaml"}
    assert all(found["touched"] for found in report["problems"])
    assert reasons(report) == ["ConfigurationChanged"]


def test_a_proposal_that_removes_everything_is_reported(site: Hub) -> None:
    every: dict[str, Any] = dict.fromkeys(site.git("ls-files").splitlines())
    checked = site.propose(every).check()
    report = sound(checked)
    assert not checked.good and report["plan"] is None
    assert report["changed"]["deleted"] == len(every)
    assert {"RecordsTouched", "CodeownersChanged", "ManifestRemoved"} <= set(reasons(report))
    assert report["codeowners"]  # the base branch's still count


def test_a_bad_manifest_is_a_problem_on_its_line(site: Hub) -> None:
    checked = site.propose(site.edit(EXPERIMENT, "metrics: [auroc]", "metric: [auroc]")).check()
    assert not checked.good
    assert (EXPERIMENT, "M204") in codes(checked)
    found = next(one for one in sound(checked)["problems"] if one["code"] == "M204")
    assert found["line"] == 13 and found["touched"]


def test_code_that_would_send_data_is_a_problem_and_keeps_its_plan(site: Hub) -> None:
    checked = site.propose(
        {"experiments/scan/train.py": "import socket\nsocket.create_connection(('x', 1))\n"}
    ).check()
    assert not checked.good and checked.plan is not None
    assert any(code.startswith("E6") for _, code in codes(checked))
    assert sound(checked)["changes"] == []


def test_problems_that_are_on_main_already_count_and_are_told_apart(tmp_path: Path) -> None:
    made = hub(tmp_path)
    made.commit(made.edit("models/triage/model.yaml", "min: 0.8", "least: 0.8"))
    checked = made.propose({"README.md": "words\n"}).check()
    assert not checked.good
    assert all(not found["touched"] for found in sound(checked)["problems"])


def test_deleting_what_has_records_is_a_problem(site: Hub) -> None:
    checked = site.propose({EXPERIMENT: None, "experiments/scan/train.py": None}).check()
    assert (EXPERIMENT, "H404") in codes(checked) or any(path == EXPERIMENT for path, _ in codes(checked))
    assert not checked.good
    assert "ManifestRemoved" in reasons(sound(checked))


def test_renaming_an_experiment_with_records_is_a_problem(site: Hub) -> None:
    text = (site.root / EXPERIMENT).read_text().replace("name: scan", "name: look")
    files: dict[str, Any] = {EXPERIMENT: None, "experiments/look/experiment.yaml": text}
    checked = site.propose(files).check()
    assert not checked.good
    report = sound(checked)
    assert report["changed"] == {"added": 1, "modified": 0, "deleted": 1}


@pytest.mark.parametrize("how", ["changed", "removed", "added"])
def test_a_record_touched_by_hand_is_a_problem_and_marked(site: Hub, how: str) -> None:
    path = next(iter((site.root / "experiments/scan/runs").iterdir())).relative_to(site.root).as_posix()
    data = (site.root / path).read_text()
    files: dict[str, Any] = {
        "changed": {path: data.replace('"auroc":0.9', '"auroc":0.99')},
        "removed": {path: None},
        "added": {path.replace("-1.json", "-2.json"): data.replace('"attempt":1', '"attempt":2')},
    }[how]
    checked = site.propose(files).check()
    assert not checked.good
    assert any(code.startswith("H4") for _, code in codes(checked))
    assert "RecordsTouched" in reasons(sound(checked))


def test_the_branch_appoints_no_machine_of_its_own(site: Hub) -> None:
    """The proposer names himself the machine in edgetrain.yaml, and writes a record."""
    path = next(iter((site.root / "experiments/scan/runs").iterdir())).relative_to(site.root).as_posix()
    data = (site.root / path).read_text().replace('"attempt":1', '"attempt":2')
    files = site.edit("edgetrain.yaml", "  limits:", "  machine: {name: Ada, email: ada@example.org}\n  limits:")
    checked = site.propose({**files, path.replace("-1.json", "-2.json"): data}).check()
    assert any(code.startswith("H4") for _, code in codes(checked))
    assert not checked.good


def test_a_great_many_problems_are_counted_and_bounded(site: Hub) -> None:
    gates = "".join(f"    - {{metric: m{n}, goal: up}}\n" for n in range(90))
    models: dict[str, Any] = {
        f"models/m{n}/model.yaml": FILES["models/triage/model.yaml"].replace("triage", f"m{n}") + gates
        for n in range(5)
    }
    report = sound(site.propose(models).check())
    assert len(report["problems"]) == MOST["problems"]
    assert report["leftOut"]["problems"] > 0
