"""Fixtures around the emulator; a conftest that wants them imports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from azureml_emulator.server import RunningEmulator
from tests.emulator import support


@pytest.fixture
def make_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunningEmulator]]:
    """Starts emulators with options; see `support.emulators`."""
    with support.emulators(tmp_path, monkeypatch) as make:
        yield make


@pytest.fixture
def emulator(make_emulator: Callable[..., RunningEmulator]) -> RunningEmulator:
    """An emulator with a data folder of its own, to which azureml-core of this process talks by topology A.

    The test fails if a route was asked for that the emulator does not have.
    """
    return make_emulator()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[support.Machine]:
    """A machine to attach."""
    there = support.Machine(tmp_path)
    yield there
    there.stop()
