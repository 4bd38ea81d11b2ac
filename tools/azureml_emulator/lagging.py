"""Documents that queries see late: a get by id has the newest, a list what was there `lag` seconds ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator


def newest(emulator: Emulator, kind: str, key: str) -> dict[str, Any] | None:
    """The document as it is now, None if it is not there or was deleted."""
    held = emulator.store.get(kind, key)
    return None if held is None else held["now"]


def write(emulator: Emulator, kind: str, key: str, document: dict[str, Any] | None) -> None:
    """Make this the newest; None deletes, and lists forget it when the lag is over."""
    with emulator.store.transaction():
        held = emulator.store.get(kind, key)
        before = None if held is None else seen(emulator, held)
        emulator.store.put(kind, key, {"now": document, "before": before, "changed": emulator.now()})


def listed(emulator: Emulator, kind: str, prefix: str = "") -> list[dict[str, Any]]:
    """What a query sees of a kind, oldest first."""
    found = (seen(emulator, held) for _, held in emulator.store.scan(kind, prefix))
    return [document for document in found if document is not None]


def seen(emulator: Emulator, held: dict[str, Any]) -> dict[str, Any] | None:
    """The version of it that queries see."""
    old = emulator.now() - held["changed"] >= emulator.options.lag
    found: dict[str, Any] | None = held["now"] if old else held["before"]
    return found
