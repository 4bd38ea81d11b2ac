"""Runs through Azure ML under faults: one submission, one start of the script, and the end that there was.

On a cluster, whose pods are processes of this machine; what is the same for an attached machine is not shown twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import runs
from edgetrain.core.errors import Denied, ProviderError, Transient
from edgetrain.core.ports import RunPhase, RunSpec
from edgetrain.providers.azureml.deadlines import Patience
from edgetrain.providers.azureml.submission import CANCELLED_TAG, TARGET_TAG, TIMEOUT_TAG, Submissions
from tests.contract.azureml_target import PODS_PYTHON, AzuremlKubernetesTarget, check
from tests.contract.compute import settle, spec, until
from tests.emulator import executing

SUBMIT = r"POST .*/snapshotrun"
pytestmark = [pytest.mark.long(0.3), pytest.mark.needs("bubblewrap")]


class Here(AzuremlKubernetesTarget):
    """The cluster, and what the emulator knows of its runs."""

    numbers = iter(range(1, 10_000))

    def spec(self, folder: Path, *steps: Any, **more: Any) -> RunSpec:
        """A run of its own."""
        number = next(self.numbers)
        return spec(folder / str(number), self.python, *steps, id=f"wear-0123456789ab-{number}", **more)

    def starts(self, run_id: str) -> int:
        """How often the script began."""
        log = self.folder(run_id) / "log"
        return log.read_text().splitlines().count("began") if log.exists() else 0

    def document(self, run_id: str) -> dict[str, Any]:
        """The run as the service has it."""
        found = runs.get(self.running.emulator, run_id)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            patch.delenv(name, raising=False)
        folder = tmp_path_factory.mktemp("azureml-faults")
        with executing.emulator(folder, python=PODS_PYTHON) as running:
            target = Here(running, folder / "state", folder / "pods")
            target.session._sleep = lambda seconds: None
            target.attach()
            yield target
            check(running)


@pytest.fixture(autouse=True)
def no_faults_left(here: Here) -> Iterator[None]:
    yield
    here.running.emulator.faults.clear()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 409},
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 429},
        {"status": 500},
        {"status": 503},
        {"reset": True},
        {"status": 500, "after": True},
        {"reset": True, "after": True},
        {"status": 409, "after": True},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values() if not isinstance(value, dict)),
)
def test_a_submission_that_fails_once_trains_once(here: Here, tmp_path: Path, fault: dict[str, Any]) -> None:
    """Whether the request was lost or only its answer: one run, one start of the script."""
    made = here.spec(tmp_path, ["print", "began"], ["write", "model.txt", "x"])
    compute = here.connect()
    here.running.fault(SUBMIT, **fault)
    try:
        compute.start(made)
    except ProviderError:
        assert fault == {"status": 409}  # refused before anything was made: the next apply submits it
        compute.start(made)
    here.connect().start(made)
    assert settle(compute, made.id).exit_code == 0
    here.connect().start(made)
    assert here.starts(made.id) == 1
    assert here.document(made.id)["tags"][TARGET_TAG] == "arc1"
    assert compute.runs().count(made.id) == 1


def test_a_kill_between_submission_and_tags(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is found by its id, and gets its tags from the next apply."""
    made = here.spec(tmp_path, ["print", "began"], ["write", "model.txt", "x"], tags={"edgetrain.commit": "c0"})

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Submissions, "tag", die)
        with pytest.raises(Killed):
            here.connect().start(made)
    assert TARGET_TAG not in here.document(made.id)["tags"]
    other = here.connect()
    assert other.inspect(made.id).phase is not RunPhase.ABSENT
    other.start(made)
    assert settle(other, made.id).exit_code == 0
    assert here.document(made.id)["tags"]["edgetrain.commit"] == "c0"
    assert (here.starts(made.id), other.runs().count(made.id)) == (1, 1)


def test_two_who_start_the_same_run(here: Here, tmp_path: Path) -> None:
    """The service is asked twice for one id, and makes one run."""
    from concurrent.futures import ThreadPoolExecutor

    made = here.spec(tmp_path, ["print", "began"], ["write", "model.txt", "x"])
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(here.connect().start, made) for _ in range(2)]:
            done.result()
    assert settle(here.connect(), made.id).exit_code == 0
    assert here.starts(made.id) == 1


def test_a_run_cancelled_in_the_portal(here: Here, tmp_path: Path) -> None:
    """The script ends, and the run is cancelled, not lost."""
    made = here.spec(tmp_path, ["print", "ready"], ["hang"])
    compute = here.connect()
    compute.start(made)
    until(lambda: "ready" in _text(here.folder(made.id) / "log"), "the script to be ready")
    path = f"/execution/v1.0{here.session.scope}/experiments/wear/runId/{made.id}/cancel"
    here.session.post("history", path)
    state = settle(compute, made.id)
    assert (state.phase, state.ended_by) == (RunPhase.ENDED, "cancel")
    assert "Azure ML" in state.message
    until(lambda: not here.alive(made.id), "the script to be dead")
    assert CANCELLED_TAG not in here.document(made.id)["tags"]


