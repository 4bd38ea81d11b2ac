"""The azureml-kubernetes compute target passes the contract: the unmodified client, an emulator, pods in a sandbox.

Where the contract looks at what only the pod's work folder holds (the script's log, outputs that nobody declared),
what is promised here is another: it stays there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import Compute, EgressRules, RunSpec
from tests.emulator import executing
from tests.providers.azureml.fixtures import own_environment  # noqa: F401

from .azureml_target import PODS_PYTHON, AzuremlKubernetesTarget, check
from .compute import FAULTS, RUN, ComputeContract, Step, Target, leaving, settle, spec
from .misbehaviour import MisbehaviourContract

pytestmark = pytest.mark.long(0.25)


@pytest.mark.needs("bubblewrap")
class TestAzuremlKubernetesCompute(ComputeContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Iterator[AzuremlKubernetesTarget]:
        with executing.emulator(tmp_path, python=PODS_PYTHON) as running:
            target = AzuremlKubernetesTarget(running, tmp_path / "state of site", tmp_path / "pods")
            target.attach()
            yield target
            check(running)

    # What was declared is told, with a final number of each metric; and the wrapper's own progress.
    left_files = frozenset({"model.txt"})
    left_metrics: Mapping[str, float] = {"auroc": 0.93, "n": 12.0, "loss": 1.5}
    # No evaluation runs there, so nothing asks for slices.
    left_slices: Mapping[str, Mapping[str, float]] = {}
    log_shows, log_adds = "the run is preparing", "ended"

    def said(self, target: Target, compute: Compute, run_id: str) -> list[str]:
        """In the pod's work folder, which alone has it."""
        log = target.folder(run_id) / "log"  # type: ignore[attr-defined]
        return log.read_text().splitlines() if log.exists() else []

    def examined_again(self, target: Target, compute: Compute, made: RunSpec, rows: Sequence[str]) -> None:
        """What the pod's check holds back is not told; the same under a waiver leaves, but by no other rules."""
        harvest = compute.harvest(made.id, made.outputs)
        # Nothing of what is in them is told.
        nothing = digest_bytes(b"")
        assert [(file.path, file.digest) for file in harvest.files] == [
            ("model.txt", nothing),
            ("out/clean.txt", nothing),
        ]
        assert harvest.metrics == {"auroc": 0.0}
        into = made.code.parent / "fetched"
        with pytest.raises(NotFound):
            compute.fetch(made.id, "model.txt", into)
        waived = [("E701", "model.txt")]
        compute, made = self.run(
            target,
            made.code.parent / "waived",
            ["write", "model.txt", f"weights {rows[40]} {rows[41]}"],
            id="wear-0123456789ab-2",
            inputs=made.inputs,
            leaving=leaving({"model": "model.txt"}, waived=waived),
        )
        assert settle(compute, made.id).exit_code == 0
        files = {"model.txt": "custom_model"}
        found = compute.examine(made.id, EgressRules(files=files, waived=waived))
        assert [(one.code, one.waived) for one in found.findings] == [("E701", True)]
        assert not compute.examine(made.id, EgressRules(files=files)).complete
        assert not compute.examine(made.id, EgressRules(files=files, waived=waived, log=True)).complete
        compute.fetch(made.id, "model.txt", into)
        assert rows[40] in into.read_text()

    def test_a_run_leaves_outputs_metrics_and_a_log(self, target: Target, tmp_path: Path) -> None:
        super().test_a_run_leaves_outputs_metrics_and_a_log(target, tmp_path)
        compute = target.connect()
        assert compute.inspect(RUN).level.value == "enforced"
        lines = list(compute.logs(RUN))
        assert any("the run is ended" in line for line in lines)
        assert not any("epoch" in line for line in lines)
        known = json.dumps([vars(compute), lines], default=str)
        assert "auroc" in known
        assert "private" not in known

    def test_a_cancelled_run_that_never_started_never_starts(self, target: Target, tmp_path: Path) -> None:
        super().test_a_cancelled_run_that_never_started_never_starts(target, tmp_path)
        assert not target.folder(RUN).exists()  # type: ignore[attr-defined]

    def test_environments_are_kept_until_they_are_dropped(self, target: Target, tmp_path: Path) -> None:
        """Azure ML keeps environments itself, and removes none."""
        compute = target.connect()
        assert compute.environment(b"") != compute.environment(b"another lock")
        assert compute.environment(b"") == target.connect().environment(b"")
        assert list(compute.environments()) == []
        compute.drop_environment(compute.environment(b""))

    @pytest.mark.parametrize(
        ("steps", "fault"),
        [
            *FAULTS[:3],
            ([["write", "metrics.json", '{"doe": true}']], "a metric that is not declared is not a number"),
        ],
    )
    def test_what_can_not_be_accepted_is_a_fault(
        self, target: Target, tmp_path: Path, steps: list[Step], fault: str
    ) -> None:
        super().test_what_can_not_be_accepted_is_a_fault(target, tmp_path, steps, fault)
        compute = target.connect()
        told = json.dumps([compute.harvest(RUN, {}).faults, list(compute.logs(RUN))])
        assert fault in told
        assert "patients" not in told and "doe" not in told
        with pytest.raises(NotFound):
            compute.fetch(RUN, "patients.csv", tmp_path / "x")

    @pytest.mark.parametrize("path", ["../spec.json", "absent"])
    def test_only_outputs_are_fetched(self, target: Target, tmp_path: Path, path: str) -> None:
        super().test_only_outputs_are_fetched(target, tmp_path, path)

    def test_a_target_without_a_sandbox_is_refused(self, target: Target, tmp_path: Path) -> None:
        """A look at pods that have none makes the target advisory; only who asks for no more gets a run."""
        compute = target.connect()
        made = spec(tmp_path, target.python, ["print", "x"], require_enforced=True)
        record = compute.submissions.get(compute.probe_id)  # type: ignore[attr-defined]
        assert record is not None and record.status == "Completed"
        assert compute.observe().egress.value == "enforced"
        other = target.connect()
        other.settings.block["namespace"] = "elsewhere"  # type: ignore[attr-defined]
        assert other.observe().reason == "NotProbed"
        with pytest.raises(Rejected) as caught:
            other.start(made)
        assert caught.value.reason == "SandboxMissing"
        assert other.runs() == []


@pytest.mark.long(0.1)
@pytest.mark.needs("bubblewrap")
class TestAzuremlKubernetesMisbehaviour(MisbehaviourContract):
    """A pod judges its run itself: what becomes of each misdeed is the same, and nothing of it is told but that."""

    clears = False

    @pytest.fixture
    def target(self, tmp_path: Path) -> Iterator[AzuremlKubernetesTarget]:
        with executing.emulator(tmp_path, python=PODS_PYTHON) as running:
            target = AzuremlKubernetesTarget(running, tmp_path / "state of site", tmp_path / "pods")
            target.attach()
            yield target
            check(running)
