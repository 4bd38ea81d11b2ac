"""Metrics of runs: rows by name, in the order of their times, however their batches arrive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from azureml_emulator import filters, runs
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Refused

MAX_BATCH, MAX_NAMES, MAX_COLUMNS, MAX_NAME = 250, 50, 15, 255
NUMBERS = {"double", "long", "int", "float"}
_EARLY = datetime.min.replace(tzinfo=UTC)


def add(emulator: Emulator, run_id: str, metric: dict[str, Any]) -> None:
    """Add the rows of one metric; a row that came already (the client tries again) changes nothing.

    Raises Refused.
    """
    name, rows, columns = str(metric.get("name") or ""), metric.get("value") or [], metric.get("columns") or {}
    shaped = isinstance(rows, list) and all(isinstance(row, dict) for row in rows) and isinstance(columns, dict)
    if not name or len(name) > MAX_NAME or not shaped:
        raise Refused(400, "UserError", "the metric has no name, or no rows")
    strict = emulator.options.strict
    if strict and len(rows) > MAX_BATCH:
        raise Refused(400, "UserError", f"at most {MAX_BATCH} rows of a metric in one call")
    with emulator.store.transaction():
        runs.needed(emulator, run_id)
        key = f"{run_id}/{name}"
        kept = emulator.store.get("metric", key)
        if kept is None:
            if strict and len(listed(emulator, run_id)) >= MAX_NAMES:
                raise Refused(400, "UserError", f"a run has at most {MAX_NAMES} metrics")
            kept = {
                "name": name,
                "columns": {},
                "properties": metric.get("properties") or {},
                "rows": [],
                "ids": [],
            }
        _columns(kept["columns"], columns, strict)
        known = set(kept["ids"])
        for at, row in enumerate(rows):
            identity = f"{row.get('metricId')}/{at}"
            if row.get("metricId") and identity in known:
                continue
            kept["ids"].append(identity)
            kept["rows"].append(
                {
                    "metricId": row.get("metricId"),
                    "createdUtc": row.get("createdUtc") or emulator.time(),
                    "step": row.get("step"),
                    "data": row.get("data") or {},
                }
            )
        emulator.store.put("metric", key, kept)


def get(emulator: Emulator, run_id: str, name: str) -> dict[str, Any] | None:
    """Name, columns, properties and rows of a metric, the rows in order; None if there is none."""
    kept: dict[str, Any] | None = emulator.store.get("metric", f"{run_id}/{name}")
    if kept is not None:
        kept["rows"].sort(key=lambda row: filters.moment(str(row["createdUtc"])) or _EARLY)
    return kept


def listed(emulator: Emulator, run_id: str) -> list[dict[str, Any]]:
    """All of a run's metrics, by the order in which they first came."""
    return [kept for _, kept in emulator.store.scan("metric", f"{run_id}/")]


def _columns(kept: dict[str, str], given: dict[str, Any], strict: bool) -> None:
    for column, kind in given.items():
        before = kept.setdefault(str(column), str(kind))
        if before != kind:
            if not {before.lower(), str(kind).lower()} <= NUMBERS:
                raise Refused(400, "UserError", f"the column {column[:100]!r} is {before}, and can't be {kind}")
            kept[column] = "double"
    if strict and len(kept) > MAX_COLUMNS:
        raise Refused(400, "UserError", f"a metric has at most {MAX_COLUMNS} columns")
