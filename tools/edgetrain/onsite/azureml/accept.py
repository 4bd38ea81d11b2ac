"""What of an ended run may leave: the rules of the content check, from what was read of the run's outputs.

The runner judges again by the same rules when it records the run; here they decide what Azure ML gets.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# As `core.ports.EgressRules` and `reconcile.finish` have them: the time and the bytes that large outputs need.
MAX_EXPANDED, SECONDS = 8 * 2**30, 1800
EXPANSION, SLOWEST = 6, 200_000
# Places of findings that are no files, in the content check's words.
PLACES = ("file names", "log", "metric names", "metrics", "metric history")
_METRIC_FAULT = re.compile(
    r"(?P<file>metrics\.jsonl?|mlflow\.db): (?P<name>.+) (?P<rest>is not a (?:finite )?number)"
)


def finals(harvest: dict[str, Any]) -> dict[str, float]:
    """The final numbers; a metric that only has a history ends with its last point."""
    return {**{name: value for name, value, _ in harvest["history"]}, **harvest["metrics"]}


def files_of(path: str, harvest: dict[str, Any]) -> list[dict[str, Any]]:
    """The files of one declared output: the file itself, or all in the folder."""
    root = PurePosixPath(path)
    return [
        file
        for file in harvest["files"]
        if root in (PurePosixPath(file["path"]), *PurePosixPath(file["path"]).parents)
    ]


def faults(leaving: dict[str, Any], harvest: dict[str, Any]) -> list[str]:
    """Why the run is not accepted whatever the content check finds; in words that may leave."""
    found = [public(fault, leaving["metrics"]) for fault in harvest["faults"]]
    for path, most in leaving["sizes"].items():
        size = sum(file["size"] for file in files_of(path, harvest))
        if size > most:
            found.append(f"output {path} has {size} bytes, and {most} are allowed")
    found += [f"output {path} was not written" for path in leaving["outputs"] if not files_of(path, harvest)]
    return found + [f"metric {name} was not reported" for name in leaving["metrics"] if name not in finals(harvest)]


def public(fault: str, declared: list[str]) -> str:
    """A fault without the name of a metric that nobody declared: a script may write anything there."""
    found = _METRIC_FAULT.fullmatch(fault)
    if found is None or found["name"] in declared:
        return fault
    return f"{found['file']}: a metric that is not declared {found['rest']}"


def slices_of(leaving: dict[str, Any], harvest: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The declared metrics of each slice, where the run is an evaluation."""
    wanted = leaving["slices"]
    return {
        name: {metric: numbers[metric] for metric in leaving["metrics"] if metric in numbers}
        for name, numbers in harvest.get("slices", {}).items()
        if wanted is not None and (not wanted or name in wanted)
    }


def history_of(leaving: dict[str, Any], harvest: dict[str, Any]) -> list[list[Any]]:
    """The points of declared metrics; of an evaluation none."""
    if leaving["slices"] is not None:
        return []
    return [[name, value, step] for name, value, step in harvest["history"] if name in leaving["metrics"]]


def rules(leaving: dict[str, Any], harvest: dict[str, Any]) -> dict[str, Any]:
    """What the content check is to look at: exactly what would leave."""
    files = {file["path"]: type_ for path, type_ in leaving["outputs"].items() for file in files_of(path, harvest)}
    size = sum(file["size"] for file in harvest["files"] if file["path"] in files)
    points, numbers = history_of(leaving, harvest), finals(harvest)
    # Those of slices by name and slice, as `reconcile.scores` has them.
    slices = slices_of(leaving, harvest)
    sliced = {f"{part}/{name}": number for part, found in slices.items() for name, number in found.items()}
    return {
        "files": files,
        "texts": {},
        "metrics": {**{name: numbers[name] for name in leaving["metrics"] if name in numbers}, **sliced},
        "history": [*([n, v] for n, v, _ in points), *([f"{n} step", float(s)] for n, _, s in points)],
        "log": leaving["log"],
        "waived": [list(pair) for pair in leaving["waived"]],
        "max_expanded": MAX_EXPANDED + EXPANSION * size,
        "seconds": SECONDS + size // SLOWEST,
    }


def passes(examination: dict[str, Any] | None) -> bool:
    """Whether the content check was made to its end and lets everything go."""
    return (
        isinstance(examination, dict)
        and examination.get("complete") is True
        and all(finding.get("waived") is True for finding in examination["findings"])
    )


def placed(leaving: dict[str, Any], examination: Any) -> Any:
    """What the content check found, in words that may leave: files by their declared output's path."""
    if not isinstance(examination, dict):
        return None
    findings = [{**one, "where": _place(leaving, str(one["where"]))} for one in examination.get("findings", ())]
    return {**examination, "findings": findings}


def _place(leaving: dict[str, Any], where: str) -> str:
    file = PurePosixPath(where)
    declared = (path for path in leaving["outputs"] if PurePosixPath(path) in (file, *file.parents))
    return next(declared, where if where in PLACES else "the outputs")


def told(leaving: dict[str, Any], harvest: dict[str, Any]) -> dict[str, Any]:
    """The harvest of an accepted run, as far as it is declared."""
    numbers = finals(harvest)
    declared = [file for path in leaving["outputs"] for file in files_of(path, harvest)]
    return {
        "files": declared,
        "metrics": {name: numbers[name] for name in leaving["metrics"] if name in numbers},
        "slices": slices_of(leaving, harvest),
        "history": history_of(leaving, harvest),
        "faults": [],
    }


def withheld(leaving: dict[str, Any], harvest: dict[str, Any]) -> dict[str, Any]:
    """The harvest of a run that is not accepted: which declared outputs and metrics there are and how large, and
    why. Names of files, digests and numbers stay where they are; what stands for them says nothing."""
    files = []
    for path in leaving["outputs"]:
        if found := files_of(path, harvest):
            files.append({"path": path, "size": sum(file["size"] for file in found), "digest": EMPTY})
    return {
        "files": files,
        "metrics": {name: 0.0 for name in leaving["metrics"] if name in finals(harvest)},
        "slices": {name: {} for name in leaving["slices"] or () if name in harvest.get("slices", {})},
        "history": [],
        "faults": [public(fault, leaving["metrics"]) for fault in harvest["faults"]],
    }
