"""Experiments: names under which runs are kept."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Refused

# As the service's description has it; the client's own check is narrower.
NAME = re.compile(r"[a-zA-Z0-9][\w-]{0,255}")


def get(emulator: Emulator, name: str) -> dict[str, Any] | None:
    """The experiment of this name, or None."""
    found: dict[str, Any] | None = emulator.store.get("experiment", name)
    return found


def named(emulator: Emulator, name: str) -> dict[str, Any]:
    """The experiment of this name. Raises Refused."""
    found = get(emulator, name)
    if found is None:
        raise Refused(404, "UserError", f"Experiment {name} was not found")
    return found


def numbered(emulator: Emulator, identity: str) -> dict[str, Any]:
    """The experiment of this id. Raises Refused."""
    pointer = emulator.store.get("experiment-id", identity)
    if pointer is None:
        raise Refused(404, "UserError", f"Experiment with id {identity} was not found")
    return named(emulator, pointer["name"])


def listed(emulator: Emulator) -> list[dict[str, Any]]:
    """All that are not too new for a list (`options.lag`), oldest first."""
    horizon = emulator.now() - emulator.options.lag
    found = [one for _, one in emulator.store.scan("experiment")]
    return [one for one in found if datetime.fromisoformat(one["createdUtc"]).timestamp() <= horizon]


def ensure(emulator: Emulator, name: str) -> dict[str, Any]:
    """The experiment of this name, made if it is not there. Raises Refused."""
    if emulator.options.strict and not NAME.fullmatch(name):
        raise Refused(400, "UserError", "an experiment's name is letters, digits, _ and -, at most 256")
    with emulator.store.transaction():
        found = get(emulator, name)
        if found is None:
            found = {
                "experimentId": str(uuid.uuid4()),
                "name": name,
                "description": None,
                "createdUtc": emulator.time(),
                "tags": {},
                "archivedTime": None,
            }
            emulator.store.put("experiment", name, found)
            emulator.store.put("experiment-id", found["experimentId"], {"name": name})
    return found
