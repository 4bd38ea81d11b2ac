"""Run history: runs, their tags, events, children, queries and tokens.

Every route of one run is there twice: by the experiment's name and by its id. The client mixes both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azureml_emulator import artifacts, bodies, events, experiments, filters, runs
from azureml_emulator.emulator import Emulator
from azureml_emulator.errors import worded
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import Handler, route
from azureml_emulator.tokens import Tokens

HISTORY = "/history/v1.0{WS}"
LOG_FOLDERS = ("user_logs", "system_logs", "azureml-logs", "logs")


def of_run(methods: str, path: str = "", *, writes: bool | None = None) -> Callable[[Handler], Handler]:
    """The route of one run, by name and by id of its experiment."""

    def put(handler: Handler) -> Handler:
        # The service has `RunId` here; `runs` may be part of an id's path, never of a run's.
        route(methods, HISTORY + "/experiments/{name}/runs/{run_id}" + path, writes=writes)(handler)
        route(methods, HISTORY + "/experimentids/{identity}/runs/{run_id}" + path, writes=writes)(handler)
        return handler

    return put


def of_experiment(methods: str, path: str, *, writes: bool | None = None) -> Callable[[Handler], Handler]:
    """The route of one experiment's runs, by its name and by its id."""

    def put(handler: Handler) -> Handler:
        route(methods, HISTORY + "/experiments/{name}" + path, writes=writes)(handler)
        route(methods, HISTORY + "/experimentids/{identity}" + path, writes=writes)(handler)
        return handler

    return put


def experiment_of(emulator: Emulator, name: str, identity: str) -> dict[str, Any]:
    """The experiment that the path names. Raises Refused."""
    return experiments.named(emulator, name) if name else experiments.numbered(emulator, identity)


def found_run(emulator: Emulator, name: str, identity: str, run_id: str) -> dict[str, Any]:
    """The run that the path names. Raises Refused."""
    experiment = experiment_of(emulator, name, identity)
    run = runs.needed(emulator, run_id)
    if run["experimentId"] != experiment["experimentId"]:
        raise Refused(404, "UserError", f"Run {run_id} was not found in experiment {experiment['name']}")
    return run


