"""Events of runs: what happens to a run when somebody says that something happened to it."""

from __future__ import annotations

from typing import Any

from azureml_emulator import runs
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Refused

PREFIX = "microsoft.machinelearning.run."
MAX_KEPT = 200
STATUS = {
    "start": "Running",
    "queued": "Queued",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "cancelrequested": "CancelRequested",
}
NOTED = ("heartbeat", "warning", "error", "queueinginfo")


def apply(emulator: Emulator, run_id: str, event: dict[str, Any]) -> None:
    """Do what an event (keys in lower case, `data` too) says. Raises Refused.

    Of a submitted run only the service says how it goes: its events are noted, and its status stays.
    """
    name = str(event.get("name") or "").lower().removeprefix(PREFIX)
    data: dict[str, Any] = event["data"]
    if name not in STATUS and name not in NOTED:
        raise Refused(400, "UserError", f"the event {str(event.get('name'))[:100]!r} is not known")
    with emulator.store.transaction():
        run = runs.needed(emulator, run_id)
        kept = [*run.get("_events", []), {"name": name, "timestamp": str(event.get("timestamp") or "")[:40]}]
        runs.patch(emulator, run_id, {"_events": kept[-MAX_KEPT:]})
        if name == "warning":
            text = {"source": data.get("source"), "message": str(data.get("message"))[: runs.MAX_WARNING]}
            runs.patch(emulator, run_id, {"warnings": [*(run["warnings"] or []), text]})
        elif name == "error":
            runs.patch(emulator, run_id, {"error": _error(emulator, data.get("errorresponse"))})
        elif name in STATUS and run["_definition"] is None and run["status"] != STATUS[name]:
            runs.set_status(emulator, run_id, STATUS[name])


def _error(emulator: Emulator, given: Any) -> dict[str, Any]:
    inner = given.get("error") if isinstance(given, dict) else None
    error = dict(inner) if isinstance(inner, dict) else {"code": "UserError", "message": ""}
    error.setdefault("details", [])
    return {
        "error": error,
        "correlation": {},
        "environment": emulator.options.region,
        "location": emulator.options.region,
        "time": emulator.time(),
        "componentName": "run-history",
    }
