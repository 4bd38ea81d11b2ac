"""Run history: experiments."""

from __future__ import annotations

from typing import Any

from azureml_emulator import bodies, experiments, filters, runs
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Answer, Refused, Request, insensitive
from azureml_emulator.routing import route

HISTORY = "/history/v1.0{WS}"


@route("GET", HISTORY + "/experiments/{name}")
def get_experiment(emulator: Emulator, request: Request, name: str) -> Answer:
    """By name."""
    return Answer(200, experiments.named(emulator, name))


@route("POST", HISTORY + "/experiments/{name}")
def create_experiment(emulator: Emulator, request: Request, name: str) -> Answer:
    """Make it, or answer with the one that is there; the client takes no other success than 200."""
    return Answer(200, experiments.ensure(emulator, name))


@route("GET", HISTORY + "/experiments")
def list_experiments(emulator: Emulator, request: Request) -> Answer:
    """All that are not archived."""
    return Answer(200, _page(emulator, insensitive(dict(request.query)), "$"))


@route("POST", HISTORY + "/experiments:query", writes=False)
def query_experiments(emulator: Emulator, request: Request) -> Answer:
    """Those that pass a filter."""
    return Answer(200, _page(emulator, bodies.lowered(request)))


def _page(emulator: Emulator, given: Any, prefix: str = "") -> dict[str, Any]:
    view = str(given.get("viewtype") or "ActiveOnly").lower()
    test = filters.parse(given.get(prefix + "filter"))
    found = [
        one
        for one in experiments.listed(emulator)
        if (view == "all" or bool(one["archivedTime"]) == (view == "archivedonly")) and test(one)
    ]
    found = filters.ordered(found, given.get(prefix + "orderby"))
    token = given.get(prefix + "continuationtoken")
    shown, following = filters.page(found, given.get(prefix + "top"), token, "experimentId")
    return {"value": shown, "continuationToken": following}


@route("GET", HISTORY + "/experimentids/{identity}")
def get_experiment_by_id(emulator: Emulator, request: Request, identity: str) -> Answer:
    """By id."""
    return Answer(200, experiments.numbered(emulator, identity))


@route("PATCH", HISTORY + "/experimentids/{identity}")
def change_experiment(emulator: Emulator, request: Request, identity: str) -> Answer:
    """Tags (added to), description, archived or not."""
    body = bodies.given(request)
    with emulator.store.transaction():
        found = experiments.numbered(emulator, identity)
        for key, value in body.items():
            if key.lower() == "tags" and isinstance(value, dict):
                runs.merge_entries(found["tags"], value, "tags", emulator.options.strict)
            elif key.lower() == "description" and value is not None:
                found["description"] = str(value)
            elif key.lower() == "archive" and value is not None:
                found["archivedTime"] = (found["archivedTime"] or emulator.time()) if value else None
        emulator.store.put("experiment", found["name"], found)
    return Answer(200, found)


@route("DELETE", HISTORY + "/experimentids/{identity}")
def delete_experiment(emulator: Emulator, request: Request, identity: str) -> Answer:
    """Only an experiment without runs is deleted."""
    with emulator.store.transaction():
        found = experiments.numbered(emulator, identity)
        if any(run["experimentId"] == identity for _, run in emulator.store.scan("run")):
            raise Refused(400, "UserError", "Only empty Experiments can be deleted. This experiment has runs.")
        emulator.store.delete("experiment", found["name"])
        emulator.store.delete("experiment-id", identity)
    return Answer(200, {})


@route("POST", HISTORY + "/experimentids/{identity}/tags:delete")
def delete_experiment_tags(emulator: Emulator, request: Request, identity: str) -> Answer:
    """Take tags away."""
    with emulator.store.transaction():
        found = experiments.numbered(emulator, identity)
        for tag in bodies.texts(bodies.given(request), "tags"):
            found["tags"].pop(tag, None)
        emulator.store.put("experiment", found["name"], found)
    return Answer(200, {"errors": {}})
