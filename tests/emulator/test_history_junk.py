"""Run history, metrics, artifacts, snapshots and submissions refuse what makes no sense, and go on."""

from __future__ import annotations

from typing import Any

from azureml_emulator import experiments, runs
from azureml_emulator.server import RunningEmulator
from tests.emulator import history

JUNK: tuple[Any, ...] = (
    *([], "x", 1, None, {"a": 1}, {"tags": 1}, {"tags": {"a": 1}}, {"tags": {"a": {}}}, {"properties": []}),
    *(
        {"runs": 1},
        {"runs": [1]},
        {"runs": [{}]},
        {"events": [{"data": 1}]},
        {"events": {}},
        {"name": 1, "data": []},
    ),
    *(
        {"filter": 1, "top": "x"},
        {"filter": [], "orderby": {}},
        {"top": -1, "continuationToken": "!"},
        {"name": {}},
    ),
    *({"parentRunId": {}}, {"status": "Odd"}, {"status": []}, {"description": {}}, {"error": 1}, {"warnings": 1}),
    *({"values": [{"name": "m", "value": [1]}]}, {"values": {}}, {"metricName": []}, {"values": [{"columns": []}]}),
    *({"paths": [1]}, {"paths": [{"path": {}}]}, {"FileNames": [1]}, {"FileNames": "a"}, {"DirTreeNode": []}),
    *({"DirTreeNode": {"children": []}}, {"DirTreeNode": {"children": {"a": 1}}}, {"Configuration": []}),
    *({"DirTreeNode": {}, "FileRevisionList": {"FileNodes": [1]}}, {"Configuration": {"target": {}}}, b"\xff{"),
    *({"tags": [1]}, {"archive": "x"}, {"origin": [], "container": {}, "path": 1}),
)
ENDS = (
    *(
        ("PATCH", "history/v1.0", "experiments/exp1/runs/{run}"),
        ("DELETE", "history/v1.0", "experiments/exp1/runs/{run}/tags"),
    ),
    *(
        ("PATCH", "history/v1.0", "experiments/exp1/batch/runs"),
        ("POST", "history/v1.0", "experiments/exp1/batch/events"),
    ),
    *(
        ("POST", "history/v1.0", "experiments/exp1/runs/{run}/events"),
        ("POST", "history/v1.0", "experiments:query"),
    ),
    *(
        ("POST", "history/v1.0", "experiments/exp1/runs:query"),
        ("PATCH", "history/v1.0", "experimentids/{experiment}"),
    ),
    *(
        ("POST", "history/v1.0", "experimentids/{experiment}/tags:delete"),
        ("POST", "metric/v2.0", "runs/{run}/batch"),
    ),
    *(("POST", "metric/v2.0", "runs/{run}/list"), ("POST", "metric/v2.0", "runs/{run}/full")),
    *(
        ("POST", "artifact/v2.0", "artifacts/metadata"),
        ("POST", "artifact/v2.0", "artifacts/batch/metadata/ExperimentRun/dcid.x"),
    ),
    *(
        ("POST", "content/v2.0", "snapshots/getblob"),
        ("POST", "content/v2.0", "snapshots/00000000-0000-4000-8000-000000000000"),
    ),
    ("POST", "execution/v1.0", "experiments/exp1/snapshotrun"),
)


def test_junk_is_refused_and_breaks_nothing(emulator: RunningEmulator) -> None:
    inside = emulator.emulator
    experiment = experiments.ensure(inside, "exp1")
    runs.create(inside, experiment, "r1", {})
    broken = []
    for method, service, path in ENDS:
        at = path.format(run="r1", experiment=experiment["experimentId"])
        for body in JUNK:
            status, _ = history.ask(emulator, method, service, at, body)
            if status not in {200, 400, 404, 409}:
                broken.append((method, at, body))
    assert broken == []
    assert history.ask(emulator, "GET", "history/v1.0", "experiments/exp1/runs/r1/details")[0] == 200
    assert history.ask(emulator, "POST", "history/v1.0", "experiments/exp1/runs:query", {})[0] == 200
