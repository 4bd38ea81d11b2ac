"""A workspace of an emulator as the unmodified client sees it, targets to run on, and scripts to be run there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import artifacts, blobs, runs
from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator, start
from testbed.part import cache_folder, until
from testbed.vm import Vm
from tests.emulator import support

SDK = "azureml-core==1.61.0.post4"
VM = "/subscriptions/s1/resourceGroups/hub/providers/Microsoft.Compute/virtualMachines/edge"
CLUSTER = "/subscriptions/s1/resourceGroups/hub/providers/Microsoft.Kubernetes/connectedClusters/arc"
MINUTES = 300.0  # a deadline: the first environment of all is built and brought within it

TRAIN = """
import os, sys
from azureml.core import Run

run = Run.get_context(allow_offline=False)
run.log("accuracy", 0.75)
for step in range(3):
    run.log("loss", 1.0 / (step + 1))
run.tag("seen", "yes")
with open("outputs/own.txt", "w") as file:
    file.write("own")
run.upload_file("outputs/own.txt", "outputs/own.txt")
with open("outputs/model.txt", "w") as file:
    file.write("weights")
with open("logs/train.log", "w") as file:
    file.write("logged")
print("arguments", *sys.argv[1:])
print("colour", os.environ["COLOUR"])
"""
# Says where it is, waits for a file, and says that it went on.
WAIT = """
import pathlib, sys, time

pathlib.Path("logs/here").write_text(str(pathlib.Path.cwd()))
print("before", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("after", flush=True)
"""


def options(folder: Path, **more: Any) -> Options:
    """Options of an emulator whose built environments all tests share."""
    return Options(folder=folder / "emulator", cache=cache_folder() / "azureml-environments", **more)


@contextmanager
def emulator(folder: Path, **more: Any) -> Iterator[RunningEmulator]:
    """An emulator for the block, which fails if a route was asked for that it does not have."""
    with start(options(folder, **more)) as running:
        yield running
    assert running.emulator.log.failures == []
    assert running.emulator.log.unknown_routes == []


@contextmanager
def workspace(running: RunningEmulator, home: Path) -> Iterator[Any]:
    """The workspace by the service's own names, with nothing of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        support.enter(running, patch, home / "home")
        from azureml.core import Run

        patch.setattr(Run, "_WAIT_COMPLETION_POLLING_INTERVAL_MIN", 0.2)
        patch.setattr(Run, "_WAIT_COMPLETION_POLLING_INTERVAL_MAX", 0.5)
        yield support.connect(running)


def attach_cluster(ws: Any, name: str = "arc1") -> Any:
    """A Kubernetes target."""
    from azureml.core.compute import ComputeTarget, KubernetesCompute

    settings = KubernetesCompute.attach_configuration(resource_id=CLUSTER, namespace="ml")
    target = ComputeTarget.attach(ws, name, settings)
    target.wait_for_completion()
    return target


def attach_vm(ws: Any, vm: Vm, username: str = "edgetrain", name: str = "edge1") -> Any:
    """The VM as a target."""
    from azureml.core.compute import ComputeTarget, RemoteCompute

    settings = RemoteCompute.attach_configuration(
        resource_id=VM, ssh_port=22, username=username, private_key_file=str(vm.private_key)
    )
    target = ComputeTarget.attach(ws, name, settings)
    target.wait_for_completion()
    return target


def hosts(vm: Vm) -> dict[str, str]:
    """The option that lets the VM stand for the resource id of `attach_vm`."""
    return {VM: f"{vm.address}:22"}


def managed(*packages: str) -> Any:
    """An environment of packages, as the notebooks make it."""
    from azureml.core import Environment
    from azureml.core.conda_dependencies import CondaDependencies

    made = Environment("trained")
    made.python.conda_dependencies = CondaDependencies.create(pip_packages=list(packages))
    return made


def given(interpreter: str = "/usr/bin/python3") -> Any:
    """An environment that is on the machine already."""
    from azureml.core import Environment

    made = Environment("given")
    made.python.user_managed_dependencies = True
    made.python.interpreter_path = interpreter
    return made


def submit(
    ws: Any,
    folder: Path,
    target: str,
    script: str,
    *arguments: str,
    environment: Any = None,
    variables: Mapping[str, str] | None = None,
    **more: Any,
) -> Any:
    """Submit the script; the run."""
    from azureml.core import Experiment, ScriptRunConfig

    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "train.py").write_text(script, encoding="utf-8")
    config = ScriptRunConfig(
        str(code),
        script="train.py",
        arguments=list(arguments),
        compute_target=target,
        environment=environment or given(),
        **more,
    )
    config.run_config.environment_variables = dict(variables or {})
    return Experiment(ws, "exp1").submit(config)


def status(running: RunningEmulator, run: Any) -> str:
    """As the emulator has it; the client's word for it lags behind."""
    found = runs.get(running.emulator, run.id)
    assert found is not None
    return str(found["status"])


def settled(running: RunningEmulator, run: Any) -> str:
    """The run's last status, once it has it."""
    until(lambda: status(running, run) in runs.TERMINAL, f"{run.id} to end", MINUTES)
    return status(running, run)


def file(running: RunningEmulator, run: Any, path: str) -> str:
    """The text of one of the run's files; empty if it is not there."""
    blob = blobs.get(running.emulator, artifacts.CONTAINER, f"{artifacts.RUN}/dcid.{run.id}/{path}")
    return "" if blob is None else blob.file.read_bytes()[: blob.size].decode()


def said(running: RunningEmulator, run: Any, text: str) -> None:
    """Wait until the run has said the text."""
    what = f"{run.id} to say {text!r}"
    log = "user_logs/std_log.txt"
    until(lambda: text in file(running, run, log) or status(running, run) in runs.TERMINAL, what, MINUTES)
    assert text in file(running, run, log), file(running, run, log) + file(running, run, "system_logs/executor.log")
