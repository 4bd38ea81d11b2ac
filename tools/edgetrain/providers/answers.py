"""What programs at the target answer, taken for no more than it is: they read what hostile scripts wrote."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from edgetrain.core.ports import EgressFinding, EgressLevel, Examination, Harvest, MetricPoint, OutputFile

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CODE = re.compile(r"E7[0-9]{2}")
_LISTS = ("files", "history", "faults")
_UNSOUND = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
MAX_FINDINGS = 100


def harvest_of(data: bytes) -> Harvest:
    """The answer of the reader of outputs; one that is not sound is a fault."""
    try:
        return _harvest(json.loads(data))
    except _UNSOUND:
        return Harvest((), {}, faults=("the reader's answer about the outputs is not sound",))


def notes_of(data: bytes) -> list[str]:
    """What the reader of outputs notes for the site only; nothing if that is not sound."""
    try:
        return [_text(note, 2000) for note in json.loads(data).get("notes", [])]
    except _UNSOUND:
        return []


def examination_of(data: bytes, level: str = EgressLevel.ENFORCED) -> Examination:
    """The answer of the content check that ran at `level`; one that is not sound is no complete check."""
    try:
        return _examination(json.loads(data), level)
    except _UNSOUND:
        return not_examined("its answer is not sound", level)


def not_examined(reason: str, level: str = EgressLevel.ENFORCED) -> Examination:
    """No check: nothing may leave."""
    return Examination(False, (), 0, 0, 0, str(level), reason=reason)


def _harvest(found: Any) -> Harvest:
    if set(found) - {"notes", "slices"} != {*_LISTS, "metrics"} or not all(
        isinstance(found[name], list) for name in _LISTS
    ):
        raise ValueError("keys")
    return Harvest(
        files=[OutputFile(_path(f["path"]), _count(f["size"]), _digest(f["digest"])) for f in found["files"]],
        metrics={_text(name): _number(value) for name, value in found["metrics"].items()},
        history=[
            MetricPoint(_text(name), _number(value), _count(step, least=-(2**53)))
            for name, value, step in found["history"]
        ],
        faults=[_text(fault, 500) for fault in found["faults"]],
        slices={
            _text(part, 64): {_text(name): _number(value) for name, value in numbers.items()}
            for part, numbers in found.get("slices", {}).items()
        },
    )


def _examination(found: Mapping[str, Any], level: str) -> Examination:
    if not isinstance(found["complete"], bool) or len(found["findings"]) > MAX_FINDINGS:
        raise ValueError("keys")
    return Examination(
        complete=found["complete"],
        findings=[_finding(one) for one in found["findings"]],
        files=_count(found["files"]),
        bytes=_count(found["bytes"]),
        fingerprints=_count(found["fingerprints"]),
        level=str(level),
        seconds=_number(found["seconds"]),
        reason="" if found["complete"] else _text(found["reason"], 200),
        coverage=min(1.0, max(0.0, _number(found["coverage"]))),
    )


def _finding(found: Mapping[str, Any]) -> EgressFinding:
    if not _CODE.fullmatch(found["code"]) or not isinstance(found["waived"], bool):
        raise ValueError("finding")
    return EgressFinding(found["code"], _text(found["where"], 4096), _text(found["what"], 300), found["waived"])


def _text(value: Any, most: int = 120) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise ValueError("text")
    return value


def _path(value: Any) -> str:
    parts = _text(value, 4096).split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("path")
    return str(value)


def _digest(value: Any) -> str:
    if not _DIGEST.fullmatch(value):
        raise ValueError("digest")
    return str(value)


def _count(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 2**53:
        raise ValueError("count")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("number")
    return float(value)
