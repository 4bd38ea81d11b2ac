"""Small files hashed by other processes: the same digests, the same refusals, and no harm if a process dies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.core.errors import ProviderError
from edgetrain.providers.folder import datastore
from edgetrain.providers.folder.datastore import FolderDatastore
from edgetrain.providers.folder.hashing import SMALL, SmallFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for number in range(300):
        file = root / f"{number % 7}" / ("ü" if number % 2 else "u") / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * number)
    (root / "0" / "odd\udcff name").write_bytes(b"")
    (root / "large").write_bytes(b"y" * (SMALL + 1))
    return root


@pytest.fixture
def digest(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    def digest(path: str = ".", other_processes: bool = True) -> object:
        monkeypatch.setattr(datastore, "WORTH_IT", 0 if other_processes else 10**6)
        later = time.time_ns() + 60 * 10**9
        return FolderDatastore(root=root, cache=tmp_path / os.urandom(4).hex(), clock=lambda: later).digest(path)

    return digest


def test_digests_are_the_same(digest: Callable[..., object], root: Path) -> None:
    assert digest() == digest(other_processes=False)
    assert digest("3") == digest("3", other_processes=False)
    assert digest("0/u/28.txt") == digest("0/u/28.txt", other_processes=False)


@pytest.mark.parametrize("fault", ["changed", "gone", "link", "folder"])
def test_what_changes_meanwhile_is_refused_alike(
    digest: Callable[..., object], root: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    file = root / "5" / "u" / "40.txt"
    really = SmallFiles.rest

    def meddled(self: SmallFiles[object]) -> object:
        if fault == "changed":
            file.write_bytes(b"other")
        elif fault == "gone":
            file.unlink()
        elif fault == "link":
            file.unlink()
            file.symlink_to(root / "large")
        else:
            file.parent.rename(root.parent / "away")
            file.parent.symlink_to(root.parent / "away")
        return really(self)

    monkeypatch.setattr(SmallFiles, "rest", meddled)
    monkeypatch.setattr("edgetrain.providers.folder.hashing._BATCH", 10**6)
    monkeypatch.setattr("edgetrain.providers.folder.hashing._BATCH_BYTES", 10**9)
    with pytest.raises(ProviderError):
        digest()


def test_a_process_that_dies_is_done_without(
    digest: Callable[..., object], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = SmallFiles._start

    def start(self: SmallFiles[object]) -> None:
        really(self)
        for process in self._processes[:1]:
            process.kill()
            process.wait()

    whole = digest(other_processes=False)
    monkeypatch.setattr(SmallFiles, "_start", start)
    assert digest() == whole
