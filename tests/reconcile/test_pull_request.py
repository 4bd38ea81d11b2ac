"""Pull requests checked as data: what the report says of good ones, bad ones, and those made to mislead."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.decide import version_manifest
from edgetrain.core.errors import RepositoryError, UsageError
from edgetrain.core.recorded import Recorded
from edgetrain.providers import table
from edgetrain.reconcile.pull_request import Asked, Checked, check_pull_request
from edgetrain.reconcile.pull_request_report import MOST
from edgetrain.repo.dialect import validator
from tests.reconcile.proposals import DATA, FILES, MACHINE, NEW_DATA, Hub, hub

SCHEMA = validator(json.loads((resources.files("edgetrain") / "schemas" / "report.schema.json").read_text()))
EXPERIMENT = "experiments/scan/experiment.yaml"
RECORD = "experiments/scan/runs/{}-1.json"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """A repository whose one experiment ran; tests propose to it and leave its main as it is."""
    made = hub(tmp_path_factory.mktemp("site"))
    made.record(seconds=200)
    made.commit(made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.3"))
    made.record(seconds=300)
    made.commit(made.edit(EXPERIMENT, "lr: 0.3", "lr: 0.1"))
    return made


def sound(checked: Checked) -> dict[str, Any]:
    """The report, which holds to its schema and is the same as it is written and read."""
    assert not [error.message for error in SCHEMA.iter_errors(checked.report)]
    report: dict[str, Any] = json.loads(json.dumps(checked.report))
    return report


def reasons(report: dict[str, Any]) -> list[str]:
    return [one["reason"] for one in report["attention"]]


def codes(checked: Checked) -> list[tuple[str, str]]:
    return [(found.path, found.code) for found in checked.problems]


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
    lock = "numpy==2.1.0 --hash=sha256:" + "a" * 64 + "\n"
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


def everything(root: Path) -> set[str]:
    """Every file of a clone, those of git among them."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


# --- clones of every sort ------------------------------------------------------------------------------


