"""Faults of the machine under an apply: no packages, no memory, no process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.reconcile.runs import retry
from tests.apply.site import SCRIPT, SmallSite
from tests.apply.test_faults import by_hand, converged, told
from tests.providers.local.test_local_environment import index, wheel  # noqa: F401


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "site").make()


def test_packages_that_can_not_be_had(site: SmallSite, index: Path) -> None:  # noqa: F811
    _, lock = wheel(index)
    away = index.rename(index.parent / "away")
    site.write("experiments/mean/requirements.lock", lock)
    site.edit(
        "experiments/mean/experiment.yaml",
        "  seed: 1",
        "  environment: {requirements: requirements.lock}\n  seed: 1",
    )
    site.push("Need a package")
    check_and_retry(site, "EnvironmentFailed", lambda: away.rename(index))


def test_a_run_out_of_memory(site: SmallSite) -> None:
    # What the kernel does to a process where memory is short.
    greedy = (
        "import os\ntry:\n    held = bytearray(400 * 2**20)\nexcept MemoryError:\n    os.kill(os.getpid(), 9)\n"
    )
    site.write("experiments/mean/train.py", greedy + SCRIPT)
    manifest = "experiments/mean/experiment.yaml"
    site.edit(manifest, "  seed: 1", "  resources: {memory: 256Mi}\n  seed: 1")
    site.push("Train with little memory")

    def mend() -> None:
        site.edit(manifest, "256Mi", "1Gi")
        site.push("Train with more memory")

    check_and_retry(site, "OutOfMemory", mend)


def check_and_retry(site: SmallSite, reason: str, mend: Callable[[], object]) -> None:
    """The run has failed for this reason, is not tried again unasked, and succeeds when a person asks."""
    ended = by_hand(site)
    assert ended.exit_code == 3
    assert reason in ended.output
    assert "edgetrain retry" in ended.output
    (record,) = site.records().values()
    assert (record["outcome"], record["reason"]) == ("failed", reason)
    assert site.apply().results == ()
    site.sync()
    mend()
    retry(site.clone, f"mean-{str(record['identity'])[7:19]}-1", "mended")
    converged(site, attempts=2)


def test_an_apply_without_memory_is_told_and_the_run_taken_up_again(
    site: SmallSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(FolderArtifacts, "put_file", out)
        assert told(site) == ["OutOfMemory"]
    converged(site)


def test_an_apply_that_can_start_no_process(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def no_fork(command: Any, *arguments: Any, **options: Any) -> Any:
        if "commit-tree" in command:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(command, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("edgetrain.repo.command.subprocess.Popen", no_fork)
        assert told(site) == ["OutOfMemory"]
    converged(site)