@of_run("GET")
def get_run(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """One run."""
    return Answer(200, runs.view(emulator, found_run(emulator, name, identity, run_id), request.host))


@route("GET", HISTORY + "/runs/{run_id}")
def get_workspace_run(emulator: Emulator, request: Request, run_id: str) -> Answer:
    """One run, whatever its experiment."""
    return Answer(200, runs.view(emulator, runs.needed(emulator, run_id), request.host))


@of_run("PATCH")
def change_run(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """Change a run, or make it."""
    experiment = experiment_of(emulator, name, identity)
    run = _upsert(emulator, request, experiment, run_id, bodies.given(request))
    return Answer(200, runs.view(emulator, run, request.host))


@of_experiment("PATCH", "/batch/runs")
def change_runs(emulator: Emulator, request: Request, name: str = "", identity: str = "") -> Answer:
    """Change or make several; one that is refused does not hinder the others."""
    experiment = experiment_of(emulator, name, identity)
    done, errors = {}, {}
    for body in bodies.objects(bodies.given(request), "runs"):
        run_id = str(bodies.pick(body, "runId") or "")
        try:
            run = _upsert(emulator, request, experiment, run_id, body)
            done[run_id] = runs.view(emulator, run, request.host)
        except Refused as refused:
            errors[run_id] = worded("history", refused, request.id, emulator.time())
    return Answer(200, {"runs": done, "errors": errors})


def _upsert(
    emulator: Emulator, request: Request, experiment: dict[str, Any], run_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    with emulator.store.transaction():
        run = runs.get(emulator, run_id)
        if run is None:
            parent = bodies.pick(body, "parentRunId")
            runs.allow(emulator, request, str(parent or run_id))
            return runs.create(emulator, experiment, run_id, body, by=request.principal, host=request.host)
        if run["experimentId"] != experiment["experimentId"]:
            raise Refused(409, "UserError", f"Run {run_id} already exists in another experiment")
        runs.allow(emulator, request, run_id)
        if run["_definition"] is not None or run["status"] in runs.TERMINAL:
            # Of a submitted run only the service says how it goes.
            body = {key: value for key, value in body.items() if key.lower() != "status"}
        return runs.patch(emulator, run_id, body)


@of_run("DELETE", "/tags")
def delete_tags(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """Take tags away: the body is their list."""
    found_run(emulator, name, identity, run_id)
    runs.allow(emulator, request, run_id)
    body = request.json()
    if not isinstance(body, list):
        raise Refused(400, "UserError", "the body is not a list of tags")
    return Answer(200, runs.view(emulator, runs.remove_tags(emulator, run_id, map(str, body)), request.host))


@of_run("GET", "/details")
def get_details(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """A run with its definition and its logs."""
    run = found_run(emulator, name, identity, run_id)
    shown = runs.view(emulator, run, request.host)
    logs = {}
    for folder in LOG_FOLDERS:
        for record in artifacts.listed(emulator, artifacts.RUN, run["dataContainerId"], folder):
            logs[record["path"]] = artifacts.content(emulator, request.host, record)["contentUri"]
    kept = (
        *("runId", "target", "status", "parentRunId", "startTimeUtc", "endTimeUtc"),
        *("error", "warnings", "tags", "properties", "revision"),
    )
    definition = bodies.pick(run["_definition"], "Configuration")
    return Answer(
        200,
        {
            **{key: shown[key] for key in kept},
            "runDefinition": hidden(definition) or shown.get("runDefinition"),
            "logFiles": logs,
        },
    )


def hidden(value: Any) -> Any:
    """The same without passwords: the service never shows them again."""
    if isinstance(value, dict):
        return {k: None if "password" in k.lower() else hidden(item) for k, item in value.items()}
    return [hidden(item) for item in value] if isinstance(value, list) else value


@of_experiment("POST", "/runs:query", writes=False)
def query_runs(emulator: Emulator, request: Request, name: str = "", identity: str = "") -> Answer:
    """The runs of an experiment that pass a filter."""
    experiment = experiment_of(emulator, name, identity)
    mine = [run for run in runs.every(emulator) if run["experimentId"] == experiment["experimentId"]]
    return _page(emulator, request, mine, bodies.lowered(request))


@of_experiment("GET", "/runs")
def list_runs(emulator: Emulator, request: Request, name: str = "", identity: str = "") -> Answer:
    """The same with the filter in the address."""
    experiment = experiment_of(emulator, name, identity)
    mine = [run for run in runs.every(emulator) if run["experimentId"] == experiment["experimentId"]]
    return _page(emulator, request, mine, _of_query(request))


@of_run("GET", "/children")
def list_children(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """The runs whose parent this is."""
    found_run(emulator, name, identity, run_id)
    return _page(
        emulator, request, [run for run in runs.every(emulator) if run["parentRunId"] == run_id], _of_query(request)
    )


@route("GET", HISTORY + "/computes/{compute}/runs")
def list_compute_runs(emulator: Emulator, request: Request, compute: str) -> Answer:
    """The runs on a target, of all experiments."""
    return _page(
        emulator, request, [run for run in runs.every(emulator) if run["target"] == compute], _of_query(request)
    )


def _of_query(request: Request) -> dict[str, Any]:
    return {key.lower().lstrip("$"): value for key, value in request.query.items()}


def _page(emulator: Emulator, request: Request, found: list[dict[str, Any]], given: Any) -> Answer:
    test = filters.parse(given.get("filter"))
    # The newest first, unless said.
    some = filters.ordered([run for run in reversed(found) if test(run)], given.get("orderby"))
    shown, following = filters.page(some, given.get("top"), given.get("continuationtoken"), "runId")
    value = [runs.view(emulator, run, request.host) for run in shown]
    return Answer(200, {"value": value, "continuationToken": following, "nextLink": None})


@of_run("POST", "/events")
def post_event(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """One event of a run."""
    found_run(emulator, name, identity, run_id)
    runs.allow(emulator, request, run_id)
    events.apply(emulator, run_id, _event(bodies.given(request)))
    return Answer(200, {})


@of_experiment("POST", "/batch/events")
def post_events(emulator: Emulator, request: Request, name: str = "", identity: str = "") -> Answer:
    """Events of several runs; one that is refused does not hinder the others."""
    experiment_of(emulator, name, identity)
    errors = []
    for body in bodies.objects(bodies.given(request), "events"):
        event = _event(body)
        run_id = str(event["data"].get("runid") or "")
        try:
            found_run(emulator, name, identity, run_id)
            runs.allow(emulator, request, run_id)
            events.apply(emulator, run_id, event)
        except Refused as refused:
            errors.append({"key": body, "value": worded("history", refused, request.id, emulator.time())})
    return Answer(200, {"errors": errors})


def _event(body: dict[str, Any]) -> dict[str, Any]:
    event = {str(key).lower(): value for key, value in body.items()}
    data = event.get("data") or {}
    event["data"] = {str(key).lower(): value for key, value in data.items()} if isinstance(data, dict) else {}
    return event


@of_run("GET", "/token", writes=True)
def get_token(emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = "") -> Answer:
    """A new token for the run, as long as it goes on."""
    run = found_run(emulator, name, identity, run_id)
    runs.allow(emulator, request, run_id)
    if run["status"] in runs.TERMINAL:
        raise Refused(400, "UserError", f"the run is {run['status']}: there is no token for it any more")
    token, expiry = Tokens(emulator).run(run_id, run["experimentId"])
    return Answer(200, {"token": token, "expiryTimeUtc": expiry})


@of_run("GET", "/metricsingest/wait")
def wait_for_ingest(
    emulator: Emulator, request: Request, run_id: str, name: str = "", identity: str = ""
) -> Answer:
    """Metrics are there as soon as their call is answered."""
    found_run(emulator, name, identity, run_id)
    return Answer(200, {})
