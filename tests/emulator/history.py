"""What tests of run history share: an executor that carries nothing out, and a target to submit to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from azureml_emulator.emulator import Emulator
from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from tests.emulator import support

ARC = "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.Kubernetes/connectedClusters/arc1"


class Still:
    """Notes what it is asked to do; runs stay as they are."""

    def __init__(self) -> None:
        self.submissions: list[str] = []
        self.cancellations: list[str] = []

    def submitted(self, run_id: str) -> None:
        self.submissions.append(run_id)

    def cancel(self, run_id: str) -> None:
        self.cancellations.append(run_id)

    def stop(self) -> None:
        """Nothing to stop."""


def still(emulator: RunningEmulator) -> Still:
    """Let nothing be carried out."""
    emulator.emulator.executor.stop()
    found = Still()
    emulator.emulator.executor = found
    return found


def bare(folder: Path, **options: Any) -> Emulator:
    """An emulator that does not serve."""
    return Emulator(Options(folder=folder / "bare", **options))


def attach(workspace: Any, name: str = "cluster1") -> None:
    """A target of the client's own making."""
    from azureml.core.compute import ComputeTarget, KubernetesCompute

    wanted = KubernetesCompute.attach_configuration(resource_id=ARC, namespace="ml")
    ComputeTarget.attach(workspace, name, wanted).wait_for_completion()


def project(folder: Path, **files: str) -> Path:
    """A folder of code; `train.py` is always there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"train": "print('trained')\n", **files}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def configured(folder: Path, *arguments: str, target: str = "cluster1") -> Any:
    """A submission of `train.py`, with nothing to be installed."""
    from azureml.core import Environment, ScriptRunConfig

    environment = Environment("plain")
    environment.python.user_managed_dependencies = True
    return ScriptRunConfig(
        str(folder), script="train.py", arguments=list(arguments), compute_target=target, environment=environment
    )


def ask(
    emulator: RunningEmulator, method: str, service: str, path: str, body: Any = None, **more: Any
) -> tuple[int, Any]:
    """A plain request to a service (`history/v1.0`) below the workspace; by the owner unless `token` is given."""
    token = more.pop("token", "") or Tokens(emulator.emulator).issue("owner", "aml")
    address = f"/{service}{emulator.emulator.workspace_path}/{path}"
    status, said, _ = support.ask(emulator, method, address, body, token, **more)
    return status, said
