"""Runs of attached machines: over SSH to a VM that reaches nothing, driven by the unmodified client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.executor import preparing, ssh
from azureml_emulator.server import RunningEmulator, start
from testbed.base_image import Base
from testbed.part import until
from testbed.registry import Registry
from testbed.vm import Vm
from tests.emulator import executing, support
from tests.emulator.executing import SDK, TRAIN, WAIT, file, given, managed, said, settled, status, submit

pytestmark = [pytest.mark.long(0.3), pytest.mark.needs("vm")]

STD, SYSTEM = "user_logs/std_log.txt", "system_logs/executor.log"
HOME = "/home/edgetrain"
ROOT = f"{HOME}/.azureml-emulator"
# Waits, and speaks to its run after that.
LATE = WAIT + "from azureml.core import Run\nRun.get_context(allow_offline=False).log('late', 1.5)\n"


class Site:
    """An emulator with the VM as the target `edge1`, and its workspace as the client sees it."""

    def __init__(self, running: RunningEmulator, workspace: Any, vm: Vm, folder: Path) -> None:
        self.running, self.ws, self.vm, self.folder = running, workspace, vm, folder
        self.go = f"{HOME}/{folder.name}.go"

    def let_go(self) -> None:
        """Make the file that `WAIT` waits for."""
        self.vm.run(["touch", self.go])

    def folders(self) -> list[str]:
        """What lies on the VM of runs."""
        return self.vm.run(["ls", "-A", f"{ROOT}/runs"]).stdout.split()


@pytest.fixture
def site(tmp_path: Path, vm: Vm) -> Iterator[Site]:
    with (
        executing.emulator(tmp_path, hosts=executing.hosts(vm)) as running,
        executing.workspace(running, tmp_path) as ws,
    ):
        executing.attach_vm(ws, vm)
        yield Site(running, ws, vm, tmp_path)


def test_training_with_an_environment_that_is_brought(site: Site) -> None:
    """The client itself is brought, and speaks from the VM to the run, which the VM could not reach."""
    environment = managed(SDK)
    run = submit(site.ws, site.folder, "edge1", TRAIN, "--x", environment=environment, variables={"COLOUR": "red"})
    assert settled(site.running, run) == "Completed", file(site.running, run, STD) + file(site.running, run, SYSTEM)
    metrics = run.get_metrics()
    assert (metrics["accuracy"], metrics["loss"]) == (0.75, [1.0, 0.5, 1 / 3])
    assert file(site.running, run, "outputs/model.txt") == "weights"
    assert file(site.running, run, "outputs/own.txt") == "own"
    assert file(site.running, run, "logs/train.log") == "logged"
    assert file(site.running, run, STD).endswith("arguments --x\ncolour red\n")
    until(lambda: site.folders() == [], "the run's folder to go")
    assert site.running.emulator.log.unknown_routes == []


def test_interpreter_of_the_machine(site: Site) -> None:
    """What the person manages is used as it is; one that is not there fails the run."""
    script = "import os, sys; print(sys.executable, os.environ['HOME'], os.getcwd().startswith(os.environ['HOME']))"
    run = submit(site.ws, site.folder, "edge1", script)
    assert settled(site.running, run) == "Completed"
    assert file(site.running, run, STD) == f"/usr/bin/python3 {HOME} True\n"
    run = submit(site.ws, site.folder, "edge1", script, environment=given("/opt/no/python"))
    assert settled(site.running, run) == "Failed"
    assert "/opt/no/python" in run.get_details()["error"]["error"]["message"]


def test_token_is_nowhere_to_be_seen(site: Site) -> None:
    """No file of the VM and no command line holds the run's token."""
    run = submit(
        site.ws, site.folder, "edge1", "import os\nprint(os.environ['AZUREML_RUN_TOKEN'][-20:])\n" + WAIT, site.go
    )
    said(site.running, run, "before")
    token = file(site.running, run, STD).split()[0]
    assert len(token) == 20
    kept = site.vm.run(["grep", "-rl", "--exclude=output", "--", token, HOME], check=False)
    assert kept.stdout == ""
    assert not [line for line in site.vm.processes().values() if token in line]
    site.let_go()
    assert settled(site.running, run) == "Completed"


def test_failure(site: Site) -> None:
    """The exit code is told."""
    run = submit(site.ws, site.folder, "edge1", "import sys; sys.exit(7)")
    assert settled(site.running, run) == "Failed"
    assert "exited with code 7" in run.get_details()["error"]["error"]["message"]


