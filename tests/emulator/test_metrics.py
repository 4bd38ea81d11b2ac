"""Metrics: logged and read back by the unmodified client, in order however they arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from tests.emulator import history, support

pytestmark = pytest.mark.long(0.3)

METRIC = "metric/v2.0"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)


@pytest.fixture
def run(emulator: RunningEmulator) -> Any:
    """An interactive run."""
    from azureml.core import Experiment

    return Experiment(support.connect(emulator), "exp1").start_logging(snapshot_directory=None)


def rows(name: str, *values: tuple[str, float]) -> dict[str, Any]:
    """A batch as the client writes it: times and values."""
    value = [{"metricId": f"{name}-{time}", "createdUtc": time, "data": {name: number}} for time, number in values]
    metric = {"name": name, "columns": {name: "double"}, "properties": {"uxMetricType": "azureml.v1.scalar"}}
    return {"values": [{**metric, "value": value}], "reportErrors": True}


def test_kinds(run: Any, tmp_path: Path) -> None:
    run.log("once", 0.5)
    for step in range(4):
        run.log("loss", 1.0 / (step + 1), step=step)
    run.log("whole", 3)
    run.log("text", "best")
    run.log_list("list", [1, 2, 3])
    run.log_row("row", x=1, y=2.5)
    run.log_row("row", x=2, y=3.5)
    run.log_table("table", {"a": [1, 2], "b": ["c", "d"]})
    (tmp_path / "plot.png").write_bytes(PIXEL)
    run.log_image("plot", path=str(tmp_path / "plot.png"))
    run.flush()
    found = run.get_metrics()
    plot = found.pop("plot")
    assert plot.startswith(f"aml://artifactId/ExperimentRun/dcid.{run.id}/")
    assert [name for name in run.get_file_names() if name.endswith("plot.png")]
    assert found == {
        "once": 0.5,
        "loss": [1.0, 0.5, 1 / 3, 0.25],
        "whole": 3,
        "text": "best",
        "list": [1, 2, 3],
        "row": {"x": [1, 2], "y": [2.5, 3.5]},
        "table": {"a": [1, 2], "b": ["c", "d"]},
    }
    assert run.get_metrics(name="loss") == {"loss": [1.0, 0.5, 1 / 3, 0.25]}
    assert run.get_metrics(name="never") == {}


def test_of_children(run: Any) -> None:
    for rate in (0.1, 0.2):
        with run.child_run() as child:
            child.log("rate", rate)
            child.log("error", rate * 2)
    found = run.get_metrics(recursive=True)
    assert sorted(one["rate"] for one in found.values() if one) == [0.1, 0.2]


def test_batches_out_of_order_and_twice(run: Any, emulator: RunningEmulator) -> None:
    late = rows("loss", ("2026-01-01T00:00:02Z", 3.0), ("2026-01-01T00:00:02.5Z", 4.0))
    early = rows("loss", ("2026-01-01T00:00:00.25Z", 1.0), ("2026-01-01T00:00:01+00:00", 2.0))
    for batch in (late, early, late):
        status, said = history.ask(emulator, "POST", METRIC, f"runs/{run.id}/batch", batch)
        assert (status, said) == (200, {"errors": []})
    assert run.get_metrics() == {"loss": [1.0, 2.0, 3.0, 4.0]}


def test_more_than_a_page(run: Any, emulator: RunningEmulator) -> None:
    count = 2300
    times = [f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z" for n in range(count)]
    for start in range(0, count, 230):
        batch = rows("loss", *((times[n], float(n)) for n in range(start, start + 230)))
        assert history.ask(emulator, "POST", METRIC, f"runs/{run.id}/batch", batch)[1] == {"errors": []}
    assert run.get_metrics() == {"loss": [float(n) for n in range(count)]}
    pages = [entry for entry in emulator.requests if entry["path"].endswith("/full")]
    assert len(pages) == 3


def test_refused_rows_do_not_hinder_others(run: Any, emulator: RunningEmulator) -> None:
    text = {"name": "loss", "columns": {"loss": "string"}, "value": [{"data": {"loss": "x"}}]}
    other = rows("other", ("2026-01-01T00:00:00Z", 1.0))["values"][0]
    wide = {"name": "wide", "columns": {str(n): "double" for n in range(16)}, "value": []}
    long = rows("long", *((f"2026-01-01T00:00:00.{n:06}Z", 1.0) for n in range(251)))["values"][0]
    run.log("loss", 1.0)
    run.flush()
    body = {"values": [text, other, wide, long, {"name": ""}], "reportErrors": True}
    status, said = history.ask(emulator, "POST", METRIC, f"runs/{run.id}/batch", body)
    assert status == 200
    assert [error["metric"]["name"] for error in said["errors"]] == ["loss", "wide", "long", ""]
    assert run.get_metrics() == {"loss": 1.0, "other": 1.0}


def test_no_such_run(emulator: RunningEmulator, run: Any) -> None:
    for path, body in (("batch", rows("a")), ("list", {}), ("full", {"metricName": "a"})):
        assert history.ask(emulator, "POST", METRIC, f"runs/nobody/{path}", body)[0] == 404
    assert history.ask(emulator, "POST", METRIC, f"runs/{run.id}/full", {"metricName": "a"})[0] == 404
