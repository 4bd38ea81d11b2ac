"""What a site has seen of main's records, kept with its state: so that a fresh clone, too, notices when some go."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from edgetrain.core.checks.main import Wrong, main_problems
from edgetrain.core.codes.history import RECORD_CHANGED
from edgetrain.core.errors import InvalidFiles
from edgetrain.providers.durable import incoming
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.repo.objects import OID
from edgetrain.repo.record_history import records_at

MEMORY = "records.json"
MOST_BYTES = 2**28


def check_seen(state: State, site: Site) -> None:
    """Raise InvalidFiles if main lacks a record that this site has seen there: history was rewritten, and what is
    gone would be made again. Else remember what is there now. Ask only when main's records were judged good."""
    memory = site.state / MEMORY
    earlier, had = _remembered(memory)
    if earlier == state.commit:
        return
    present = records_at(state.git, state.commit)
    gone = _gone(had, present)
    if gone:  # seen by an apply that read main later than this one, or really gone: main itself says
        gone = _gone(had, records_at(state.git, state.git.tip(state.desired.configuration.branch)))
        if not gone:
            return
        place = f"`{MEMORY}` from the state folder of site {site.name}"
        wrong = [Wrong(path, blob, RECORD_CHANGED, None, "removes", earlier, place) for path, blob in gone.items()]
        raise InvalidFiles(sorted(main_problems(wrong)))
    # What can't be remembered is noticed by a checkout that judged it before: see judge.py.
    with contextlib.suppress(OSError), incoming(site.state / "scratch") as file:
        file.write(json.dumps({"tip": state.commit, "records": present}).encode())
        file.replace(memory)


def _gone(had: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    return {path: blob for path, blob in had.items() if present.get(path) != blob}


def _remembered(memory: Path) -> tuple[str, dict[str, str]]:
    """The tip last seen, and its records by path with their objects; nothing if that can't be read."""
    try:
        with memory.open("rb") as file:
            value = json.loads(file.read(MOST_BYTES))
        tip, records = value["tip"], value["records"]
        good = OID.fullmatch(tip) and all(isinstance(blob, str) for blob in records.values())
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return "", {}
    return (tip, records) if good else ("", {})