def test_a_run_that_never_begins_is_not_waited_for_without_end(here: Here, tmp_path: Path) -> None:
    """It is cancelled in Azure ML when it is overdue, and ends by its time."""
    made = here.spec(tmp_path, ["print", "began"])
    here.running.change(slow=3600.0)
    try:
        here.connect().start(made)
        assert here.connect().inspect(made.id).phase is RunPhase.PREPARING
        assert here.document(made.id)["tags"][TIMEOUT_TAG] == str(made.limits.timeout)
        late = here.connect(Patience(queue=-made.limits.timeout - 1.0, grace=3600.0))
        assert late.inspect(made.id).phase is RunPhase.PREPARING
        state = settle(late, made.id)
    finally:
        here.running.change(slow=0.0)
    assert (state.phase, state.ended_by) == (RunPhase.ENDED, "timeout"), state
    assert "did not start the run" in state.message
    assert here.document(made.id)["status"] == "Canceled"
    assert here.connect().inspect(made.id) == state
    assert here.starts(made.id) == 0


def test_a_run_that_is_stuck_in_finalizing_is_lost(here: Here, tmp_path: Path) -> None:
    """Azure ML cancels none that finalizes: it is given up after a grace."""
    made = here.spec(tmp_path, ["print", "began"])
    here.running.change(slow=3600.0)
    try:
        here.connect().start(made)
        runs.set_status(here.running.emulator, made.id, "Finalizing", force=True)
        assert here.connect().inspect(made.id).phase is RunPhase.RUNNING
        waits = here.connect(Patience(finalizing=-1.0, grace=3600.0))
        assert waits.inspect(made.id).phase is RunPhase.RUNNING
        state = here.connect(Patience(finalizing=-1.0, grace=-1.0)).inspect(made.id)
        assert state.phase is RunPhase.LOST, state
        assert "did not finish the run" in state.message
        runs.set_status(here.running.emulator, made.id, "Failed", force=True)
    finally:
        here.running.change(slow=0.0)


def test_faults_while_looking_hide_nothing(here: Here, tmp_path: Path) -> None:
    """401 in the middle gets a new token; 429, 503 and resets are waited out; 403 is told as what it is."""
    made = here.spec(tmp_path, ["print", "began"], ["write", "model.txt", "x"])
    compute = here.connect()
    compute.start(made)
    for fault in (
        {"status": 401},
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 503},
        {"reset": True},
    ):
        compute.submissions.stale(made.id)
        here.running.fault(r"POST .*/runs:query", **fault)
        assert compute.inspect(made.id).phase is not RunPhase.ABSENT
    compute.submissions.stale(made.id)
    here.running.fault(r"POST .*/runs:query", status=403)
    with pytest.raises(Denied):
        compute.inspect(made.id)
    compute.submissions.stale(made.id)
    here.running.fault(r"POST .*/runs:query", status=503, count=10)
    with pytest.raises(Transient):
        compute.inspect(made.id)
    here.running.emulator.faults.clear()
    assert settle(compute, made.id).exit_code == 0


def test_an_output_that_somebody_changed_in_azure_is_refused(here: Here, tmp_path: Path) -> None:
    """What is fetched is compared, byte for byte, with what was checked in the pod."""
    made = here.spec(tmp_path, ["write", "model.txt", "weights"])
    compute = here.connect()
    compute.start(made)
    assert settle(compute, made.id).exit_code == 0
    found = compute._results[made.id]
    checked = found["harvest"]["files"][0]["digest"]
    compute._results[made.id] = json.loads(json.dumps(found).replace(checked, "sha256:" + "0" * 64))
    with pytest.raises(ProviderError) as caught:
        compute.fetch(made.id, "model.txt", tmp_path / "fetched")
    assert caught.value.reason == "OutputChanged"
    assert not (tmp_path / "fetched").exists()


def test_metrics_survive_an_outage(here: Here, tmp_path: Path) -> None:
    """Metrics that the service refuses for a while are told again, each once."""
    from edgetrain.core.ports import Leaving

    points = "".join(f'{{"name": "loss", "value": {1 / (step + 1)}, "step": {step}}}\n' for step in range(5))
    made = here.spec(
        tmp_path,
        ["write", "model.txt", "x"],
        ["write", "metrics.jsonl", points],
        leaving=Leaving({"model.txt": "custom_model"}, metrics=("loss",)),
    )
    here.running.fault(r"POST .*/metric/v2.0.*/batch", status=503, count=2)
    compute = here.connect()
    compute.start(made)
    state = settle(compute, made.id)
    assert (state.ended_by, state.exit_code) == ("exit", 0)
    until(lambda: here.document(made.id)["status"] == "Completed", "Azure ML to complete the run")
    told = here.session.post(
        "history", f"/metric/v2.0{here.session.scope}/runs/{made.id}/full", json={"metricName": "loss"}
    )
    assert sorted(row["data"]["loss"] for row in told["value"]) == sorted(1 / (step + 1) for step in range(5))
    assert sorted(row["step"] for row in told["value"]) == list(range(5))


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
