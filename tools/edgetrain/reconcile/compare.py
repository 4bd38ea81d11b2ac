"""Compares two runs or versions: parameters, code, data, environment, metrics, size."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgetrain.core.decide import scores_of, version_spec
from edgetrain.core.desired import Desired
from edgetrain.core.record import run_id
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.audit import whole
from edgetrain.reconcile.lookup import read_main, run_named, version_named
from edgetrain.render.compare import Comparison, Field, Metric, Side

# The parts in the order in which they are told; each is a field of a version's spec.
PARTS = ("parameters", "seed", "command", "code", "inputs", "environment", "target", "metricsSource")
MISSING = object()


def compare(root: Path, a: str, b: str) -> Comparison:
    """Compare what `MODEL@N`, `MODEL@CHANNEL` or a run id name on main as last fetched. Raises UsageError."""
    state = read_main(root)
    first, second = (side(state.desired, state.recorded, text, state.loaded.broken) for text in (a, b))
    return differ(first, second)


def side(
    desired: Desired, recorded: Recorded, text: str, broken: Collection[str] = ()
) -> tuple[Side, dict[str, Any]]:
    """What is named, and its facts in the form of a version's spec; `broken` are files left out of the reading."""
    if "@" in text:
        version = version_named(desired, broken, text)
        of = version.spec["run"]
        run = recorded.run(version.record)
        outcome = recorded.outcome(run).value if run else ""
        name = run_id(of["experiment"], of["identity"], of["attempt"])
        return Side(version.id, name, outcome), whole(version.spec)
    run = run_named(recorded, text)
    spec = version_spec(run, 0, recorded.gates(run), recorded.judged(run))
    return Side(run.run_id, run.run_id, recorded.outcome(run).value), whole(spec)


def differ(a: tuple[Side, Mapping[str, Any]], b: tuple[Side, Mapping[str, Any]]) -> Comparison:
    """Put the two side by side; pure."""
    (side_a, spec_a), (side_b, spec_b) = a, b
    differences: list[Field] = []
    same = []
    for part in PARTS:
        found = _fields(part, spec_a.get(part), spec_b.get(part))
        differences += found
        if not found:
            same.append(part)
    return Comparison(
        a=side_a,
        b=side_b,
        comparable=_data(spec_a) == _data(spec_b),
        differences=tuple(differences),
        same=tuple(same),
        metrics=tuple(_metrics(spec_a["metrics"], spec_b["metrics"])),
        size_a=_size(spec_a),
        size_b=_size(spec_b),
    )


def _fields(part: str, a: Any, b: Any) -> list[Field]:
    """Leaves that differ; mappings are gone into."""
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return [] if _equal(a, b) else [Field(part, "", a, b)]
    left, right = _leaves(a), _leaves(b)
    return [
        Field(part, name, left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys())
        if not _equal(left.get(name, MISSING), right.get(name, MISSING))
    ]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found |= _leaves(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = item
    return found


def _equal(a: Any, b: Any) -> bool:
    """Equal as JSON: `true` is not 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _metrics(a: Mapping[str, float], b: Mapping[str, float]) -> list[Metric]:
    return [
        Metric(name, a.get(name), b.get(name), b[name] - a[name] if name in a and name in b else None)
        for name in sorted(a.keys() | b.keys())
    ]


def _data(spec: Mapping[str, Any]) -> str:
    return scores_of("", spec).data


def _size(spec: Mapping[str, Any]) -> int:
    return sum(int(entry.get("size", 0)) for entry in spec["artifacts"].values())
