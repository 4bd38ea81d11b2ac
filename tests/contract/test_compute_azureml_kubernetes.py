"""The azureml-kubernetes compute target passes the contract: the unmodified client, an emulator, pods in a sandbox.

Where the contract looks at what only the pod's work folder holds (the script's log, outputs that nobody declared),
what is promised here is another: it stays there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import EgressRules, InputMount, Leaving, MetricPoint, RunPhase
from edgetrain.providers.folder.datastore import FolderDatastore
from tests.emulator import executing
from tests.providers.azureml.fixtures import own_environment  # noqa: F401

from .azureml_target import PODS_PYTHON, AzuremlKubernetesTarget, check
from .compute import ComputeContract, Step, Target, settle, spec, until

pytestmark = pytest.mark.long(0.25)

NUMBERS = ("auroc", "n", "loss", "a")


def leaving(outputs: dict[str, str], *metrics: str, **more: Any) -> Leaving:
    return Leaving(dict.fromkeys(outputs.values(), "custom_model"), metrics=metrics, **more)


@pytest.mark.needs("bubblewrap")
class TestAzuremlKubernetesCompute(ComputeContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Iterator[AzuremlKubernetesTarget]:
        with executing.emulator(tmp_path, python=PODS_PYTHON) as running:
            target = AzuremlKubernetesTarget(running, tmp_path / "state of site", tmp_path / "pods")
            target.attach()
            yield target
            check(running)

    def test_a_run_leaves_outputs_metrics_and_a_log(self, target: Target, tmp_path: Path) -> None:
        points = '{"name": "loss", "value": 2, "step": 1}\n{"metric": "loss", "value": 1.5, "step": 2}\n'
        compute, made = self.run(
            target,
            tmp_path,
            ["print", "epoch 1"],
            ["write", "model.txt", "weights"],
            ["write", "metrics.json", '{"auroc": 0.93, "n": 12, "private": 4}'],
            ["write", "metrics.jsonl", points],
            leaving=leaving({"model": "model.txt"}, "auroc", "n", "loss"),
        )
        state = settle(compute, made.id)
        assert (state.phase, state.ended_by, state.exit_code) == (RunPhase.ENDED, "exit", 0), state
        assert state.level.value == "enforced"
        assert state.started and state.ended and state.started <= state.ended
        harvest = compute.harvest(made.id, made.outputs)
        assert harvest.faults == []
        assert [(file.path, file.digest, file.size) for file in harvest.files] == [
            ("model.txt", digest_bytes(b"weights"), 7)
        ]
        assert harvest.metrics == {"auroc": 0.93, "n": 12.0, "loss": 1.5}
        assert list(harvest.history) == [MetricPoint("loss", 2.0, 1), MetricPoint("loss", 1.5, 2)]
        compute.fetch(made.id, "model.txt", tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == b"weights"
        lines = list(compute.logs(made.id))
        assert any("the run is ended" in line for line in lines)
        assert not any("epoch" in line for line in lines)
        assert "epoch 1" in (target.folder(made.id) / "log").read_text()  # type: ignore[attr-defined]
        assert "private" not in json.dumps([vars(compute), lines], default=str)

    def test_a_run_is_started_once(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["print", "once"], ["write", "model.txt", "x"])
        compute.start(made)
        target.connect().start(made)
        settle(compute, made.id)
        compute.start(made)
        assert settle(compute, made.id).exit_code == 0
        log = (target.folder(made.id) / "log").read_text()  # type: ignore[attr-defined]
        assert log.splitlines().count("once") == 1
        assert compute.runs() == [made.id]

    def test_another_process_takes_the_run_up(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["print", "ready"], ["hang"])
        self.ready(target, made.id)
        other = target.connect()
        until(lambda: other.inspect(made.id).phase is RunPhase.RUNNING, "the other to see it run")
        follower = other.logs(made.id, follow=True)
        assert "preparing" in next(line for line in follower if "the run is" in line)
        other.cancel(made.id, "Superseded")
        assert any("ended" in line for line in follower)  # it comes to an end
        for seen in (compute, other):
            state = settle(seen, made.id)
            assert (state.phase, state.ended_by, state.message) == (RunPhase.ENDED, "cancel", "Superseded")
        until(lambda: not target.alive(made.id), "the script to be dead")

    def ready(self, target: Target, run_id: str) -> None:
        """Wait until the script has said that it is ready."""
        log = target.folder(run_id) / "log"  # type: ignore[attr-defined]
        until(lambda: log.exists() and "ready" in log.read_text(), "the script to be ready")

    def test_a_run_that_vanished_is_lost(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["print", "ready"], ["hang"])
        self.ready(target, made.id)
        target.crash(made.id)
        assert settle(target.connect(), made.id).phase is RunPhase.LOST
        until(lambda: not target.alive(made.id), "the script to be dead")
        compute.start(made)
        assert compute.inspect(made.id).phase is RunPhase.LOST
        with pytest.raises(Conflict):
            compute.harvest(made.id, made.outputs)
        compute.cancel(made.id, "Superseded")
        assert compute.inspect(made.id).ended_by == "cancel"

    def test_a_cancelled_run_that_never_started_never_starts(self, target: Target, tmp_path: Path) -> None:
        compute = target.connect()
        made = spec(tmp_path, target.python, ["print", "ran"])
        compute.cancel(made.id, "Superseded")
        compute.start(made)
        state = settle(compute, made.id)
        assert (state.ended_by, state.message) == ("cancel", "Superseded")
        assert list(compute.logs(made.id)) == []
        assert not target.folder(made.id).exists()  # type: ignore[attr-defined]

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
            ([["write", "patients.csv", "doe"]], "not declared"),
            ([["link", "model.txt", "/etc/hostname"]], "symbolic link"),
            ([["write", "metrics.json", '{"auroc": NaN}']], "auroc is not a finite number"),
            ([["write", "metrics.json", '{"doe": true}']], "a metric that is not declared is not a number"),
        ],
    )
    def test_what_can_not_be_accepted_is_a_fault(
        self, target: Target, tmp_path: Path, steps: list[Step], fault: str
    ) -> None:
        compute, made = self.run(target, tmp_path, *steps, leaving=leaving({"model": "model.txt"}, *NUMBERS))
        assert settle(compute, made.id).exit_code == 0
        harvest = compute.harvest(made.id, made.outputs)
        assert len(harvest.faults) == 1
        assert fault in harvest.faults[0]
        told = json.dumps([harvest.faults, list(compute.logs(made.id))])
        assert "patients" not in told and "doe" not in told
        assert [file.path for file in harvest.files if not file.path.startswith("metrics")] == []
        with pytest.raises(NotFound):
            compute.fetch(made.id, "patients.csv", tmp_path / "x")

    def test_what_would_leave_is_compared_with_the_inputs(self, target: Target, tmp_path: Path) -> None:
        data = tmp_path / "private"
        data.mkdir()
        rows = [
            f"{number * 7919 % 9973},{number * 31.7:.2f},{number * 1.37:.3f},ward {number % 5}"
            for number in range(99)
        ]
        (data / "patients.csv").write_text("id,a,b,ward\n" + "\n".join(rows))
        source = FolderDatastore(root=data, cache=tmp_path / "digests").source(".")
        bad = {"model": "model.txt"}
        compute, made = self.run(
            target,
            tmp_path,
            ["write", "model.txt", f"weights {rows[40]} {rows[41]}"],
            ["write", "metrics.json", '{"auroc": 0.5}'],
            inputs=(InputMount("table", source, ""),),
            leaving=leaving(bad, "auroc"),
        )
        assert settle(compute, made.id).exit_code == 0
        harvest = compute.harvest(made.id, made.outputs)
        assert [file.path for file in harvest.files] == ["model.txt"]
        assert harvest.files[0].digest == digest_bytes(b"")  # nothing of it is told
        assert harvest.metrics == {"auroc": 0.0}
        found = compute.examine(made.id, EgressRules(files={"model.txt": "custom_model"}))
        assert found.complete, found.reason
        assert [(one.code, one.where, one.waived) for one in found.findings] == [("E701", "model.txt", False)]
        assert found.fingerprints > 100
        with pytest.raises(NotFound):
            compute.fetch(made.id, "model.txt", tmp_path / "fetched")
        self.waived(target, tmp_path / "waived", source, rows)

    def waived(self, target: Target, folder: Path, source: Any, rows: list[str]) -> None:
        """The same under a waiver leaves; and the check holds only for the rules that it was made by."""
        folder.mkdir()
        waived = [("E701", "model.txt")]
        compute, made = self.run(
            target,
            folder,
            ["write", "model.txt", f"weights {rows[40]} {rows[41]}"],
            id="wear-0123456789ab-2",
            inputs=(InputMount("table", source, ""),),
            leaving=leaving({"model": "model.txt"}, waived=waived),
        )
        assert settle(compute, made.id).exit_code == 0
        files = {"model.txt": "custom_model"}
        found = compute.examine(made.id, EgressRules(files=files, waived=waived))
        assert [(one.code, one.waived) for one in found.findings] == [("E701", True)]
        assert not compute.examine(made.id, EgressRules(files=files)).complete
        assert not compute.examine(made.id, EgressRules(files=files, waived=waived, log=True)).complete
        compute.fetch(made.id, "model.txt", folder / "fetched")
        assert rows[40] in (folder / "fetched").read_text()

    def test_inputs_and_parameters_reach_the_script(self, target: Target, tmp_path: Path) -> None:
        data = tmp_path / "site data"
        data.mkdir()
        (data / "a.csv").write_text("1,2")
        store = FolderDatastore(root=data, cache=tmp_path / "digests")
        compute, made = self.run(
            target,
            tmp_path,
            ["copy", "IMAGES_2026", "a.csv", "out/one"],
            ["copy", "TABLE", "", "out/two"],
            ["parameters", "out/three"],
            inputs=(
                InputMount("images-2026", store.source("."), ""),
                InputMount("table", store.source("a.csv"), "", single_file=True),
            ),
            outputs={"all": "out"},
            leaving=leaving({"all": "out"}, waived=[("E701", ""), ("E702", ""), ("E703", "")]),
            command="mkdir {{outputs}}/out && python steps.py",
        )
        state = settle(compute, made.id)
        assert state.exit_code == 0, [state, *compute.logs(made.id)]
        harvest = compute.harvest(made.id, made.outputs)
        assert harvest.faults == []
        assert {file.path for file in harvest.files} == {"out/one", "out/two", "out/three"}
        for name in ("one", "two"):
            compute.fetch(made.id, f"out/{name}", tmp_path / name)
            assert (tmp_path / name).read_text() == "1,2"
        compute.fetch(made.id, "out/three", tmp_path / "three")
        assert json.loads((tmp_path / "three").read_text()) == made.parameters

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