def test_a_conflict_is_told_with_its_files(tmp_path: Path) -> None:
    made = hub(tmp_path)
    start = made.git("rev-parse", "HEAD")
    made.commit(made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.7"))
    made.git("checkout", "--quiet", start)
    files = made.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2")
    proposal = made.propose(files, merge=False, onto=start)
    before = everything(proposal.root)
    checked = proposal.check()
    report = sound(checked)
    assert not checked.good
    assert (report["merge"], report["conflicts"], report["commit"]) == ("conflict", [EXPERIMENT], proposal.head)
    assert report["changed"] == {"added": 0, "modified": 1, "deleted": 0}
    # The clone is only read: git's own look at the merge left nothing there.
    assert everything(proposal.root) - before <= {".git/edgetrain-scanned.json"}


def test_a_head_that_lags_behind_is_read_as_it_is(tmp_path: Path) -> None:
    made = hub(tmp_path)
    start = made.git("rev-parse", "HEAD")
    made.commit({"README.md": "words\n"})
    checked = made.propose({"more.md": "x\n"}, merge=False, onto=start).check()
    report = sound(checked)
    assert checked.good
    assert report["merge"] == "unmerged" and "as it is" in report["notes"][0]
    assert report["changed"] == {"added": 1, "modified": 0, "deleted": 0}


def test_a_head_with_all_of_main_needs_no_merge(site: Hub) -> None:
    report = sound(site.propose({"more.md": "x\n"}, merge=False).check())
    assert report["merge"] == "current" and report["notes"] == []


def test_main_that_moved_on_since_the_event_is_not_blamed_on_the_proposal(tmp_path: Path) -> None:
    made = hub(tmp_path)
    told = made.git("rev-parse", "HEAD")
    made.commit({"edgetrain.yaml": FILES["edgetrain.yaml"].replace("absolute: 3", "absolute: 4")})
    proposal = made.propose({"README.md": "words\n"})
    report = sound(check_pull_request(proposal.root, Asked(7, proposal.head, told)))
    assert report["base"] == proposal.base
    assert report["attention"] == []


@pytest.mark.parametrize("depth", [1, 2])
def test_a_shallow_clone_says_what_it_can_not_tell(site: Hub, depth: int) -> None:
    checked = site.propose(site.edit(EXPERIMENT, "lr: 0.1", "lr: 0.2"), depth=depth).check()
    report = sound(checked)
    assert checked.good
    assert any("shallow" in note for note in report["notes"])
    assert any(found.code == "H406" for found in checked.problems)


def test_a_merged_version_changed_is_seen_in_a_shallow_clone_too(site: Hub) -> None:
    path = next(iter((site.root / "experiments/scan/runs").iterdir())).relative_to(site.root).as_posix()
    checked = site.propose({path: None}, depth=1).check()
    assert not checked.good
    assert "RecordsTouched" in reasons(sound(checked))


def test_a_clone_without_the_base_says_so(site: Hub) -> None:
    proposal = site.propose({"README.md": "words\n"})
    with pytest.raises(RepositoryError) as caught:
        check_pull_request(proposal.root, Asked(7, proposal.head, "0" * 40))
    assert caught.value.reason == "BaseMissing" and "fetch" in caught.value.fix


def test_another_commit_than_the_merge_is_refused(site: Hub) -> None:
    proposal = site.propose({"README.md": "words\n"})
    with pytest.raises(RepositoryError) as caught:
        check_pull_request(proposal.root, Asked(7, "1" * 40, proposal.base))
    assert caught.value.reason == "NotTheMerge"


@pytest.mark.parametrize("bad", ["main", "--upload-pack=x", "1f" * 19, "HEAD~1", ""])
def test_a_name_in_the_place_of_a_commit_is_usage(site: Hub, bad: str) -> None:
    proposal = site.propose({"README.md": "words\n"})
    for asked in (Asked(7, bad, proposal.base), Asked(7, proposal.head, bad)):
        with pytest.raises(UsageError):
            check_pull_request(proposal.root, asked)


# --- those made to mislead -----------------------------------------------------------------------------

ODD = (
    "experiments/scan/$(touch pwned).py",
    "experiments/scan/`id`;x|y.py",
    "experiments/scan/::error::x.py",
    "experiments/scan/\u202egnp.exe",
    "experiments/scan/%0A::add-mask::x",
    "models/@octocat <img src=x>.md",
    "models/\nnewline",
    "compute/[x](https://evil.example).yaml",
)


def test_odd_file_names_are_told_bounded_and_printable(site: Hub) -> None:
    report = sound(site.propose(dict.fromkeys(ODD, "x = 1\n")).check())
    assert all(text.isprintable() for text in texts(report))
    assert report["changed"]["added"] == len(ODD)


def test_a_name_that_is_no_text_survives(site: Hub) -> None:
    proposal = site.propose({"experiments/scan/" + os.fsdecode(b"\xff\xfe.py"): "x = 1\n"})
    assert all(text.isprintable() for text in texts(sound(proposal.check())))


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_nothing_of_the_proposal_is_run_written_or_followed(
    site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    outside = tmp_path / "outside"
    outside.mkdir()
    touch = f"#!/bin/sh\ntouch {canary}\n"
    python = f"open({str(canary)!r}, 'w').write('x')\n"
    files: dict[str, Any] = {
        ".gitattributes": "* filter=evil diff=evil merge=evil\n",
        ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {canary}\n[core]\n\tfsmonitor = touch {canary}\n',
        ".githooks/post-checkout": touch,
        "edgetrain/__init__.py": python,
        "yaml.py": python,
        "sitecustomize.py": python,
        "conftest.py": python,
        "experiments/scan/train.py": python,
        "tools/edgetrain/__init__.py": python,
        ".edgetrain/blobs.db": "not a database\n",
    }
    proposal = site.propose(files)
    link = proposal.root / ".edgetrain"
    for path in link.iterdir():
        path.unlink()
    link.rmdir()
    link.symlink_to(outside)
    monkeypatch.chdir(proposal.root)
    for name in list(table.PROVIDERS):
        monkeypatch.setitem(table.PROVIDERS, name, table.Row("tests.reconcile.test_pull_request:forbidden"))
    before = Hub(proposal.root).git("status", "--porcelain", "--ignored")
    checked = proposal.check()
    assert sound(checked)["changed"]["added"] >= 9
    assert not canary.exists()
    assert not list(outside.iterdir())
    assert Hub(proposal.root).git("status", "--porcelain", "--ignored") == before


def forbidden(_: object) -> object:
    """In the place of every provider."""
    raise AssertionError("a provider was made")


def test_links_and_submodules_are_problems_and_not_followed(site: Hub, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("apiVersion: the-secret\n")
    place = site.root / "models" / "stolen"
    site.git("checkout", "--quiet", "-B", "links", "main")
    place.mkdir()
    (place / "model.yaml").symlink_to(secret)
    (site.root / "experiments/scan/data").symlink_to("/etc")
    base = site.git("rev-parse", "main")
    head = site.commit({})
    site.git("checkout", "--quiet", "main")
    checked = site.clone(head, base, head).check()
    assert not checked.good
    assert "the-secret" not in json.dumps(checked.report)
    assert {path for path, _ in codes(checked)} >= {"models/stolen/model.yaml"}


def test_a_file_that_is_too_large_is_a_problem(site: Hub) -> None:
    checked = site.propose({"models/big/model.yaml": "# " + "x" * (3 * 2**20) + "\n"}).check()
    assert not checked.good
    assert "models/big/model.yaml" in {path for path, _ in codes(checked)}


def test_the_machines_record_on_a_branch_of_its_own_is_told(site: Hub) -> None:
    """What the machine writes on main it does not bring by a pull request: the reviewer is told."""
    path = next(iter((site.root / "experiments/scan/runs").iterdir())).relative_to(site.root).as_posix()
    data = (site.root / path).read_text().replace('"attempt":1', '"attempt":2')
    site.git("checkout", "--quiet", "-B", "machine", "main")
    base = site.git("rev-parse", "main")
    head = site.commit({path.replace("-1.json", "-2.json"): data}, MACHINE)
    site.git("checkout", "--quiet", "main")
    report = sound(site.clone(head, base, head).check())
    assert "RecordsTouched" in reasons(report)
