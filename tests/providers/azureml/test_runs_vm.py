"""Runs on an attached machine where Azure ML and the machine say different things: the machine's word counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import runs
from edgetrain.core.errors import ProviderError
from edgetrain.core.ports import Leaving, RunPhase, RunSpec
from edgetrain.providers.azureml.deadlines import Patience
from edgetrain.providers.ssh.provider import SshCompute
from testbed.base_image import Base
from testbed.vm import Vm
from tests.contract.azureml_target import AzuremlVmTarget, check
from tests.contract.compute import settle, spec, until
from tests.emulator import executing

pytestmark = [pytest.mark.long(0.3), pytest.mark.needs("vm", "mmdebstrap", "skopeo")]
WAIT = "while [ ! -e /edgetrain/code/go ]; do sleep 0.1; done; echo began; echo x > {{outputs}}/model.txt"


class Attached(AzuremlVmTarget):
    """The machine, with runs of their own ids."""

    numbers = iter(range(1, 10_000))

    def begin(self, folder: Path, *steps: Any, **more: Any) -> RunSpec:
        """Start a run; it waits for `go` if `command` says so."""
        number = next(self.numbers)
        run_id = f"wear-0123456789ab-{number}"
        made = spec(folder / str(number), self.python, *steps, id=run_id, image=self.image, **more)
        self.connect().start(made)
        return made

    def go(self, run_id: str) -> None:
        """Let a waiting script go on."""
        (self.folder(run_id) / "code" / "go").touch(0o644)

    def status(self, run_id: str) -> str:
        """What Azure ML says of the run."""
        found = runs.get(self.running.emulator, run_id)
        return str(found["status"]) if found else ""

    def running_script(self, run_id: str) -> None:
        """Wait until the script runs, and Azure ML says so."""
        until(lambda: self.connect().ssh.inspect(run_id).phase is RunPhase.RUNNING, "the script to run")
        until(lambda: self.status(run_id) == "Running", "Azure ML to see it")

    def kill_wrapper(self) -> None:
        """Kill the run's parent process, as nothing that is kind would."""
        for pid, command in self.vm.processes().items():
            if command.endswith("run.py"):
                self.vm.kill(pid)


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory, vm: Vm, base_image: Base) -> Iterator[Attached]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            patch.delenv(name, raising=False)
        folder = tmp_path_factory.mktemp("azureml-vm")
        with executing.emulator(folder, hosts=executing.hosts(vm)) as running:
            target = Attached(running, vm, base_image, folder / "state", "/srv/azureml-runs")
            target.attach()
            yield target
            check(running)


def test_what_the_wrapper_lets_go_is_in_azure_and_the_token_nowhere_else(
    attached: Attached, tmp_path: Path
) -> None:
    points = '{"name": "loss", "value": 2, "step": 1}\n{"name": "loss", "value": 1.5, "step": 2}\n'
    leaving = Leaving({"model.txt": "custom_model"}, metrics=("loss",))
    write = f"printf '{points}' > {{{{outputs}}}}/metrics.jsonl".replace("\n", "\\n")
    look = "python -c 'import os; print(\"AZUREML\" in str(dict(os.environ)))'"
    made = attached.begin(tmp_path, command=f"{look}; {write}; {WAIT}", leaving=leaving)
    attached.running_script(made.id)
    holders = []
    for pid, command in attached.vm.processes().items():
        seen = attached.vm.run(
            ["sh", "-c", f"tr '\\0' '\\n' </proc/{pid}/environ | grep -c AZUREML_RUN_TOKEN"], check=False
        )
        if seen.stdout.strip() not in ("", "0"):
            holders.append(command)
    assert holders and all("run.py" in command for command in holders), holders
    attached.go(made.id)
    state = settle(attached.connect(), made.id)
    assert (state.ended_by, state.exit_code, attached.status(made.id)) == ("exit", 0, "Completed")
    assert list(attached.connect().logs(made.id))[:1] == ["False"]
    record = attached.connect().submissions.get(made.id)
    assert record is not None
    submissions = attached.connect().submissions
    assert submissions.read(made.id, record.container, "outputs/model.txt", 100) == b"x\n"
    said = list(submissions.lines(made.id, record.container, follow=False))
    assert any("1 files are given" in line for line in said)
    assert not any("began" in line for line in said)
    path = f"/metric/v2.0{attached.session.scope}/runs/{made.id}/full"
    told = attached.session.post("history", path, json={"metricName": "loss"})
    assert [(row["step"], row["data"]["loss"]) for row in told["value"]] == [(1, 2.0), (2, 1.5)]


def test_the_wrapper_is_killed(attached: Attached, tmp_path: Path) -> None:
    """Azure ML says Failed; the script goes on to its end, and its result is not lost."""
    made = attached.begin(tmp_path, command=WAIT)
    attached.running_script(made.id)
    attached.kill_wrapper()
    until(lambda: attached.status(made.id) == "Failed", "Azure ML to see that its program is gone")
    compute = attached.connect()
    assert compute.inspect(made.id).phase is RunPhase.RUNNING
    attached.go(made.id)
    state = settle(compute, made.id)
    assert (state.ended_by, state.exit_code) == ("exit", 0)
    assert {file.path for file in compute.harvest(made.id, made.outputs).files} == {"model.txt"}
    assert list(compute.logs(made.id)).count("began") == 1


