"""Evaluation where Azure ML starts the trainings: on an attached VM, which the runner scores on by itself, and in a
cluster's pods; and on a VM that the site alone reaches. Killed while it scores, nothing is scored twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from edgetrain.core.plan import Operation
from edgetrain.reconcile.doctor import examine
from edgetrain.reconcile.report import ApplyResult
from tests.apply.evaluated import EVALUATE, GATES, WARDS, EvaluatedSite
from tests.apply.site import SmallSite
from tests.azure.site import AzureRepository
from tests.azure.test_cluster import attach_cluster
from tests.azure.test_main_job import travelled
from tests.cli.command import edgetrain
from tests.contract.compute import until
from tests.edge.test_main_job import evaluate
from tests.emulator import support
from tests.emulator.fixtures import make_emulator  # noqa: F401
from tests.walk import SEED, sample

pytestmark = [pytest.mark.long(0.34), pytest.mark.xdist_group("azure")]
ROOT = Path(__file__).parents[2]
STEPS = ("scoring-ticket", "score-start", "score-examine", "score", "score-forget", "score-release")


def run_records(site: SmallSite) -> list[dict[str, Any]]:
    found = [data for data in site.records().values() if data["kind"] == "RunRecord"]
    return sorted(found, key=lambda data: str(data["parameters"]))


def begun(log: Path) -> list[str]:
    """What the applies of `log` began on a target."""
    told = log.with_suffix(".told").read_text().splitlines()
    return [line.split()[1] for line in told if line.startswith(("Starting ", "Evaluating "))]


def operations(done: ApplyResult) -> list[Operation]:
    return [change.operation for change in done.plan.changes if not change.conditional]


def walk(site: SmallSite, log: Path) -> None:
    """The life of an evaluated model, whose first apply is killed while it scores; what is held out lies at
    `wards/` once more."""
    step = STEPS[sample(len(STEPS), 1)[0]]
    print(f"\nevaluation: seed {SEED}, killed at {step}")
    command = [sys.executable, "-m", "tests.apply.killed", str(site.clone.parent)]

    def apply(kill_at: str) -> int:
        return subprocess.run([*command, kill_at, str(log)], cwd=ROOT, check=False, timeout=600).returncode

    # An apply that only attaches, or waits for the look at the pods, does not come so far.
    until(lambda: apply(step) == -signal.SIGKILL, "an apply to score")
    until(lambda: apply("-1") == 0, "what was killed to be brought to its end")
    [first] = run_records(site)
    assert (first["outcome"], first["metricsSource"]) == ("candidate", "evaluated")
    evaluation = first["evaluation"]
    assert (evaluation["metrics"], first["selfReported"]) == ({"error": 0.5}, {"score": 0.5})
    assert evaluation["slices"] == {"north": {"error": 0.5}, "south": {"error": 0.5}}
    assert (evaluation["egress"]["level"], evaluation["inputs"]["heldout"]["files"]) == ("enforced", 2)
    assert [".score-" in name for name in begun(log)] == [False, True]

    site.merge_proposal(1, production=1)
    assert site.apply().good
    # As good on the whole, and worse in one ward than the version in production, which was scored before.
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 1.0")
    site.push("Try another shift")
    said: list[str] = []
    done = site.apply(report=lambda event: said.append(event.kind))
    assert done.good, done.results
    _, second = run_records(site)
    assert (second["outcome"], second["reason"], said.count("Evaluating")) == ("not_better", "GatesFailed", 1)
    beside = second["evaluation"]["references"]["production"]
    assert (beside["version"], beside["slices"]) == ("mean@1", evaluation["slices"])
    assert [(one.get("slice"), one["status"]) for one in second["gates"]["results"]] == [
        (None, "passed"),
        ("north", "failed"),
        ("south", "passed"),
    ]

    # A changed gate judges what is recorded.
    site.sync()
    site.edit("models/mean/model.yaml", 'slice: "*"}', 'slice: "*", tolerance: 0.75}')
    site.push("Let one ward be worse")
    said.clear()
    done = site.apply(report=lambda event: said.append(event.kind))
    assert (operations(done), "Evaluating" in said, len(run_records(site))) == ([Operation.EVALUATE], False, 2)
    assert "edgetrain/proposal/mean-2" in site.branches()

    # A copy of what is held out, elsewhere: nothing starts.
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "path: table/", "path: wards/")
    site.push("Train on other wards")
    [refused] = [result for result in site.apply().results if result.operation == "train"]
    assert (refused.reason, len(run_records(site))) == ("HeldOutInTraining", 2)


@pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo")
@pytest.mark.parametrize("attached", [True, False], ids=["azureml-vm", "ssh"])
def test_on_a_machine(repository: Callable[..., AzureRepository], tmp_path: Path, attached: bool) -> None:
    site = repository(attached)
    evaluate(site)
    own = "  gates:\n    - {metric: error, goal: minimize, max: 1, notWorseThan: production}\n"
    site.edit("models/mean/model.yaml", own, GATES)
    site.push("Gate on slices")

    site.put({f"wards/{name}": text.encode() for name, text in WARDS.items()})
    walk(site, tmp_path / "steps.log")
    # Azure ML was told of the trainings and of what was measured of them, and of nothing that scored.
    assert len(site.ended_runs()) == 2
    assert all(".score" not in run["runId"] and "_score" not in run["runId"] for run in site.runs())
    for file, data in travelled(site):
        assert EVALUATE.encode() not in data and b"heldout" not in data, f"of the evaluation travelled: {file}"


@pytest.mark.needs("bubblewrap")
def test_in_the_pods_of_a_cluster(
    make_emulator: Callable[..., RunningEmulator],  # noqa: F811
    surroundings: None,
    tmp_path: Path,
) -> None:
    emulator = make_emulator(python=sys.executable)
    site = EvaluatedSite(tmp_path / "site").make()
    attach_cluster(site, emulator, tmp_path)
    (site.data / "wards").mkdir()
    for name, text in WARDS.items():
        (site.data / "wards" / name).write_text(text)

    walk(site, tmp_path / "steps.log")
    # Each was submitted once, and of the evaluation Azure ML has its code, its numbers and where it read.
    service = support.connect(emulator)
    scorings = [
        run for run in service.experiments["mean_score"].get_runs() if run.tags["edgetrain.model"] == "mean"
    ]
    assert [run.get_status() for run in scorings] == ["Completed", "Completed"]
    assert sorted(run.get_metrics()["error"] for run in scorings) == [0.5, 0.5]
    assert {run.tags["edgetrain.run"] for run in scorings} == {run["workspace"]["run"] for run in run_records(site)}
    assert len(list(service.experiments["mean"].get_runs())) == 2
    assert not list((site.state / "scoring").iterdir())
    site.sync()
    looked = [check for part in examine(site.clone, "runner", None, [].append).parts for check in part.checks]
    assert {check.name: check.status.value for check in looked if check.name.startswith("scoring")} == {
        "scoring-folder": "pass",
        "scoring-mount": "pass",
    }
    verified = edgetrain("verify", "--deep", cwd=site.clone)
    assert verified.code == 0, verified.out + verified.err
