"""The content check as a program: configuration on stdin, report on stdout (see the package)."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

from .budget import Budget, Cut
from .learner import LEARN, Learner, mapped, size_of
from .marks import Marks
from .scan import Scan

MEMORY = 1024 * 2**20
MAX_CONFIG = 64 * 2**20
MAX_LOG = 64 * 2**20


def examine(config: dict[str, Any]) -> dict[str, Any]:
    """The report. Raises nothing that the data or the outputs can bring about."""
    begun = time.monotonic()
    rules, inputs, limits = config["rules"], dict(config["inputs"]), config.get("limits", {})
    report: dict[str, Any] = {"complete": False, "reason": "", "files": 0, "data": 0, "coverage": 1.0}
    budget = Budget(int(rules["max_expanded"]), float(rules["seconds"]))
    marks = Marks(0)
    scan = Scan(marks, budget)
    try:
        report["data"] = size_of(inputs)
        marks = Marks(report["data"])
        learning = Budget(2**62, float(rules["seconds"]), clips=True)
        Learner(marks, learning, report["data"], int(limits.get("learn", LEARN))).learn(inputs)
        scan = Scan(marks, budget)
        look(scan, config, report)
        report["complete"] = True
    except Cut as error:
        report["reason"] = str(error)
    except (OSError, MemoryError, RecursionError) as error:
        report["reason"] = f"it could not be done ({type(error).__name__})"
    report["findings"] = list(findings(scan, rules["waived"]))
    report.update(bytes=budget.bytes, fingerprints=marks.count, coverage=marks.coverage)
    report["seconds"] = round(time.monotonic() - begun, 3)
    return report


def look(scan: Scan, config: dict[str, Any], report: dict[str, Any]) -> None:
    """Look at everything that would leave. Raises Cut, OSError."""
    rules = config["rules"]
    for path in sorted(rules["files"]):
        scan.file(config["outputs"], path)
        report["files"] += 1
    scan.place("file names", "\n".join(sorted(rules["files"])))
    for where, text in sorted(rules["texts"].items()):
        scan.place(where, text)
    metrics, history = rules["metrics"], rules["history"]
    if metrics:
        scan.place("metric names", "\n".join(metrics))
        scan.series("metrics", [float(metrics[name]) for name in sorted(metrics, key=natural)])
        scan.series("metrics", [float(value) for value in metrics.values()])
    if history:
        by_name: dict[str, list[float]] = {}
        for name, value in history:
            by_name.setdefault(name, []).append(float(value))
        scan.place("metric names", "\n".join(by_name))
        scan.series("metric history", [float(value) for _, value in history])
        for values in by_name.values():
            scan.series("metric history", values)
    if rules["log"] and config.get("log"):
        scan.where, scan.path = "log", ""
        with mapped(config["log"]) as data:
            if len(data) > MAX_LOG:
                raise Cut("the log is larger than is allowed")
            scan.opener.open(data, "")


def natural(name: str) -> tuple[Any, ...]:
    """`x2` before `x10`."""
    parts: list[Any] = []
    number = ""
    for sign in name + " ":
        if sign.isdigit():
            number += sign
            continue
        if number:
            parts.append((1, int(number), ""))
            number = ""
        parts.append((0, 0, sign))
    return tuple(parts)


def findings(scan: Scan, waived: list[Any]) -> Iterator[dict[str, Any]]:
    """What was found, in a fixed order; a waiver holds for a path, or below it, or (empty) everywhere."""
    for (code, where), (what, path) in sorted(scan.findings.items()):
        holds = any(
            code == rule and (not place or (bool(path) and f"{path}/".startswith(place.rstrip("/") + "/")))
            for rule, place in waived
        )
        yield {"code": code, "where": where, "what": what, "waived": holds}


def finite(value: str) -> float:
    """Refuse NaN and its like in the configuration."""
    raise ValueError(value) if not math.isfinite(float(value)) else ValueError("constant")


def main() -> None:
    """Check within bounds and print."""
    if sys.hash_info.algorithm[:7] != "siphash" or not sys.flags.isolated:
        sys.exit("fingerprints would have no key of their own: start with `python3 -I`, built with SipHash")
    config = json.loads(sys.stdin.buffer.read(MAX_CONFIG), parse_constant=finite)
    memory = int(config.get("limits", {}).get("memory", MEMORY))
    seconds = int(config["rules"]["seconds"]) + 10
    for kind, value in (("DATA", memory), ("CPU", seconds), ("CORE", 0)):
        with contextlib.suppress(ValueError, OSError):  # already less than that
            resource.setrlimit(getattr(resource, "RLIMIT_" + kind), (value, value))
    json.dump(examine(config), sys.stdout)