def test_cancelled_in_the_portal(attached: Attached, tmp_path: Path) -> None:
    made = attached.begin(tmp_path, command=WAIT)
    attached.running_script(made.id)
    path = f"/execution/v1.0{attached.session.scope}/experiments/wear/runId/{made.id}/cancel"
    attached.session.post("history", path)
    compute = attached.connect()
    state = settle(compute, made.id)
    assert (state.phase, state.ended_by) == (RunPhase.ENDED, "cancel")
    until(lambda: not attached.alive(made.id), "the script to be dead")


def test_cancelled_in_the_portal_before_it_began(attached: Attached, tmp_path: Path) -> None:
    """What lies prepared on the machine never begins."""
    attached.running.change(slow=3.0)
    try:
        made = attached.begin(tmp_path, ["print", "began"])
        path = f"/execution/v1.0{attached.session.scope}/experiments/wear/runId/{made.id}/cancel"
        attached.session.post("history", path)
        compute = attached.connect()
        state = settle(compute, made.id)
    finally:
        attached.running.change(slow=0.0)
    assert (state.phase, state.ended_by) == (RunPhase.ENDED, "cancel")
    assert compute.ssh.remote.ask("begin", id=made.id)["phase"] == "ended"
    assert "began" not in list(compute.logs(made.id))


def test_a_run_that_azure_ml_never_starts(attached: Attached, tmp_path: Path) -> None:
    """It is waited for until its time is over; then it is barred on the machine, and cancelled in Azure ML."""
    attached.running.change(slow=3600.0)
    try:
        made = attached.begin(tmp_path, ["print", "began"])
        assert attached.connect().inspect(made.id).phase is RunPhase.PREPARING
        late = attached.connect(Patience(queue=-made.limits.timeout - 1.0))
        state = late.inspect(made.id)
        assert (state.phase, state.ended_by) == (RunPhase.ENDED, "timeout"), state
        assert "did not start the run" in state.message
        until(lambda: attached.status(made.id) == "Canceled", "Azure ML to cancel the run")
    finally:
        attached.running.change(slow=0.0)
    assert late.ssh.remote.ask("begin", id=made.id)["phase"] == "ended"


def test_a_machine_that_is_gone_keeps_no_run_going_in_azure_ml(attached: Attached, tmp_path: Path) -> None:
    attached.running.change(slow=3600.0)
    try:
        made = attached.begin(tmp_path, ["print", "began"])
        compute = attached.connect()
        compute.ssh = SshCompute(replace(compute.ssh.settings, block={**compute.ssh.settings.block, "port": 1}))
        with pytest.raises(ProviderError):
            compute.cancel(made.id, "given up")
        until(lambda: attached.status(made.id) == "Canceled", "Azure ML to cancel the run")
    finally:
        attached.running.change(slow=0.0)


def test_a_run_that_is_cleared_away_goes_on_nowhere(attached: Attached, tmp_path: Path) -> None:
    """The machine knows how it ended; Azure ML was never told."""
    attached.running.change(slow=3600.0)
    try:
        made = attached.begin(tmp_path, ["print", "began"])
        compute = attached.connect()
        compute.ssh.cancel(made.id, "given up")
        compute.forget(made.id)
        until(lambda: attached.status(made.id) == "Canceled", "Azure ML to cancel the run")
    finally:
        attached.running.change(slow=0.0)


def test_stuck_in_finalizing(attached: Attached, tmp_path: Path) -> None:
    """Azure ML is waited for, and no longer than that."""
    made = attached.begin(tmp_path, command=WAIT)
    attached.running_script(made.id)
    attached.running.change(slow=3600.0)
    try:
        attached.go(made.id)
        compute = attached.connect()
        until(lambda: compute.ssh.inspect(made.id).phase is RunPhase.ENDED, "the script to end")
        assert compute.inspect(made.id).phase is RunPhase.RUNNING
        until(lambda: attached.status(made.id) == "Finalizing", "Azure ML to finalize")
        attached.finalizing = 0.0
        state = settle(attached.connect(), made.id)
    finally:
        attached.finalizing = 900.0
        attached.running.change(slow=0.0)
    assert (state.ended_by, state.exit_code) == ("exit", 0)


def test_azure_ml_can_not_start_it(attached: Attached, tmp_path: Path) -> None:
    """The environment can't be made: the run ends by that, and never begins on the machine afterwards."""
    attached.interpreter = "/opt/absent/python"
    try:
        made = attached.begin(tmp_path, ["print", "began"])
        compute = attached.connect()
        state = settle(compute, made.id)
    finally:
        attached.interpreter = ""
    assert (state.phase, state.ended_by) == (RunPhase.ENDED, "environment")
    assert "Azure ML did not start the run" in state.message
    assert compute.ssh.remote.ask("begin", id=made.id)["phase"] == "ended"
