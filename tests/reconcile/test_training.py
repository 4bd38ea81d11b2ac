"""The scheduler by itself: what a fault of our own does to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetrain.reconcile import apply as applying
from tests.apply.site import SmallSite


def test_a_fault_of_ours_ends_the_apply_and_does_not_hang_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = SmallSite(tmp_path / "site").make()

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(applying, "conduct", broken)
    with pytest.raises(KeyError, match="a bug"):
        site.apply()
