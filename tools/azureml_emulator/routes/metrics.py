"""The metric service."""

from __future__ import annotations

from typing import Any

from azureml_emulator import bodies, filters, metrics, runs
from azureml_emulator.emulator import Emulator
from azureml_emulator.errors import worded
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

METRIC = "/metric/v2.0{WS}/runs/{run_id}"
MAX_ROWS = 1000


@route("POST", METRIC + "/batch")
def post_metrics(emulator: Emulator, request: Request, run_id: str) -> Answer:
    """Rows of several metrics; one that is refused does not hinder the others."""
    runs.allow(emulator, request, run_id)
    runs.needed(emulator, run_id)
    errors = []
    for metric in bodies.objects(bodies.given(request), "values"):
        try:
            metrics.add(emulator, run_id, metric)
        except Refused as refused:
            response = worded("history", refused, request.id, emulator.time())
            errors.append({"metric": metric, "errorResponse": response})
    return Answer(200, {"errors": errors})


@route("POST", METRIC + "/list", writes=False)
def list_metrics(emulator: Emulator, request: Request, run_id: str) -> Answer:
    """Which metrics a run has."""
    runs.needed(emulator, run_id)
    given = bodies.lowered(request)
    found = [
        {
            "metricKey": {"namespace": "", "name": metric["name"], "labels": None, "labelsHash": ""},
            "columns": metric["columns"],
            "properties": metric["properties"],
            "name": metric["name"],
        }
        for metric in metrics.listed(emulator, run_id)
    ]
    shown, following = filters.page(found, None, given.get("continuationtoken"), "name")
    return Answer(200, {"value": shown, "continuationToken": following, "nextLink": None})


@route("POST", METRIC + "/full", writes=False)
def get_metric(emulator: Emulator, request: Request, run_id: str) -> Answer:
    """All rows of one metric, in order, by pages."""
    run = runs.needed(emulator, run_id)
    given = bodies.lowered(request)
    name = str(given.get("metricname") or "")
    found = metrics.get(emulator, run_id, name)
    if found is None:
        raise Refused(404, "UserError", f"Metric {name[:255]} was not found")
    rows = [row for row in found["rows"] if _between(row, given.get("starttime"), given.get("endtime"))]
    numbered = [{"at": at, "row": row} for at, row in enumerate(rows)]
    shown, following = filters.page(numbered, None, given.get("continuationtoken"), "at", MAX_ROWS)
    return Answer(
        200,
        {
            "dataContainerId": run["dataContainerId"],
            "name": name,
            "columns": found["columns"],
            "properties": found["properties"],
            "namespace": "",
            "value": [one["row"] for one in shown],
            "continuationToken": following,
            "nextLink": None,
        },
    )


def _between(row: dict[str, Any], start: Any, end: Any) -> bool:
    at = filters.moment(str(row["createdUtc"]))
    first, last = filters.moment(str(start or "")), filters.moment(str(end or ""))
    return at is None or ((first is None or at >= first) and (last is None or at <= last))