def test_cancel(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program and what it started are ended on the VM."""
    monkeypatch.setattr(preparing, "GRACE", 0.5)
    script = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "7654"])
print("ready", flush=True)
time.sleep(7654)
"""
    run = submit(site.ws, site.folder, "edge1", script)
    said(site.running, run, "ready")
    run.cancel()
    assert settled(site.running, run) == "Canceled"
    until(lambda: "sleep 7654" not in site.vm.processes().values(), "the child to be gone")
    until(lambda: not [line for line in site.vm.processes().values() if run.id in line], "nothing to be left")


def test_time_out(site: Site) -> None:
    """The VM itself ends a run that takes too long."""
    run = submit(site.ws, site.folder, "edge1", WAIT, site.go, max_run_duration_seconds=1)
    assert settled(site.running, run) == "Failed"
    assert "maxRunDurationSeconds" in run.get_details()["error"]["error"]["message"]


def test_sshd_killed_in_the_middle(site: Site) -> None:
    """The run goes on, is found again, and speaks by the same address as before."""
    run = submit(site.ws, site.folder, "edge1", LATE, site.go, environment=managed(SDK))
    said(site.running, run, "before")
    site.vm.restart_sshd()
    site.let_go()
    assert settled(site.running, run) == "Completed", file(site.running, run, STD)
    assert file(site.running, run, STD) == "before\nafter\n"
    assert run.get_metrics()["late"] == 1.5


def test_emulator_stopped_and_started_in_the_middle(site: Site) -> None:
    """The next emulator has the same addresses, and the run is followed to its end."""
    run = submit(site.ws, site.folder, "edge1", LATE, site.go, environment=managed(SDK))
    said(site.running, run, "before")
    site.running.stop()
    with start(site.running.emulator.options) as again:
        # The way back is there before anything is asked of it.
        until(
            lambda: status(again, run) == "Running" and site.vm.run(["ss", "-tln"]).stdout.count("127.0.0.1:"), "it"
        )
        site.let_go()
        assert settled(again, run) == "Completed", file(again, run, STD)
        assert file(again, run, STD) == "before\nafter\n"
        assert run.get_metrics()["late"] == 1.5


def test_link_that_breaks_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's side of the dead connection still holds the port: it is ended, and the same port works again."""
    monkeypatch.setattr(ssh, "KEEP_ALIVE", 1)
    with (
        Vm("lonely") as vm,
        executing.emulator(tmp_path, hosts=executing.hosts(vm)) as running,
        executing.workspace(running, tmp_path) as ws,
    ):
        executing.attach_vm(ws, vm)
        lonely = Site(running, ws, vm, tmp_path)
        run = submit(ws, tmp_path, "edge1", LATE, lonely.go, environment=managed(SDK))
        said(running, run, "before")
        sessions = {pid for pid, line in vm.processes().items() if line.startswith("sshd: edgetrain")}
        vm.cut()
        until(lambda: not connected(running), "the loss to be noticed")
        vm.restore()
        until(lambda: connected(running), "the connection to be made again")
        until(lambda: not sessions & set(vm.processes()), "the dead session to be ended")
        lonely.let_go()
        assert settled(running, run) == "Completed", file(running, run, STD)
        assert run.get_metrics()["late"] == 1.5


def connected(running: RunningEmulator) -> bool:
    """Whether the executor holds a living connection."""
    hosts = running.emulator.executor._links._hosts.values()  # type: ignore[attr-defined]
    connections = [host._connection for host, _ in hosts]
    return any(part is not None and not part.is_closed() for part in connections)


def test_machine_that_stays_away(tmp_path: Path) -> None:
    """After the emulator's patience the run has failed, and says why."""
    with (
        Vm("gone") as vm,
        executing.emulator(tmp_path, hosts=executing.hosts(vm), patience=1.0) as running,
        executing.workspace(running, tmp_path) as ws,
    ):
        executing.attach_vm(ws, vm)
        vm.stop_sshd()
        run = submit(ws, tmp_path, "edge1", "print('never')")
        assert settled(running, run) == "Failed"
        error = run.get_details()["error"]["error"]
        assert error["code"] == "ServiceError"
        assert f"{vm.address}:22 does not answer" in error["message"]


def test_machine_that_leaves_in_the_middle(tmp_path: Path) -> None:
    """The run has failed though its program goes on; the next emulator ends that and clears it away."""
    with Vm("leaver") as vm, executing.emulator(tmp_path, hosts=executing.hosts(vm), patience=1.0) as running:
        with executing.workspace(running, tmp_path) as ws:
            executing.attach_vm(ws, vm)
            lonely = Site(running, ws, vm, tmp_path)
            run = submit(ws, tmp_path, "edge1", WAIT, lonely.go)
            said(running, run, "before")
            vm.stop_sshd()
            assert settled(running, run) == "Failed"
            assert run.get_details()["error"]["error"]["code"] == "ServiceError"
        running.stop()
        assert [line for line in vm.processes().values() if "train.py" in line]
        vm.start_sshd()
        with start(running.emulator.options) as again:
            until(lambda: lonely.folders() == [], "the run's folder to go")
            assert not [line for line in vm.processes().values() if "train.py" in line]
            assert status(again, run) == "Failed"


def test_another_host_key(site: Site) -> None:
    """The machine that answers is not the one that was attached: nothing is sent to it."""
    with Vm("other") as other:
        kept = site.running.emulator.store.get("compute-secret", "edge1")
        kept["host_key"] = other.host_keys[0]
        site.running.emulator.store.put("compute-secret", "edge1", kept)
    run = submit(site.ws, site.folder, "edge1", "print('never')")
    assert settled(site.running, run) == "Failed"
    assert "host key" in run.get_details()["error"]["error"]["message"]


SUBMIT = """
from azureml.core import Environment, Experiment, ScriptRunConfig
from azureml.core.conda_dependencies import CondaDependencies

ws = connect()
environment = Environment("trained")
environment.python.conda_dependencies = CondaDependencies.create(pip_packages=[given["sdk"]])
config = ScriptRunConfig(given["folder"], script="train.py", compute_target="edge1", environment=environment)
config.run_config.environment_variables = {"COLOUR": "pink"}
run = Experiment(ws, "exp1").submit(config)
run.wait_for_completion(wait_post_processing=True, raise_on_error=False)
answer = {"status": run.get_status(), "accuracy": run.get_metrics().get("accuracy"), "id": run.id}
"""


@pytest.mark.parametrize("topology", ["A", "B"])
def test_port_that_is_taken_on_the_machine(site: Site, topology: str) -> None:
    """Another port leads to the emulator then, and all addresses that the run is given follow it."""
    for port in (site.running.port, site.running.proxy_port):
        serve = (
            f"import socket,time; s=socket.create_server(('127.0.0.1',{port})); print(1,flush=1); time.sleep(600)"
        )
        site.vm.run(["/bin/sh", "-c", f'nohup python3 -c "{serve}" >/tmp/taken{port} 2>&1 &'])
        until(lambda port=port: site.vm.path(f"/tmp/taken{port}").read_text(), "the port to be taken")
    code = site.folder / "code"
    code.mkdir()
    (code / "train.py").write_text(TRAIN, encoding="utf-8")
    answer = support.outside(site.running, topology, SUBMIT, site.folder / "home", sdk=SDK, folder=str(code))
    assert (answer["status"], answer["accuracy"]) == ("Completed", 0.75)
    log = site.running.emulator.log
    assert (log.unknown_routes, log.refused_hosts, log.failures) == ([], [], [])
    if topology == "B":
        asked = {request["host"] for request in log.requests if "/runs/" in request["path"]}
        assert len(asked) == 2, asked


@pytest.mark.needs("mmdebstrap", "skopeo", "registry", "podman")
def test_container(tmp_path: Path, vm: Vm, base_image: Base, registry_open: Registry) -> None:
    """With docker the script runs in the image, the environment beside it, and speaks to its run."""
    from azureml.core.runconfig import DockerConfiguration

    base_image.push(registry_open)
    vm.trust_registry(registry_open.name_at(vm.host_address), registry_open.ca_bundle)
    environment = managed(SDK)
    environment.docker.base_image = base_image.reference(registry_open, vm.host_address)
    script = TRAIN + "print('container', pathlib.Path('/run/.containerenv').exists())\n"
    with (
        executing.emulator(tmp_path, hosts=executing.hosts(vm)) as running,
        executing.workspace(running, tmp_path) as ws,
    ):
        executing.attach_vm(ws, vm, "root")
        run = submit(
            ws,
            tmp_path,
            "edge1",
            "import pathlib\n" + script,
            environment=environment,
            variables={"COLOUR": "green"},
            docker_runtime_config=DockerConfiguration(use_docker=True),
        )
        assert settled(running, run) == "Completed", file(running, run, STD) + file(running, run, SYSTEM)
        assert "container True" in file(running, run, STD)
        assert run.get_metrics()["accuracy"] == 0.75
        assert file(running, run, "outputs/model.txt") == "weights"
        assert vm.run(["podman", "ps", "-aq"]).stdout == ""


def test_image_that_cannot_be_had(site: Site) -> None:
    """Then the run is a process, as the system log says."""
    from azureml.core.runconfig import DockerConfiguration

    environment = given()
    environment.docker.base_image = "127.0.0.1:1/no/such:1"
    run = submit(
        site.ws,
        site.folder,
        "edge1",
        "print('process')",
        environment=environment,
        docker_runtime_config=DockerConfiguration(use_docker=True),
    )
    assert settled(site.running, run) == "Completed", file(site.running, run, SYSTEM)
    assert file(site.running, run, STD) == "process\n"
    assert "the run is a process" in file(site.running, run, SYSTEM)
