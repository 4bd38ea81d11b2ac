"""The sections of a pull request's comment that tell of the runs: what they read, send, resemble and take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgetrain.core.quantity import human_bytes, human_seconds
from edgetrain.render.comment_parts import Block, bold, fold, folded, row, table
from edgetrain.render.markdown import code, prose
from edgetrain.render.tables import lasted
from edgetrain.render.words import logs_line, plural, value

Report = Mapping[str, Any]
_WORDS = {"A": "new", "M": "changed", "D": "removed"}


def reading(report: Report) -> Iterator[Block]:
    """The data that the runs would be given."""
    rows = [
        row(
            code(one["name"]),
            f"{code(each['name'])} ({prose(each['type'])})",
            f"{code(each['datastore'])} {code(each['path'])}",
            code(value(each["digest"])) if each["digest"] else "what is there when the run starts",
            _known(each),
        )
        for one in report["experiments"]
        for each in one["inputs"]
    ]
    more = report["leftOut"].get("experiments", 0)
    rows += [row(f"and {more} more experiments", "", "", "", "")] if more else []
    head = ("experiment", "input", "where", "content", "how much")
    yield from table("#### What it reads", head, rows, "more inputs")


def _known(one: Mapping[str, Any]) -> str:
    """Counts as a record has them: git knows no other."""
    counts = _size(one["files"], one["bytes"])
    if not counts or not one["run"]:
        return "not recorded yet"
    return counts if one["same"] else f"{counts} in the last run"


def _size(files: int | None, count: int | None) -> str:
    """`1,200 files, 3.4 GB`, as far as it is known."""
    told = [f"{files:,} file{'' if files == 1 else 's'}"] if files is not None else []
    return ", ".join([*told, *([human_bytes(count)] if count is not None else [])])


def leaving(report: Report) -> Iterator[Block]:
    """What of the site would be outside afterwards, once the content check has passed."""
    rows = []
    for one in report["experiments"]:
        name = code(one["name"])
        rows += [
            row(
                name,
                f"{code(each['name'])} ({prose(each['type'])}) {code(each['path'])}",
                human_bytes(each["maxSize"]),
                human_bytes(each["lastSize"]) if each["lastSize"] is not None else "",
            )
            for each in one["outputs"]
        ]
        metrics = ", ".join(code(metric) for metric in one["metrics"][:20]) or "none"
        more = f" and {len(one['metrics']) - 20} more" if len(one["metrics"]) > 20 else ""
        rows.append(row(name, f"metrics {metrics}{more}", "numbers", ""))
        logs = prose(logs_line(one["logs"]))
        rows.append(row(name, "logs", logs if one["logs"] == "site" else bold(logs), ""))
    rows += [_image(one) for one in report["images"]]
    head = ("of", "what", "at most", "last time")
    yield from table("#### What would leave the site", head, rows, "more that would leave")
    for one in report["azure"]:
        lines = [f"- {prose(line)}" for line in one["lines"]]
        yield fold(f"{code(one['experiment'])}: what would travel to Azure", lines)


def _image(one: Mapping[str, Any]) -> str:
    place = f"{one['host']}/{one['repository']}" if one["host"] else f"{one['registry']}: {one['repository']}"
    kept = "" if one["host"] else " (kept at the site)"
    where = f"image {code(place)}{kept}, registered in {code(one['workspace'])}"
    return row(code(one["version"]), where, human_bytes(one["bytes"]), "")


def advisory(report: Report) -> list[str]:
    """The targets that may take these runs and were last seen to hold back nothing."""
    found = [target for one in report["experiments"] for target in one["targets"]]
    return sorted({one["name"] for one in found if one["schedulable"] and one["level"] not in (None, "enforced")})


def levels(report: Report) -> Iterator[Block]:
    """How well each target keeps scripts from the network, as it was last seen."""
    found: dict[tuple[str, str], tuple[Mapping[str, Any], list[str]]] = {}
    for one in report["experiments"]:
        for target in one["targets"]:
            found.setdefault((target["site"], target["name"]), (target, []))[1].append(one["name"])
    rows = [
        row(
            f"{code(target['name'])} ({prose(target['type'])})",
            code(target["site"]),
            _level(target),
            f"run {code(target['run'])}" if target["run"] else "looked at before the run starts",
        )
        for target, _ in found.values()
    ]
    yield from table("#### Egress level", ("target", "site", "level", "seen by"), rows, "more targets")


def _level(target: Mapping[str, Any]) -> str:
    level = target["level"]
    told = "not seen yet" if level is None else level if level == "enforced" else bold(prose(level))
    told += "; its data demands enforced" if target["enforcedOnly"] else ""
    return told + ("" if target["schedulable"] else "; drained")


def differs(report: Report) -> Iterator[Block]:
    """Each experiment beside the run of it that was recorded last."""
    rows = []
    for one in report["experiments"]:
        if one["last"] is None:
            rows.append(row(code(one["name"]), "it has no recorded run", "", ""))
            continue
        last = f"{code(one['name'])}<br>against {code(one['last']['run'])} ({prose(one['last']['outcome'])})"
        told = [
            (code(each["path"]), code(each["actual"]), code(each["desired"])) for each in one["differences"]
        ] or [("only what the trials say", "", "")]
        rows += [row(last if first else "", *cells) for first, cells in _firsts(told)]
    head = ("experiment", "what", "last run", "this pull request")
    yield from table("#### Differences to the last run", head, rows, "more differences")
    for one in report["experiments"]:
        yield from _code(one)
        yield from _packages(one)


def _firsts(items: list[tuple[str, str, str]]) -> Iterator[tuple[bool, tuple[str, str, str]]]:
    for number, item in enumerate(items):
        yield number == 0, item


def _code(one: Mapping[str, Any]) -> Iterator[Block]:
    changes = one["code"]["changes"]
    if changes:
        lines = [f"- {_WORDS.get(how, prose(how))} {code(path)}" for how, path in changes]
        yield fold(f"{code(one['name'])}: what differs in the code: {plural(len(changes), 'file')}", lines)


def _packages(one: Mapping[str, Any]) -> Iterator[Block]:
    if one["packages"]:
        lines = [
            f"- {code(each['path'])}: {code(each['actual'])} → {code(each['desired'])}" for each in one["packages"]
        ]
        yield fold(f"{code(one['name'])}: what differs in the lock: {plural(len(lines), 'package')}", lines)


def duration(report: Report) -> Iterator[Block]:
    """What such runs took so far."""
    lines = []
    for one in report["experiments"]:
        took = one["seconds"]
        usual = (
            f"about {lasted(took['median'])} a run, the median of {plural(took['runs'], 'recorded run')}"
            if took
            else "no recorded run came to its own end"
        )
        runs = plural(one["runs"], "run")
        lines.append(
            f"- {code(one['name'])}: {usual}; {runs} to start, each of {human_seconds(one['timeout'])} at most"
        )
    yield from folded("#### Usual duration", lines, "more experiments")
